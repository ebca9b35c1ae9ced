//! The connections of one thread of the generator: a state machine on a ring.
//!
//! ```text
//!   pacer --> start --> a connection with room, or a new one --> transmit --> answered --> room again
//!                              ^                                     |
//!                              +--------- lost before a byte --------+  (a kept connection, HTTP)
//! ```

mod ending;
mod exchange;
mod idle;
mod opening;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr};

use super::pacer::{Next, Pacer, Start, share};
use super::plan::{CloseStyle, Mode, Pace, Plan, Target};
use super::protocol::{NUMBERS_OF_A_THREAD, Protocol};
use super::recorder::{Recorder, Times};
use super::session::{Exchange, Session};
use crate::ring::{BufferPool, Completion, Event, Generation, Key, Operations};

#[cfg(test)]
mod tests;

/// How often sessions are looked at for timeouts.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Connections that `hold` opens, or pokes, at a time.
const HOLD_AT_ONCE: usize = 64;

/// What one event-loop iteration adds to.
pub(super) struct Turn<'a> {
    pub(super) operations: &'a mut Operations,
    pub(super) now: Instant,
}

/// See the module.
pub(super) struct Client {
    plan: Arc<Plan>,
    protocol: Protocol,
    pacer: Pacer,
    pub(super) recorder: Recorder,
    /// The targets as connect(2) takes them.
    targets: Vec<(Domain, SockAddr)>,
    slots: Vec<(Generation, Option<Session>)>,
    free: Vec<u32>,
    /// Connections with room for another operation, the one that waits longest first. Some of them
    /// may have ended since; [`Client::first_ready`] passes over these.
    ready: VecDeque<Key>,
    /// Connections that rest between two operations, and until when.
    resting: VecDeque<(Instant, Key)>,
    /// Connections with something to send.
    to_send: Vec<Key>,
    /// Open sessions, and those of them that are listed in `ready` or `resting`.
    sessions: usize,
    listed: usize,
    limits: Limits,
    /// Sessions ever begun.
    begun: u64,
    opened_ahead: bool,
    operations_begun: u64,
    /// Operations without an end.
    pub(super) under_way: u64,
    receive_many: bool,
    /// Whether our FIN goes out behind the last request. An accept ends so too: most servers say
    /// nothing until they have heard something.
    sends_fin: bool,
    next_look: Instant,
    stopping: bool,
}

/// What this thread may have at a time.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections that are kept, or made one for each operation.
    connections: usize,
    /// Connections that are not idle.
    busy: usize,
    /// Operations on one connection.
    pipeline: usize,
}

impl Limits {
    fn of(plan: &Plan, index: usize) -> Self {
        let at_once = share(plan.pace.at_once(), plan, index);
        let held = plan.count.map_or(plan.pace.at_once(), |count| count as usize);
        let (connections, busy) = match (plan.mode, plan.pace) {
            // Opened a few at a time, and as many as are wanted.
            (Mode::Hold, Pace::Open { .. }) => (held.div_ceil(plan.threads), at_once),
            (Mode::Hold, _) => {
                (held.div_ceil(plan.threads), share(held, plan, index).min(HOLD_AT_ONCE))
            }
            (_, Pace::Open { .. }) => (usize::MAX, at_once),
            (_, Pace::Closed { .. } | Pace::Fixed { .. }) => (at_once, usize::MAX),
        };
        let pipeline = plan.http.as_ref().map_or(1, |http| http.pipeline.max(1));
        Self { connections, busy, pipeline }
    }
}

impl Client {
    pub(super) fn new(
        plan: Arc<Plan>,
        protocol: Protocol,
        (index, start): (usize, Instant),
        receive_credit: bool,
    ) -> Self {
        // A connection with one exchange has one receive that brings bytes; many shots save nothing.
        let keeps = match plan.mode {
            Mode::Http { requests_per_connection } => requests_per_connection.is_none(),
            mode => !matches!(mode, Mode::Accept | Mode::Crr | Mode::Storm),
        };
        Self {
            pacer: Pacer::new(&plan, index, start),
            recorder: Recorder::new(start + plan.warm_up, plan.duration),
            protocol,
            targets: plan.targets.iter().map(address).collect(),
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            resting: VecDeque::new(),
            to_send: Vec::new(),
            sessions: 0,
            listed: 0,
            limits: Limits::of(&plan, index),
            begun: index as u64,
            opened_ahead: !matches!(plan.pace, Pace::Fixed { .. }),
            operations_begun: index as u64 * NUMBERS_OF_A_THREAD,
            under_way: 0,
            receive_many: keeps && receive_credit,
            sends_fin: plan.close == CloseStyle::Half || plan.mode == Mode::Accept,
            next_look: start,
            stopping: false,
            plan,
        }
    }

    /// Starts nothing any more, and ends what is idle.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing is open and nothing will start.
    pub(super) fn is_done(&self) -> bool {
        self.stopping && self.sessions == 0
    }

    /// Starts what is due. Returns when to look again.
    pub(super) fn turn(&mut self, buffers: &mut BufferPool, turn: &mut Turn<'_>) -> Instant {
        if turn.now >= self.next_look {
            self.next_look = turn.now + LOOK_INTERVAL;
            self.look(turn);
        }
        self.end_rests(turn.now);
        self.open_ahead(turn);
        let next = self.start_due(turn);
        for key in std::mem::take(&mut self.to_send) {
            self.transmit(key, buffers, turn);
        }
        let rests_until = self.resting.front().map_or(next, |(until, _)| *until);
        next.min(self.next_look).min(rests_until)
    }

    /// Returns when the next start is due, as far as that is known.
    fn start_due(&mut self, turn: &mut Turn<'_>) -> Instant {
        loop {
            let room = self.has_room();
            let next = if self.stopping { Next::Over } else { self.pacer.next(turn.now, room) };
            match next {
                Next::Start(start) => self.start(start, turn),
                Next::Skip(planned) => self.recorder.not_started(planned),
                Next::At(moment) => return moment,
                Next::Later => return self.next_look,
                Next::Over => {
                    self.stopping = true;
                    self.end_idle(turn);
                    return self.next_look;
                }
            }
        }
    }

    /// Notes what has completed.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        buffers: &mut BufferPool,
        turn: &mut Turn<'_>,
    ) {
        let Completion { key, more, event } = completion;
        match event {
            Event::Opened(result) => self.opened(key, result, turn),
            Event::Connected(result) => self.connected(key, result, turn),
            Event::Sent(result) => self.sent(key, result, buffers, turn),
            Event::Received(result) => {
                if let Some(session) = self.get(key) {
                    session.receiving = more;
                }
                self.received(key, result, buffers, turn);
            }
            Event::Accepted(_) | Event::Spliced(_) | Event::Released(_) => {}
        }
        self.settle(key, turn);
    }

    fn get(&mut self, key: Key) -> Option<&mut Session> {
        let (generation, session) = self.slots.get_mut(key.slot as usize)?;
        session.as_mut().filter(|_| *generation == key.generation)
    }

    /// Whether another operation may start.
    fn has_room(&mut self) -> bool {
        let is_free = self.sessions < self.limits.connections || self.first_ready().is_some();
        is_free && self.sessions - self.listed < self.limits.busy
    }

    /// Begins an operation, on a connection that has room for it where the mode keeps them.
    fn start(&mut self, Start { planned, queued }: Start, turn: &mut Turn<'_>) {
        self.recorder.started(planned);
        self.under_way += 1;
        let number = self.operations_begun;
        self.operations_begun += 1;
        let times = Times { planned, started: turn.now, queued, first_byte: None, answered: None };
        let exchange = Exchange { number, times, since: turn.now, is_last: false };
        let fills = self.plan.mode == Mode::Hold && self.sessions < self.limits.connections;
        let key = match self.first_ready().filter(|_| !fills) {
            Some(key) => {
                self.ready.pop_front();
                self.unlist(key);
                key
            }
            None => self.open(planned, turn),
        };
        self.assign(key, exchange);
    }

    /// Gives a connection an operation that it has room for.
    fn assign(&mut self, key: Key, exchange: Exchange) {
        let Some(session) = self.get(key) else { return };
        session.push(exchange);
        self.to_send.push(key);
        self.list(key);
    }

    /// The connection with room that waits longest.
    fn first_ready(&mut self) -> Option<Key> {
        while let Some(key) = self.ready.front().copied() {
            if self.get(key).is_some_and(|session| session.is_listed) {
                return Some(key);
            }
            self.ready.pop_front();
        }
        None
    }

    /// Lets a connection take further operations, if it has room.
    fn list(&mut self, key: Key) {
        let pipeline = self.limits.pipeline;
        let Some(session) = self.get(key) else { return };
        if !session.is_listed && session.has_room(pipeline) {
            session.is_listed = true;
            self.listed += 1;
            self.ready.push_back(key);
        }
    }

    fn unlist(&mut self, key: Key) {
        let Some(session) = self.get(key) else { return };
        if std::mem::take(&mut session.is_listed) {
            self.listed -= 1;
        }
    }

    /// Lets a connection rest, if the plan says so, before it takes another operation.
    fn rest(&mut self, key: Key, now: Instant) {
        if let Some(session) = self.get(key).filter(|session| session.exchanges.is_empty()) {
            session.idle_since = Some(now);
        }
        if self.plan.think.is_zero() {
            return self.list(key);
        }
        let until = now + self.plan.think;
        let Some(session) = self.get(key) else { return };
        session.is_listed = true;
        self.listed += 1;
        self.resting.push_back((until, key));
    }

    fn end_rests(&mut self, now: Instant) {
        while let Some((until, key)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.ready.push_back(key);
        }
    }

    fn insert(&mut self, session: Session) -> Key {
        self.sessions += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push((Generation::FIRST, None));
        }
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(session);
        Key { slot, generation: *generation }
    }
}

fn address(target: &Target) -> (Domain, SockAddr) {
    match target {
        Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Target::Unix(name) => {
            let address = SockAddr::unix(name.as_sun_path());
            (Domain::UNIX, address.expect("its length was checked"))
        }
    }
}
