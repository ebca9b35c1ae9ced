//! Accept queues to dispatcher: arm, admit, dispatch, pause.
//!
//! An [`Acceptor`] is a state machine: it is told what has completed and appends what to do next. It
//! never waits and never calls the kernel.
//!
//! Nothing that the kernel has handed over is ever lost: what finds no room (no headroom under
//! max-connections, or all inboxes full) is held here, and while something is held nothing is
//! accepted, so that the rest waits in the kernel's queue, where its clients' timeouts know it.

mod listening;
mod pause;
mod reaction;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

pub use listening::Source;
use listening::{Health, Listening, Want};
pub use reaction::{Reaction, reaction};

use crate::dispatch::{Accepted, ConnectionLimit, Dispatcher, ListenerId, Rejected};
use crate::metrics::{Block, Counter};
use crate::planted::{self, Bug};
use crate::ring::{Completion, Event, Key, Operations};
use crate::sys::Errno;

/// The accepting side of one thread; see the module.
#[derive(Debug)]
pub struct Acceptor {
    listenings: Vec<Listening>,
    /// Accept queues of the whole server, which share the headroom.
    queues: usize,
    dispatcher: Dispatcher,
    connection_limit: Arc<ConnectionLimit>,
    /// Accepted, but not yet admitted or not yet placed. Normally empty after each turn.
    held: VecDeque<Accepted>,
    draining: bool,
    closing: bool,
    /// Whether the last turn could not do all there is to do.
    stands_still: bool,
    /// Listeners that have broken since somebody asked, with what accept(2) said.
    broken: Vec<(usize, Errno)>,
    metrics: Arc<Block>,
}

impl Acceptor {
    /// Accepts on `sources`. `queues` is the number of accept queues that share the limit of
    /// `admission`: those of all acceptors.
    pub fn new(
        sources: Vec<Source>,
        queues: usize,
        dispatcher: Dispatcher,
        connection_limit: Arc<ConnectionLimit>,
        metrics: Arc<Block>,
    ) -> Self {
        Self {
            listenings: sources.into_iter().map(Listening::new).collect(),
            queues: queues.max(1),
            dispatcher,
            connection_limit,
            held: VecDeque::new(),
            draining: false,
            closing: false,
            stands_still: false,
            broken: Vec::new(),
            metrics,
        }
    }

    /// Notes the completion of an accept; the slot of its key is the index of the listener.
    pub fn complete(&mut self, completion: Completion, now: Instant) {
        let Completion { key, more, event } = completion;
        let (Event::Accepted(result), Some(listening)) =
            (event, self.listenings.get_mut(key.slot as usize))
        else {
            self.metrics.count(Counter::Stale);
            return;
        };
        let forgotten = planted::is(Bug::AcceptNotRearmed)
            || (planted::is(Bug::CancelDropped) && matches!(result, Err(Errno::ECANCELED)));
        if !more && !forgotten {
            listening.ended();
        }
        match result {
            Ok(_) if !more && planted::is(Bug::LastAcceptDropped) => {}
            Ok(socket) => self.accepted(key, socket, now),
            Err(Errno::ECANCELED) => {}
            Err(errno) => self.failed(key, errno, now),
        }
    }

    /// What a turn does: place what is held, arm what may be armed, wake who got something.
    pub fn turn(&mut self, now: Instant, operations: &mut Operations) {
        self.place();
        self.stands_still = !self.held.is_empty();
        let released = self.connection_limit.released();
        for slot in 0..self.listenings.len() {
            let listening = &mut self.listenings[slot];
            listening.wake_up(now, released);
            let stopped = self.closing || listening.health == Health::Stopped;
            let want = self.want(slot);
            self.stands_still |= want == Want::Nothing && !stopped;
            let cancelled = self.listenings[slot].arm(Self::key(slot), want, operations);
            self.metrics.add(Counter::AcceptCancels, u64::from(cancelled));
            if self.listenings[slot].is_pausing() {
                let open = self.connection_limit.open() + self.held.len();
                self.listenings[slot].tell(open, now);
            }
        }
        let wakes = self.dispatcher.wake(operations);
        self.metrics.add(Counter::WakesSent, wakes as u64);
    }

    /// Whether the last turn left something undone that a released place or an emptied inbox would
    /// let it do. Then it has to announce that it is parked and take another turn before its thread
    /// waits. (Looking afresh here would miss a place released since that turn.)
    pub fn wants_wake(&self) -> bool {
        self.stands_still
    }

    /// When the next rest is over that anything follows.
    pub fn next_turn(&self) -> Option<Instant> {
        if self.closing {
            return None;
        }
        let rests = self.listenings.iter().filter_map(|listening| match listening.health {
            Health::Resting { until, .. } => Some(until),
            Health::Fine | Health::Stopped => None,
        });
        rests.min()
    }

    /// When a turn has something to tell of a pause, and nothing to do.
    pub fn next_line(&self) -> Option<Instant> {
        self.listenings.iter().filter_map(Listening::calm_at).min().filter(|_| !self.closing)
    }

    /// The listeners admit nobody new: a unix socket whose queue is empty fails with EINVAL from now
    /// on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Accepts nothing any more. What is in flight is cancelled; what still comes is placed.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether something waits here for headroom or for room in an inbox.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Drops what is held: the server stops at once.
    pub fn abandon(&mut self) {
        self.close();
        self.held.clear();
    }

    /// Whether it is closed, nothing is in flight on its listeners, and nothing is held.
    pub fn is_done(&self) -> bool {
        let idle = self.listenings.iter().all(|listening| listening.in_flight == 0);
        self.closing && idle && self.held.is_empty()
    }

    /// Whether this listener, by its place among the sources, is broken or has ended.
    pub fn is_over(&self, slot: usize) -> bool {
        self.listenings[slot].health == Health::Stopped
    }

    /// Which listener of the configuration stands in this place among the sources.
    pub fn listener(&self, slot: usize) -> ListenerId {
        self.listenings[slot].source.listener
    }

    /// The listeners that have broken since the last call, by their places among the sources, with what
    /// accept(2) said.
    pub fn take_broken(&mut self) -> Vec<(usize, Errno)> {
        std::mem::take(&mut self.broken)
    }

    /// Connections that wait here for headroom or for room in an inbox.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn key(slot: usize) -> Key {
        Key::fixed(slot as u32)
    }

    fn accepted(&mut self, key: Key, socket: OwnedFd, now: Instant) {
        let listening = &mut self.listenings[key.slot as usize];
        if listening.is_recovering() {
            listening.recovered();
        }
        let listener = listening.source.listener;
        self.metrics.count(Counter::Accepted);
        self.held.push_back(Accepted { socket, listener, accepted_at: now });
    }

    /// Admits and dispatches in the order of arrival, until something finds no room.
    fn place(&mut self) {
        while let Some(accepted) = self.held.pop_front() {
            if !self.connection_limit.admit() {
                self.hold(accepted);
                return;
            }
            match self.dispatcher.dispatch(accepted) {
                Ok(()) => self.metrics.count(Counter::Dispatched),
                Err(Rejected(accepted)) if planted::is(Bug::RejectedLeaked) => {
                    std::mem::forget(accepted);
                    self.connection_limit.withdraw();
                }
                Err(Rejected(accepted)) => {
                    self.connection_limit.withdraw();
                    self.hold(accepted);
                    return;
                }
            }
        }
    }

    fn hold(&mut self, accepted: Accepted) {
        self.metrics.count(Counter::DispatchHeld);
        self.held.push_front(accepted);
    }

    fn failed(&mut self, key: Key, errno: Errno, now: Instant) {
        if self.draining && errno == Errno::EINVAL {
            self.listenings[key.slot as usize].health = Health::Stopped;
            return;
        }
        let (reaction, counter) = reaction(errno);
        self.metrics.count(counter);
        let released = self.connection_limit.released();
        let listening = &mut self.listenings[key.slot as usize];
        match reaction {
            Reaction::Retry => {}
            Reaction::Pause if planted::is(Bug::NoPause) => {}
            Reaction::Pause => {
                let begins = listening.rest(errno, now, released);
                self.metrics.add(Counter::AcceptPauses, u64::from(begins));
            }
            Reaction::Stop if listening.health == Health::Stopped => {}
            Reaction::Stop => {
                listening.health = Health::Stopped;
                self.broken.push((key.slot as usize, errno));
            }
        }
    }

    fn want(&self, slot: usize) -> Want {
        let listening = &self.listenings[slot];
        if self.closing || !self.held.is_empty() || listening.health != Health::Fine {
            return Want::Nothing;
        }
        let headroom = self.connection_limit.headroom();
        // Every queue gets a place to look with as long as there is one; what two queues take for
        // one place is held until there is another.
        let share = (headroom / self.queues).max(headroom.min(1));
        let want = Want::for_headroom(share, listening.source.backlog, listening.armed);
        if listening.is_recovering() { want.at_most_one() } else { want }
    }
}

#[cfg(test)]
mod tests;
