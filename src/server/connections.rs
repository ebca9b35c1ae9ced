//! The connections of one thread: sessions of services, and pairs of a proxy, of all frontends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::suspended::{Record, Suspended};
use crate::connection::{Listed, LoopContext, Millis, ThreadLimits, VersionId, sooner};
use crate::dispatch::{Accepted, FrontendId, Mail};
use crate::metrics::Block;
use crate::proxy::{Proxy, ProxySettings, Splicing, is_of_a_pair};
use crate::ring::{Completion, Key, Operation};
use crate::service::Service;
use crate::worker::{SessionSettings, Worker};

/// What the connections of a frontend go by, in one version.
#[derive(Debug)]
pub(crate) enum Settings<S> {
    /// They are for a service.
    Sessions(Arc<SessionSettings<S>>),
    /// They are passed on.
    Pairs(Arc<ProxySettings>),
}

impl<S> Clone for Settings<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Sessions(settings) => Self::Sessions(Arc::clone(settings)),
            Self::Pairs(settings) => Self::Pairs(Arc::clone(settings)),
        }
    }
}

/// What new connections of a frontend get.
#[derive(Debug, Clone, Copy)]
enum Current {
    Sessions(VersionId),
    Pairs(VersionId),
}

/// See the module.
pub(crate) struct Connections<S: Service> {
    sessions: Worker<S>,
    pairs: Proxy,
    /// By their numbers.
    frontends: Vec<Option<Current>>,
    /// Connections of frontends that nobody knows; there should be none.
    strangers: usize,
}

impl<S: Service> Connections<S> {
    pub(crate) fn new(
        limits: ThreadLimits,
        (splicing, mail): (Splicing, Mail<S::Message>),
        metrics: &Arc<Block>,
        now: Instant,
    ) -> Self {
        Self {
            sessions: Worker::new(limits, mail, Arc::clone(metrics)),
            pairs: Proxy::new(limits, splicing, Arc::clone(metrics), now),
            frontends: Vec::new(),
            strangers: 0,
        }
    }

    /// Takes settings for the connections of a frontend that come from now on. False if there are too many
    /// versions already; then those before them stay.
    pub(crate) fn publish(&mut self, frontend: FrontendId, settings: Settings<S>) -> bool {
        let current = match settings {
            Settings::Sessions(settings) => self.sessions.publish(settings).map(Current::Sessions),
            Settings::Pairs(settings) => self.pairs.publish(settings).map(Current::Pairs),
        };
        if current.is_none() {
            return false;
        }
        let place = usize::from(frontend.0);
        if place >= self.frontends.len() {
            self.frontends.resize(place + 1, None);
        }
        let before = std::mem::replace(&mut self.frontends[place], current);
        self.retire_version(before);
        true
    }

    /// Forgets a frontend from which no new connections come; those that are open live on.
    pub(crate) fn retire(&mut self, frontend: FrontendId) {
        let current = self.frontends.get_mut(usize::from(frontend.0)).and_then(Option::take);
        self.retire_version(current);
    }

    fn retire_version(&mut self, version: Option<Current>) {
        match version {
            Some(Current::Sessions(version)) => self.sessions.retire(version),
            Some(Current::Pairs(version)) => self.pairs.retire(version),
            None => {}
        }
    }

    /// When to splice, from now on.
    pub(crate) fn splice(&mut self, splicing: Splicing) {
        self.pairs.splice_when(splicing);
    }

    /// Slots that may have a connection, of sessions and pairs.
    pub(crate) fn slots(&self) -> u32 {
        self.sessions.slots() + self.pairs.slots()
    }

    /// The connection in a slot, if there is one: sessions first, then pairs.
    pub(crate) fn listed(&mut self, slot: u32, now: Millis) -> Option<Listed> {
        let sessions = self.sessions.slots();
        match slot.checked_sub(sessions) {
            None => self.sessions.listed(slot, now),
            Some(slot) => self.pairs.listed(slot, now),
        }
    }

    /// Ends a connection. False if it has gone.
    pub(crate) fn close(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        if is_of_a_pair(key) { self.pairs.close(key, cx) } else { self.sessions.close(key, cx) }
    }

    /// Closes the connection of a frontend that has been idle for longest. False if none has been for long.
    pub(crate) fn evict(&mut self, frontend: FrontendId, cx: &mut LoopContext<'_>) -> bool {
        match self.current(frontend) {
            Some(Current::Sessions(_)) => self.sessions.evict(frontend, cx),
            Some(Current::Pairs(_)) => self.pairs.evict(frontend, cx),
            None => false,
        }
    }

    /// Whether connections of a frontend can be taken over.
    pub(crate) fn knows(&self, frontend: FrontendId) -> bool {
        matches!(self.frontends.get(usize::from(frontend.0)), Some(Some(_)))
    }

    /// Takes a connection over.
    pub(crate) fn adopt(&mut self, accepted: Accepted, cx: &mut LoopContext<'_>) {
        match self.frontends.get(usize::from(accepted.listener.frontend.0)) {
            Some(Some(Current::Sessions(version))) => self.sessions.adopt(accepted, *version, cx),
            Some(Some(Current::Pairs(version))) => self.pairs.adopt(accepted, *version, cx),
            _ => {
                debug_assert!(false, "a frontend is known until its last connection is adopted");
                self.strangers += 1;
                let socket = accepted.socket;
                cx.operations.push(Key::fixed(0), Operation::Close { socket });
            }
        }
    }

    /// Notes what has completed.
    pub(crate) fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>) {
        if is_of_a_pair(completion.key) {
            self.pairs.complete(completion, cx);
        } else {
            self.sessions.complete(completion, cx);
        }
    }

    /// What a turn does after its completions: deadlines that have passed, what several completions of one
    /// connection add up to, receives that waited for a buffer.
    pub(crate) fn tick(&mut self, cx: &mut LoopContext<'_>) {
        self.sessions.tick(cx);
        self.pairs.tick(cx);
        cx.feed(|key, cx| {
            if is_of_a_pair(key) {
                self.pairs.ask_again(key, cx)
            } else {
                self.sessions.ask_again(key, cx)
            }
        });
    }

    /// Whether messages for sessions wait.
    pub(crate) fn has_mail(&self) -> bool {
        self.sessions.has_mail()
    }

    /// How long until [`tick`](Self::tick) has something to do unasked.
    pub(crate) fn next_tick(&self, now: Instant, millis: Millis) -> Option<Duration> {
        sooner(self.sessions.next_tick(now, millis), self.pairs.next_tick(now, millis))
    }

    /// Tells the sessions of a frontend, or all of them, that they drain: evenly over a time, if there is one. Then
    /// pairs that are idle end, too; otherwise it makes no difference to them, since the proxy cannot see where
    /// messages end: they go on until the drain timeout.
    pub(crate) fn drain(
        &mut self,
        only: Option<FrontendId>,
        spread: Duration,
        cx: &mut LoopContext<'_>,
    ) {
        self.sessions.drain(only, spread, cx);
        if !spread.is_zero() {
            self.pairs.drain(only, spread, cx);
        }
    }

    /// Ends all connections that are left.
    pub(crate) fn stop(&mut self, cx: &mut LoopContext<'_>) {
        self.sessions.stop(cx);
        self.pairs.stop(cx);
    }

    /// Begins to suspend the connection in a slot, if its frontend is one of those. False if there is none that can be
    /// moved now.
    pub(crate) fn suspend(
        &mut self,
        slot: u32,
        is_of: &dyn Fn(FrontendId) -> bool,
        cx: &mut LoopContext<'_>,
    ) -> bool {
        // One that could not come back must not leave: it came under settings that a reload has changed.
        match slot.checked_sub(self.sessions.slots()) {
            None => {
                let current =
                    self.sessions.frontend_of(slot).map(|frontend| self.current(frontend));
                let Some(Some(Current::Sessions(version))) = current else { return false };
                self.sessions.could_resume(slot, version) && self.sessions.suspend(slot, is_of, cx)
            }
            Some(slot) => {
                let current = self.pairs.frontend_of(slot).map(|frontend| self.current(frontend));
                let Some(Some(Current::Pairs(version))) = current else { return false };
                self.pairs.could_resume(slot, version) && self.pairs.suspend(slot, is_of, cx)
            }
        }
    }

    fn current(&self, frontend: FrontendId) -> Option<Current> {
        self.frontends.get(usize::from(frontend.0)).copied().flatten()
    }

    /// Those that are off this thread since it was last asked.
    pub(crate) fn take_suspended(&mut self) -> Vec<Suspended> {
        let mut taken = self.sessions.take_suspended();
        taken.append(&mut self.pairs.take_suspended());
        taken
    }

    /// How many are on their way off this thread.
    pub(crate) fn suspending(&self) -> usize {
        self.sessions.suspending() + self.pairs.suspending()
    }

    /// Goes on with a connection that is on no thread. It gets what new connections of its frontend get.
    ///
    /// # Errors
    /// It comes back if that makes no sense here.
    pub(crate) fn resume(
        &mut self,
        suspended: Suspended,
        cx: &mut LoopContext<'_>,
    ) -> Result<(), Suspended> {
        match (self.current(suspended.frontend), &suspended.record) {
            (Some(Current::Sessions(version)), Record::Session(_)) => {
                self.sessions.resume(suspended, version, cx)
            }
            (Some(Current::Pairs(version)), Record::Pair(_)) => {
                self.pairs.resume(suspended, version, cx)
            }
            _ => Err(suspended),
        }
    }

    /// Frontends that connections may come from.
    pub(crate) fn known(&self) -> usize {
        self.frontends.iter().flatten().count()
    }

    /// Versions of frontends, of those that have gone too.
    pub(crate) fn versions(&self) -> usize {
        self.sessions.versions() + self.pairs.versions()
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.sessions.open() + self.pairs.open()
    }

    /// Those of them that are pairs of a proxy.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.open()
    }

    /// Pairs that are not joined to a backend yet.
    pub(crate) fn without_backend(&self) -> usize {
        self.pairs.without_backend()
    }

    /// How many connections were closed since it was last asked.
    pub(crate) fn take_closed(&mut self) -> usize {
        let strangers = std::mem::take(&mut self.strangers);
        self.sessions.take_closed() + self.pairs.take_closed() + strangers
    }
}
