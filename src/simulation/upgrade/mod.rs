//! Other servers take the place of one while it runs, as processes do: the one that is to come listens on the same
//! sockets, connections move in batches, and what has not been let go when something fails stays with the one that
//! had it. No connection may notice.
//!
//! ```text
//!   rest --> prepared --> stopping --> begun --> listens --> asked --> offered --> answered --> going --+
//!    ^           |            |          |        |    ^                  |            |                |
//!    +-----------+------------+----------+--------+    +------------------|------------|----------------+
//!    |                  the old one goes on            +------------------+------------+
//!    +--- done: the old one drains
//! ```
//!
//! What the two say to each other is played here, each word at a moment of its own; [`act`] says what each does then.

mod act;
mod check;
mod counts;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use fastrand::Rng;

use super::changes::{Frontend, Socket};
use super::listener::SimulatedListener;
use super::scenario::{Ending, Scenario};
use crate::connection::suspended::Suspended;

/// Most upgrades of a run.
const UPGRADES: std::ops::RangeInclusive<usize> = 1..=3;

/// How long handshakes take, about.
const HANDSHAKES: Duration = Duration::from_millis(10);

/// Chosen so that the runs without upgrades are what they were.
const SEED: u64 = 0x0bad_cafe_0000_0051;

/// Where an upgrade stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Rest,
    /// The new server runs, and listens nowhere.
    Prepared,
    /// The old one has been told to accept nobody any more, and may take until then.
    Stopping(Duration),
    /// The new one counts what the old one has.
    Begun,
    /// The new one listens; there is no batch under way.
    Listens,
    /// Threads of the old one have been asked for connections, and may take until then.
    Asked(Duration),
    /// What they gave has been offered to the new one.
    Offered,
    /// The new one has said which it takes, and has forgotten the others.
    Answered,
    /// The old one has let go: what the new one has not resumed yet, and what the old one has not closed yet.
    Going { resumed: bool, closed: bool },
}

/// How this seed's upgrades go.
#[derive(Debug)]
struct Habits {
    /// Most connections that a thread is asked for at once.
    most: usize,
    /// Batches after which the old one has given enough.
    batches: usize,
    /// The longest pause between two words, as a power of two in microseconds.
    pause: u32,
    /// How often the new one refuses a connection, in thousandths.
    refuses: u16,
    /// How often something fails at each word.
    fails: u16,
    /// Of these, how often the new one dies; otherwise it gives up and drains.
    dies: u16,
    /// How often threads are not waited for.
    hurries: u16,
    /// Limits of frontends, by their kinds.
    limits: Vec<usize>,
}

/// Connections that a thread has been told to go on with.
#[derive(Debug)]
struct Resuming {
    server: usize,
    count: usize,
    /// What makes no sense there.
    back: mpsc::Receiver<Suspended>,
}

/// See the module.
pub(super) struct Upgrades {
    rng: Rng,
    /// When one begins, in order.
    at: Vec<Duration>,
    habits: Habits,
    stage: Stage,
    /// When the next word is due.
    next: Option<Duration>,
    /// The server that serves, and the one that is to.
    old: usize,
    new: usize,
    batches_left: usize,
    /// Servers whose threads are not to end while connections are on their way.
    holds: Vec<usize>,
    /// What threads of the old one hold until they accept no more.
    stops: Arc<()>,
    /// Those that the old one listened on: it keeps them open.
    sockets: Vec<Socket<Arc<SimulatedListener>>>,
    asked: Vec<mpsc::Receiver<Suspended>>,
    /// Those that nobody waits for, with their servers: what comes goes back.
    late: Vec<(usize, mpsc::Receiver<Suspended>)>,
    /// What is off the old one's threads.
    taken: Vec<Suspended>,
    /// The same as the new one has it.
    offered: Vec<Suspended>,
    resuming: Vec<Resuming>,
    /// Which server each one counts besides itself.
    before: Vec<(usize, usize)>,
    /// Those that gave up after they had got connections: they drain, and nobody counts them.
    alone: Vec<usize>,
    any_died: bool,
    /// Connections of servers that have stopped meanwhile.
    pub(super) lost: usize,
    /// Whether one of them had no reason to.
    is_unfair: bool,
    told_at: Duration,
    held: Duration,
    held_since: Option<Duration>,
    /// Connections that have moved, and how many upgrades were done and given up.
    pub(super) moved: usize,
    pub(super) done: (usize, usize),
}

impl Habits {
    fn draw(rng: &mut Rng, scenario: &Scenario, kinds: usize) -> Self {
        let limit = |rng: &mut Rng| match rng.u8(0..3) {
            0 => rng.usize(1..=scenario.max_connections),
            _ => usize::MAX,
        };
        Self {
            most: [1, 2, 8, 64][rng.usize(0..4)],
            batches: [1, 4, 16, 64][rng.usize(0..4)],
            pause: rng.u32(2..16),
            refuses: [0, 0, 100, 400][rng.usize(0..4)],
            fails: [0, 10, 60][rng.usize(0..3)],
            dies: [0, 500, 1000][rng.usize(0..3)],
            hurries: [0, 0, 200][rng.usize(0..3)],
            limits: (0..kinds).map(|_| limit(rng)).collect(),
        }
    }
}

impl Upgrades {
    /// None.
    pub(super) fn none() -> Self {
        let none = Scenario::from_seed(&mut Rng::with_seed(0));
        Self::with(Rng::with_seed(0), Vec::new(), &none, 0)
    }

    /// Most of those whose servers are replaced end by themselves: a server that has been told to drain is not replaced.
    pub(super) fn draw(seed: u64, scenario: &mut Scenario, kinds: usize) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(SEED) ^ SEED);
        if rng.u8(0..4) > 0 {
            scenario.ending = Ending::RunOut;
        }
        let upgrades = rng.usize(UPGRADES);
        // Handshakes take some milliseconds, and before them there is nobody to move.
        let later = [Duration::ZERO, HANDSHAKES, HANDSHAKES * 4][rng.usize(0..3)];
        let moment = |_| scenario.span.mul_f64(rng.f64() * 1.1) + later.mul_f64(rng.f64());
        let mut at: Vec<_> = (0..upgrades).map(moment).collect();
        at.sort_unstable();
        Self::with(rng, at, scenario, kinds)
    }

    fn with(mut rng: Rng, at: Vec<Duration>, scenario: &Scenario, kinds: usize) -> Self {
        let habits = Habits::draw(&mut rng, scenario, kinds);
        Self {
            rng,
            at,
            habits,
            stage: Stage::Rest,
            next: None,
            old: 0,
            new: 0,
            batches_left: 0,
            holds: Vec::new(),
            stops: Arc::default(),
            sockets: Vec::new(),
            asked: Vec::new(),
            late: Vec::new(),
            taken: Vec::new(),
            offered: Vec::new(),
            resuming: Vec::new(),
            before: Vec::new(),
            alone: Vec::new(),
            any_died: false,
            lost: 0,
            is_unfair: false,
            told_at: Duration::ZERO,
            held: Duration::ZERO,
            held_since: None,
            moved: 0,
            done: (0, 0),
        }
    }

    /// When one begins.
    pub(super) fn moments(&self) -> impl Iterator<Item = Duration> {
        self.at.iter().copied()
    }

    /// Gives frontends the limits that they have with every server.
    pub(super) fn limit(&self, frontends: &[Frontend]) {
        for (frontend, limit) in frontends.iter().zip(&self.habits.limits) {
            frontend.limit.set_limit(*limit);
        }
    }

    /// Whether none is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Rest && self.late.is_empty() && self.resuming.is_empty()
    }

    /// For how long, all in all, connections may have been on no thread.
    pub(super) fn held(&self) -> Duration {
        self.held
    }

    fn happens(&mut self, thousandths: u16) -> bool {
        thousandths > 0 && self.rng.u16(0..1000) < thousandths
    }

    /// Whether the upgrade fails at this word.
    fn fails(&mut self) -> bool {
        let fails = self.habits.fails;
        self.happens(fails)
    }

    fn pause(&mut self) -> Duration {
        let most = 1 << self.habits.pause;
        match self.rng.u8(0..3) {
            0 => Duration::ZERO,
            _ => Duration::from_micros(self.rng.u64(0..most)),
        }
    }
}
