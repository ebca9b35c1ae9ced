//! One connection of a worker.

use std::os::fd::OwnedFd;

use crate::connection::suspended::Awaited;
use crate::connection::{Millis, Stream, VersionId};
use crate::service::CloseReason;

/// Where a connection is in its life. It moves one way.
///
/// ```text
///   Preread -- PROXY header is whole --> Open
///
///            Close, FIN            all sent, nothing in flight
///   Open ---------------> Flushing ------------------------------> closed
///    |                       | Linger: all sent, our FIN sent          ^
///    |                       v                                         |
///    |                    Lingering --- FIN, limit reached ------------|
///    |                       |                                         |
///    |  error, deadline,     v   nothing in flight any more            |
///    +---- abort, stop ----> Joining ----------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A PROXY header is still to come; there is no session yet.
    Preread,
    /// The service sees what comes, when it wants it.
    Open(Awaited),
    /// The session is over; what is queued is still sent. True: then linger.
    Flushing { linger: bool },
    /// Our FIN is out; what comes is dropped, at most so many bytes more.
    Lingering { bytes_left: u32 },
    /// Shut down; what is in flight ends by itself.
    Joining,
}

impl Stage {
    /// Whether the service is asked still.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// What an open session is called for next.
    pub(super) fn awaited(self) -> Option<Awaited> {
        match self {
            Self::Open(awaited) => Some(awaited),
            _ => None,
        }
    }
}

/// One connection. Small, since there may be many that do nothing.
#[derive(Debug)]
pub(super) struct Connection<Session> {
    pub(super) stream: Stream,
    /// `None` until a PROXY header has come, and once the service was told that it is over, or has panicked.
    pub(super) session: Option<Session>,
    pub(super) stage: Stage,
    /// Why it ends, once that is decided.
    pub(super) reason: CloseReason,
    /// What it goes by, as that was when it came.
    pub(super) version: VersionId,
    /// When it came.
    pub(super) began: Millis,
    /// When the last request began that did not come in one piece; read only while something of one is to come.
    pub(super) begun: Millis,
    /// The last time at which something came forward; the other deadlines count from here.
    pub(super) progress: Millis,
}

impl<Session> Connection<Session> {
    pub(super) fn new(
        socket: OwnedFd,
        (session, version): (Option<Session>, VersionId),
        now: Millis,
    ) -> Self {
        Self {
            stream: Stream::new(Some(socket)),
            stage: if session.is_some() { Stage::Open(Awaited::Input) } else { Stage::Preread },
            session,
            reason: CloseReason::PeerClosed,
            version,
            began: now,
            begun: now,
            progress: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::resident_bytes;
    use crate::service::BuiltinSession;

    #[test]
    fn an_idle_connection_is_small() {
        assert_eq!(resident_bytes::<Connection<()>>(), 68);
        let builtin = resident_bytes::<Connection<BuiltinSession>>();
        assert!(builtin <= 88, "{builtin}");
    }
}
