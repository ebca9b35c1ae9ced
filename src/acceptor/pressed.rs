//! An acceptor whose connections wait too long: who is looked at, who makes room.

use std::time::Instant;

use super::{Acceptor, Wakes};
use crate::dispatch::Pressed;
use crate::metrics::Counter;
use crate::ring::{Key, Operations};

impl Acceptor {
    /// What goes along with a connection that has come.
    pub(super) fn press(&mut self, key: Key, now: Instant) -> Pressed {
        let Some(listening) = self.listenings.get_mut(key) else { return Pressed::default() };
        let pressed = listening.waiting.accepted(&listening.source.pressure, now);
        self.watch_for(key);
        pressed
    }

    /// Looks at a listener in the next turns, if there may be something to see.
    fn watch_for(&mut self, key: Key) {
        if let Some(listening) = self.listenings.get_mut(key)
            && listening.waiting.is_of_interest()
            && !std::mem::replace(&mut listening.is_watched, true)
        {
            self.watched.push(key);
        }
    }

    /// Takes into account what has been told of waits, and that time has passed.
    pub(super) fn watch(&mut self, now: Instant) {
        let Self { watched, listenings, .. } = self;
        watched.retain(|key| {
            let Some(listening) = listenings.get_mut(*key) else { return false };
            listening.waiting.watch(&listening.source.pressure, now);
            listening.is_watched = listening.waiting.is_of_interest();
            listening.is_watched
        });
    }

    /// When there is something to see of waits although nothing comes.
    pub(crate) fn next_watch(&self) -> Option<Instant> {
        let watched = self.watched.iter().filter_map(|key| self.listenings.get(*key));
        watched.filter_map(|it| it.waiting.next_turn(&it.source.pressure)).min()
    }

    /// Listeners on which nobody is accepted for want of a place, and of which it has to be known whether somebody
    /// [waits](Self::is_waited_for) there.
    pub(crate) fn take_full(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.full_listeners)
    }

    /// Notes whether a listener has no place for anybody.
    pub(super) fn note_full(&mut self, key: Key, is_full: bool, now: Instant) {
        let Some(listening) = self.listenings.get_mut(key) else { return };
        if listening.waiting.asks_who_waits(is_full, (&listening.source.pressure, now)) {
            self.full_listeners.push(key);
        }
        if is_full {
            self.watch_for(key);
        }
    }

    /// Whether somebody waits in the queue of a listener that has no place: connections may have to make room.
    pub(crate) fn is_waited_for(
        &mut self,
        (key, is_waited_for): (Key, bool),
        now: Instant,
        operations: &mut Operations,
    ) {
        let waits = is_waited_for || self.holds_back(key) || self.is_full();
        let Some(listening) = self.listenings.get_mut(key) else { return };
        let frontend = listening.source.listener.frontend;
        let wanted = listening.waiting.full(waits, (&listening.source.pressure, now));
        let asked = (0..wanted).filter(|_| self.dispatcher.evict(frontend)).count();
        if asked > 0 {
            self.wake(operations);
        }
    }

    /// Wakes who got something.
    pub(super) fn wake(&mut self, operations: &mut Operations) {
        let Wakes { sent, saved } = self.dispatcher.wake(operations);
        self.metrics.add(Counter::WakesSent, sent as u64);
        self.metrics.add(Counter::WakesSaved, saved as u64);
    }
}
