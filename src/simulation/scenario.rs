//! What a seed stands for: the machine, the server's configuration, when it ends.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use crate::config::{DispatchPolicy, RequestLimits, SessionTimeouts};
use crate::ring::simulated::{Faults, Sizes};

/// Least and most connections of a run.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 50..=80;

/// More than any client says or hears.
const BYTES_OF_ANY: u64 = 20_000;

/// Least bytes that may wait for a client, and by how many bits the most are more.
const BUDGET_MIN_BYTES: u32 = 1024;
const BUDGET_BITS: u32 = 4;

/// Most bytes that may wait for a client.
pub(super) const BUDGET_MAX_BYTES: usize = (BUDGET_MIN_BYTES << BUDGET_BITS) as usize;

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server drains when all clients are through.
    RunOut,
    /// It drains while clients are there.
    DrainAt(Duration),
    /// It stops while clients are there.
    StopAt(Duration),
    /// It drains, and is stopped while it does.
    DrainThenStop(Duration, Duration),
}

/// Which threads accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    /// One that does nothing else.
    Dedicated,
    /// The first worker, for all.
    FirstWorker,
    /// Each worker for itself.
    EachWorker,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) faults: Faults,
    pub(super) workers: usize,
    pub(super) accepting: Accepting,
    /// Configured listeners; each thread that accepts has a socket for each.
    pub(super) listeners: usize,
    pub(super) backlog: usize,
    pub(super) policy: DispatchPolicy,
    pub(super) max_connections: usize,
    pub(super) inbox: usize,
    pub(super) sizes: Sizes,
    pub(super) budget_bytes: u32,
    pub(super) timeouts: SessionTimeouts,
    pub(super) drain_timeout: Duration,
    pub(super) connections: usize,
    /// Within which clients come.
    pub(super) span: Duration,
    pub(super) ending: Ending,
    /// When all but the first listener fail for good.
    pub(super) breaks_at: Option<Duration>,
    /// By how much a connection may last longer than the deadlines above say.
    pub(super) extra: Duration,
    /// Where clients come from; empty if that is of no interest.
    pub(super) sources: Vec<SocketAddr>,
}

impl Accepting {
    /// Whether the thread at this place accepts: workers come first.
    pub(super) fn accepts(self, thread: usize, workers: usize) -> bool {
        match self {
            Self::Dedicated => thread == workers,
            Self::FirstWorker => thread == 0,
            Self::EachWorker => true,
        }
    }
}

impl Scenario {
    pub(super) fn from_seed(rng: &mut Rng) -> Self {
        let faults = if rng.u8(0..8) == 0 { Faults::none() } else { Faults::from_seed(rng) };
        let span = Duration::from_micros(1 << rng.u32(8..22));
        let budget_bytes = BUDGET_MIN_BYTES << rng.u32(0..=BUDGET_BITS);
        Self {
            faults,
            workers: rng.usize(1..=3),
            accepting: accepting(rng),
            listeners: rng.usize(1..=3),
            backlog: [2, 5, 30, 100][rng.usize(0..4)],
            policy: policy(rng),
            max_connections: [1, 2, 5, 16, 64][rng.usize(0..5)],
            inbox: [1, 2, 8, 64][rng.usize(0..4)],
            sizes: sizes(rng),
            budget_bytes,
            timeouts: timeouts(rng),
            drain_timeout: some_time(rng),
            connections: rng.usize(CONNECTIONS),
            span,
            ending: ending(rng, span),
            breaks_at: (rng.u8(0..8) == 0).then(|| fraction(rng, span)),
            extra: Duration::ZERO,
            sources: Vec::new(),
        }
    }

    /// Long after everything must be over: every connection has had every deadline in turn.
    pub(super) fn patience(&self) -> Duration {
        let SessionTimeouts { first_byte, idle, write_stall, linger, ref requests } = self.timeouts;
        // Of a request and of an answer; bytes of a body put the idle deadline off.
        let slow = requests.allowance(BYTES_OF_ANY).unwrap_or_default() * 2;
        let one =
            first_byte + idle + write_stall + linger + slow + self.extra + Duration::from_secs(1);
        self.span + one * (self.connections as u32 + 2) * 2 + Duration::from_secs(60)
    }
}

fn accepting(rng: &mut Rng) -> Accepting {
    match rng.u8(0..4) {
        0 => Accepting::Dedicated,
        1 => Accepting::EachWorker,
        _ => Accepting::FirstWorker,
    }
}

fn policy(rng: &mut Rng) -> DispatchPolicy {
    match rng.u8(0..4) {
        0 | 1 => DispatchPolicy::LeastConnections,
        2 => DispatchPolicy::RoundRobin,
        _ => DispatchPolicy::SourceHash,
    }
}

fn sizes(rng: &mut Rng) -> Sizes {
    Sizes {
        completion_entries: [2, 4, 16, 256][rng.usize(0..4)],
        buffers: rng.usize(2..=16),
        buffer_bytes: [64, 256, 4096][rng.usize(0..3)],
        receive_credit: rng.u8(0..4) > 0,
    }
}

fn some_time(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(50..2000))
}

fn timeouts(rng: &mut Rng) -> SessionTimeouts {
    SessionTimeouts {
        first_byte: some_time(rng),
        idle: some_time(rng),
        write_stall: some_time(rng),
        linger: some_time(rng),
        requests: RequestLimits::OFF,
    }
}

fn fraction(rng: &mut Rng, span: Duration) -> Duration {
    span.mul_f64(rng.f64() * 1.2)
}

fn ending(rng: &mut Rng, span: Duration) -> Ending {
    let (first, second) = (fraction(rng, span), fraction(rng, span));
    match rng.u8(0..8) {
        0 | 1 => Ending::DrainAt(first),
        2 => Ending::StopAt(first),
        3 => Ending::DrainThenStop(first, first + second),
        _ => Ending::RunOut,
    }
}
