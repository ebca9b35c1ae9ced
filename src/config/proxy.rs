//! What a proxy is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;

use super::upstream::UpstreamConfig;
use super::{Config, ConfigError, timeout_in_range};

/// Everything a proxy is told besides what every server is ([`Config`]).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// Where connections go that no route takes.
    pub upstream: UpstreamConfig,
    /// Where connections go whose TLS server name matches, with the pattern as it was given.
    pub routes: Vec<(String, UpstreamConfig)>,
    /// How often a failed connect is followed by one to another backend.
    pub retries: u8,
    /// Connections of one thread that may wait for a backend with room.
    pub queue: NonZeroUsize,
    /// Until a connect has succeeded or failed.
    pub connect_timeout: Duration,
    /// In the queue, for a backend with room or for a descriptor.
    pub queue_timeout: Duration,
    /// With bytes to send and an end that takes none; `None` is as long as
    /// [`Timeouts::idle`](super::Timeouts::idle). That of the servers does not count here.
    pub write_stall_timeout: Option<Duration>,
    /// Without a byte while one direction is over.
    pub half_closed_timeout: Duration,
    /// From the first to the last moment of a connection; `None` is without end.
    pub lifetime: Option<Duration>,
    /// Networks whose connections begin with a PROXY header. Nobody else's is believed.
    pub trusted: Vec<IpNet>,
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
    /// A proxy to `upstream` with the defaults of everything else.
    pub fn new(upstream: UpstreamConfig) -> Self {
        Self {
            upstream,
            routes: Vec::new(),
            retries: 2,
            queue: NonZeroUsize::new(1024).expect("it is not zero"),
            connect_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            write_stall_timeout: None,
            half_closed_timeout: Duration::from_secs(30),
            lifetime: None,
            splice: true,
            trusted: Vec::new(),
            send_header: None,
        }
    }

    /// Checks everything that can be known without looking at the machine.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.upstream.validate()?;
        self.routes.iter().try_for_each(|(_, upstream)| upstream.validate())?;
        timeout_in_range("connect", self.connect_timeout)?;
        timeout_in_range("queue", self.queue_timeout)?;
        timeout_in_range("half-closed", self.half_closed_timeout)?;
        let stall = self.write_stall_timeout.map(|stall| ("write-stall", stall));
        let lifetime = self.lifetime.map(|lifetime| ("lifetime", lifetime));
        let mut given = stall.into_iter().chain(lifetime);
        given.try_for_each(|(name, value)| timeout_in_range(name, value))
    }

    /// All deadlines, with those that every server has.
    pub(crate) fn timeouts(&self, config: &Config) -> ProxyTimeouts {
        ProxyTimeouts {
            preread: config.timeouts.first_byte,
            connect: self.connect_timeout,
            queue: self.queue_timeout,
            idle: config.timeouts.idle,
            write_stall: self.write_stall_timeout.unwrap_or(config.timeouts.idle),
            half_closed: self.half_closed_timeout,
            lifetime: self.lifetime,
        }
    }
}
