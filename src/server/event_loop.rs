//! The loop of one thread: a ring, and the state machines that live on it.

mod listening;
mod occupancy;
mod parking;
mod suspending;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::command::Command;
use super::connections::Connections;
use super::lifecycle::{Lifecycle, Phase};
use crate::acceptor::Acceptor;
use crate::connection::{Listed, LoopContext, Millis, Starved, waited};
use crate::dispatch::{Accepted, Commands, ConnectionLimit, Dispatcher, FrontendId, Inbox};
use crate::metrics::{Block, Counter};
use crate::ring::{Completion, Event, Operations, Ring, RingCounts, Wait};
use crate::service::Service;
use crate::sources::{Refusals, Refuses};
pub(crate) use listening::{Listened, ListeningSocket};
use occupancy::Occupancy;
use suspending::Suspending;

/// How often a draining acceptor looks whether its queues are empty.
const QUEUE_POLL: Duration = Duration::from_millis(10);

/// Most connections taken from the inbox in one turn, so that a flood of new ones does not keep the
/// open ones waiting.
const ADOPT_LIMIT: usize = 1024;

/// One that is served before those that came earlier counts as so many. What has been taken over is served in its order:
/// only what is still in the inbox can stand behind those that are to come.
const COST_OF_NEWEST_FIRST: usize = 32;

/// Most frontends that are forgotten in one turn: their settings are freed.
const RETIRES_PER_TURN: usize = 64;

/// Most slots that are looked at in one turn for a list of connections: each may be three system calls.
const LIST_LIMIT: u32 = 512;

/// Most things done in one turn of what a thread is told, so that a reload of many frontends keeps no
/// connection waiting for long. A new listener counts as so many of them: the kernel takes 20 to 120 us to arm its
/// first accept.
const COMMANDS_PER_TURN: usize = 128;
const COST_OF_LISTENING: usize = 8;

/// What all threads of a server have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// Accept queues of all threads, which share the limit.
    pub(crate) queues: Arc<AtomicUsize>,
    /// Whom acceptors turn away.
    pub(crate) refusals: Arc<Refusals>,
}

/// What one thread has for itself. A thread that only accepts has connections all the same, and none of
/// them; one that does not accept is told to listen nowhere.
pub(crate) struct Parts<S: Service, L> {
    /// Whether it may be told to listen.
    pub(crate) accepts: bool,
    /// Where what it accepts goes.
    pub(crate) dispatcher: Dispatcher,
    pub(crate) connections: Connections<S>,
    pub(crate) inbox: Inbox,
    pub(crate) commands: Commands<Command<S, L>>,
    pub(crate) metrics: Arc<Block>,
    /// The CPU time of the calling thread so far.
    pub(crate) cpu_time: fn() -> Option<Duration>,
}

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start what was asked for, wait, and take another turn.
    Enter(Wait),
    /// Start what was asked for; that was the last turn.
    End,
}

/// Somebody who is told of all connections, and how far that is.
struct Listing {
    next: u32,
    to: mpsc::Sender<Vec<Listed>>,
}

/// One thread.
pub(crate) struct EventLoop<R: Ring, S: Service, L> {
    ring: R,
    acceptor: Acceptor,
    listeners: Vec<Listened<L>>,
    connections: Connections<S>,
    starved: Starved,
    inbox: Inbox,
    commands: Commands<Command<S, L>>,
    /// Frontends to be forgotten when the last of their sockets listens no more.
    retiring: Vec<(FrontendId, Arc<AtomicUsize>)>,
    /// Those who have asked for a list of connections.
    listings: VecDeque<Listing>,
    suspending: Suspending,
    shared: Shared,
    metrics: Arc<Block>,
    operations: Operations,
    completions: Vec<Completion>,
    /// When it began, and the time from then to this turn.
    start: Instant,
    millis: Millis,
    /// Whether somebody looks at waits.
    notes_waits: bool,
    /// Whether it was told something that is not done yet; looked up before each wait.
    is_told: bool,
    /// The phase whose beginning has been acted on.
    phase: Phase,
    /// Whether this thread may still accept something.
    accepts: bool,
    /// Whether a listener drains or is closed.
    closes: bool,
    occupancy: Occupancy,
    /// The CPU time of this thread so far.
    cpu_time: fn() -> Option<Duration>,
}

/// The parts of a loop that a state machine with connections works with.
macro_rules! context {
    ($self:ident, $now:expr) => {
        LoopContext {
            buffers: $self.ring.buffers(),
            operations: &mut $self.operations,
            starved: &mut $self.starved,
            now: $now,
            millis: $self.millis,
            notes_waits: $self.notes_waits,
        }
    };
}

impl<R: Ring, S: Service, L: ListeningSocket> EventLoop<R, S, L> {
    pub(crate) fn new(ring: R, parts: Parts<S, L>, shared: Shared) -> Self {
        let Parts { accepts, dispatcher, connections, inbox, commands, metrics, cpu_time } = parts;
        let (queues, limit) = (Arc::clone(&shared.queues), Arc::clone(&shared.connection_limit));
        let start = ring.now();
        let accepts_alone = accepts && shared.lifecycle.accepting_threads() == 1;
        let mut acceptor = Acceptor::new(queues, dispatcher, limit, Arc::clone(&metrics));
        acceptor.refuse(Refuses::of(&shared.refusals));
        Self {
            ring,
            acceptor,
            listeners: Vec::new(),
            connections,
            starved: Starved::default(),
            inbox,
            commands,
            retiring: Vec::new(),
            listings: VecDeque::new(),
            suspending: Suspending::default(),
            shared,
            metrics,
            operations: Operations::default(),
            completions: Vec::new(),
            start,
            millis: Millis::between(start, start),
            notes_waits: false,
            is_told: true,
            phase: Phase::Serving,
            accepts,
            closes: false,
            occupancy: Occupancy::new(accepts_alone, start),
            cpu_time,
        }
    }

    /// Serves until the server has drained or is stopped.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            match self.turn() {
                Next::Enter(wait) => self.enter(wait)?,
                Next::End => return self.enter(Wait::No),
            }
        }
    }

    /// Everything up to the wait: what it is told, what has completed, what is due, what comes next.
    pub(crate) fn turn(&mut self) -> Next {
        let now = self.ring.now();
        self.millis = Millis::between(self.start, now);
        self.notes_waits = self.shared.lifecycle.waits().is_on(now);
        let was_told = self.is_told;
        if was_told {
            self.follow_commands(COMMANDS_PER_TURN, now);
        }
        self.follow_phase(now);
        let events = self.completions.len();
        self.metrics.count(Counter::Turns);
        self.metrics.add(Counter::Completions, events as u64);
        self.handle_completions(now);
        self.work(now);
        self.send_suspended(now);
        if !was_told {
            self.note_turn(events, now);
        }
        self.list();
        self.accept(now);
        self.adopt(now);
        if self.is_done() {
            return Next::End;
        }
        Next::Enter(self.park(now))
    }

    /// How long the service has taken over its events. What commands and lists take is not its doing.
    fn note_turn(&mut self, events: usize, now: Instant) {
        if events > 0 && self.occupancy.watches_turns() {
            let end = self.ring.now();
            self.occupancy.turned(events, end.saturating_duration_since(now), end);
        }
    }

    /// Makes known what the ring has counted and has left.
    fn tell_counts(&mut self) {
        let RingCounts { system_calls, cq_overflows } = self.ring.counts();
        self.metrics.set(Counter::SystemCalls, system_calls);
        self.metrics.set(Counter::CqOverflows, cq_overflows);
        self.metrics.set_buffers_free(self.ring.buffers().available() as u64);
        self.metrics.set_without_backend(self.connections.without_backend() as u64);
    }

    /// The one call of a turn that may wait.
    ///
    /// # Errors
    /// Those of the ring.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.tell_counts();
        let entered = self.ring.enter(&mut self.operations, &mut self.completions, wait);
        self.inbox.resume();
        entered
    }

    /// The ring and what it is to start.
    pub(crate) fn ring(&mut self) -> (&mut R, &mut Operations) {
        (&mut self.ring, &mut self.operations)
    }

    pub(crate) fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    pub(crate) fn listeners(&self) -> &[Listened<L>] {
        &self.listeners
    }

    pub(crate) fn connections(&self) -> &Connections<S> {
        &self.connections
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Connections that are off this thread, whose sockets its ring still has.
    pub(crate) fn releasing(&self) -> usize {
        self.suspending.releasing()
    }

    /// Whether it has not done yet what it is told.
    pub(crate) fn is_told(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Completions that the next turn begins with.
    pub(crate) fn completed(&self) -> usize {
        self.completions.len()
    }

    /// Does what it is told, at most so many things.
    fn follow_commands(&mut self, most: usize, now: Instant) {
        let mut done = 0;
        while done < most
            && let Some(command) = self.commands.take()
        {
            done += if matches!(command, Command::Listen(_)) { COST_OF_LISTENING } else { 1 };
            self.follow(command, now);
        }
    }

    fn follow(&mut self, command: Command<S, L>, now: Instant) {
        match command {
            Command::Publish { frontend, settings } => {
                if !self.connections.publish(frontend, settings) {
                    tracing::error!(
                        "too many versions of frontends have open connections; new connections keep the \
                         settings before this change"
                    );
                }
            }
            Command::Listen(listening) => self.listen(listening, now),
            Command::Move { from, to } => self.move_listener(from, to),
            Command::Splice(splicing) => self.connections.splice(splicing),
            Command::StopListening(listener) => self.stop_listening(Some(listener), now),
            Command::StopAccepting(stops) => self.stop_accepting(&stops),
            Command::Suspend(request) => self.suspend(request, now),
            Command::Resume(connections, refused) => self.resume(connections, Some(&refused), now),
            Command::Drain(frontend) => {
                let spread = self.shared.lifecycle.drain_spread();
                self.connections.drain(Some(frontend), spread, &mut context!(self, now));
            }
            Command::List(to) => self.listings.push_back(Listing { next: 0, to }),
            Command::Close(key, closed) => {
                let is_there = self.connections.close(key, &mut context!(self, now));
                // Whoever asked may have given up.
                let _ = closed.send(is_there);
            }
            Command::Retire { frontend, sockets } => self.retiring.push((frontend, sockets)),
        }
    }

    /// Tells of some more connections, if somebody has asked.
    fn list(&mut self) {
        let Some(Listing { next, to }) = self.listings.front_mut() else { return };
        let end = next.saturating_add(LIST_LIMIT);
        let slots = *next..end.min(self.connections.slots());
        let some = slots.filter_map(|slot| self.connections.listed(slot, self.millis)).collect();
        let is_heard = to.send(some).is_ok();
        *next = end;
        if !is_heard || end >= self.connections.slots() {
            // That the sender is gone says that this was the last part.
            self.listings.pop_front();
        }
    }

    /// Hands each completion to the state machine that it belongs to.
    fn handle_completions(&mut self, now: Instant) {
        for completion in self.completions.drain(..) {
            match &completion.event {
                Event::Accepted(_) => self.acceptor.complete(completion, now),
                Event::Released(_) => {
                    if let Completion { key, event: Event::Released(socket), .. } = completion {
                        self.suspending.released(key, socket);
                    }
                }
                _ => self.connections.complete(completion, &mut context!(self, now)),
            }
        }
    }

    /// Deadlines and starved receives.
    fn work(&mut self, now: Instant) {
        self.connections.tick(&mut context!(self, now));
    }

    /// Takes over what acceptors have put into the inbox, and makes known what has closed.
    fn adopt(&mut self, now: Instant) {
        while let Some(frontend) = self.inbox.take_eviction() {
            self.connections.evict(frontend, &mut context!(self, now));
        }
        let mut adopted = 0;
        while adopted < ADOPT_LIMIT
            && let Some(mut accepted) = self.inbox.take()
        {
            if accepted.pressed.look.is_some() {
                self.tell_wait(&mut accepted);
            }
            let newest_first = accepted.pressed.newest_first.is_some();
            if !self.connections.knows(accepted.listener.frontend) {
                // It was published before anybody accepted this.
                self.follow_commands(usize::MAX, now);
            }
            self.connections.adopt(accepted, &mut context!(self, now));
            adopted += if newest_first { COST_OF_NEWEST_FIRST } else { 1 };
        }
        let closed = self.connections.take_closed();
        if closed > 0 {
            self.inbox.closed(closed);
            self.occupancy.closed(closed);
            self.shared.connection_limit.release(closed);
        }
        if closed + adopted > 0 {
            let wakes = self.shared.lifecycle.wake_paused(&mut self.operations);
            self.metrics.add(Counter::WakesSent, wakes as u64);
        }
        if !self.retiring.is_empty() {
            self.retire();
        }
    }

    /// Tells its acceptor how long a connection has waited.
    fn tell_wait(&self, accepted: &mut Accepted) {
        let Accepted { socket, accepted_at, pressed, .. } = accepted;
        let Some(look) = pressed.look.take() else { return };
        let now = self.ring.now();
        let here = now.saturating_duration_since(*accepted_at);
        look.adopted(waited(socket.as_fd(), *accepted_at, now), here);
    }

    /// Forgets frontends that nobody listens for any more. Their last connections were put into the inbox
    /// before that was so.
    fn retire(&mut self) {
        let Self { retiring, connections, inbox, .. } = self;
        let mut left = RETIRES_PER_TURN;
        retiring.retain(|(frontend, sockets)| {
            if left == 0 {
                return true;
            }
            let is_over = sockets.load(Ordering::Acquire) == 0 && inbox.is_empty();
            if is_over {
                connections.retire(*frontend);
                left -= 1;
            }
            !is_over
        });
    }

    /// Acts on the beginning of a phase, and on the end of the drain timeout.
    fn follow_phase(&mut self, now: Instant) {
        let lifecycle = &self.shared.lifecycle;
        let drain_over = lifecycle.drain_until().is_some_and(|end| now >= end);
        let phase = if drain_over { Phase::Stopping } else { lifecycle.phase() };
        if phase >= Phase::Draining && self.phase < Phase::Draining {
            self.begin_drain(now);
        }
        if phase == Phase::Stopping {
            self.stop(now);
        }
        self.phase = self.phase.max(phase);
    }

    fn begin_drain(&mut self, now: Instant) {
        self.stop_listening(None, now);
        let spread = self.shared.lifecycle.drain_spread();
        self.connections.drain(None, spread, &mut context!(self, now));
    }

    fn stop(&mut self, now: Instant) {
        self.acceptor.abandon();
        self.connections.stop(&mut context!(self, now));
    }

    /// Whether nobody brings it connections but those that accept.
    fn is_free_to_end(&self) -> bool {
        self.commands.is_empty() && !self.shared.lifecycle.is_held()
    }

    /// Whether sessions of other threads may still tell what is on this one something.
    fn is_asked(&self) -> bool {
        S::MESSAGES > 0 && self.phase == Phase::Draining && self.shared.connection_limit.open() > 0
    }

    /// Whether nothing is left that this thread has to do.
    fn is_done(&self) -> bool {
        let nothing_comes = || self.inbox.is_empty() && !self.shared.lifecycle.is_accepting();
        let stays = self.accepts || self.acceptor.lingers() || self.connections.open() > 0;
        self.phase >= Phase::Draining
            && self.listeners.is_empty()
            && !stays
            && !self.is_asked()
            && self.suspending.is_idle()
            && (self.phase == Phase::Stopping || nothing_comes() && self.is_free_to_end())
    }
}

#[cfg(test)]
mod tests;
