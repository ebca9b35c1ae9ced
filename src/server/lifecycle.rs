//! What the threads of a server share: its phase, and how to tell each other about it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::detail::Detail;
use super::sockets::Sockets;
use crate::dispatch::Parker;
use crate::ring::Operations;

/// Where a server is in its life. It moves one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepting and serving.
    Serving,
    /// Nothing new is admitted; what was admitted is served to its end.
    Draining,
    /// Everything ends now.
    Stopping,
}

impl Phase {
    fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Serving,
            1 => Self::Draining,
            _ => Self::Stopping,
        }
    }
}

/// Shared by all threads and handles of a server.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: AtomicU8,
    /// In milliseconds.
    drain_timeout: AtomicU64,
    /// In milliseconds.
    drain_spread: AtomicU64,
    drain_until: OnceLock<Instant>,
    stopping_since: OnceLock<Instant>,
    /// Threads that still accept.
    accepting: AtomicUsize,
    /// How many have connections that are on their way between this process and another, or back to a thread: none of
    /// these ends before Stopping then, and nothing else changes the server.
    held: AtomicUsize,
    /// Whether another process is about to take the place of this one.
    being_replaced: AtomicBool,
    sockets: Sockets,
    /// How long connections waited in the accept queue.
    waits: Detail,
    threads: OnceLock<Threads>,
    /// A thread that the server cannot do without and that has panicked.
    panicked: OnceLock<String>,
}

impl Lifecycle {
    pub(crate) fn new(drain_timeout: Duration, accepting: usize) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            drain_timeout: AtomicU64::new(millis(drain_timeout)),
            drain_spread: AtomicU64::new(0),
            drain_until: OnceLock::new(),
            stopping_since: OnceLock::new(),
            accepting: AtomicUsize::new(accepting),
            held: AtomicUsize::new(0),
            being_replaced: AtomicBool::new(false),
            sockets: Sockets::default(),
            waits: Detail::default(),
            threads: OnceLock::new(),
            panicked: OnceLock::new(),
        }
    }

    /// Names all threads, once, before the first of them runs.
    pub(crate) fn set_threads(&self, threads: Threads) {
        assert!(self.threads.set(threads).is_ok(), "the threads are named once");
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::from_bits(self.phase.load(Ordering::Acquire))
    }

    /// Moves on to a later phase and tells all threads.
    pub(crate) fn enter(&self, phase: Phase, now: Instant) {
        if phase == Phase::Draining {
            self.drain_until.get_or_init(|| now + self.drain_timeout());
        }
        if phase == Phase::Stopping {
            self.stopping_since.get_or_init(|| now);
        }
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.wake_all();
        }
    }

    /// A thread has panicked that the others cannot do without: ends them all.
    pub(crate) fn fail(&self, thread: &str, now: Instant) {
        self.panicked.get_or_init(|| thread.to_owned());
        self.enter(Phase::Stopping, now);
    }

    /// The first thread that ended the others by its panic.
    pub(crate) fn panicked(&self) -> Option<&str> {
        self.panicked.get().map(String::as_str)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout.load(Ordering::Relaxed))
    }

    /// For a drain that has not begun.
    pub(crate) fn set_drain_timeout(&self, timeout: Duration) {
        self.drain_timeout.store(millis(timeout), Ordering::Relaxed);
    }

    /// Over how long idle connections are closed in a drain.
    pub(crate) fn drain_spread(&self) -> Duration {
        Duration::from_millis(self.drain_spread.load(Ordering::Relaxed))
    }

    /// For a drain that has not begun.
    pub(crate) fn set_drain_spread(&self, spread: Duration) {
        self.drain_spread.store(millis(spread), Ordering::Relaxed);
    }

    /// When the drain is over; `None` while serving.
    pub(crate) fn drain_until(&self) -> Option<Instant> {
        self.drain_until.get().copied()
    }

    /// From when on every thread has to end: the end of the drain timeout, or the stop before it.
    pub(crate) fn over_since(&self) -> Option<Instant> {
        self.drain_until().into_iter().chain(self.stopping_since.get().copied()).min()
    }

    /// Whether connections are on their way between this process and another.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    /// They begin to be, or no longer are.
    pub(crate) fn hold(&self, held: bool) {
        let before = match held {
            true => self.held.fetch_add(1, Ordering::AcqRel),
            false => self.held.fetch_sub(1, Ordering::AcqRel),
        };
        debug_assert!(held || before > 0, "nobody holds it");
        self.wake_all();
    }

    /// It begins to, or does not any more.
    pub(crate) fn set_being_replaced(&self, is_so: bool) {
        self.being_replaced.store(is_so, Ordering::Release);
    }

    /// Whether another process is about to take the place of this one.
    pub(crate) fn is_being_replaced(&self) -> bool {
        self.being_replaced.load(Ordering::Acquire)
    }

    /// What is left of the sockets that listen.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// How long connections waited in the accept queue: whether that is noted.
    pub(crate) fn waits(&self) -> &Detail {
        &self.waits
    }

    /// A thread has accepted its last connection and dispatched it.
    pub(crate) fn accepted_last(&self) {
        if self.accepting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake_all();
        }
    }

    /// Whether a connection may still be dispatched.
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting_threads() > 0
    }

    /// How many threads still accept.
    pub(crate) fn accepting_threads(&self) -> usize {
        self.accepting.load(Ordering::Acquire)
    }

    /// Wakes the acceptors that wait for room. For whoever has released a place or emptied an inbox.
    /// Returns the number of wakes.
    pub(crate) fn wake_paused(&self, operations: &mut Operations) -> usize {
        let accepting = self.threads.get().into_iter().flat_map(|threads| &threads.accepting);
        accepting.filter(|thread| thread.wake_paused_from(operations)).count()
    }

    /// Has each thread take a turn.
    pub(crate) fn wake_all(&self) {
        let all = self.threads.get().into_iter().flat_map(|threads| &threads.all);
        all.for_each(|thread| thread.wake());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The threads of a server, for those that wake them.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    pub(crate) all: Vec<Arc<Parker>>,
    /// Those of them that have listeners.
    pub(crate) accepting: Vec<Arc<Parker>>,
}
