//! The loop of one thread: a ring, and the state machines that live on it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lifecycle::{Lifecycle, Phase};
use super::telling;
use crate::acceptor::Acceptor;
use crate::config::ListenAddress;
use crate::connection::{LoopContext, Serve};
use crate::dispatch::{ConnectionLimit, Inbox};
use crate::listener::Listener;
use crate::metrics::{Block, Counter};
use crate::planted::{self, Bug};
use crate::ring::{Completion, Event, Operations, Ring, Wait};

/// How long a draining server goes on accepting at least: what had begun to connect when new
/// connections were refused needs a round trip to be through.
const SETTLE: Duration = Duration::from_millis(100);

/// How often a draining acceptor looks whether its queues are empty.
const QUEUE_POLL: Duration = Duration::from_millis(10);

/// Most connections taken from the inbox in one turn, so that a flood of new ones does not keep the
/// open ones waiting.
const ADOPT_LIMIT: usize = 1024;

/// A listener as a thread that drains needs it.
pub(crate) trait Drainable {
    /// Refuses connections that have not begun.
    fn stop_admitting(&self) -> io::Result<()>;

    /// Whether nothing is known to wait in the accept queue.
    fn is_empty(&self) -> bool;

    /// Where it listens.
    fn address(&self) -> &ListenAddress;
}

impl Drainable for Listener {
    fn stop_admitting(&self) -> io::Result<()> {
        Listener::stop_admitting(self)
    }

    /// The kernel does not tell the length of a unix socket's queue, but an acceptor that does not
    /// stand still has emptied it.
    fn is_empty(&self) -> bool {
        self.queue().is_ok_and(|queue| queue.waiting.unwrap_or(0) == 0)
    }

    fn address(&self) -> &ListenAddress {
        Listener::address(self)
    }
}

/// The accepting side of a thread.
pub(crate) struct Accepting<L> {
    pub(crate) acceptor: Acceptor,
    /// Emptied when the last connection has been accepted, which closes them.
    pub(crate) listeners: Vec<Arc<L>>,
    /// Index among the acceptors.
    pub(crate) index: usize,
}

impl<L> Accepting<L> {
    /// The listeners that are not broken.
    pub(super) fn sound(&self) -> impl Iterator<Item = &L> {
        let all = self.listeners.iter().enumerate();
        all.filter(|(slot, _)| !self.acceptor.is_over(*slot)).map(|(_, listener)| &**listener)
    }
}

/// The working side of a thread.
pub(crate) struct Working<W: Serve> {
    pub(crate) worker: W,
    pub(crate) inbox: Inbox,
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
    accepting: Option<Accepting<L>>,
    working: Option<Working<W>>,
    lifecycle: Arc<Lifecycle>,
    connection_limit: Arc<ConnectionLimit>,
    metrics: Arc<Block>,
    operations: Operations,
    completions: Vec<Completion>,
    /// The phase whose beginning has been acted on.
    phase: Phase,
    /// When this thread saw the drain begin.
    drain_seen: Option<Instant>,
}

impl<R: Ring, W: Serve, L: Drainable> EventLoop<R, W, L> {
    pub(crate) fn new(
        ring: R,
        (accepting, working): (Option<Accepting<L>>, Option<Working<W>>),
        lifecycle: Arc<Lifecycle>,
        connection_limit: Arc<ConnectionLimit>,
        metrics: Arc<Block>,
    ) -> Self {
        Self {
            ring,
            accepting,
            working,
            lifecycle,
            connection_limit,
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
        self.resume();
        entered
    }

    /// The ring and what it is to start.
    pub(crate) fn ring(&mut self) -> (&mut R, &mut Operations) {
        (&mut self.ring, &mut self.operations)
    }

    pub(crate) fn accepting(&self) -> Option<&Accepting<L>> {
        self.accepting.as_ref()
    }

    pub(crate) fn working(&self) -> Option<&Working<W>> {
        self.working.as_ref()
    }

    /// Completions that the next turn begins with.
    pub(crate) fn completed(&self) -> usize {
        self.completions.len()
    }

    /// Hands each completion to the state machine that it belongs to.
    fn handle_completions(&mut self, now: Instant) {
        let Self { ring, operations, accepting, working, .. } = self;
        let mut cx = LoopContext { buffers: ring.buffers(), operations, now };
        for completion in self.completions.drain(..) {
            match (&completion.event, &mut *accepting, &mut *working) {
                (Event::Accepted(_), Some(accepting), _) => {
                    accepting.acceptor.complete(completion, now);
                }
                (_, _, Some(working)) => working.worker.complete(completion, &mut cx),
                _ => self.metrics.count(Counter::Stale),
            }
        }
    }

    /// Deadlines and starved receives.
    fn work(&mut self, now: Instant) {
        if let Some(working) = &mut self.working {
            let operations = &mut self.operations;
            working.worker.tick(&mut LoopContext { buffers: self.ring.buffers(), operations, now });
        }
    }

    /// Takes over what acceptors have put into the inbox, and makes known what has closed.
    fn adopt(&mut self, now: Instant) {
        let Some(Working { worker, inbox }) = &mut self.working else { return };
        let operations = &mut self.operations;
        let mut cx = LoopContext { buffers: self.ring.buffers(), operations, now };
        let adopted = (0..ADOPT_LIMIT).map_while(|_| inbox.take());
        let adopted = adopted.map(|accepted| worker.adopt(accepted, &mut cx)).count();
        let closed = worker.take_closed();
        if closed > 0 {
            inbox.closed(closed);
            self.connection_limit.release(closed);
        }
        if closed + adopted > 0 {
            let paused = self.connection_limit.wake_paused(&mut self.operations);
            self.metrics.add(Counter::WakesSent, paused as u64);
        }
    }

    /// Places and arms; when draining, finds out whether the queues are empty.
    fn accept(&mut self, now: Instant) {
        let Some(accepting) = &mut self.accepting else { return };
        if accepting.listeners.is_empty() {
            return;
        }
        if self.phase >= Phase::Draining
            && is_settled(accepting, self.drain_seen, &self.lifecycle, now)
        {
            accepting.acceptor.close();
        }
        accepting.acceptor.turn(now, &mut self.operations);
        if accepting.acceptor.is_done() {
            accepting.listeners.clear();
            self.lifecycle.accepted_last();
            return;
        }
        for (slot, errno) in accepting.acceptor.take_broken() {
            if self.phase == Phase::Serving {
                let listener = accepting.acceptor.listener(slot);
                let open = self.connection_limit.open() + accepting.acceptor.held();
                let address = accepting.listeners[slot].address();
                telling::lose(&self.lifecycle, (listener, address), errno, (open, now));
            }
        }
    }

    /// Says that this thread is about to wait, looks once more for work, and decides how long.
    fn park(&mut self, now: Instant) -> Wait {
        if let Some(Accepting { acceptor, index, .. }) = &mut self.accepting
            && acceptor.wants_wake()
        {
            self.connection_limit.parked(*index).announce();
            acceptor.turn(now, &mut self.operations);
        }
        if self.working.as_ref().is_some_and(|working| !working.inbox.park()) {
            return Wait::No;
        }
        // Later only: at the end of the drain timeout this thread is ahead of the others.
        let differs = planted::is(Bug::SpinAfterDrain) && self.lifecycle.phase() != self.phase;
        if self.lifecycle.phase() > self.phase || differs {
            return Wait::No;
        }
        self.longest_wait(now).map_or(Wait::Forever, Wait::For)
    }

    fn resume(&mut self) {
        if let Some(Accepting { index, .. }) = &self.accepting {
            self.connection_limit.parked(*index).resume();
        }
        if let Some(Working { inbox, .. }) = &self.working {
            inbox.resume();
        }
    }

    /// Until the next moment at which there is something to do unasked.
    fn longest_wait(&self, now: Instant) -> Option<Duration> {
        let until = |moment: Instant| moment.saturating_duration_since(now);
        let tick = self.working.as_ref().and_then(|working| working.worker.next_tick(now));
        let acceptor = self.accepting.as_ref().map(|accepting| &accepting.acceptor);
        let rest = acceptor.and_then(Acceptor::next_turn);
        let line = acceptor.and_then(Acceptor::next_line);
        let drain = self.lifecycle.drain_until().filter(|end| *end > now);
        let poll = self
            .accepting
            .as_ref()
            .filter(|accepting| self.phase >= Phase::Draining && !accepting.listeners.is_empty());
        let poll = poll.map(|_| QUEUE_POLL);
        let moments = [tick, rest.map(until), line.map(until), drain.map(until), poll];
        moments.into_iter().flatten().min()
    }

    /// Acts on the beginning of a phase, and on the end of the drain timeout.
    fn follow_phase(&mut self, now: Instant) {
        let drain_over = self.lifecycle.drain_until().is_some_and(|end| now >= end);
        let phase = if drain_over { Phase::Stopping } else { self.lifecycle.phase() };
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
        if let Some(accepting) = &mut self.accepting {
            accepting.acceptor.drain();
        }
        for listener in self.accepting.iter().flat_map(Accepting::sound) {
            if let Err(error) = listener.stop_admitting() {
                let address = listener.address();
                tracing::warn!("{address} cannot refuse new connections while draining: {error}");
            }
        }
        if let Some(working) = &mut self.working {
            let operations = &mut self.operations;
            working.worker.drain(&mut LoopContext {
                buffers: self.ring.buffers(),
                operations,
                now,
            });
        }
    }

    fn stop(&mut self, now: Instant) {
        if let Some(accepting) = &mut self.accepting {
            accepting.acceptor.abandon();
        }
        if let Some(working) = &mut self.working {
            let operations = &mut self.operations;
            working.worker.stop(&mut LoopContext { buffers: self.ring.buffers(), operations, now });
        }
    }

    /// Whether nothing is left that this thread has to do.
    fn is_done(&self) -> bool {
        let accepted_all = self.accepting.as_ref().is_none_or(|a| a.listeners.is_empty());
        let nothing_comes = |inbox: &Inbox| inbox.is_empty() && !self.lifecycle.is_accepting();
        let served_all = self.working.as_ref().is_none_or(|Working { worker, inbox }| {
            worker.open() == 0 && (self.phase == Phase::Stopping || nothing_comes(inbox))
        });
        self.phase >= Phase::Draining && accepted_all && served_all
    }
}

/// Whether a draining acceptor has seen the last connection of its queues.
fn is_settled<L: Drainable>(
    accepting: &Accepting<L>,
    drain_seen: Option<Instant>,
    lifecycle: &Lifecycle,
    now: Instant,
) -> bool {
    if lifecycle.phase() == Phase::Stopping || lifecycle.drain_until().is_some_and(|end| now >= end)
    {
        return true;
    }
    let settled = drain_seen.is_some_and(|seen| now >= seen + SETTLE);
    let queues_empty =
        || !accepting.acceptor.wants_wake() && accepting.sound().all(Drainable::is_empty);
    settled && queues_empty()
}
