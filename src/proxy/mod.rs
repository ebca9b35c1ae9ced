//! Pairs of connections: bytes go from a client to a backend and back.
//!
//! A [`Proxy`] is a state machine like [`Worker`](crate::worker::Worker): it is told what has completed
//! and appends what to do next. What happens to a pair in one turn is only noted; at the end of the
//! turn `Proxy::advance` looks at each pair once. So bytes and the FIN behind them, which come as two
//! completions, leave in one segment.
//!
//! ```text
//!             receive            pieces             send
//!   client ------------> buffer ---------> output ------------> backend
//!          <------------        <---------        <------------
//! ```
//!
//! A buffer goes from the receive to the send without a copy. What waits for an end is bounded by a
//! byte budget: beyond it the other end is not read from.

mod access_log;
mod close;
mod connect;
mod ended;
mod forward;
mod log;
mod pair;
mod preread;
mod splice;
mod stall;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use access_log::{AccessLog, OpenError};
pub use ended::Ended;
pub use log::{Entry, LogSink};
use preread::Complaints;
pub use preread::PrereadRules;
pub use splice::Splicing;

use crate::config::ProxyTimeouts;
use crate::connection::{Deadlines, LoopContext, Millis, Pieces, Receiving, Serve, Table};
use crate::dispatch::Accepted;
use crate::log::rate_limit::Look;
use crate::metrics::{Block, Counter};
use crate::planted::{self, Bug};
use crate::ring::{Completion, Event, Key, Kind, Operation, Received};
use crate::sys;
use crate::upstream::View;
use connect::ROOM_INTERVAL;
use pair::{End, Pair, Stage};

/// How soon those that found no buffer are asked again although nothing has completed: those asked
/// before them may have nothing to receive.
const FEED_INTERVAL: Duration = Duration::from_millis(5);

/// What a proxy needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Pairs that memory is reserved for. How many there may be, others decide.
    pub capacity: usize,
    /// Bytes that may wait for an end before the other is no longer read from.
    pub budget_bytes: u32,
    /// Whether the ring can cap a multishot receive.
    pub receive_credit: bool,
    /// TCP_NODELAY towards backends.
    pub nodelay: bool,
    /// How often a failed connect is followed by one to another backend.
    pub retries: u8,
    /// Pairs of one thread that may wait for a backend with room.
    pub queue: usize,
    /// Which bytes are not copied.
    pub splicing: Splicing,
    /// Deadlines.
    pub timeouts: ProxyTimeouts,
}

/// The pairs of one thread; see the module.
pub struct Proxy {
    settings: ProxySettings,
    /// One for each route; the first is the default.
    views: Vec<View>,
    preread: Arc<PrereadRules>,
    log: Option<LogSink>,
    complaints: Complaints,
    metrics: Arc<Block>,
    table: Table<Pair>,
    deadlines: Deadlines,
    pieces: Pieces,
    /// Ends whose receive found no buffer, in the order in which they will be asked again.
    starved: VecDeque<Key>,
    /// Whether some of them are asked again soon: there are buffers.
    feeds_again: bool,
    /// Pairs that something has happened to in this turn.
    touched: Vec<Key>,
    /// Pairs that wait for a backend with room or for a descriptor, first come, first served.
    waiting: VecDeque<Key>,
    /// Pipes of all pairs.
    pipes: usize,
    /// Whether something has closed since the last look for room.
    room: bool,
    next_look: Instant,
    /// Pairs closed since the last [`take_closed`](Serve::take_closed).
    closed: usize,
}

impl Proxy {
    /// A proxy without pairs. `views` has the default upstream first, then one for each route.
    pub fn new(
        settings: ProxySettings,
        views: Vec<View>,
        (preread, log): (Arc<PrereadRules>, Option<LogSink>),
        metrics: Arc<Block>,
        now: Instant,
    ) -> Self {
        Self {
            table: Table::new(settings.capacity),
            deadlines: Deadlines::new(now, settings.capacity),
            pieces: Pieces::new(),
            starved: VecDeque::new(),
            feeds_again: false,
            touched: Vec::new(),
            waiting: VecDeque::new(),
            pipes: 0,
            room: false,
            next_look: now,
            closed: 0,
            settings,
            views,
            preread,
            log,
            complaints: Complaints::default(),
            metrics,
        }
    }

    /// Asks for the client's address if anybody needs it. False if what comes next depends on it and
    /// there is none: a kernel that does not know it of a connection that has been reset (Linux does). Bytes
    /// may still come from it, and whether they begin with a header can no longer be told.
    fn find_peer(&self, pair: &mut Pair) -> bool {
        let decides = self.preread.needs_peer();
        if !decides && self.log.is_none() {
            return true;
        }
        let client = pair.side(End::Client).stream.socket.as_ref();
        let peer = client.and_then(|client| sys::peer_address(client.as_fd()).ok());
        pair.detail().client = peer.flatten();
        peer.is_some() || !decides || planted::is(Bug::ResetUntrusted)
    }

    /// Notes that something has happened to a pair.
    fn touch(&mut self, key: Key) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if !std::mem::replace(&mut pair.touched, true) {
            self.touched.push(key);
        }
    }

    /// Starts what comes next on a pair.
    fn advance(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.touched = false;
        let client_ended = pair.side(End::Client).stream.ended;
        match pair.stage {
            Stage::Preread if client_ended => self.cut_short(key, cx),
            Stage::Preread | Stage::Waiting | Stage::Opening | Stage::Connecting => {
                self.receive(key, End::Client, cx);
            }
            Stage::Forwarding => self.forward(key, cx),
            Stage::Joining => self.join(key, cx),
        }
    }

    /// Lets as many starved receives ask again as there are buffers, first come, first served.
    fn feed(&mut self, cx: &mut LoopContext<'_>) {
        let mut buffers = cx.buffers.available();
        while buffers > 0
            && let Some(starved) = self.starved.pop_front()
        {
            let (key, end) = End::of(starved);
            let Some(pair) = self.table.get_mut(key) else { continue };
            pair.side(end).stream.receiving = Receiving::No;
            // Nobody would ever end a receive on a pair that has been told to end.
            if pair.stage == Stage::Joining && !planted::is(Bug::AskedWhileJoining) {
                continue;
            }
            self.receive(key, end, cx);
            let asked = self.table.get_mut(key);
            buffers -= usize::from(
                asked.is_some_and(|p| p.side(end).stream.receiving == Receiving::Armed),
            );
        }
        self.feeds_again = !self.starved.is_empty() && cx.buffers.available() > 0;
        self.feeds_again &= !planted::is(Bug::PairsStarved);
    }

    /// A completion for a pair that no longer exists. What it carries is reclaimed.
    fn stale(&mut self, event: Event, cx: &mut LoopContext<'_>) {
        self.metrics.count(Counter::Stale);
        if let Event::Received(Ok(Received::Bytes { buffer, .. })) = event {
            cx.buffers.recycle(buffer);
        }
    }

    /// Looks whether a deadline of the pair has passed; if not, when to look again.
    fn look(&mut self, key: Key, now: Millis, cx: &mut LoopContext<'_>) {
        self.note_taken(key, now);
        self.give_up_idle_pipes(key, now, cx);
        let Some(pair) = self.table.get_mut(key) else { return };
        let again = now.after(shortest(&self.settings.timeouts));
        match deadline(pair, &self.settings.timeouts) {
            Some((due, ended)) if now.reached(due) => self.overdue(key, ended, cx),
            // The state may change meanwhile, but a deadline that begins from now on is not over
            // before the shortest one would be.
            Some((due, _)) => self.deadlines.insert(key.slot, due.earlier(again)),
            None => self.deadlines.insert(key.slot, again),
        }
    }

    fn overdue(&mut self, key: Key, ended: Ended, cx: &mut LoopContext<'_>) {
        let again = self.deadlines.millis(cx.now).after(shortest(&self.settings.timeouts));
        match ended {
            // Its completion tells that it took too long, and another backend may be tried.
            Ended::ConnectTimeout => {
                cx.operations.push(End::Backend.key(key), Operation::Cancel(Kind::Connect));
                self.deadlines.insert(key.slot, again);
            }
            Ended::Idle | Ended::Lifetime => self.terminate(key, ended, cx),
            Ended::WriteStall => {
                self.blame_backend(key, cx);
                self.fail(key, ended, cx);
            }
            _ => self.fail(key, ended, cx),
        }
    }
}

impl Serve for Proxy {
    fn adopt(&mut self, accepted: Accepted, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        let Accepted { socket, accepted_at, .. } = accepted;
        self.metrics.count(Counter::Opened);
        let mut pair = Pair::new(socket, now);
        let is_known = self.find_peer(&mut pair);
        if self.log.is_some() {
            let client = pair.side(End::Client).stream.socket.as_ref();
            let queued = client.and_then(|client| sys::tcp_accept_wait(client.as_fd()).ok());
            let times = &mut pair.detail().times;
            times.queued = queued;
            (times.accepted, times.adopted) = (Some(accepted_at), Some(cx.now));
        }
        let key = self.table.insert(pair);
        self.deadlines.insert(key.slot, now.after(shortest(&self.settings.timeouts)));
        if !is_known {
            return self.fail(key, Ended::ClientReset, cx);
        }
        self.begin(key, cx);
        self.advance(key, cx);
    }

    fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>) {
        let Completion { key, more, event } = completion;
        let (key, end) = End::of(key);
        let Some(pair) = self.table.get_mut(key) else {
            return self.stale(event, cx);
        };
        match event {
            Event::Received(result) => {
                if !more {
                    pair.side(end).stream.receiving = Receiving::No;
                }
                self.received(key, end, result, cx);
            }
            Event::Spliced(result) => {
                let side = pair.side(end);
                (side.stream.receiving, side.splicing) = (Receiving::No, false);
                self.spliced(key, end, result, cx);
            }
            Event::Sent(result) => self.sent(key, end, result, cx),
            Event::Opened(result) => self.opened(key, result, cx),
            Event::Connected(result) => self.connected(key, result, cx),
            // Not ours; dropping the descriptor closes it.
            Event::Accepted(_) => {}
        }
    }

    fn tick(&mut self, cx: &mut LoopContext<'_>) {
        let now = self.deadlines.millis(cx.now);
        while let Some(slot) = self.deadlines.pop(now) {
            if let Some(key) = self.table.key(slot) {
                self.look(key, now, cx);
            }
        }
        self.serve_queue(cx);
        self.complaints.catch_up(Look::At(cx.now));
        let mut touched = std::mem::take(&mut self.touched);
        touched.drain(..).for_each(|key| self.advance(key, cx));
        self.touched = touched;
        self.feed(cx);
    }

    fn next_tick(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadlines.next(self.deadlines.millis(now));
        let room = (!self.waiting.is_empty()).then_some(ROOM_INTERVAL);
        let feed = self.feeds_again.then_some(FEED_INTERVAL);
        let told = self.complaints.due().map(|due| due.saturating_duration_since(now));
        deadline.into_iter().chain(room).chain(feed).chain(told).min()
    }

    /// A pair says nothing of where its messages end, so all of them go on until the drain timeout.
    fn drain(&mut self, _: &mut LoopContext<'_>) {}

    fn stop(&mut self, cx: &mut LoopContext<'_>) {
        for key in self.table.keys() {
            self.terminate(key, Ended::Stopped, cx);
        }
    }

    fn open(&self) -> usize {
        self.table.len()
    }

    fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.closed)
    }
}

/// The deadline that runs on a pair, and what it means when it has passed.
fn deadline(pair: &Pair, timeouts: &ProxyTimeouts) -> Option<(Millis, Ended)> {
    let (timeout, ended) = match pair.stage {
        // Ends by itself.
        Stage::Joining => return None,
        Stage::Preread => (timeouts.preread, Ended::PrereadTimeout),
        Stage::Waiting => (timeouts.queue, Ended::QueueTimeout),
        Stage::Opening | Stage::Connecting => (timeouts.connect, Ended::ConnectTimeout),
        Stage::Forwarding if pair.is_half_closed() => (timeouts.half_closed, Ended::HalfClosed),
        Stage::Forwarding => (timeouts.idle, Ended::Idle),
    };
    let stalls = End::BOTH.into_iter().filter_map(|end| {
        Some((pair.sending_since(end)?.after(timeouts.write_stall), Ended::WriteStall))
    });
    let lifetime = timeouts.lifetime.map(|lifetime| (pair.began.after(lifetime), Ended::Lifetime));
    // Of two that are due at once the first here is the reason.
    let all = lifetime.into_iter().chain(stalls).chain([(pair.progress.after(timeout), ended)]);
    all.reduce(|first, next| if next.0.reached(first.0) { first } else { next })
}

/// The shortest of the deadlines: a pair that is looked at this often is never looked at too late.
fn shortest(timeouts: &ProxyTimeouts) -> Duration {
    let ProxyTimeouts { preread, connect, queue, idle, write_stall, half_closed, lifetime } =
        timeouts;
    let durations = [preread, connect, queue, idle, write_stall, half_closed];
    durations.into_iter().chain(lifetime).min().copied().expect("there are six")
}

#[cfg(test)]
mod tests;
