//! The loop of one thread: a ring, and the state machines that live on it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lifecycle::{Lifecycle, Phase};
use super::telling;
use crate::acceptor::{Acceptor, Source};
use crate::config::ListenAddress;
use crate::connection::{LoopContext, Serve};
use crate::dispatch::{ConnectionLimit, Dispatcher, Inbox, ListenerId};
use crate::listener::Listener;
use crate::metrics::{Block, Counter};
use crate::planted::{self, Bug};
use crate::ring::{Completion, Descriptor, Event, Operations, Ring, Wait};

/// How long a draining server goes on accepting at least: what had begun to connect when new
/// connections were refused needs a round trip to be through.
const SETTLE: Duration = Duration::from_millis(100);

/// How often a draining acceptor looks whether its queues are empty.
const QUEUE_POLL: Duration = Duration::from_millis(10);

/// Most connections taken from the inbox in one turn, so that a flood of new ones does not keep the
/// open ones waiting.
const ADOPT_LIMIT: usize = 1024;

/// A listening socket as the loop needs it.
pub(crate) trait ListeningSocket {
    /// Where it listens.
    fn address(&self) -> &ListenAddress;

    /// The socket as accepts name it.
    fn descriptor(&self) -> Descriptor;

    /// How many connections may wait in its accept queue.
    fn queue_limit(&self) -> usize;

    /// Refuses connections that have not begun.
    fn stop_admitting(&self) -> io::Result<()>;

    /// Whether nothing is known to wait in the accept queue.
    fn is_empty(&self) -> bool;
}

impl ListeningSocket for Listener {
    fn address(&self) -> &ListenAddress {
        Listener::address(self)
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(self)
    }

    /// The queue holds one more than its limit.
    fn queue_limit(&self) -> usize {
        self.backlog().effective as usize + 1
    }

    fn stop_admitting(&self) -> io::Result<()> {
        Listener::stop_admitting(self)
    }

    /// The kernel does not tell the length of a unix socket's queue, but an acceptor that does not
    /// stand still has emptied it.
    fn is_empty(&self) -> bool {
        self.queue().is_ok_and(|queue| queue.waiting.unwrap_or(0) == 0)
    }
}

/// What all threads of a server have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// Accept queues of all threads, which share the limit.
    pub(crate) queues: usize,
}

/// What one thread has for itself. A thread that only accepts has connections all the same, and none of
/// them; one that does not accept has no listeners.
pub(crate) struct Parts<W, L> {
    /// With their places in the configuration.
    pub(crate) listeners: Vec<(ListenerId, Arc<L>)>,
    /// Where what it accepts goes.
    pub(crate) dispatcher: Dispatcher,
    pub(crate) connections: W,
    pub(crate) inbox: Inbox,
    pub(crate) metrics: Arc<Block>,
}

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start what was asked for, wait, and take another turn.
    Enter(Wait),
    /// Start what was asked for; that was the last turn.
    End,
}

/// One thread.
pub(crate) struct EventLoop<R: Ring, W: Serve, L> {
    ring: R,
    acceptor: Acceptor,
    /// Emptied when the last connection has been accepted, which closes them.
    listeners: Vec<Arc<L>>,
    connections: W,
    inbox: Inbox,
    shared: Shared,
    metrics: Arc<Block>,
    operations: Operations,
    completions: Vec<Completion>,
    /// The phase whose beginning has been acted on.
    phase: Phase,
    /// When this thread saw the drain begin.
    drain_seen: Option<Instant>,
}

impl<R: Ring, W: Serve, L: ListeningSocket> EventLoop<R, W, L> {
    pub(crate) fn new(ring: R, parts: Parts<W, L>, shared: Shared) -> Self {
        let Parts { listeners, dispatcher, connections, inbox, metrics } = parts;
        let sources = listeners.iter().map(source).collect();
        let (queues, limit) = (shared.queues, Arc::clone(&shared.connection_limit));
        Self {
            ring,
            acceptor: Acceptor::new(sources, queues, dispatcher, limit, Arc::clone(&metrics)),
            listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
            connections,
            inbox,
            shared,
            metrics,
            operations: Operations::default(),
            completions: Vec::new(),
            phase: Phase::Serving,
            drain_seen: None,
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

    /// Everything up to the wait: what has completed, what is due, what comes next.
    pub(crate) fn turn(&mut self) -> Next {
        let now = self.ring.now();
        self.follow_phase(now);
        self.handle_completions(now);
        self.work(now);
        self.accept(now);
        self.adopt(now);
        if self.is_done() {
            return Next::End;
        }
        Next::Enter(self.park(now))
    }

    /// The one call of a turn that may wait.
    ///
    /// # Errors
    /// Those of the ring.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
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

    pub(crate) fn listeners(&self) -> &[Arc<L>] {
        &self.listeners
    }

    pub(crate) fn connections(&self) -> &W {
        &self.connections
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Completions that the next turn begins with.
    pub(crate) fn completed(&self) -> usize {
        self.completions.len()
    }

    /// Hands each completion to the state machine that it belongs to.
    fn handle_completions(&mut self, now: Instant) {
        let Self { ring, operations, acceptor, connections, .. } = self;
        let mut cx = LoopContext { buffers: ring.buffers(), operations, now };
        for completion in self.completions.drain(..) {
            match &completion.event {
                Event::Accepted(_) => acceptor.complete(completion, now),
                _ => connections.complete(completion, &mut cx),
            }
        }
    }

    /// Deadlines and starved receives.
    fn work(&mut self, now: Instant) {
        let Self { ring, operations, connections, .. } = self;
        connections.tick(&mut LoopContext { buffers: ring.buffers(), operations, now });
    }

    /// Takes over what acceptors have put into the inbox, and makes known what has closed.
    fn adopt(&mut self, now: Instant) {
        let Self { ring, operations, connections, inbox, shared, .. } = self;
        let mut cx = LoopContext { buffers: ring.buffers(), operations, now };
        let adopted = (0..ADOPT_LIMIT).map_while(|_| inbox.take());
        let adopted = adopted.map(|accepted| connections.adopt(accepted, &mut cx)).count();
        let closed = connections.take_closed();
        if closed > 0 {
            inbox.closed(closed);
            shared.connection_limit.release(closed);
        }
        if closed + adopted > 0 {
            let wakes = shared.lifecycle.wake_paused(operations);
            self.metrics.add(Counter::WakesSent, wakes as u64);
        }
    }

    /// Places and arms; when draining, finds out whether the queues are empty.
    fn accept(&mut self, now: Instant) {
        if self.listeners.is_empty() {
            return;
        }
        if self.phase >= Phase::Draining && self.is_settled(now) {
            self.acceptor.close();
        }
        self.acceptor.turn(now, &mut self.operations);
        if self.acceptor.is_done() {
            self.listeners.clear();
            self.shared.lifecycle.accepted_last();
            return;
        }
        for (slot, errno) in self.acceptor.take_broken() {
            if self.phase == Phase::Serving {
                let listener = self.acceptor.listener(slot);
                let open = self.shared.connection_limit.open() + self.acceptor.held();
                let address = self.listeners[slot].address();
                let lifecycle = &self.shared.lifecycle;
                telling::lose(lifecycle, (listener, address), errno, (open, now));
            }
        }
    }

    /// Says that this thread is about to wait, looks once more for work, and decides how long.
    fn park(&mut self, now: Instant) -> Wait {
        if self.acceptor.wants_wake() {
            self.inbox.pause();
            self.acceptor.turn(now, &mut self.operations);
        }
        if !self.inbox.park() {
            return Wait::No;
        }
        // Later only: at the end of the drain timeout this thread is ahead of the others.
        let phase = self.shared.lifecycle.phase();
        let differs = planted::is(Bug::SpinAfterDrain) && phase != self.phase;
        if phase > self.phase || differs {
            return Wait::No;
        }
        self.longest_wait(now).map_or(Wait::Forever, Wait::For)
    }

    /// Until the next moment at which there is something to do unasked.
    fn longest_wait(&self, now: Instant) -> Option<Duration> {
        let until = |moment: Instant| moment.saturating_duration_since(now);
        let tick = self.connections.next_tick(now);
        let rest = self.acceptor.next_turn();
        let line = self.acceptor.next_line();
        let drain = self.shared.lifecycle.drain_until().filter(|end| *end > now);
        let polls = self.phase >= Phase::Draining && !self.listeners.is_empty();
        let poll = polls.then_some(QUEUE_POLL);
        let moments = [tick, rest.map(until), line.map(until), drain.map(until), poll];
        moments.into_iter().flatten().min()
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
        self.drain_seen = Some(now);
        self.acceptor.drain();
        for listener in self.sound() {
            if let Err(error) = listener.stop_admitting() {
                let address = listener.address();
                tracing::warn!("{address} cannot refuse new connections while draining: {error}");
            }
        }
        let Self { ring, operations, connections, .. } = self;
        connections.drain(&mut LoopContext { buffers: ring.buffers(), operations, now });
    }

    fn stop(&mut self, now: Instant) {
        self.acceptor.abandon();
        let Self { ring, operations, connections, .. } = self;
        connections.stop(&mut LoopContext { buffers: ring.buffers(), operations, now });
    }

    /// Whether nothing is left that this thread has to do.
    fn is_done(&self) -> bool {
        let nothing_comes = || self.inbox.is_empty() && !self.shared.lifecycle.is_accepting();
        self.phase >= Phase::Draining
            && self.listeners.is_empty()
            && self.connections.open() == 0
            && (self.phase == Phase::Stopping || nothing_comes())
    }

    /// The listeners that are not broken.
    fn sound(&self) -> impl Iterator<Item = &L> {
        let all = self.listeners.iter().enumerate();
        all.filter(|(slot, _)| !self.acceptor.is_over(*slot)).map(|(_, listener)| &**listener)
    }

    /// Whether a draining acceptor has seen the last connection of its queues.
    fn is_settled(&self, now: Instant) -> bool {
        let lifecycle = &self.shared.lifecycle;
        let is_over = lifecycle.drain_until().is_some_and(|end| now >= end);
        if is_over || lifecycle.phase() == Phase::Stopping {
            return true;
        }
        let settled = self.drain_seen.is_some_and(|seen| now >= seen + SETTLE);
        settled && !self.acceptor.wants_wake() && self.sound().all(ListeningSocket::is_empty)
    }
}

fn source<L: ListeningSocket>((listener, socket): &(ListenerId, Arc<L>)) -> Source {
    Source {
        socket: socket.descriptor(),
        listener: *listener,
        address: socket.address().clone(),
        backlog: socket.queue_limit(),
    }
}

#[cfg(test)]
mod tests;
