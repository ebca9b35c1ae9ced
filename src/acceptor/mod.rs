//! Accept queues to dispatcher: arm, admit, dispatch, pause.
//!
//! An [`Acceptor`] is a state machine: it is told what has completed and appends what to do next. It
//! never waits and never calls the kernel.
//!
//! Nothing that the kernel has handed over is ever lost: what finds no room (no headroom under
//! max-connections, or all inboxes full) is held here, and while something is held nothing is
//! accepted, so that the rest waits in the kernel's queue, where its clients' timeouts know it.

mod admission;
mod banned;
mod listening;
mod overload;
mod pause;
mod pressed;
mod reaction;
mod waiting;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use admission::Refusals;
pub(crate) use admission::descriptors_of;
use listening::{Health, Listening, Stage, Want};
pub use listening::{PeerAddress, Source};
pub use reaction::{Reaction, reaction};

use crate::connection::Table;
use crate::dispatch::{Accepted, ConnectionLimit, Dispatcher, Preference, Rejected, Wakes};
use crate::metrics::{Block, Counter, PauseCause};
use crate::ring::{Completion, Event, Key, Operations};
use crate::sources::{Held, Refuses};
use crate::sys::Errno;

/// The accepting side of one thread; see the module.
#[derive(Debug)]
pub struct Acceptor {
    listenings: Table<Listening>,
    /// Accept queues of the whole server, which share the headroom.
    queues: Arc<AtomicUsize>,
    dispatcher: Dispatcher,
    connection_limit: Arc<ConnectionLimit>,
    /// Accepted, but not yet admitted or not yet placed, with the listener. Normally empty after each turn;
    /// else there is no room in the whole server.
    held: VecDeque<(Key, Accepted)>,
    /// What source rules do not let in, or not yet.
    refusals: Refusals,
    /// Whether the last turn could not do all there is to do.
    stands_still: bool,
    /// Whether the whole server had no room in the last turn.
    was_full: bool,
    /// Why it had none when that was so last.
    full: PauseCause,
    /// Whether nothing has happened since a turn that left every listener armed for all that may come.
    settled: bool,
    /// Of all accept queues of this thread.
    longest_queue: usize,
    /// Listeners for which connections may wait too long.
    watched: Vec<Key>,
    /// Of these, those without a place of which it has to be known whether somebody waits there.
    full_listeners: Vec<Key>,
    /// Connections that are to be reset.
    /// Listeners that have broken since somebody asked, with what accept(2) said.
    broken: Vec<(Key, Errno)>,
    /// Whom the kernel does not keep out although they are banned.
    refuses: Refuses,
    metrics: Arc<Block>,
}

/// Where there is no room for a connection.
enum NoRoom {
    /// In its frontend.
    Frontend(Accepted),
    /// In the whole server: under its limit, or in an inbox.
    Server(Accepted),
}

impl Acceptor {
    /// An acceptor without listeners. `queues` is the number of accept queues that share the limit: those of
    /// all acceptors.
    pub fn new(
        queues: Arc<AtomicUsize>,
        dispatcher: Dispatcher,
        connection_limit: Arc<ConnectionLimit>,
        metrics: Arc<Block>,
    ) -> Self {
        Self {
            listenings: Table::new(0),
            queues,
            dispatcher,
            connection_limit,
            held: VecDeque::new(),
            refusals: Refusals::default(),
            stands_still: false,
            was_full: false,
            full: PauseCause::Workers,
            settled: false,
            longest_queue: 0,
            watched: Vec::new(),
            full_listeners: Vec::new(),
            broken: Vec::new(),
            refuses: Refuses::default(),
            metrics,
        }
    }

    /// How the worker on this thread is preferred.
    pub fn prefer(&mut self, preference: Preference) {
        self.dispatcher.prefer(preference);
    }

    /// Accepts on one more listener; returns its key.
    pub fn add(&mut self, source: Source) -> Key {
        self.settled = false;
        self.queues.fetch_add(1, Ordering::Relaxed);
        self.longest_queue = self.longest_queue.max(source.backlog);
        self.listenings.insert(Listening::new(source))
    }

    /// Changes a listener: what is held of it belongs where it belongs now.
    pub fn change(&mut self, key: Key, source: Source) {
        self.settled = false;
        self.longest_queue = self.longest_queue.max(source.backlog);
        if let Some(listening) = self.listenings.get_mut(key)
            && listening.source.listener != source.listener
        {
            listening.waiting.forget(&listening.source.pressure);
        }
        let Some(listening) = self.listenings.get_mut(key) else { return };
        let before = &listening.source;
        let own = self.held.iter_mut().filter(|(holder, _)| *holder == key);
        own.for_each(|(_, accepted)| moves(accepted, before, &source));
        let delayed = self.refusals.delayed().filter(|(holder, _)| *holder == key);
        delayed.for_each(|(_, accepted)| moves(accepted, before, &source));
        listening.held.iter_mut().for_each(|accepted| moves(accepted, before, &source));
        listening.source = source;
    }

    /// Forgets a listener that is [done](Self::is_done).
    pub fn remove(&mut self, key: Key) {
        self.settled = false;
        if let Some(mut listening) = self.listenings.remove(key) {
            listening.waiting.forget(&listening.source.pressure);
            self.queues.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes the completion of an accept.
    pub fn complete(&mut self, completion: Completion, now: Instant) {
        let Completion { key, more, event } = completion;
        // One more connection leaves everything armed as it was.
        self.settled &= more && matches!(event, Event::Accepted(Ok(_)));
        let (Event::Accepted(result), Some(listening)) = (event, self.listenings.get_mut(key))
        else {
            self.metrics.count(Counter::Stale);
            return;
        };
        if !more {
            listening.ended();
        }
        match result {
            Ok(socket) => self.accepted(key, socket, now),
            Err(Errno::ECANCELED) => {}
            Err(errno) => self.failed(key, errno, now),
        }
    }

    /// What a turn does: place what is held, arm what may be armed, wake who got something.
    pub fn turn(&mut self, now: Instant, operations: &mut Operations) {
        self.held.extend(self.refusals.due(now));
        self.watch(now);
        self.place();
        self.was_full = !self.held.is_empty();
        self.settled &= !self.was_full;
        let queues = self.queues.load(Ordering::Relaxed);
        if !self.settled || share(self.connection_limit.headroom(), queues) <= self.longest_queue {
            self.arm(now, operations);
        }
        self.close_refused(now, operations);
        self.wake(operations);
    }

    /// Looks at every listener.
    fn arm(&mut self, now: Instant, operations: &mut Operations) {
        self.stands_still = !self.held.is_empty();
        let released = self.connection_limit.released();
        let mut settled = self.held.is_empty();
        for slot in 0..self.listenings.slots() {
            let Some(key) = self.listenings.key(slot) else { continue };
            let want = self.want(key, (now, released));
            let Some(listening) = self.listenings.get_mut(key) else { continue };
            let over = listening.stage == Stage::Closing || listening.health == Health::Stopped;
            let stands_still = want == Want::Nothing && !over;
            let full = (!self.held.is_empty()).then_some(self.full);
            let of_process = &self.connection_limit;
            let cause = || full.unwrap_or_else(|| listening.cause(of_process, self.full, now));
            let cause = stands_still.then(cause);
            listening.stand_still(cause, now);
            self.stands_still |= stands_still || !listening.held.is_empty();
            let cancelled = listening.arm(key, want, operations);
            self.metrics.add(Counter::AcceptCancels, u64::from(cancelled));
            if listening.is_pausing() {
                let open = self.connection_limit.open() + self.held.len();
                listening.tell(open, now);
            }
            settled &= listening.is_settled(want);
            let limits = [PauseCause::FrontendLimit, PauseCause::ProcessLimit];
            self.note_full(key, cause.is_some_and(|cause| limits.contains(&cause)), now);
        }
        self.settled = settled;
    }

    /// Whether the last turn left something undone that a released place or an emptied inbox would
    /// let it do. Then it has to announce that it is parked and take another turn before its thread
    /// waits. (Looking afresh here would miss a place released since that turn.)
    pub fn wants_wake(&self) -> bool {
        self.stands_still
    }

    /// Whether a listener was left unarmed by the last turn although connections may wait there.
    pub fn is_held_up(&self, key: Key) -> bool {
        // What has been accepted since is no sign of it.
        let listening = self.listenings.get(key);
        listening
            .is_some_and(|it| self.was_full || it.stands_still.is_some() || !it.held.is_empty())
    }

    /// When the next rest is over that anything follows.
    pub fn next_turn(&self) -> Option<Instant> {
        let open = self.listenings.iter().filter(|listening| listening.stage != Stage::Closing);
        let rests = open.filter_map(|listening| match listening.health {
            Health::Resting { until, .. } => Some(until),
            Health::Fine => listening.room_at,
            Health::Stopped => None,
        });
        rests.chain(self.refusals.next()).min()
    }

    /// When a turn has something to tell of a pause, and nothing to do.
    pub fn next_line(&self) -> Option<Instant> {
        let open = self.listenings.iter().filter(|listening| listening.stage != Stage::Closing);
        open.filter_map(Listening::calm_at).min()
    }

    /// A listener admits nobody new: a unix socket whose queue is empty fails with EINVAL from now on.
    pub fn drain(&mut self, key: Key) {
        self.begin(key, Stage::Draining);
    }

    /// Accepts nothing any more on a listener. What is in flight is cancelled; what still comes is placed.
    pub fn close(&mut self, key: Key) {
        self.begin(key, Stage::Closing);
    }

    fn begin(&mut self, key: Key, stage: Stage) {
        self.settled = false;
        if stage == Stage::Closing {
            self.refusals.hurry(key);
        }
        if let Some(listening) = self.listenings.get_mut(key) {
            listening.stage = listening.stage.max(stage);
        }
    }

    /// Whether something of a listener waits for room in its own frontend.
    pub(crate) fn holds_back(&self, key: Key) -> bool {
        self.listenings.get(key).is_some_and(|listening| !listening.held.is_empty())
    }

    /// Whether something waits for room in the whole server.
    pub(crate) fn is_full(&self) -> bool {
        !self.held.is_empty()
    }

    /// Drops what is held, and closes everything: the server stops at once.
    pub fn abandon(&mut self) {
        self.held.clear();
        self.refusals.abandon();
        for slot in 0..self.listenings.slots() {
            let Some(key) = self.listenings.key(slot) else { continue };
            self.close(key);
            if let Some(listening) = self.listenings.get_mut(key) {
                listening.held.clear();
            }
        }
    }

    /// Whether a listener is closed, nothing is in flight on it, and nothing of it is held.
    pub fn is_done(&mut self, key: Key) -> bool {
        let Some(listening) = self.listenings.get_mut(key) else { return true };
        let idle = listening.in_flight == 0 && listening.held.is_empty();
        listening.stage == Stage::Closing
            && idle
            && !self.refusals.keeps(key)
            && !self.held.iter().any(|(holder, _)| *holder == key)
    }

    /// Whether this listener is broken or has ended.
    pub fn is_over(&self, key: Key) -> bool {
        self.listenings.get(key).is_none_or(|listening| listening.health == Health::Stopped)
    }

    /// The listeners that have broken since the last call, with what accept(2) said.
    pub fn take_broken(&mut self) -> Vec<(Key, Errno)> {
        std::mem::take(&mut self.broken)
    }

    /// Connections that wait here for headroom or for room in an inbox.
    pub fn held(&self) -> usize {
        let aside = self.listenings.iter().map(|it| it.held.len()).sum::<usize>();
        self.held.len() + aside + self.refusals.kept()
    }

    fn accepted(&mut self, key: Key, socket: OwnedFd, now: Instant) {
        let Some(listening) = self.listenings.get_mut(key) else { return };
        if listening.is_recovering() {
            listening.recovered();
        }
        listening.source.waits.accepted(socket.as_fd());
        self.metrics.count(Counter::Accepted);
        let Some(socket) = self.unless_banned(key, socket) else { return };
        let Some((socket, held)) = self.let_in(key, socket, now) else { return };
        self.hold(key, (socket, held), now);
    }

    /// Admits and dispatches in the order of arrival. What its own frontend has no room for steps aside; when
    /// the whole server has none, everything waits.
    fn place(&mut self) {
        if !self.settled && !self.place_held_back() {
            return;
        }
        let mut aside = Vec::new();
        let is_full = self.place_held(&mut aside);
        // Those that were served newest first are in the order of arrival again.
        aside.into_iter().rev().for_each(|(key, accepted)| self.hold_back(key, accepted));
        if is_full {
            self.metrics.count(Counter::DispatchHeld);
        }
    }

    /// Places what is held. What its own frontend has no room for is added to `aside`, if it is served newest first.
    /// True if the whole server has no room.
    fn place_held(&mut self, aside: &mut Vec<(Key, Accepted)>) -> bool {
        while let Some((key, accepted)) = next_of(&mut self.held, |(_, accepted)| accepted) {
            let waits = self.listenings.get(key).is_some_and(|it| !it.held.is_empty());
            let placed =
                if waits { Err(NoRoom::Frontend(accepted)) } else { self.place_one(key, accepted) };
            match placed {
                Ok(()) => {}
                Err(NoRoom::Frontend(accepted)) if accepted.pressed.newest_first.is_some() => {
                    aside.push((key, accepted));
                }
                Err(NoRoom::Frontend(accepted)) => self.hold_back(key, accepted),
                Err(NoRoom::Server(accepted)) => {
                    let newest_first = accepted.pressed.newest_first.is_some();
                    give_back(&mut self.held, (key, accepted), newest_first);
                    return true;
                }
            }
        }
        false
    }

    /// The same for those that have stepped aside. False if the whole server has no room.
    fn place_held_back(&mut self) -> bool {
        for slot in 0..self.listenings.slots() {
            let Some(key) = self.listenings.key(slot) else { continue };
            while let Some(accepted) =
                self.listenings.get_mut(key).and_then(|it| next_of(&mut it.held, |held| held))
            {
                let (accepted, is_full) = match self.place_one(key, accepted) {
                    Ok(()) => continue,
                    Err(NoRoom::Frontend(accepted)) => (accepted, false),
                    Err(NoRoom::Server(accepted)) => (accepted, true),
                };
                if let Some(listening) = self.listenings.get_mut(key) {
                    let newest_first = accepted.pressed.newest_first.is_some();
                    give_back(&mut listening.held, accepted, newest_first);
                }
                if is_full {
                    return false;
                }
                break;
            }
        }
        true
    }

    fn hold_back(&mut self, key: Key, accepted: Accepted) {
        self.metrics.count(Counter::DispatchHeld);
        self.settled = false;
        if let Some(listening) = self.listenings.get_mut(key) {
            listening.held.push_back(accepted);
        }
    }

    fn place_one(&mut self, key: Key, accepted: Accepted) -> Result<(), NoRoom> {
        let limit = self.listenings.get(key).map(|listening| &*listening.source.limit);
        if limit.is_some_and(|limit| !limit.admit()) {
            return Err(NoRoom::Frontend(accepted));
        }
        let withdraw = || limit.into_iter().for_each(ConnectionLimit::withdraw);
        if !self.connection_limit.admit() {
            self.full = PauseCause::ProcessLimit;
            withdraw();
            return Err(NoRoom::Server(accepted));
        }
        match self.dispatcher.dispatch(accepted) {
            Ok(()) => self.metrics.count(Counter::Dispatched),
            Err(Rejected(accepted)) => {
                self.full = PauseCause::Workers;
                self.metrics.count(Counter::InboxesFull);
                self.connection_limit.withdraw();
                withdraw();
                return Err(NoRoom::Server(accepted));
            }
        }
        Ok(())
    }

    fn failed(&mut self, key: Key, errno: Errno, now: Instant) {
        let released = self.connection_limit.released();
        let Some(listening) = self.listenings.get_mut(key) else { return };
        if listening.stage >= Stage::Draining && errno == Errno::EINVAL {
            listening.health = Health::Stopped;
            return;
        }
        let (reaction, counter) = reaction(errno);
        self.metrics.count(counter);
        match reaction {
            Reaction::Retry => {}
            Reaction::Pause => {
                let begins = listening.rest(errno, now, released);
                self.metrics.add(Counter::AcceptPauses, u64::from(begins));
            }
            Reaction::Stop if listening.health == Health::Stopped => {}
            Reaction::Stop => {
                listening.health = Health::Stopped;
                self.broken.push((key, errno));
            }
        }
    }

    fn want(&mut self, key: Key, (now, released): (Instant, usize)) -> Want {
        let is_full = !self.held.is_empty();
        let queues = self.queues.load(Ordering::Relaxed);
        let headroom = self.connection_limit.headroom();
        let Some(listening) = self.listenings.get_mut(key) else { return Want::Nothing };
        listening.wake_up(now, released);
        let stops = listening.stage == Stage::Closing || listening.health != Health::Fine;
        if stops || is_full || !listening.held.is_empty() {
            return Want::Nothing;
        }
        let Source { limit, admission, queues: own_queues, backlog, .. } = &listening.source;
        // Who is in the queue of one that drains is served as fast as it goes.
        let accepts = listening.stage == Stage::Accepting;
        let room = if accepts { admission.room(now) } else { usize::MAX };
        let own = limit.headroom().min(room);
        let share = share(headroom, queues).min(share(own, *own_queues));
        let want = Want::for_headroom(share, (*backlog, queues), listening.armed);
        if listening.is_recovering() { want.at_most_one() } else { want }
    }
}

/// The next of those that are held: the first that came, or the last where the newest is served first.
fn next_of<T>(held: &mut VecDeque<T>, accepted: impl Fn(&T) -> &Accepted) -> Option<T> {
    let newest_first = held.back().is_some_and(|it| accepted(it).pressed.newest_first.is_some());
    if newest_first { held.pop_back() } else { held.pop_front() }
}

/// It is the next again.
fn give_back<T>(held: &mut VecDeque<T>, one: T, newest_first: bool) {
    if newest_first { held.push_back(one) } else { held.push_front(one) }
}

/// A connection belongs to another listener. Whoever counts its source in the frontend that it leaves does so no more.
fn moves(accepted: &mut Accepted, from: &Source, to: &Source) {
    if from.listener.frontend != to.listener.frontend {
        from.admission.release(std::mem::replace(&mut accepted.held, Held::NONE));
    }
    accepted.listener = to.listener;
}

/// Every queue gets a place to look with as long as there is one; what two queues take for one place is held
/// until there is another.
fn share(headroom: usize, queues: usize) -> usize {
    (headroom / queues.max(1)).max(headroom.min(1))
}

#[cfg(test)]
mod tests;
