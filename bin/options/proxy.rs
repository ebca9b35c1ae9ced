//! What `acceptor proxy` is told besides what every service is.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use uring_acceptor::config::upstream::{
    ActiveCheck, ActiveHealth, Backend, Balance, CheckBytes, PassiveHealth, UpstreamConfig,
    WhenAllOut,
};
use uring_acceptor::config::{ProxyConfig, ProxyProtocolVersion};
use uring_acceptor::preread::routes::{Pattern, Route};
use uring_acceptor::proxy::LogForm;

use super::human::{Human, number};
use super::values::{interval, timeout, up_to};

/// What the proxy is told, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProxyChoice {
    /// What the server is told.
    pub(crate) config: ProxyConfig,
    /// Where the access log goes, and its form; `-` is stdout.
    pub(crate) access_log: Option<(PathBuf, LogForm)>,
}

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
    /// Where connections go: IP:PORT, NAME:PORT, unix:PATH or unix:@NAME; ADDR,weight=N for more;
    /// repeatable
    #[arg(long, value_name = "ADDR", required = true)]
    to: Vec<Backend>,
    /// Where those go whose TLS server name is NAME or matches *.NAME; repeatable, also per name
    #[arg(long, value_name = "NAME=ADDR")]
    route: Vec<Route<Backend>>,
    /// Which backend gets a connection: least-connections, round-robin, random, source-hash
    #[arg(long, value_name = "POLICY", default_value = "least-connections")]
    balance: Balance,
    /// Other backends tried when a connect fails
    #[arg(long, value_name = "N", value_parser = retries, default_value_t = 2)]
    retries: u8,
    /// Open connections of each backend; more wait [default: no limit]
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    backend_max_connections: Option<NonZeroU32>,
    /// Connections of one thread that may wait for a backend with room
    #[arg(long, value_name = "N", value_parser = up_to(1 << 20), default_value = "1024")]
    queue: NonZeroU32,
    /// Time between two looks at the addresses of a NAME
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "30s")]
    resolve_interval: Human,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
struct Health {
    /// Connect to each backend this often to see whether it is up [default: no checks]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    check_interval: Option<Human>,
    /// Send this with each check (\r, \n, \xNN), and wait for what --check-expect says
    #[arg(long, value_name = "BYTES", requires_all = ["check_interval", "check_expect"])]
    check_send: Option<CheckBytes>,
    /// What the answer to a check must contain
    #[arg(long, value_name = "BYTES", requires = "check_interval")]
    check_expect: Option<CheckBytes>,
    /// How long a check may take
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "1s")]
    check_timeout: Human,
    /// Checks in a row that bring a backend up
    #[arg(long, value_name = "N", value_parser = up_to(100), default_value = "2")]
    rise: NonZeroU32,
    /// Checks in a row that bring a backend down
    #[arg(long, value_name = "N", value_parser = up_to(100), default_value = "3")]
    fall: NonZeroU32,
    /// Failed connects in a row after which a backend is left out for a while; 0: never
    #[arg(long, value_name = "N", value_parser = eject_after, default_value_t = 3)]
    eject_after: u32,
    /// Time in which a backend that has come up gets its full share; 0s: at once
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "0s")]
    slow_start: Human,
    /// When all backends are out: try-all of them in spite of it, or refuse
    #[arg(long, value_name = "WHAT", default_value = "try-all")]
    when_all_out: WhenAllOut,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Forwarding")]
struct Forwarding {
    /// Connections from this network begin with a PROXY header (v1 or v2); repeatable
    #[arg(long, value_name = "CIDR")]
    proxy_protocol_in: Vec<IpNet>,
    /// Tell backends the client's address in a PROXY header: v1 or v2
    #[arg(long, value_name = "VERSION", value_parser = version)]
    proxy_protocol_out: Option<ProxyProtocolVersion>,
    /// Copy the bytes of large transfers through buffers instead of splicing them
    #[arg(long)]
    no_splice: bool,
    /// Until a backend has answered a connect
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "5s")]
    connect_timeout: Human,
    /// Waiting for a backend with room, or for a descriptor
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "5s")]
    queue_timeout: Human,
    /// Without a byte while one side has said its last
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "30s")]
    half_closed_timeout: Human,
    /// From the first to the last moment of a connection [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    lifetime: Option<Human>,
    /// A line for each connection that has ended goes here; -: stdout, and `listening` goes to stderr
    /// [default: no log]
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Form of those lines: text or json
    #[arg(long, value_name = "FORM", value_parser = log_form, default_value = "text")]
    access_log_format: LogForm,
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

fn log_form(text: &str) -> Result<LogForm, String> {
    match text {
        "text" => Ok(LogForm::Text),
        "json" => Ok(LogForm::Json),
        _ => Err("it must be text or json".into()),
    }
}

impl Typed {
    pub(super) fn choice(self, write_stall: Option<Human>) -> ProxyChoice {
        let Self { backends, health, forwarding } = self;
        let upstream = |to: Vec<Backend>| backends.upstream(to, &health);
        // Several routes for one name are several backends of it.
        let mut named: BTreeMap<String, Vec<Backend>> = BTreeMap::new();
        for Route { pattern, target } in &backends.route {
            named.entry(Pattern::to_string(pattern)).or_default().push(target.clone());
        }
        let mut config = ProxyConfig::new(upstream(backends.to.clone()));
        config.routes = named.into_iter().map(|(name, to)| (name, upstream(to))).collect();
        config.retries = backends.retries;
        config.queue = count(backends.queue);
        config.connect_timeout = forwarding.connect_timeout.0;
        config.queue_timeout = forwarding.queue_timeout.0;
        config.write_stall_timeout = write_stall.map(|time| time.0);
        config.half_closed_timeout = forwarding.half_closed_timeout.0;
        config.lifetime = forwarding.lifetime.map(|time| time.0);
        config.trusted = forwarding.proxy_protocol_in;
        config.splice = !forwarding.no_splice;
        config.send_header = forwarding.proxy_protocol_out;
        let form = forwarding.access_log_format;
        let access_log = forwarding.access_log.map(|path| (path, form));
        ProxyChoice { config, access_log }
    }
}

impl Backends {
    fn upstream(&self, to: Vec<Backend>, health: &Health) -> UpstreamConfig {
        let mut config = UpstreamConfig::new(to);
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
