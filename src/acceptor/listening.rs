//! One listener of an acceptor: what is armed on it and whether it may be.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pause::{CALM, News, Pause};
use super::waiting::Waiting;
use crate::config::ListenAddress;
use crate::dispatch::{Accepted, ConnectionLimit, ListenerId};
use crate::listener::{Pressure, QueueWaits};
use crate::metrics::{PauseCause, Pauses};
use crate::ring::{Descriptor, Key, Kind, Operation, Operations, Shots};
use crate::sources::Admission;
use crate::sys::Errno;

/// Bounds of the pause after an error; it doubles from pause to pause until something is accepted.
const BACK_OFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_millis(500);

/// Most single accepts in flight on one listener.
const SINGLES_LIMIT: usize = 256;

/// Most of all accept queues of the server, as long as each may have [`SINGLES_MIN`]. Each is a waiter in the
/// kernel that has to be ended when its listener drains, and more than come in one turn are of no use.
const SINGLES_OF_ALL: usize = 1024;
const SINGLES_MIN: usize = 4;

/// A listener as the acceptor needs it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The listening socket; it stays open until the acceptor is [done](super::Acceptor::is_done).
    pub socket: Descriptor,
    /// Its index in the configuration.
    pub listener: ListenerId,
    /// Where it listens, for messages.
    pub address: ListenAddress,
    /// How many connections may wait in its accept queue.
    pub backlog: usize,
    /// How many connections its frontend may have.
    pub limit: Arc<ConnectionLimit>,
    /// Who may come in, and how fast.
    pub admission: Arc<Admission>,
    /// Accept queues of the frontend, which share that limit: those of all acceptors.
    pub queues: usize,
    /// How long its connections have waited.
    pub waits: Arc<QueueWaits>,
    /// How long nobody was accepted on it.
    pub pauses: Arc<Pauses>,
    /// Whether they wait too long, and what is done about it.
    pub pressure: Arc<Pressure>,
    /// How to ask who is at the other end of one.
    pub peer: PeerAddress,
}

/// Who is at the other end of a connection, as getpeername(2) tells it.
pub type PeerAddress = fn(BorrowedFd<'_>) -> io::Result<Option<SocketAddr>>;

/// Where a listener is in its life. It moves one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Accepting,
    /// Nobody new is admitted; who is in the queue is accepted.
    Draining,
    /// Nothing is accepted any more.
    Closing,
}

/// What ought to be armed on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    /// Far from the limit: a multishot accept, which may bring the whole queue at once.
    Many,
    /// Near the limit: so many single accepts, each of which brings one connection at most.
    Singles(usize),
}

impl Want {
    /// What suits this share of the headroom. What is armed stays so until the other is clearly
    /// better, so that a server near the threshold does not go back and forth.
    pub(super) fn for_headroom(
        share: usize,
        (backlog, queues): (usize, usize),
        armed: Armed,
    ) -> Self {
        let threshold = match armed {
            Armed::Singles => backlog + backlog / 8 + 1,
            Armed::Many | Armed::Nothing => backlog,
        };
        match share {
            _ if share > threshold => Self::Many,
            0 => Self::Nothing,
            _ => Self::Singles(share.min(singles(queues))),
        }
    }

    /// One single accept in the place of many, to see how it ends: each of them would meet the same
    /// shortage.
    pub(super) fn at_most_one(self) -> Self {
        match self {
            Self::Singles(_) => Self::Singles(1),
            Self::Nothing | Self::Many => self,
        }
    }
}

/// Most single accepts on a listener of a server with so many accept queues.
fn singles(queues: usize) -> usize {
    (SINGLES_OF_ALL / queues.max(1)).clamp(SINGLES_MIN, SINGLES_LIMIT)
}

/// What is armed on a listener.
///
/// ```text
///              arm                 last completion, for whatever reason
///   Nothing ---------> Many ----------------------------------------------> Nothing
///      |                 \--- cancel ---> (cancelling) ---last completion---> ^
///      |  arm n                                                               |
///      +-------------> Singles ---------- n-th completion --------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Armed {
    Nothing,
    Many,
    Singles,
}

/// Whether a listener may be armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Fine,
    /// After an error: until then, or until a connection has closed since.
    Resting {
        until: Instant,
        released: usize,
    },
    Stopped,
}

/// One listener and what is in flight on it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) source: Source,
    pub(super) stage: Stage,
    /// What its frontend has no room for, in the order of arrival.
    pub(super) held: VecDeque<Accepted>,
    /// Why the last turn left it unarmed although connections may wait, if it did.
    pub(super) stands_still: Option<PauseCause>,
    /// When its frontend lets one more in, if that is why.
    pub(super) room_at: Option<Instant>,
    pub(super) armed: Armed,
    /// Accepts whose last completion has not come.
    pub(super) in_flight: usize,
    pub(super) cancelling: bool,
    pub(super) health: Health,
    pub(super) waiting: Waiting,
    /// Whether it is among those that are watched each turn.
    pub(super) is_watched: bool,
    back_off: Duration,
    pause: Pause,
}

impl Listening {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            stage: Stage::Accepting,
            held: VecDeque::new(),
            stands_still: None,
            room_at: None,
            armed: Armed::Nothing,
            in_flight: 0,
            cancelling: false,
            health: Health::Fine,
            waiting: Waiting::new(),
            is_watched: false,
            back_off: *BACK_OFF.start(),
            pause: Pause::Quiet,
        }
    }

    /// Whether it is armed for all that may come, however little of the headroom of the server is taken.
    pub(super) fn is_settled(&self, want: Want) -> bool {
        let all = self.armed == Armed::Many && want == Want::Many && !self.cancelling;
        let Source { limit, admission, .. } = &self.source;
        let is_unlimited = limit.limit() == usize::MAX && !admission.has_rate();
        all && is_unlimited && self.stage == Stage::Accepting && !self.is_pausing()
    }

    /// Why it is left unarmed, if it is. `full` is why the whole server had no room, if that is so.
    pub(super) fn cause(
        &self,
        of_process: &ConnectionLimit,
        full: PauseCause,
        now: Instant,
    ) -> PauseCause {
        let limit = &self.source.limit;
        if matches!(self.health, Health::Resting { .. }) {
            return PauseCause::Descriptors;
        }
        match (of_process.headroom(), limit.headroom()) {
            (0, _) => PauseCause::ProcessLimit,
            (_, 0) => PauseCause::FrontendLimit,
            _ if !self.held.is_empty() => full,
            _ if self.stage == Stage::Accepting && self.source.admission.room(now) == 0 => {
                PauseCause::FrontendRate
            }
            // The place that is free by now was not when it was looked for.
            _ if limit.limit() == usize::MAX => PauseCause::ProcessLimit,
            _ => PauseCause::FrontendLimit,
        }
    }

    /// Notes whether it is left unarmed although connections may wait, and why.
    pub(super) fn stand_still(&mut self, cause: Option<PauseCause>, now: Instant) {
        self.room_at = match cause {
            Some(PauseCause::FrontendRate) => self.source.admission.room_at(now),
            _ => None,
        };
        if cause != self.stands_still {
            self.source.pauses.change((self.stands_still, cause), now);
            self.stands_still = cause;
        }
    }

    /// One accept has ended.
    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.armed = Armed::Nothing;
            self.cancelling = false;
        }
    }

    /// Whether nothing has come since the last rest: whatever had run out may still be missing.
    pub(super) fn is_recovering(&self) -> bool {
        self.back_off != *BACK_OFF.start()
    }

    /// A connection has come, so whatever had run out is back.
    pub(super) fn recovered(&mut self) {
        self.back_off = *BACK_OFF.start();
    }

    /// Whether there is something to [tell](Self::tell), now or later.
    pub(super) fn is_pausing(&self) -> bool {
        self.pause != Pause::Quiet
    }

    /// Tells that it pauses, or goes on. To be called when all that came with the last completions is among
    /// the `open` connections, and what may be armed is.
    pub(super) fn tell(&mut self, open: usize, now: Instant) {
        let is_armed = self.is_armed();
        let Source { address, backlog, .. } = &self.source;
        match self.pause.news(is_armed, now) {
            Some(News::Pauses(errno)) => tracing::warn!(
                "accepting on {address} pauses: accept(2) failed with {errno}; the open connections ({open}) \
                 go on, new ones wait in the kernel's queue (at most {backlog}) until one closes"
            ),
            Some(News::GoesOn(rests)) => {
                let calm = humantime::format_duration(CALM);
                tracing::info!(
                    "accepting on {address} goes on: accept(2) has not failed for {calm} (failures before: {rests}); \
                     open connections: {open}"
                );
            }
            None => {}
        }
    }

    /// When it is to be told that accepting goes on.
    pub(super) fn calm_at(&self) -> Option<Instant> {
        self.pause.calm_at(self.is_armed())
    }

    fn is_armed(&self) -> bool {
        self.armed != Armed::Nothing && !self.cancelling
    }

    /// Something has run out. False if that was known already: several accepts that meet one
    /// shortage are one rest, and what is broken stays so.
    pub(super) fn rest(&mut self, errno: Errno, now: Instant, released: usize) -> bool {
        if self.health != Health::Fine {
            return false;
        }
        self.health = Health::Resting { until: now + self.back_off, released };
        self.back_off = (self.back_off * 2).min(*BACK_OFF.end());
        self.pause.rest(errno, now);
        true
    }

    /// Ends a rest that is over.
    pub(super) fn wake_up(&mut self, now: Instant, released_now: usize) {
        if let Health::Resting { until, released } = self.health
            && (now >= until || released != released_now)
        {
            self.health = Health::Fine;
        }
    }

    /// Brings what is armed closer to what is wanted. True if that took a cancel.
    pub(super) fn arm(&mut self, key: Key, want: Want, operations: &mut Operations) -> bool {
        if self.cancelling {
            return false;
        }
        match (self.armed, want) {
            (Armed::Nothing, Want::Nothing) | (Armed::Many, Want::Many) => false,
            (Armed::Nothing, Want::Many) => {
                self.start(key, Armed::Many, Shots::Many { credit_bytes: 0 }, operations);
                false
            }
            (Armed::Nothing | Armed::Singles, Want::Singles(count)) => {
                for _ in self.in_flight..count {
                    self.start(key, Armed::Singles, Shots::Once, operations);
                }
                false
            }
            (Armed::Many, Want::Nothing | Want::Singles(_))
            | (Armed::Singles, Want::Nothing | Want::Many) => {
                self.cancelling = true;
                operations.push(key, Operation::Cancel(Kind::Accept));
                true
            }
        }
    }

    fn start(&mut self, key: Key, armed: Armed, shots: Shots, operations: &mut Operations) {
        let listener = self.source.socket;
        operations.push(key, Operation::Accept { listener, shots });
        self.armed = armed;
        self.in_flight += 1;
    }
}
