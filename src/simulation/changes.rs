//! A server that is changed while it runs: frontends get new settings, listeners go to other frontends, one frontend
//! is removed. No connection may notice.
//!
//! The workload says how many frontends stay, each of a kind of its own: under whatever number, what talks to a
//! frontend is what its kind says.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fastrand::Rng;

use super::listener::SimulatedListener;
use super::scenario::Scenario;
use crate::dispatch::{CommandSender, ConnectionLimit, Done, FrontendId, ListenerId};
use crate::server::command::{Command, Listening};
use crate::server::connections::Settings;
use crate::sources::Admission;

/// Most changes of a run.
const CHANGES: std::ops::RangeInclusive<usize> = 1..=6;

/// Chosen so that the runs without changes are what they were.
const SEED: u64 = 0x0c4a_96e5_0000_0011;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A frontend gets new settings.
    Publish,
    /// The listeners of one go to a new frontend, and it is retired.
    Move,
    /// Frontends let in whoever may come in by now.
    Admit,
    /// The last frontend is removed: its listeners stop, what is in their queues is served.
    Remove,
}

/// A socket of a frontend, and the place of the thread that accepts there.
pub(super) type Socket<L> = (usize, ListenerId, L);

/// A frontend that runs.
pub(super) struct Frontend {
    /// Which server it is of.
    pub(super) server: usize,
    pub(super) id: FrontendId,
    /// Which of the workload's kinds it is of.
    pub(super) kind: usize,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) listening: Arc<AtomicUsize>,
    /// Who may come in.
    pub(super) admission: Arc<Admission>,
    /// The threads own them.
    pub(super) sockets: Vec<Socket<Weak<SimulatedListener>>>,
}

impl Frontend {
    pub(super) fn new(id: u16, kind: usize, limit: usize) -> Self {
        Self {
            server: 0,
            id: FrontendId(id),
            kind,
            limit: Arc::new(ConnectionLimit::new(limit)),
            listening: Arc::default(),
            admission: Arc::default(),
            sockets: Vec::new(),
        }
    }

    /// A socket of it, as a thread is told of it.
    pub(super) fn listening(
        &self,
        listener: ListenerId,
        socket: Arc<SimulatedListener>,
    ) -> Listening<SimulatedListener> {
        let how_many = (Arc::clone(&self.limit), self.sockets.len().max(1));
        let admission = Arc::clone(&self.admission);
        Listening::new(listener, socket, how_many, admission, &self.listening)
    }
}

/// The commands for each thread, by its place.
type Batches<S> = HashMap<usize, Vec<Command<S, SimulatedListener>>>;

/// See the module.
pub(super) struct Changes<S> {
    /// When, in order.
    at: Vec<(Duration, Change)>,
    pub(super) senders: Vec<CommandSender<Command<S, SimulatedListener>>>,
    /// The first ones stay, one of each kind; others are removed.
    pub(super) frontends: Vec<Frontend>,
    /// Of all frontends that there have been.
    pub(super) limits: Vec<Arc<ConnectionLimit>>,
    next_id: u16,
    kinds: usize,
    /// How many frontends have been moved.
    moved: usize,
    done: Done,
}

impl<S> Changes<S> {
    /// None.
    pub(super) fn none(scenario: &Scenario, kinds: usize) -> Self {
        let unlimited = |kind| Frontend::new(kind as u16, kind, usize::MAX);
        Self::with((0..kinds).map(unlimited).collect(), scenario, kinds)
    }

    pub(super) fn with(frontends: Vec<Frontend>, scenario: &Scenario, kinds: usize) -> Self {
        Self {
            at: Vec::new(),
            senders: Vec::new(),
            next_id: frontends.len() as u16,
            frontends,
            limits: Vec::new(),
            kinds,
            moved: 0,
            done: Done::new(scenario.workers + 1),
        }
    }

    /// Draws changes, and one more frontend, which may be removed.
    pub(super) fn draw(seed: u64, scenario: &Scenario, kinds: usize) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(SEED) ^ SEED);
        let change = |rng: &mut Rng| {
            let change = [Change::Publish, Change::Move, Change::Remove][rng.usize(0..3)];
            (scenario.span.mul_f64(rng.f64() * 1.2), change)
        };
        let mut at: Vec<_> = (0..rng.usize(CHANGES)).map(|_| change(&mut rng)).collect();
        at.sort_unstable_by_key(|(when, _)| *when);
        let mut limit = || match rng.u8(0..3) {
            0 => rng.usize(1..=scenario.max_connections),
            _ => usize::MAX,
        };
        let more = seed as usize % kinds;
        let frontends = (0..kinds).chain([more]).zip(0..);
        let frontends = frontends.map(|(kind, id)| Frontend::new(id, kind, limit())).collect();
        let mut changes = Self::with(frontends, scenario, kinds);
        changes.at = at;
        changes.limits.extend(changes.frontends.iter().map(|it| Arc::clone(&it.limit)));
        changes
    }

    /// From the start this admission counts, and at these times it is told to frontends that another one does.
    pub(super) fn admit(&mut self, admission: &Arc<Admission>, at: &[Duration]) {
        self.replace_admission(admission);
        self.at.extend(at.iter().map(|when| (*when, Change::Admit)));
    }

    /// Whoever makes settings or listeners makes them with this one from now on.
    pub(super) fn replace_admission(&mut self, admission: &Arc<Admission>) {
        for frontend in &mut self.frontends {
            frontend.admission = Arc::clone(admission);
        }
    }

    /// When something is changed.
    pub(super) fn moments(&self) -> impl Iterator<Item = Duration> {
        self.at.iter().map(|(when, _)| *when)
    }

    /// The next change, if its time has come.
    pub(super) fn due(&mut self, now: Duration) -> Option<Change> {
        let (when, change) = *self.at.first()?;
        (when <= now).then(|| {
            self.at.remove(0);
            change
        })
    }

    /// Tells all threads of a change, for which `settings` makes settings.
    pub(super) fn make(
        &mut self,
        change: Change,
        mut settings: impl FnMut(&Frontend) -> Settings<S>,
    ) {
        let (mut first, mut batches) = (Batches::new(), Batches::new());
        match change {
            Change::Publish => {
                for frontend in &self.frontends {
                    self.publish(&mut first, (frontend.id, &settings(frontend)));
                }
            }
            Change::Admit => {
                for frontend in &self.frontends {
                    self.publish(&mut first, (frontend.id, &settings(frontend)));
                    for (thread, from, socket) in &frontend.sockets {
                        let Some(socket) = socket.upgrade() else { continue };
                        let (from, to) = (*from, frontend.listening(*from, socket));
                        batches.entry(*thread).or_default().push(Command::Move { from, to });
                    }
                }
            }
            Change::Move => {
                let kind = self.moved % self.kinds;
                let mut to = Frontend::new(self.next_id, kind, self.frontends[kind].limit.limit());
                self.next_id += 1;
                self.moved += 1;
                self.limits.push(Arc::clone(&to.limit));
                self.publish(&mut first, (to.id, &settings(&to)));
                for (thread, from, socket) in std::mem::take(&mut self.frontends[kind].sockets) {
                    let Some(strong) = socket.upgrade() else { continue };
                    let listener = ListenerId { frontend: to.id, ..from };
                    to.sockets.push((thread, listener, socket));
                    let to = to.listening(listener, strong);
                    batches.entry(thread).or_default().push(Command::Move { from, to });
                }
                let from = std::mem::replace(&mut self.frontends[kind], to);
                self.retire(&mut batches, &from);
            }
            Change::Remove => {
                let Some(gone) = self.frontends.drain(self.kinds..).next() else { return };
                gone.limit.set_limit(usize::MAX);
                for (thread, listener, _) in &gone.sockets {
                    let stop = Command::StopListening(*listener);
                    batches.entry(*thread).or_default().push(stop);
                }
                self.retire(&mut batches, &gone);
            }
        }
        for mut batches in [first, batches] {
            for (thread, sender) in self.senders.iter().enumerate() {
                sender.send(batches.remove(&thread).unwrap_or_default(), &self.done);
            }
        }
    }

    fn publish(&self, batches: &mut Batches<S>, (frontend, settings): (FrontendId, &Settings<S>)) {
        for thread in 0..self.senders.len() {
            let settings = settings.clone();
            let publish = Command::Publish { frontend, settings };
            batches.entry(thread).or_default().push(publish);
        }
    }

    fn retire(&self, batches: &mut Batches<S>, gone: &Frontend) {
        for thread in 0..self.senders.len() {
            let sockets = Arc::clone(&gone.listening);
            let retire = Command::Retire { frontend: gone.id, sockets };
            batches.entry(thread).or_default().push(retire);
        }
    }
}
