//! Connections: receive, answer, send, close.
//!
//! A [`Worker`] is a state machine. It is told what has completed and appends what to do next; it
//! never waits and never calls the kernel. [`Worker::advance`](Worker) is the one place that decides
//! what a connection does next; everything else notes what has happened and calls it.

mod close;
mod connection;
mod input;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::SessionTimeouts;
use crate::connection::{
    Deadlines, LoopContext, Millis, Pieces, Receiving, SEND_LIMIT_BYTES, Serve, Table, shots,
};
use crate::dispatch::Accepted;
use crate::metrics::{Block, Counter};
use crate::planted::{self, Bug};
use crate::ring::{Completion, Descriptor, Event, Key, Operation, Received};
use crate::service::{CloseReason, Outbox, Service};
use crate::sys::Errno;
use connection::{Connection, Stage};

/// How soon the next starved receives are asked when those before them have left a buffer over.
const FEED_INTERVAL: Duration = Duration::from_millis(5);

/// Most slots whose sessions are told in one turn that the server drains, so that many connections do not
/// keep the thread from those that have work. Few in tests, so that they need several turns.
const DRAIN_LIMIT: u32 = if cfg!(test) { 8 } else { 4096 };

/// What a worker needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Connections that memory is reserved for. How many there may be, others decide.
    pub capacity: usize,
    /// Byte budget of a connection.
    pub budget_bytes: u32,
    /// Deadlines.
    pub timeouts: SessionTimeouts,
    /// Whether the ring can cap a multishot receive.
    pub receive_credit: bool,
}

/// The connections of one thread; see the module.
pub struct Worker<S: Service> {
    service: Arc<S>,
    settings: SessionSettings,
    metrics: Arc<Block>,
    table: Table<Connection<S::Session>>,
    deadlines: Deadlines,
    pieces: Pieces,
    /// Reused for every call of the service.
    outbox: Outbox,
    /// Connections whose receive found no buffer, in the order in which they will be asked again.
    starved: VecDeque<Key>,
    /// Whether some of them wait although there are buffers: those that were asked before them may
    /// have nothing to receive.
    feeds_again: bool,
    draining: bool,
    /// From which slot on sessions are still to be told that the server drains; `None` if none is.
    drains_from: Option<u32>,
    /// Connections closed since the last [`take_closed`](Self::take_closed).
    closed: usize,
}

impl<S: Service> Worker<S> {
    /// A worker without connections.
    pub fn new(
        service: Arc<S>,
        settings: SessionSettings,
        metrics: Arc<Block>,
        now: Instant,
    ) -> Self {
        Self {
            table: Table::new(settings.capacity),
            deadlines: Deadlines::new(now, settings.capacity),
            pieces: Pieces::new(),
            outbox: Outbox::default(),
            starved: VecDeque::new(),
            feeds_again: false,
            draining: false,
            drains_from: None,
            closed: 0,
            service,
            settings,
            metrics,
        }
    }

    fn refuse(&mut self, socket: std::os::fd::OwnedFd, cx: &mut LoopContext<'_>) {
        self.closed += 1;
        cx.operations.push(Key::fixed(0), Operation::Close { socket });
    }

    /// Lets as many starved receives ask again as there are buffers, first come, first served.
    fn feed(&mut self, cx: &mut LoopContext<'_>) {
        let mut buffers = cx.buffers.available();
        while buffers > 0
            && let Some(key) = self.starved.pop_front()
        {
            buffers -= usize::from(self.ask_again(key, cx));
        }
        self.feeds_again = !self.starved.is_empty() && cx.buffers.available() > 0;
        self.feeds_again &= !planted::is(Bug::StarvedForgotten);
    }

    /// False if that takes no buffer: the connection has gone, or does not want input for now.
    fn ask_again(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        let Some(connection) = self.table.get_mut(key) else { return false };
        connection.stream.receiving = Receiving::No;
        self.advance(key, cx);
        self.table.get_mut(key).is_some_and(|asked| asked.stream.receiving == Receiving::Armed)
    }

    /// Tells some more sessions that the server drains.
    fn tell_draining(&mut self, cx: &mut LoopContext<'_>) {
        let Some(from) = self.drains_from else { return };
        let end = from + DRAIN_LIMIT;
        self.drains_from = (end < self.table.slots()).then_some(end);
        for slot in from..end.min(self.table.slots()) {
            if let Some(key) = self.table.key(slot) {
                self.session_drains(key, cx);
            }
        }
    }

    /// Starts what comes next on a connection.
    fn advance(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        match connection.stage {
            Stage::Open => {
                self.send(key, cx);
                self.receive(key, cx);
            }
            Stage::Flushing { .. } if connection.stream.sending => {}
            Stage::Flushing { .. } if !connection.stream.output.is_empty() => self.send(key, cx),
            Stage::Flushing { linger: true } => self.linger(key, cx),
            Stage::Flushing { linger: false } => self.finish(key, cx),
            Stage::Lingering { .. } => self.receive(key, cx),
            Stage::Joining
                if connection.stream.in_flight() && !planted::is(Bug::CloseBeforeJoin) => {}
            Stage::Joining => self.release(key, cx),
        }
    }

    /// Starts sending the first piece of output, if none is being sent. The last piece of a
    /// connection on which nothing else is in flight goes together with the FIN and the close.
    fn send(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        let Some(connection) = self.table.get_mut(key) else { return };
        let sending = connection.stream.sending && !planted::is(Bug::TwoSends);
        if sending || connection.stream.output.is_empty() {
            return;
        }
        let (bytes, whole) =
            self.pieces.front(&connection.stream.output, cx.buffers, SEND_LIMIT_BYTES);
        let last = whole
            && connection.stream.output.is_single()
            && connection.stage == (Stage::Flushing { linger: false })
            && !connection.stream.in_flight();
        let socket = if last { connection.stream.socket.take() } else { None };
        let operation = match (socket, &connection.stream.socket) {
            (Some(socket), _) => Operation::SendAndClose { socket, bytes },
            (None, Some(socket)) => {
                Operation::Send { socket: Descriptor::of(socket), bytes, fin_follows: false }
            }
            (None, None) => return,
        };
        connection.stream.sending = true;
        connection.progress = now;
        cx.operations.push(key, operation);
    }

    /// Asks for more input, unless that is asked already or enough output waits.
    ///
    /// The first receive of a connection is single: if the service then closes, nothing is in flight
    /// and the answer leaves together with the FIN. From the second on it has many shots, as many
    /// bytes as the budget has left, where the ring can cap them.
    fn receive(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let stream = &mut connection.stream;
        let Some(socket) = stream.readable() else { return };
        let many = stream.spoken && self.settings.receive_credit;
        let budget = self.settings.budget_bytes;
        if let Some(shots) = shots(&stream.output, budget, many, cx.buffers) {
            stream.arm(key, (socket, shots), cx);
        }
    }

    /// A send has ended.
    fn sent(&mut self, key: Key, result: Result<usize, Errno>, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        let Some(connection) = self.table.get_mut(key) else { return };
        let Ok(bytes) = result else {
            self.terminate(key, CloseReason::PeerReset, cx);
            return;
        };
        self.metrics.count(Counter::Sends);
        self.metrics.add(Counter::SentBytes, bytes as u64);
        connection.progress = now;
        if connection.stage == Stage::Joining {
            self.pieces.clear(&mut connection.stream.output, cx.buffers, false);
        } else {
            self.pieces.sent(&mut connection.stream.output, cx.buffers, bytes);
        }
        if connection.stream.socket.is_none() {
            // It went with the last bytes. Where some of them did not, the peer had gone.
            if !connection.stream.output.is_empty() {
                connection.reason = CloseReason::PeerReset;
            }
            self.release(key, cx);
        } else {
            self.advance(key, cx);
        }
    }

    /// A completion for a connection that no longer exists. What it carries is reclaimed.
    fn stale(&mut self, event: Event, cx: &mut LoopContext<'_>) {
        self.metrics.count(Counter::Stale);
        if let Event::Received(Ok(Received::Bytes { buffer, .. })) = event {
            cx.buffers.recycle(buffer);
        }
    }

    /// Looks whether a deadline of the connection has passed; if not, when to look again.
    fn look(&mut self, key: Key, now: Millis, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let again = now.after(shortest(&self.settings.timeouts));
        match deadline(connection, &self.settings.timeouts) {
            Some((due, reason)) if now.reached(due) => self.terminate(key, reason, cx),
            // The state may change meanwhile, but a deadline that begins from now on is not over
            // before the shortest one would be.
            Some((due, _)) => self.deadlines.insert(key.slot, due.earlier(again)),
            None => self.deadlines.insert(key.slot, again),
        }
    }
}

impl<S: Service> Serve for Worker<S> {
    fn adopt(&mut self, accepted: Accepted, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        let Accepted { socket, listener, .. } = accepted;
        let session = self.open_session(&socket, listener);
        self.metrics.count(Counter::Opened);
        let Some(session) = session else {
            self.refuse(socket, cx);
            return;
        };
        let connection = Connection::new(socket, session, now);
        let key = self.table.insert(connection);
        self.deadlines.insert(key.slot, now.after(shortest(&self.settings.timeouts)));
        self.advance(key, cx);
    }

    fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>) {
        let Completion { key, more, event } = completion;
        let Some(connection) = self.table.get_mut(key) else {
            self.stale(event, cx);
            return;
        };
        match event {
            Event::Received(result) => {
                if !more {
                    connection.stream.receiving = Receiving::No;
                }
                self.received(key, result, cx);
            }
            Event::Sent(result) => {
                connection.stream.sending = false;
                self.sent(key, result, cx);
            }
            // Not ours; dropping the descriptor closes it.
            Event::Accepted(_) | Event::Opened(_) | Event::Connected(_) | Event::Spliced(_) => {}
        }
    }

    fn tick(&mut self, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        while !planted::is(Bug::NoDeadlines)
            && let Some(slot) = self.deadlines.pop(now)
        {
            if let Some(key) = self.table.key(slot) {
                self.look(key, now, cx);
            }
        }
        self.tell_draining(cx);
        self.feed(cx);
    }

    fn next_tick(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadlines.next(self.deadlines.millis(now));
        let anyone = self.open() > 0;
        let feed = (self.feeds_again && anyone).then_some(FEED_INTERVAL);
        let drains = (self.drains_from.is_some() && anyone).then_some(Duration::ZERO);
        deadline.into_iter().chain(feed).chain(drains).min()
    }

    fn drain(&mut self, cx: &mut LoopContext<'_>) {
        self.draining = true;
        self.drains_from = Some(0);
        self.tell_draining(cx);
    }

    fn stop(&mut self, cx: &mut LoopContext<'_>) {
        for key in self.table.keys() {
            self.terminate(key, CloseReason::Stopped, cx);
        }
    }

    fn open(&self) -> usize {
        self.table.len()
    }

    fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.closed)
    }
}

/// The deadline that runs on a connection, and what it means when it has passed.
fn deadline<Session>(
    connection: &Connection<Session>,
    timeouts: &SessionTimeouts,
) -> Option<(Millis, CloseReason)> {
    let (timeout, reason) = match connection.stage {
        // Ends by itself.
        Stage::Joining => return None,
        Stage::Lingering { .. } => (timeouts.linger, connection.reason),
        _ if connection.stream.sending => (timeouts.write_stall, CloseReason::WriteStall),
        _ if !connection.stream.spoken => (timeouts.first_byte, CloseReason::FirstByteTimeout),
        _ => (timeouts.idle, CloseReason::IdleTimeout),
    };
    Some((connection.progress.after(timeout), reason))
}

/// The shortest of the deadlines that begin without being put on the wheel: a connection that is
/// looked at this often is never looked at too late.
fn shortest(timeouts: &SessionTimeouts) -> Duration {
    timeouts.first_byte.min(timeouts.idle).min(timeouts.write_stall)
}

#[cfg(test)]
mod tests;
