//! One proxied connection: the client's socket, the backend's, and what waits between them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ended::Ended;
use super::waited::Waited;
use crate::connection::{Millis, Receiving, Stream, VersionId};
use crate::ring::Key;
use crate::sys::{Errno, Pipe};
use crate::upstream::{Endpoint, EndpointCounter, EndpointId, Lease, SourceNumber};

/// How long nothing has come of a pair that is idle.
const QUIET: Duration = Duration::from_secs(1);

/// The bit of a key's slot that says that it is of a pair.
const PAIR: u32 = 1 << 31;

/// Whether a key is one of a pair's operations, and not one of a session's.
pub(crate) fn is_of_a_pair(key: Key) -> bool {
    key.slot & PAIR != 0
}

/// One of the two ends of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Client,
    Backend,
}

impl End {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The key of this end's operations. The two ends of a pair share its slot in the table, and the top bit
    /// tells pairs from the sessions of the same thread:
    ///
    /// ```text
    ///   31  30                                 1   0
    /// +----+-------------------------------------+---+
    /// | 1  |           slot of the pair          |end|
    /// +----+-------------------------------------+---+
    /// ```
    pub(super) fn key(self, pair: Key) -> Key {
        Key { slot: PAIR | pair.slot << 1 | self as u32, ..pair }
    }

    /// Which end of which pair an operation belongs to.
    pub(super) fn of(key: Key) -> (Key, Self) {
        let end = if key.slot & 1 == 0 { Self::Client } else { Self::Backend };
        (Key { slot: (key.slot & !PAIR) >> 1, ..key }, end)
    }
}

/// Where a pair is in its life.
///
/// ```text
///               header read            room           socket          connected
///   Preread ----------------> Choosing -----> Opening ------> Connecting ------> Forwarding
///                             ^  |  ^                            |                   |
///                  try again  |  |  +------ another backend -----+                   | both FINs
///                            Waiting <- no room                                      | passed on
///   any of them -- reset, deadline, stop --> Joining <-------------------------------+
///                                               | nothing in flight any more
///                                               v
///                                            closed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// What the client sends first has to be read before a backend can be chosen.
    Preread,
    /// A backend is being chosen; only within a turn.
    Choosing,
    /// For a backend with room, or for a descriptor; in the proxy's queue.
    Waiting,
    /// socket(2) is in flight.
    Opening,
    /// connect(2) is in flight.
    Connecting,
    /// Bytes go both ways.
    Forwarding,
    /// Over; what is in flight ends by itself.
    Joining,
}

/// One end.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: Stream,
    /// How many more of its receives have brought much than little, see [`super::Splicing`].
    pub(super) large: u8,
    /// Whether the receive in flight goes into a pipe.
    pub(super) splicing: bool,
    /// When the send in flight began, or the last one.
    pub(super) send_began: Millis,
    /// Whether our FIN has been sent to it.
    pub(super) shut: bool,
}

impl Side {
    fn new(socket: Option<OwnedFd>, now: Millis) -> Self {
        Self {
            stream: Stream::new(socket),
            large: 0,
            splicing: false,
            send_began: now,
            shut: false,
        }
    }
}

/// One proxied connection. Small, since there may be many that do nothing.
#[derive(Debug)]
pub(super) struct Pair {
    sides: [Side; 2],
    pub(super) stage: Stage,
    /// Whether the sockets are reset at the end, so that neither peer takes it for a regular one.
    pub(super) reset: bool,
    /// Whether it is in the list of pairs that something has happened to in this turn.
    pub(super) touched: bool,
    /// Whether socket(2) or connect(2) for the backend is in flight.
    pub(super) dialing: bool,
    /// What it has waited for.
    pub(super) waited: Waited,
    /// Whether the last bytes came from the client: then it waits for an answer.
    pub(super) asked: bool,
    /// The source of its upstream that it is connected from.
    pub(super) source: SourceNumber,
    /// Connects that have begun, and those of them that have failed.
    pub(super) attempts: u8,
    pub(super) failures: u8,
    /// Its part of the spread of lifetimes: see `lifetime`.
    pub(super) lifetime_share: u8,
    /// Index of the upstream that the client's name was routed to.
    pub(super) route: u16,
    /// What it goes by, as that was when it came.
    pub(super) version: VersionId,
    /// Why it ends, once that is decided.
    pub(super) ended: Ended,
    /// The last time at which something came forward; every deadline but the lifetime and that of a
    /// send counts from here.
    pub(super) progress: Millis,
    pub(super) began: Millis,
    /// Bytes that came from the client and from the backend.
    pub(super) bytes: [u64; 2],
    /// The backend, from the moment at which it was chosen.
    pub(super) lease: Option<Lease>,
    /// What few pairs need.
    pub(super) detail: Option<Box<Detail>>,
}

/// What only some configurations need of a pair, apart so that an idle pair stays small.
#[derive(Debug, Default)]
pub(super) struct Detail {
    /// The client's address: asked for once, or said by a trusted PROXY header.
    pub(super) client: Option<SocketAddr>,
    /// Where the client connected to, if a trusted PROXY header says so.
    pub(super) destination: Option<SocketAddr>,
    /// Whether a PROXY header comes first.
    pub(super) expects_header: bool,
    /// What the client has sent so far of what has to be read first.
    pub(super) preread: Vec<u8>,
    /// What the kernel still had to send to each end at the last look at which a send was in flight.
    pub(super) queued: [Option<u32>; 2],
    /// What has gone wrong.
    pub(super) trouble: Option<Box<Trouble>>,
    /// What the bytes of each end go through, if there are many.
    pub(super) pipes: [Option<Pipe>; 2],
    pub(super) times: Times,
}

/// What has gone wrong with a pair: most have none of it.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Backends whose connect has failed, the last of them, and why.
    pub(super) tried: Vec<EndpointId>,
    pub(super) backend: Option<Arc<Endpoint>>,
    pub(super) errno: Option<Errno>,
    /// Failures for which it was counted that another backend was tried.
    pub(super) retried: u8,
    /// Since when it has lacked a local port.
    pub(super) lacks_since: Option<Millis>,
    /// What was wrong with what the client sent first, fit for a log.
    pub(super) reason: Option<String>,
}

/// The moments of the access log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// In the kernel's accept queue.
    pub(super) queued: Option<Duration>,
    pub(super) accepted: Option<Instant>,
    pub(super) adopted: Option<Instant>,
    pub(super) connected: Option<Instant>,
    pub(super) first_byte: Option<Instant>,
}

impl Pair {
    pub(super) fn new(client: OwnedFd, version: VersionId, now: Millis) -> Self {
        Self {
            sides: [Side::new(Some(client), now), Side::new(None, now)],
            stage: Stage::Choosing,
            reset: false,
            touched: false,
            dialing: false,
            waited: Waited::default(),
            asked: false,
            source: 0,
            attempts: 0,
            failures: 0,
            lifetime_share: 0,
            route: 0,
            version,
            ended: Ended::Client,
            progress: now,
            began: now,
            bytes: [0; 2],
            lease: None,
            detail: None,
        }
    }

    pub(super) fn side(&mut self, end: End) -> &mut Side {
        &mut self.sides[end as usize]
    }

    pub(super) fn backend(&self) -> &Side {
        &self.sides[End::Backend as usize]
    }

    /// One end and the other.
    pub(super) fn ends(&mut self, end: End) -> (&mut Side, &mut Side) {
        let [client, backend] = &mut self.sides;
        match end {
            End::Client => (client, backend),
            End::Backend => (backend, client),
        }
    }

    /// Whether both FINs have come and everything before them has been passed on.
    pub(super) fn is_through(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.stream.ended && !side.stream.sending && side.stream.output.is_empty())
    }

    /// Since when an end has taken nothing of what is being sent to it; `None` if nothing is.
    pub(super) fn sending_since(&self, end: End) -> Option<Millis> {
        let side = &self.sides[end as usize];
        side.stream.sending.then_some(side.send_began)
    }

    /// Whether one direction is over and the other is not.
    pub(super) fn is_half_closed(&self) -> bool {
        self.sides[0].stream.ended != self.sides[1].stream.ended
    }

    /// Whether the kernel may still complete something of this pair.
    pub(super) fn in_flight(&self) -> bool {
        self.dialing || self.sides.iter().any(|side| side.stream.in_flight())
    }

    /// Whether nothing is under way, as far as can be seen: the last word was the backend's, it has been passed on,
    /// and none has followed for a while.
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        let is_passed_on = !self.owes_bytes() && !self.sides.iter().any(|side| side.stream.sending);
        let is_open = self.stage == Stage::Forwarding && !self.is_half_closed() && !self.asked;
        is_open && is_passed_on && now.since(self.progress) >= QUIET
    }

    /// Whether bytes that have come wait to be passed on.
    pub(super) fn owes_bytes(&self) -> bool {
        self.sides.iter().any(|side| !side.stream.output.is_empty())
    }

    /// Whether an end may have sent bytes for which there was no buffer.
    pub(super) fn is_starved(&self) -> bool {
        self.sides.iter().any(|side| side.stream.receiving == Receiving::Starved)
    }

    /// The pipe that what comes from an end goes through.
    pub(super) fn pipe(&self, end: End) -> Option<&Pipe> {
        self.detail.as_ref()?.pipes[end as usize].as_ref()
    }

    /// What few pairs need; made now if it does not exist.
    pub(super) fn detail(&mut self) -> &mut Detail {
        self.detail.get_or_insert_default()
    }

    /// Counts for the backend that has failed last that another one is tried. False if that has been counted already,
    /// or if none has failed.
    pub(super) fn count_retry(&mut self) -> bool {
        let failures = self.failures;
        if failures == 0 || std::mem::replace(&mut self.trouble().retried, failures) == failures {
            return false;
        }
        if let Some(backend) = &self.trouble().backend {
            backend.counters().count(EndpointCounter::RetriesAway);
        }
        true
    }

    /// The backend that was tried last, if one was.
    pub(super) fn last_backend(&self) -> Option<&Endpoint> {
        let failed =
            self.detail.as_ref().and_then(|detail| detail.trouble.as_ref()?.backend.as_ref());
        let asked = self.lease.as_ref().filter(|_| self.attempts > self.failures);
        asked.map(Lease::endpoint).or(failed).map(Arc::as_ref)
    }

    /// What has gone wrong; made now if nothing has before.
    pub(super) fn trouble(&mut self) -> &mut Trouble {
        self.detail().trouble.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Generation;

    #[test]
    fn an_idle_pair_is_small() {
        assert!(size_of::<Pair>() <= 144, "{}", size_of::<Pair>());
    }

    #[test]
    fn the_end_comes_back_from_the_key() {
        let pair = Key { slot: 0x3fff_fffe, generation: Generation::FIRST.next() };
        for end in End::BOTH {
            assert_eq!(End::of(end.key(pair)), (pair, end));
            assert!(is_of_a_pair(end.key(pair)) && !is_of_a_pair(pair));
        }
    }
}
