//! The timers of sessions, one for each that has set it.

use std::collections::HashMap;
use std::time::Duration;

use super::Worker;
use crate::connection::{Deadlines, LoopContext, Millis};
use crate::ring::Key;
use crate::service::{Service, Timer};

/// The longest time of a timer: moments that are further apart cannot be compared.
const LONGEST: Duration = Duration::from_secs(24 * 24 * 3600);

/// See the module.
#[derive(Debug)]
pub(super) struct Timers {
    wheel: Deadlines,
    /// When they run down, by slot.
    due: HashMap<u32, Millis>,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { wheel: Deadlines::new(0), due: HashMap::new() }
    }

    /// Does what a call of the session's service has said.
    pub(super) fn change(&mut self, key: Key, change: Timer, now: Millis) {
        match change {
            Timer::Set(after) => {
                let due = now.after(after.min(LONGEST));
                self.wheel.catch_up(now);
                self.due.insert(key.slot, due);
                self.wheel.insert(key.slot, due);
            }
            Timer::Cancelled => self.forget(key),
        }
    }

    /// The connection has gone.
    #[inline]
    pub(super) fn forget(&mut self, key: Key) {
        if !self.due.is_empty() && self.due.remove(&key.slot).is_some() {
            self.wheel.remove(key.slot);
        }
    }

    /// How long the session's timer still runs, if it does.
    pub(super) fn left(&self, key: Key, now: Millis) -> Option<Duration> {
        self.due.get(&key.slot).map(|due| due.since(now))
    }

    /// The slot of one that has run down.
    fn pop(&mut self, now: Millis) -> Option<u32> {
        while let Some(slot) = self.wheel.pop(now) {
            match self.due.get(&slot) {
                // The wheel does not reach so far.
                Some(due) if !now.reached(*due) => self.wheel.insert(slot, *due),
                Some(_) => {
                    self.due.remove(&slot);
                    return Some(slot);
                }
                None => {}
            }
        }
        None
    }

    /// How long until one may have run down.
    pub(super) fn next(&self, now: Millis) -> Option<Duration> {
        if self.due.is_empty() { None } else { self.wheel.next(now) }
    }
}

impl<S: Service> Worker<S> {
    /// Tells sessions that their time has come.
    pub(super) fn run_timers(&mut self, cx: &mut LoopContext<'_>) {
        while let Some(slot) = self.timers.pop(cx.millis) {
            if let Some(key) = self.table.key(slot).filter(|key| self.is_open(*key)) {
                self.consult(key, None, cx, |service, (session, local), _, outbox| {
                    service.timeout(session, local, outbox)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn at(millis: u64) -> Millis {
        let start = Instant::now();
        Millis::between(start, start + Duration::from_millis(millis))
    }

    fn key(slot: u32) -> Key {
        Key::fixed(slot)
    }

    #[test]
    fn a_timer_runs_down_once_and_not_before_its_time() {
        for after in [0, 1, 50, 3_000, 100_000] {
            let mut timers = Timers::new();
            timers.change(key(3), Timer::Set(Duration::from_millis(after)), at(10));
            let (mut now, mut fired) = (10, None);
            while fired.is_none() {
                now += timers.next(at(now)).unwrap().as_millis() as u64;
                fired = timers.pop(at(now));
            }
            assert_eq!(fired, Some(3));
            let late = now - 10 - after;
            assert!(late <= after / 32 + 8, "{late} of {after}");
            assert_eq!((timers.pop(at(now + 200_000)), timers.next(at(now))), (None, None));
        }
    }

    #[test]
    fn one_that_is_set_anew_or_cancelled_does_not_run_down_at_its_first_time() {
        let mut timers = Timers::new();
        for slot in [1, 2, 3] {
            timers.change(key(slot), Timer::Set(Duration::from_millis(100)), at(0));
        }
        timers.change(key(1), Timer::Set(Duration::from_millis(500)), at(50));
        timers.change(key(2), Timer::Cancelled, at(50));
        timers.forget(key(3));
        assert_eq!(timers.left(key(1), at(150)), Some(Duration::from_millis(400)));
        assert_eq!(timers.left(key(2), at(150)), None);
        assert_eq!(timers.pop(at(400)), None);
        assert_eq!(timers.pop(at(600)), Some(1));
    }
}
