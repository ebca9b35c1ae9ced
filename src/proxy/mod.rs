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

mod close;
mod connect;
mod ended;
mod forward;
mod listing;
mod log;
mod pair;
mod preread;
mod pressed;
mod resume;
mod splice;
mod stall;
mod suspend;
mod waited;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use ended::Ended;
pub use preread::PrereadRules;
pub use splice::Splicing;

use crate::access_log::LogSink;
use crate::config::{Patience, ProxyTimeouts};
use crate::connection::{
    Counted, Deadlines, Idlest, LoopContext, Millis, Pieces, PrereadLog, Receiving, Sweeps, Table,
    ThreadLimits, Unserved, VersionId, Versions, Waits, accept_wait, reply, sooner, unserved,
};
use crate::dispatch::{Accepted, ConnectionLimit, FrontendId};
use crate::log::rate_limit::Look;
use crate::metrics::{Block, Counter, FrontendTimes};
use crate::ring::{Completion, Event, Key, Kind, Operation, Received};
use crate::sources::Admission;
use crate::upstream::{Upstream, View};
use connect::ROOM_INTERVAL;
pub(crate) use pair::is_of_a_pair;
use pair::{End, Pair, Stage};
use suspend::Suspension;

/// What the proxied connections of a frontend go by, in one version.
#[derive(Debug)]
pub struct ProxySettings {
    /// Bytes that may wait for an end before the other is no longer read from.
    pub budget_bytes: u32,
    /// TCP_NODELAY towards backends.
    pub nodelay: bool,
    /// How often a failed connect is followed by one to another backend.
    pub retries: u8,
    /// Pairs of one thread that may wait for a backend with room.
    pub queue: usize,
    /// Whether bytes of large transfers are spliced, as far as the thread has pipes.
    pub splice: bool,
    /// Deadlines.
    pub timeouts: ProxyTimeouts,
    /// Which clients are not waited for any more.
    pub patience: Option<Patience>,
    /// What has to be read and written first.
    pub preread: PrereadRules,
    /// The default first, then one for each route.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Gets an entry for each pair that has ended.
    pub log: Option<LogSink>,
    /// Whose they are.
    pub frontend: FrontendId,
    /// Where connections of the frontend are counted.
    pub limit: Arc<ConnectionLimit>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// How long they take.
    pub times: Arc<FrontendTimes>,
}

/// A version of the settings as this thread has it.
struct Version {
    settings: Arc<ProxySettings>,
    /// This thread's view of each upstream.
    views: Vec<View>,
    /// A pair that is looked at this often is never looked at too late: the shortest of the deadlines.
    look_interval: Duration,
    /// Pairs in the queue.
    waiting: usize,
    /// Whether the server drains, or this frontend does: the number of the sweep that ends its idle pairs.
    draining: Option<u32>,
}

/// The pairs of one thread; see the module.
pub struct Proxy {
    versions: Versions<Version>,
    splicing: Splicing,
    receive_credit: bool,
    log: PrereadLog,
    metrics: Arc<Block>,
    table: Table<Pair>,
    deadlines: Deadlines,
    pieces: Pieces,
    /// Pairs that something has happened to in this turn.
    touched: Vec<Key>,
    /// Pairs that wait for a backend with room or for a descriptor, first come, first served.
    waiting: VecDeque<Key>,
    /// Pairs that are not joined to a backend yet.
    without_backend: usize,
    /// Pipes of all pairs.
    pipes: usize,
    /// Whether something has closed since the last look for room.
    room: bool,
    next_look: Instant,
    /// Drains of which idle pairs are being ended.
    sweeps: Sweeps,
    waits: Waits,
    suspension: Suspension,
    /// Where their sources are counted.
    counted: Counted,
    idlest: Idlest,
    /// Pairs closed since the last [`take_closed`](Self::take_closed).
    closed: usize,
}

impl Proxy {
    /// A proxy without pairs.
    pub fn new(
        limits: ThreadLimits,
        splicing: Splicing,
        metrics: Arc<Block>,
        now: Instant,
    ) -> Self {
        Self {
            versions: Versions::new(),
            splicing,
            receive_credit: limits.receive_credit,
            table: Table::new(limits.capacity),
            deadlines: Deadlines::new(limits.capacity),
            pieces: Pieces::new(),
            touched: Vec::new(),
            waiting: VecDeque::new(),
            without_backend: 0,
            pipes: 0,
            room: false,
            next_look: now,
            sweeps: Sweeps::default(),
            waits: Waits::default(),
            suspension: Suspension::default(),
            counted: Counted::default(),
            idlest: Idlest::default(),
            closed: 0,
            log: PrereadLog::default(),
            metrics,
        }
    }

    /// Settings for connections to come. `None` if there are too many versions already.
    pub fn publish(&mut self, settings: Arc<ProxySettings>) -> Option<VersionId> {
        let look_interval = shortest(&settings.timeouts);
        let views = settings.upstreams.iter().map(Upstream::view).collect();
        let version = Version { settings, views, look_interval, waiting: 0, draining: None };
        self.versions.insert(version).ok()
    }

    /// When to splice, from now on.
    pub fn splice_when(&mut self, splicing: Splicing) {
        self.splicing = splicing;
    }

    /// No connection to come gets this version; it goes with the last one that has it.
    pub fn retire(&mut self, version: VersionId) {
        self.versions.retire(version);
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
        if self.suspension.has(key) {
            return self.quiet(key, cx);
        }
        let client_ended = pair.side(End::Client).stream.ended;
        match pair.stage {
            Stage::Preread if client_ended => self.cut_short(key, cx),
            Stage::Preread
            | Stage::Choosing
            | Stage::Waiting
            | Stage::Opening
            | Stage::Connecting => {
                self.receive(key, End::Client, cx);
            }
            Stage::Forwarding => self.forward(key, cx),
            Stage::Joining => self.join(key, cx),
        }
    }

    /// Lets a starved receive ask again. False if that takes no buffer: the pair has gone, or wants no
    /// input for now.
    pub(crate) fn ask_again(&mut self, starved: Key, cx: &mut LoopContext<'_>) -> bool {
        let (key, end) = End::of(starved);
        let Some(pair) = self.table.get_mut(key) else { return false };
        pair.side(end).stream.receiving = Receiving::No;
        // Nobody would ever end a receive on a pair that has been told to end, or to move.
        if pair.stage == Stage::Joining || self.suspension.has(key) {
            return false;
        }
        self.receive(key, end, cx);
        let asked = self.table.get_mut(key);
        asked.is_some_and(|pair| pair.side(end).stream.receiving == Receiving::Armed)
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
        let version = self.versions.get(pair.version);
        let again = now.after(version.look_interval);
        match deadline(pair, &version.settings.timeouts) {
            Some((due, ended)) if now.reached(due) => self.overdue(key, ended, cx),
            // The state may change meanwhile, but a deadline that begins from now on is not over
            // before the shortest one would be.
            Some((due, _)) => self.deadlines.insert(key.slot, due.earlier(again)),
            None => self.deadlines.insert(key.slot, again),
        }
    }

    fn overdue(&mut self, key: Key, ended: Ended, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        match ended {
            // Its completion tells that it took too long, and another backend may be tried.
            Ended::ConnectTimeout => {
                cx.operations.push(End::Backend.key(key), Operation::Cancel(Kind::Connect));
                let Some(pair) = self.table.get_mut(key) else { return };
                let look_interval = self.versions.get(pair.version).look_interval;
                self.deadlines.insert(key.slot, now.after(look_interval));
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

impl Proxy {
    /// Takes a connection over, under this version of the settings.
    pub fn adopt(&mut self, accepted: Accepted, version: VersionId, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Accepted { socket, accepted_at, held, pressed, .. } = accepted;
        self.metrics.count(Counter::Opened);
        let times = &self.versions.get(version).settings.times;
        times.dispatch.add(cx.now.saturating_duration_since(accepted_at));
        let settings = &self.versions.get(version).settings;
        let waits = (settings.patience, pressed.shed.as_ref());
        let unserved = unserved(waits, (socket.as_fd(), accepted_at), cx.now);
        if unserved == Some(Unserved::Shed) {
            reply(socket.as_fd(), settings.admission.refusal());
        }
        let mut pair = Pair::new(socket, version, now);
        self.versions.opened(version);
        let is_known = self.find_peer(&mut pair);
        let client = pair.side(End::Client).stream.socket.as_ref().map(AsFd::as_fd);
        let mut wait = None;
        if self.versions.get(version).settings.log.is_some() {
            let queued = client.and_then(|client| accept_wait(client, accepted_at));
            let times = &mut pair.detail().times;
            times.queued = queued;
            (times.accepted, times.adopted) = (Some(accepted_at), Some(cx.now));
        } else {
            wait = client.and_then(|client| Waits::ask((client, accepted_at), cx));
        }
        let key = self.table.insert(pair);
        self.counted.note(key, held);
        self.add_without_backend(1);
        if let Some(pair) = self.table.get_mut(key) {
            pair.lifetime_share = lifetime_share(key);
        }
        self.deadlines.catch_up(now);
        self.waits.note(key, wait);
        self.deadlines.insert(key.slot, now.after(self.versions.get(version).look_interval));
        match unserved {
            Some(Unserved::Shed) => return self.turn_away(key, Ended::Shed, cx),
            Some(Unserved::Dead) => return self.fail(key, Ended::DeadOnArrival, cx),
            None => {}
        }
        if !is_known {
            return self.fail(key, Ended::ClientReset, cx);
        }
        self.begin(key, cx);
        self.advance(key, cx);
    }

    /// Notes what has completed.
    pub fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>) {
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
            Event::Accepted(_) | Event::Released(_) => {}
        }
        // Whatever it was, it may have been the last that was in flight.
        if self.suspension.has(key) {
            self.touch(key);
        }
    }

    /// What a turn does after its completions: deadlines that have passed, the queue, and what several
    /// completions of one pair add up to.
    pub fn tick(&mut self, cx: &mut LoopContext<'_>) {
        if self.is_idle() {
            // Nothing is on the wheel, but it has to keep up with the time: the next pair is put on it from there.
            let _ = self.deadlines.pop(cx.millis);
            self.sweeps.forget_over(cx.now);
            return;
        }
        let now = cx.millis;
        while let Some(slot) = self.deadlines.pop(now) {
            if let Some(key) = self.table.key(slot) {
                self.look(key, now, cx);
            }
        }
        self.serve_queue(cx);
        self.end_idle(cx);
        self.log.catch_up(Look::At(cx.now));
        let mut touched = std::mem::take(&mut self.touched);
        touched.drain(..).for_each(|key| self.advance(key, cx));
        self.touched = touched;
    }

    /// Whether there is no pair and nothing left to say of those that were.
    fn is_idle(&self) -> bool {
        self.table.len() == 0
            && self.touched.is_empty()
            && self.waiting.is_empty()
            && self.log.due().is_none()
    }

    /// How long until [`tick`](Self::tick) has something to do unasked.
    pub fn next_tick(&self, now: Instant, millis: Millis) -> Option<Duration> {
        let deadline = self.deadlines.next(millis);
        let room = (!self.waiting.is_empty()).then_some(ROOM_INTERVAL);
        let told = self.log.due().map(|due| due.saturating_duration_since(now));
        let sweep = self.sweeps.wait(now).filter(|_| self.open() > 0);
        sooner(sooner(sooner(deadline, room), told), sweep)
    }

    /// Begins to end pairs that are idle, evenly over a time: those of a frontend, or all. One that is in use when its
    /// turn comes goes on: a pair says nothing of where its messages end.
    pub fn drain(&mut self, only: Option<FrontendId>, spread: Duration, cx: &mut LoopContext<'_>) {
        let what = (self.table.slots(), only.is_none());
        let number = self.sweeps.begin(what, spread, cx.now);
        for version in self.versions.iter_mut() {
            if only.is_none_or(|frontend| frontend == version.settings.frontend) {
                version.draining = Some(number);
            }
        }
    }

    fn end_idle(&mut self, cx: &mut LoopContext<'_>) {
        for (slot, number) in self.sweeps.next(self.table.slots(), cx.now) {
            let Some(key) = self.table.key(slot) else { continue };
            let Some(pair) = self.table.get_mut(key) else { continue };
            let draining = self.versions.get(pair.version).draining;
            if draining == Some(number) && pair.is_idle(cx.millis) {
                self.terminate(key, Ended::Drained, cx);
            }
        }
    }

    /// Ends all pairs that are left.
    pub fn stop(&mut self, cx: &mut LoopContext<'_>) {
        for key in self.table.keys() {
            self.terminate(key, Ended::Stopped, cx);
        }
    }

    /// Pairs that are open.
    pub fn open(&self) -> usize {
        self.table.len()
    }

    /// So many more have no backend. That is known at once, and that there are fewer behind the turn: what another process
    /// is told of it is never too little.
    fn add_without_backend(&mut self, more: usize) {
        self.without_backend += more;
        self.metrics.set_without_backend(self.without_backend as u64);
    }

    /// Pairs that are not joined to a backend yet: they may still want a place at one.
    pub fn without_backend(&self) -> usize {
        self.without_backend
    }

    /// How many pairs were closed since it was last asked.
    pub fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.closed)
    }
}

/// The deadline that runs on a pair, and what it means when it has passed.
fn deadline(pair: &Pair, timeouts: &ProxyTimeouts) -> Option<(Millis, Ended)> {
    let (timeout, ended) = match pair.stage {
        // Ends by itself.
        Stage::Joining => return None,
        Stage::Preread => (timeouts.preread, Ended::PrereadTimeout),
        Stage::Choosing | Stage::Waiting => (timeouts.queue, Ended::QueueTimeout),
        Stage::Opening | Stage::Connecting => (timeouts.connect, Ended::ConnectTimeout),
        Stage::Forwarding if pair.is_half_closed() => (timeouts.half_closed, Ended::HalfClosed),
        Stage::Forwarding => (timeouts.idle, Ended::Idle),
    };
    let stalls = End::BOTH.into_iter().filter_map(|end| {
        Some((pair.sending_since(end)?.after(timeouts.write_stall), Ended::WriteStall))
    });
    let lifetime = timeouts
        .lifetime
        .map(|most| (pair.began.after(lifetime(most, pair.lifetime_share)), Ended::Lifetime));
    // Of two that are due at once the first here is the reason.
    let all = lifetime.into_iter().chain(stalls).chain([(pair.progress.after(timeout), ended)]);
    all.reduce(|first, next| if next.0.reached(first.0) { first } else { next })
}

/// Lifetimes differ by one part in so many.
const LIFETIME_SHARE: u32 = 10;

/// How long a pair may be open, of this at most: a tenth less for some, so that those that came together, as after a
/// restart, do not end together.
fn lifetime(most: Duration, share: u8) -> Duration {
    most - most / LIFETIME_SHARE * u32::from(share) / 255
}

/// How much less, in 255ths of that tenth. It depends on the place alone that the pair had at first.
fn lifetime_share(key: Key) -> u8 {
    // Fibonacci hashing: numbers that follow each other end up far apart.
    let mixed = (key.slot ^ key.generation.number() << 16).wrapping_mul(0x9E37_79B1);
    (mixed >> 24) as u8
}

/// [`Version::look_interval`].
fn shortest(timeouts: &ProxyTimeouts) -> Duration {
    let ProxyTimeouts { preread, connect, queue, idle, write_stall, half_closed, lifetime } =
        timeouts;
    let durations = [preread, connect, queue, idle, write_stall, half_closed];
    let lifetime = lifetime.map(|most| most - most / LIFETIME_SHARE);
    durations.into_iter().copied().chain(lifetime).min().expect("there are six")
}

#[cfg(test)]
mod tests;
