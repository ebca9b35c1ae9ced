//! What a proxy is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{ConfigError, Timeouts, timeout_in_range};

/// What a frontend that proxies is told besides what every frontend is ([`Frontend`](super::Frontend)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The upstream of connections that no route takes, by its name.
    pub upstream: String,
    /// The upstream of connections whose TLS server name matches: pattern and name.
    pub routes: Vec<(String, String)>,
    /// How often a failed connect is followed by one to another backend.
    pub retries: u8,
    /// Connections of one thread that may wait for a backend with room.
    pub queue: NonZeroUsize,
    /// Until a connect has succeeded or failed.
    pub connect_timeout: Duration,
    /// In the queue, for a backend with room or for a descriptor.
    pub queue_timeout: Duration,
    /// Without a byte while one direction is over.
    pub half_closed_timeout: Duration,
    /// From the first to the last moment of a connection; `None` is without end.
    pub lifetime: Option<Duration>,
    /// Whether splice(2) moves the bytes of large transfers, so that they are not copied.
    pub splice: bool,
    /// Which PROXY header is sent to backends.
    pub send_header: Option<ProxyProtocolVersion>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Deadlines of proxied connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyTimeouts {
    /// From accept to the end of what the client has to send first.
    pub preread: Duration,
    /// [`ProxyConfig::connect_timeout`].
    pub connect: Duration,
    /// [`ProxyConfig::queue_timeout`].
    pub queue: Duration,
    /// Without a byte either way.
    pub idle: Duration,
    /// Of one send, to either end.
    pub write_stall: Duration,
    /// [`ProxyConfig::half_closed_timeout`].
    pub half_closed: Duration,
    /// [`ProxyConfig::lifetime`].
    pub lifetime: Option<Duration>,
}

impl ProxyConfig {
    /// A proxy to the upstream of this name, with the defaults of everything else.
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            routes: Vec::new(),
            retries: 2,
            queue: NonZeroUsize::new(1024).expect("it is not zero"),
            connect_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            half_closed_timeout: Duration::from_secs(30),
            lifetime: None,
            splice: true,
            send_header: None,
        }
    }

    /// The upstreams that it names: the default first, then one for each route.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        let routes = self.routes.iter().map(|(_, name)| name.as_str());
        std::iter::once(self.upstream.as_str()).chain(routes)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        timeout_in_range("connect", self.connect_timeout)?;
        timeout_in_range("queue", self.queue_timeout)?;
        timeout_in_range("half-closed", self.half_closed_timeout)?;
        self.lifetime.map_or(Ok(()), |lifetime| timeout_in_range("lifetime", lifetime))
    }

    /// All deadlines, with those that every frontend has.
    pub(crate) fn timeouts(&self, every: &Timeouts) -> ProxyTimeouts {
        ProxyTimeouts {
            preread: every.first_byte,
            connect: self.connect_timeout,
            queue: self.queue_timeout,
            idle: every.idle,
            write_stall: every.write_stall.unwrap_or(every.idle),
            half_closed: self.half_closed_timeout,
            lifetime: self.lifetime,
        }
    }
}
