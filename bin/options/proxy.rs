//! What `acceptor proxy` is told besides what every service is.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;
use uring_acceptor::config::human::{Human, interval, number, timeout};
use uring_acceptor::config::upstream::{
    ActiveCheck, ActiveHealth, Backend, Balance, CheckBytes, PassiveHealth, SourceAddress, Target,
    UpstreamConfig, WhenAllOut,
};
use uring_acceptor::config::{ProxyConfig, ProxyProtocolVersion};
use uring_acceptor::preread::routes::{Pattern, Route};

use super::values::up_to;

#[derive(Debug, Args)]
pub(super) struct Typed {
    #[command(flatten)]
    backends: Backends,
    #[command(flatten)]
    health: Health,
    #[command(flatten)]
    forwarding: Forwarding,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Backends")]
struct Backends {
    /// Backend: IP:PORT, NAME:PORT, srv:NAME, unix:PATH or unix:@NAME, optionally with a weight
    /// (ADDR,weight=N); repeatable
    #[arg(long, value_name = "ADDR", required = true)]
    to: Vec<Backend>,
    /// Backend for connections whose TLS server name (SNI) is NAME, or matches it (*.NAME);
    /// repeatable, also for the same name
    #[arg(long, value_name = "NAME=ADDR")]
    route: Vec<Route<Backend>>,
    /// Local address to connect to backends from; repeatable: each gives as many connections to a
    /// backend as there are local ports [default: the kernel chooses]
    #[arg(long, value_name = "ADDR")]
    source: Vec<SourceAddress>,
    /// Load-balancing policy: least-connections, round-robin, random, source-hash
    #[arg(long, value_name = "POLICY", default_value = "least-connections")]
    balance: Balance,
    /// Other backends to try when a connect fails
    #[arg(long, value_name = "N", value_parser = retries, default_value_t = 2)]
    retries: u8,
    /// Maximum connections per backend; excess is queued [default: no limit]
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    backend_max_connections: Option<NonZeroU32>,
    /// Queue length, per thread, for connections that wait for a backend below its maximum
    #[arg(long, value_name = "N", value_parser = up_to(1 << 20), default_value = "1024")]
    queue: NonZeroU32,
    /// DNS re-resolution interval of backends given by name
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "30s")]
    resolve_interval: Human,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
struct Health {
    /// Health check interval: connect to each backend this often [default: no checks]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    check_interval: Option<Human>,
    /// Send this with each check (escapes: \r, \n, \xNN), then wait for --check-expect
    #[arg(long, value_name = "BYTES", requires_all = ["check_interval", "check_expect"])]
    check_send: Option<CheckBytes>,
    /// What the response to a check must contain
    #[arg(long, value_name = "BYTES", requires = "check_interval")]
    check_expect: Option<CheckBytes>,
    /// Timeout of a check
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "1s")]
    check_timeout: Human,
    /// Consecutive successful checks that mark a backend up
    #[arg(long, value_name = "N", value_parser = up_to(100), default_value = "2")]
    rise: NonZeroU32,
    /// Consecutive failed checks that mark a backend down
    #[arg(long, value_name = "N", value_parser = up_to(100), default_value = "3")]
    fall: NonZeroU32,
    /// Consecutive failed connects after which a backend is temporarily ejected; 0: never
    #[arg(long, value_name = "N", value_parser = eject_after, default_value_t = 3)]
    eject_after: u32,
    /// Ramp-up time of a backend that has come up, until it gets its full share; 0s: none
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "0s")]
    slow_start: Human,
    /// When no backend is healthy: try-all (treat all as healthy) or refuse
    #[arg(long, value_name = "WHAT", default_value = "try-all")]
    when_all_out: WhenAllOut,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Forwarding")]
struct Forwarding {
    /// Send backends the client's address in a PROXY header: v1 or v2
    #[arg(long, value_name = "VERSION", value_parser = version)]
    proxy_protocol_out: Option<ProxyProtocolVersion>,
    /// Copy large transfers through buffers instead of using splice(2)
    #[arg(long)]
    no_splice: bool,
    /// Timeout of a connect to a backend
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "5s")]
    connect_timeout: Human,
    /// Maximum time in the queue, for a backend below its maximum or for a file descriptor
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "5s")]
    queue_timeout: Human,
    /// Idle timeout after one side has sent FIN
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "30s")]
    half_closed_timeout: Human,
    /// Maximum lifetime of a connection; each gets 90 to 100 % of it [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    lifetime: Option<Human>,
}

fn retries(text: &str) -> Result<u8, String> {
    number(text, 0..=100).map(|count| count as u8)
}

fn eject_after(text: &str) -> Result<u32, String> {
    number(text, 0..=1000)
}

fn version(text: &str) -> Result<ProxyProtocolVersion, String> {
    match text {
        "v1" => Ok(ProxyProtocolVersion::V1),
        "v2" => Ok(ProxyProtocolVersion::V2),
        _ => Err("it must be v1 or v2".into()),
    }
}

impl Typed {
    /// The proxy and the upstreams that it names.
    pub(super) fn split(self) -> (ProxyConfig, Vec<UpstreamConfig>) {
        let Self { backends, health, forwarding } = self;
        let upstream = |name: &str, to| backends.upstream(name, to, &health);
        // Several routes for one name are several backends of it.
        let mut named: BTreeMap<String, Vec<Backend>> = BTreeMap::new();
        for Route { pattern, target } in &backends.route {
            named.entry(Pattern::to_string(pattern)).or_default().push(target.clone());
        }
        let mut config = ProxyConfig::new(UpstreamConfig::DEFAULT_NAME);
        config.routes = named.keys().map(|name| (name.clone(), name.clone())).collect();
        config.retries = backends.retries;
        config.queue = count(backends.queue);
        let default = upstream(UpstreamConfig::DEFAULT_NAME, backends.to.clone());
        let routed = named.into_iter().map(|(name, to)| upstream(&name, to));
        let upstreams = std::iter::once(default).chain(routed).collect();
        config.connect_timeout = forwarding.connect_timeout.0;
        config.queue_timeout = forwarding.queue_timeout.0;
        config.half_closed_timeout = forwarding.half_closed_timeout.0;
        config.lifetime = forwarding.lifetime.map(|time| time.0);
        config.splice = !forwarding.no_splice;
        config.send_header = forwarding.proxy_protocol_out;
        (config, upstreams)
    }
}

impl Backends {
    /// Those of unix sockets have none, unless they are all that there is: then it is a mistake, which is told.
    fn has_sources(&self, to: &[Backend]) -> bool {
        let is_tcp = |backend: &Backend| !matches!(backend.target, Target::Unix(_));
        let routed = self.route.iter().map(|route| &route.target);
        to.iter().any(is_tcp) || !self.to.iter().chain(routed).any(is_tcp)
    }

    fn upstream(&self, name: &str, to: Vec<Backend>, health: &Health) -> UpstreamConfig {
        let mut config = UpstreamConfig::new(to);
        config.name = name.to_owned();
        if self.has_sources(&config.backends) {
            config.sources.clone_from(&self.source);
        }
        config.balance = self.balance;
        config.max_connections = self.backend_max_connections.map(count);
        config.resolve_interval = self.resolve_interval.0;
        config.active = health.active();
        config.passive = PassiveHealth {
            failures: NonZeroU32::new(health.eject_after),
            ..PassiveHealth::default()
        };
        config.slow_start = health.slow_start.0;
        config.when_all_out = health.when_all_out;
        config
    }
}

impl Health {
    fn active(&self) -> ActiveHealth {
        let check = match (&self.check_interval, &self.check_expect) {
            (None, _) => ActiveCheck::None,
            (Some(_), None) => ActiveCheck::Connect,
            (Some(_), Some(expect)) => ActiveCheck::SendExpect {
                send: self.check_send.clone().unwrap_or_default(),
                expect: expect.clone(),
            },
        };
        let defaults = ActiveHealth::default();
        ActiveHealth {
            check,
            interval: self.check_interval.map_or(defaults.interval, |time| time.0),
            timeout: self.check_timeout.0,
            rise: self.rise,
            fall: self.fall,
        }
    }
}

fn count(count: NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(count).expect("a usize has at least 32 bits on Linux")
}
