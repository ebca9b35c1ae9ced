//! When to look at which connection again.
//!
//! A timing wheel: time is cut into ticks, each tick has a list of the connections to look at. What
//! is stored is when to *look*, not when a deadline ends: a connection that makes progress only notes
//! the time, and when its tick comes it is put where its deadline has moved to. So a byte costs a
//! store and no list, and each connection is moved once per timeout at most.

use std::time::{Duration, Instant};

/// Milliseconds since the worker started: 49 days of them fit, and comparisons wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(u32);

impl Millis {
    /// Whether this moment is not before `other`, for moments less than 24 days apart.
    pub(crate) fn reached(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i32 >= 0
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(duration.as_millis() as u32))
    }

    /// From `earlier` to this moment; zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let elapsed = self.0.wrapping_sub(earlier.0) as i32;
        Duration::from_millis(elapsed.max(0) as u64)
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        if other.reached(self) { self } else { other }
    }
}

/// Slots of the wheel. A moment further away is looked at when the wheel has come round.
const TICKS: u32 = 256;

/// Bounds of the length of a tick, which is how late a deadline may be noticed.
const TICK_MS: std::ops::RangeInclusive<u32> = 5..=250;

/// No connection.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// The tick in whose list the slot is, or [`NONE`].
    tick: u32,
}

/// The wheel; see the module.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    tick_ms: u32,
    /// First slot of each tick's list.
    heads: [u32; TICKS as usize],
    links: Vec<Link>,
    /// Number of the tick that has been looked at last.
    current: u32,
    /// When that tick began. The number of a tick does not follow from a moment, which wraps.
    reached: Millis,
    waiting: usize,
}

impl Deadlines {
    /// A wheel for durations of `shortest` and more, and slots below `limit`.
    pub(crate) fn new(start: Instant, shortest: Duration, limit: usize) -> Self {
        let tick_ms = (shortest.as_millis() / 32) as u32;
        Self {
            start,
            tick_ms: tick_ms.clamp(*TICK_MS.start(), *TICK_MS.end()),
            heads: [NONE; TICKS as usize],
            links: Vec::with_capacity(limit),
            current: 0,
            reached: Millis(0),
            waiting: 0,
        }
    }

    /// A moment as milliseconds.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        Millis(now.saturating_duration_since(self.start).as_millis() as u32)
    }

    /// Puts a slot on the wheel, to be looked at when `when` has passed, or earlier.
    pub(crate) fn insert(&mut self, slot: u32, when: Millis) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { previous: NONE, next: NONE, tick: NONE });
        }
        self.remove(slot);
        // One more, so that the whole tick has passed; never the one that is being looked at.
        let ahead = when.since(self.reached).as_millis() as u32 / self.tick_ms + 1;
        let tick = self.current.wrapping_add(ahead.min(TICKS - 1));
        let head = &mut self.heads[(tick % TICKS) as usize];
        self.links[index] = Link { previous: NONE, next: *head, tick };
        if let Some(next) = self.links.get_mut(*head as usize) {
            next.previous = slot;
        }
        *head = slot;
        self.waiting += 1;
    }

    /// Takes a slot off the wheel, if it is on it.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        let Link { previous, next, tick } = *link;
        if tick == NONE {
            return;
        }
        link.tick = NONE;
        self.waiting -= 1;
        if let Some(next) = self.links.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.links.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[(tick % TICKS) as usize] = next,
        }
    }

    /// Takes off and returns a slot whose tick has passed. `now` never goes back.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<u32> {
        loop {
            let head = self.heads[(self.current % TICKS) as usize];
            if head != NONE {
                self.remove(head);
                return Some(head);
            }
            let behind = now.0.wrapping_sub(self.reached.0) / self.tick_ms;
            if behind == 0 {
                return None;
            }
            // Nothing is further ahead than one round.
            let jump = behind.saturating_sub(TICKS) + 1;
            self.current = self.current.wrapping_add(jump);
            self.reached = self.ahead(jump);
        }
    }

    /// How long until a tick passes that has something on it.
    pub(crate) fn next(&self, now: Millis) -> Option<Duration> {
        if self.waiting == 0 {
            return None;
        }
        let ahead = (0..TICKS).find(|ahead| {
            self.heads[(self.current.wrapping_add(*ahead) % TICKS) as usize] != NONE
        })?;
        Some(self.ahead(ahead).since(now))
    }

    /// When the tick begins that is so many ticks ahead.
    fn ahead(&self, ticks: u32) -> Millis {
        Millis(self.reached.0.wrapping_add(ticks.wrapping_mul(self.tick_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel() -> Deadlines {
        Deadlines::new(Instant::now(), Duration::from_millis(320), 8)
    }

    fn pop_all(wheel: &mut Deadlines, now: u32) -> Vec<u32> {
        let mut slots: Vec<_> = std::iter::from_fn(|| wheel.pop(Millis(now))).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_slot_is_looked_at_once_its_moment_has_passed_and_not_before() {
        for when in [0, 9, 10, 11, 999, 2_500] {
            let mut wheel = wheel();
            wheel.insert(3, Millis(when));
            for now in 0..when {
                assert_eq!(wheel.pop(Millis(now)), None, "at {now}, due {when}");
            }
            assert_eq!(pop_all(&mut wheel, when + 10), [3], "due {when}");
            assert_eq!((wheel.waiting, wheel.next(Millis(when))), (0, None));
        }
    }

    #[test]
    fn next_is_when_pop_has_something() {
        let mut wheel = wheel();
        for when in [5, 73, 1_800] {
            wheel.insert(0, Millis(when));
            let now = Millis(0).after(wheel.next(Millis(0)).unwrap());
            assert!(now.reached(Millis(when)) && Millis(when + 10).reached(now));
            assert_eq!(wheel.pop(now), Some(0));
        }
    }

    #[test]
    fn a_moment_beyond_the_horizon_is_looked_at_early() {
        let mut wheel = wheel();
        wheel.insert(1, Millis(1_000_000));
        let now = Millis(0).after(wheel.next(Millis(0)).unwrap());
        assert!(Millis(10 * TICKS).reached(now));
        assert_eq!(wheel.pop(now), Some(1));
    }

    #[test]
    fn slots_come_off_from_anywhere_and_may_be_put_on_again() {
        let mut wheel = wheel();
        (0..6).for_each(|slot| wheel.insert(slot, Millis(50)));
        wheel.remove(5);
        wheel.remove(0);
        wheel.remove(3);
        wheel.remove(3);
        wheel.insert(1, Millis(500));
        assert_eq!(pop_all(&mut wheel, 100), [2, 4]);
        assert_eq!(pop_all(&mut wheel, 600), [1]);
    }

    #[test]
    fn a_late_look_finds_everything_and_moments_wrap() {
        let mut wheel = wheel();
        (0..6).for_each(|slot| wheel.insert(slot, Millis(slot * 400)));
        assert_eq!(pop_all(&mut wheel, 50_000_000), [0, 1, 2, 3, 4, 5]);
        let late = Millis(u32::MAX - 5);
        assert!(late.after(Duration::from_millis(10)).reached(late));
        assert_eq!(Millis(4).since(late), Duration::from_millis(10));
        assert_eq!(late.earlier(Millis(4)), late);
    }
}
