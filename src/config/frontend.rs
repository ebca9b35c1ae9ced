//! What connections come in through: addresses, what is done with them, limits and deadlines.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use ipnet::IpNet;

use super::{
    AccessLogConfig, ConfigError, Listen, OverloadConfig, ProxyConfig, Rate, RequestLimits,
    SourceRules, in_range, timeout_in_range,
};

/// What connections come in through. Start from [`Frontend::new`] and change what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frontend {
    /// What logs, counters and commands call it.
    pub name: String,
    /// Where to listen, in the order in which listeners are numbered.
    pub listen: Vec<Listen>,
    /// Options of the listening sockets, inherited by what they accept.
    pub socket: SocketOptions,
    /// Networks whose connections begin with a PROXY header. Nobody else's is believed.
    pub trusted: Vec<IpNet>,
    /// Who may come in, and how fast.
    pub sources: SourceRules,
    /// How much there may be of what.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// What is done when connections wait too long.
    pub overload: OverloadConfig,
    /// Where a line goes for each of its connections that has ended.
    pub access_log: Option<AccessLogConfig>,
    /// What is done with its connections.
    pub protocol: Protocol,
}

/// What is done with the connections of a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// Everything comes back (RFC 862).
    Echo,
    /// Everything is dropped (RFC 863).
    Discard,
    /// Every HTTP request gets the same answer.
    Http(HttpConfig),
    /// Everything goes to a backend and back.
    Proxy(Box<ProxyConfig>),
    /// A [`Service`](crate::service::Service) that the program brings.
    Service,
}

/// What an HTTP frontend answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The body of every answer.
    pub body: Vec<u8>,
    /// How slow clients may be.
    pub limits: RequestLimits,
}

/// Options of the listening sockets. See tcp(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Length of the accept queue asked for; `None` asks for `net.core.somaxconn`.
    pub backlog: Option<NonZeroU32>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// TCP_DEFER_ACCEPT: hand a connection over only when its first bytes have come. For protocols
    /// in which the client speaks first.
    pub defer_accept: bool,
    /// TCP_FASTOPEN: how many connections may wait with data in their SYN; `None` is off.
    pub fast_open: Option<NonZeroU32>,
    /// SO_KEEPALIVE with this idle time before the first probe; `None` is off.
    pub keepalive_idle: Option<Duration>,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged; `None` leaves the kernel's rule.
    pub user_timeout: Option<Duration>,
    /// IPV6_V6ONLY: an IPv6 wildcard takes IPv6 only; off means dual stack.
    pub v6_only: bool,
    /// How long a connection waited in the accept queue is looked up for one in so many; 0 is none.
    pub queue_wait_sample: u32,
}

/// How much there may be of what in one frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of the frontend; `None` is no limit but that of the process.
    pub max_connections: Option<NonZeroUsize>,
    /// New connections of the frontend; what comes faster waits in the accept queue.
    pub rate: Option<Rate>,
    /// Bytes that may be queued for a peer before it is no longer read from.
    pub budget_bytes: u32,
}

/// How long anything may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// Without any byte, after the first.
    pub idle: Duration,
    /// With bytes to send and a peer that takes none; `None` is [`Timeouts::WRITE_STALL`] for a service
    /// and as long as `idle` for a proxy.
    pub write_stall: Option<Duration>,
    /// How long a peer may go on sending after a refusal, see [`Action::Linger`](crate::service::Action).
    pub linger: Duration,
}

/// Deadlines of the connections of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTimeouts {
    /// [`Timeouts::first_byte`].
    pub first_byte: Duration,
    /// [`Timeouts::idle`].
    pub idle: Duration,
    /// [`Timeouts::write_stall`].
    pub write_stall: Duration,
    /// [`Timeouts::linger`].
    pub linger: Duration,
    /// Of requests and their answers, where the service tells of them.
    pub requests: RequestLimits,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { body: b"hello\n".to_vec(), limits: RequestLimits::default() }
    }
}

impl Default for Frontend {
    fn default() -> Self {
        Self { listen: vec![Listen::default()], ..Self::new("main", Protocol::Service) }
    }
}

impl SocketOptions {
    /// The default: a look costs one system call.
    pub const QUEUE_WAIT_SAMPLE: u32 = 16;
    /// The largest value of `queue_wait_sample`.
    pub const QUEUE_WAIT_SAMPLE_MAX: u32 = 1_000_000;
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: None,
            nodelay: true,
            defer_accept: false,
            fast_open: None,
            keepalive_idle: None,
            user_timeout: None,
            v6_only: false,
            queue_wait_sample: Self::QUEUE_WAIT_SAMPLE,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: None, rate: None, budget_bytes: 64 * 1024 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_stall: None,
            linger: Duration::from_secs(2),
        }
    }
}

impl Frontend {
    /// Most frontends of a process.
    pub const COUNT_MAX: usize = 16_384;
    /// Longest name, in bytes.
    pub const NAME_MAX_BYTES: usize = 64;

    /// A frontend with no address to listen on yet, and the defaults of everything else.
    pub fn new(name: impl Into<String>, protocol: Protocol) -> Self {
        Self {
            name: name.into(),
            listen: Vec::new(),
            socket: SocketOptions::default(),
            trusted: Vec::new(),
            sources: SourceRules::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            overload: OverloadConfig::default(),
            access_log: None,
            protocol,
        }
    }

    /// The deadlines of its sessions, if it has some.
    pub fn session_timeouts(&self) -> SessionTimeouts {
        let requests = match &self.protocol {
            Protocol::Http(http) => http.limits,
            _ => RequestLimits::OFF,
        };
        SessionTimeouts { requests, ..self.timeouts.sessions() }
    }

    /// Checks a name: it can stand in a log line, in a path and on a command line.
    ///
    /// # Errors
    /// What it may be.
    pub fn validate_name(name: &str) -> Result<(), ConfigError> {
        validate_name("frontend", name)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        Self::validate_name(&self.name)?;
        if self.listen.is_empty() {
            return Err(ConfigError::new("no address to listen on; give at least one"));
        }
        self.sources.validate()?;
        self.limits.validate()?;
        self.timeouts.validate()?;
        self.overload.validate()?;
        match &self.protocol {
            Protocol::Proxy(proxy) => proxy.validate(),
            Protocol::Http(http) => http.limits.validate(),
            _ => Ok(()),
        }
    }
}

/// A name that can stand in a log line, in a path and on a command line.
pub(super) fn validate_name(what: &str, name: &str) -> Result<(), ConfigError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let max = Frontend::NAME_MAX_BYTES;
    if !name.is_empty() && name.len() <= max && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(ConfigError::new(format!(
        "'{}' cannot be the name of a {what}; take 1 to {max} letters, digits, '.', '_' or '-'",
        name.escape_debug()
    )))
}

impl Protocol {
    /// The word that stands for it in the `listening` line and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Http(_) => "http",
            Self::Proxy(_) => "proxy",
            Self::Service => "service",
        }
    }
}

impl Limits {
    /// Least and most bytes that may be queued for one peer.
    pub const BUDGET_BYTES: std::ops::RangeInclusive<u32> = 1024..=16 * 1024 * 1024;

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("the byte budget of a connection", self.budget_bytes, Self::BUDGET_BYTES)?;
        self.rate.map_or(Ok(()), Rate::validate)
    }
}

impl Timeouts {
    /// How long a service bears a peer that takes nothing of what is sent to it.
    pub const WRITE_STALL: Duration = Duration::from_secs(30);

    /// The deadlines of a service that does not tell of requests.
    pub fn sessions(&self) -> SessionTimeouts {
        SessionTimeouts {
            first_byte: self.first_byte,
            idle: self.idle,
            write_stall: self.write_stall.unwrap_or(Self::WRITE_STALL),
            linger: self.linger,
            requests: RequestLimits::OFF,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let named = [("first-byte", self.first_byte), ("idle", self.idle), ("linger", self.linger)];
        let stall = self.write_stall.map(|stall| ("write-stall", stall));
        let mut named = named.into_iter().chain(stall);
        named.try_for_each(|(name, value)| timeout_in_range(name, value))
    }
}
