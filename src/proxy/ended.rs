//! Why a pair ended.

use crate::access_log::EndedBy;
use crate::metrics::Counter;

/// Why a pair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Both FINs were passed on; the client's came first.
    Client,
    /// Both FINs were passed on; the backend's came first.
    Backend,
    /// The client reset its connection, or the network broke it.
    ClientReset,
    /// The backend reset its connection, or the network broke it.
    BackendReset,
    /// Every backend is out, or was tried.
    NoBackend,
    /// The last connect that was allowed failed.
    ConnectFailed,
    /// The last connect that was allowed took too long.
    ConnectTimeout,
    /// All backends were full and so was the queue.
    QueueFull,
    /// No backend had room, or no descriptor came free, in time.
    QueueTimeout,
    /// What the client has to send first was not there in time.
    PrereadTimeout,
    /// What a trusted client sent first is no PROXY header.
    BadProxyHeader,
    /// A rule by source was against the client that a PROXY header speaks for.
    Refused,
    /// The client closed in the middle of its ClientHello.
    BadClientHello,
    /// The client closed, or reset, before it had said a byte of what it has to say first: a check, most likely.
    ClientClosedEarly,
    /// No buffer was left for what has to be sent to the backend first.
    OutOfBuffers,
    /// Nothing came from either end for too long.
    Idle,
    /// An end took nothing of what was being sent to it for too long.
    WriteStall,
    /// One direction was over and nothing came from the other for too long.
    HalfClosed,
    /// It was open for as long as a connection may be.
    Lifetime,
    /// It was idle when the server, or its frontend, drained.
    Drained,
    /// The server stopped.
    Stopped,
    /// An operator closed it.
    Operator,
    /// It had been idle for longest, and its frontend was full while others waited.
    Evicted,
    /// Its client had gone while it waited too long.
    DeadOnArrival,
    /// It had waited too long while its frontend was overloaded.
    Shed,
}

impl Ended {
    /// As it stands in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::ClientReset => "client-reset",
            Self::BackendReset => "backend-reset",
            Self::NoBackend => "no-backend",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectTimeout => "connect-timeout",
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::PrereadTimeout => "preread-timeout",
            Self::BadProxyHeader => "bad-proxy-header",
            Self::Refused => "refused",
            Self::BadClientHello => "bad-client-hello",
            Self::ClientClosedEarly => "client-closed-early",
            Self::OutOfBuffers => "out-of-buffers",
            Self::Idle => "idle",
            Self::WriteStall => "write-stall",
            Self::HalfClosed => "half-closed",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Operator => "operator",
            Self::Evicted => "evicted",
            Self::DeadOnArrival => "dead-on-arrival",
            Self::Shed => "shed",
        }
    }

    /// Whose doing it was.
    pub(super) fn by(self) -> EndedBy {
        match self {
            Self::Client
            | Self::ClientReset
            | Self::ClientClosedEarly
            | Self::BadProxyHeader
            | Self::BadClientHello
            | Self::DeadOnArrival => EndedBy::Client,
            Self::Backend
            | Self::BackendReset
            | Self::NoBackend
            | Self::ConnectFailed
            | Self::ConnectTimeout => EndedBy::Backend,
            Self::QueueFull
            | Self::QueueTimeout
            | Self::PrereadTimeout
            | Self::Refused
            | Self::OutOfBuffers
            | Self::Idle
            | Self::WriteStall
            | Self::HalfClosed
            | Self::Lifetime
            | Self::Drained
            | Self::Stopped
            | Self::Shed
            | Self::Evicted => EndedBy::Acceptor,
            Self::Operator => EndedBy::Operator,
        }
    }

    pub(super) fn counter(self) -> Counter {
        match self {
            Self::Client => Counter::ClosedByPeer,
            Self::Backend => Counter::ClosedByBackend,
            Self::ClientReset => Counter::ClosedByReset,
            Self::BackendReset => Counter::ClosedByBackendReset,
            Self::NoBackend => Counter::ClosedForNoBackend,
            Self::ConnectFailed => Counter::ClosedByConnectFailure,
            Self::ConnectTimeout => Counter::ClosedByConnectTimeout,
            Self::QueueFull => Counter::ClosedByQueueFull,
            Self::QueueTimeout => Counter::ClosedByQueueTimeout,
            Self::PrereadTimeout => Counter::ClosedByFirstByteTimeout,
            Self::BadProxyHeader => Counter::ClosedByBadProxyHeader,
            Self::Refused => Counter::ClosedByRule,
            Self::BadClientHello => Counter::ClosedByBadClientHello,
            Self::ClientClosedEarly => Counter::ClosedEarly,
            Self::OutOfBuffers => Counter::ClosedByOverflow,
            Self::Idle => Counter::ClosedByIdleTimeout,
            Self::WriteStall => Counter::ClosedByWriteStall,
            Self::HalfClosed => Counter::ClosedByHalfClosedTimeout,
            Self::Lifetime => Counter::ClosedByLifetime,
            Self::Drained => Counter::ClosedByDrain,
            Self::Stopped => Counter::ClosedByStop,
            Self::Operator => Counter::ClosedByOperator,
            Self::Evicted => Counter::ClosedByEviction,
            Self::DeadOnArrival => Counter::ClosedDeadOnArrival,
            Self::Shed => Counter::ClosedByShed,
        }
    }
}
