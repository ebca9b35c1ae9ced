//! One connection of a worker.

use std::os::fd::OwnedFd;

use crate::connection::{Millis, Output, Receiving};
use crate::service::CloseReason;

/// Where a connection is in its life. It moves one way.
///
/// ```text
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
    /// The service sees what comes.
    Open,
    /// The session is over; what is queued is still sent. True: then linger.
    Flushing { linger: bool },
    /// Our FIN is out; what comes is dropped, at most so many bytes more.
    Lingering { bytes_left: u32 },
    /// Shut down; what is in flight ends by itself.
    Joining,
}

/// One connection. Small, since there may be many that do nothing.
#[derive(Debug)]
pub(super) struct Connection<Session> {
    /// `None` once it was given up together with the last bytes.
    pub(super) socket: Option<OwnedFd>,
    /// `None` once the service was told that it is over, or has panicked.
    pub(super) session: Option<Session>,
    pub(super) stage: Stage,
    pub(super) receiving: Receiving,
    /// Whether a send is in flight.
    pub(super) sending: bool,
    /// Whether the peer's FIN has come.
    pub(super) peer_done: bool,
    /// Whether the peer has sent anything.
    pub(super) spoken: bool,
    /// Why it ends, once that is decided.
    pub(super) reason: CloseReason,
    /// The last time at which something came forward; every deadline counts from here.
    pub(super) progress: Millis,
    pub(super) output: Output,
}

impl<Session> Connection<Session> {
    pub(super) fn new(socket: OwnedFd, session: Session, now: Millis) -> Self {
        Self {
            socket: Some(socket),
            session: Some(session),
            stage: Stage::Open,
            receiving: Receiving::No,
            sending: false,
            peer_done: false,
            spoken: false,
            reason: CloseReason::PeerClosed,
            progress: now,
            output: Output::default(),
        }
    }

    /// Whether the kernel may still complete something of this connection.
    pub(super) fn in_flight(&self) -> bool {
        self.sending || self.receiving == Receiving::Armed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::resident_bytes;
    use crate::service::BuiltinSession;

    #[test]
    fn an_idle_connection_is_small() {
        assert_eq!(resident_bytes::<Connection<()>>(), 60);
        let builtin = resident_bytes::<Connection<BuiltinSession>>();
        assert!(builtin <= 80, "{builtin}");
    }
}
