//! When to look at which connection again.
//!
//! A timing wheel: time is cut into ticks, each tick has a list of the connections to look at. What
//! is stored is when to *look*, not when a deadline ends: a connection that makes progress only notes
//! the time, and when its tick comes it is put where its deadline has moved to. So a byte costs a
//! store and no list, and each connection is moved once per timeout at most.

use std::time::{Duration, Instant};

/// Milliseconds since the worker started: 49 days of them fit, and comparisons wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millis(u32);

impl Millis {
    /// From the start of a thread to a moment.
    pub fn between(start: Instant, now: Instant) -> Self {
        Self(now.saturating_duration_since(start).as_millis() as u32)
    }

    /// Whether this moment is not before `other`, for moments less than 24 days apart.
    pub(crate) fn reached(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i32 >= 0
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(duration.as_millis() as u32))
    }

    /// As long ago, but no longer than can be told from a moment that is still to come: 24 days.
    pub(crate) fn before(self, duration: Duration) -> Self {
        let millis = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self(self.0.wrapping_sub(millis.min(i32::MAX as u32)))
    }

    /// From `earlier` to this moment; zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let elapsed = self.0.wrapping_sub(earlier.0) as i32;
        Duration::from_millis(elapsed.max(0) as u64)
    }

    /// Since `began`, which was before; up to 49 days.
    pub(crate) fn age(self, began: Self) -> Duration {
        Duration::from_millis(self.0.wrapping_sub(began.0).into())
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        if other.reached(self) { self } else { other }
    }
}

/// Length of a tick.
const TICK_MS: u32 = 4;

/// Ticks of the wheel, which are 16 seconds. A moment further away is looked at when the wheel has come
/// round.
const TICKS: u32 = 4096;

/// A wait is rounded up by no more than one part in so many, so that long ones share their ticks and a
/// thread with many idle connections seldom wakes for one of them.
const GRAIN: u32 = 32;

const WORD_BITS: u32 = u64::BITS;

/// Words that have a bit for each tick; one more word has a bit for each of them.
const WORDS: usize = (TICKS / WORD_BITS) as usize;
const _: () = assert!(WORDS == WORD_BITS as usize);

/// No connection.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    previous: u32,
    next: u32,
    /// The place on the wheel of the tick in whose list the slot is, or [`NONE`].
    tick: u32,
}

/// The wheel; see the module.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// First slot of each tick's list.
    heads: Box<[u32]>,
    /// A bit for each tick whose list is not empty.
    occupied: [u64; WORDS],
    /// A bit for each word of `occupied` that is not zero.
    occupied_words: u64,
    links: Vec<Link>,
    /// Number of the tick that has been looked at last.
    current: u32,
    /// When that tick began. The number of a tick does not follow from a moment, which wraps.
    reached: Millis,
    waiting: usize,
}

impl Deadlines {
    /// A wheel with room for slots below `limit`. It grows beyond that.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            heads: vec![NONE; TICKS as usize].into(),
            occupied: [0; WORDS],
            occupied_words: 0,
            links: Vec::with_capacity(limit),
            current: 0,
            reached: Millis(0),
            waiting: 0,
        }
    }

    /// Brings an empty wheel up to the time, however long its thread had nothing to do: a slot is put on it from
    /// there. To be called before the first.
    pub(crate) fn catch_up(&mut self, now: Millis) {
        if self.waiting == 0 {
            let _ = self.pop(now);
        }
    }

    /// Puts a slot on the wheel, to be looked at when `when` has passed, or earlier.
    pub(crate) fn insert(&mut self, slot: u32, when: Millis) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { previous: NONE, next: NONE, tick: NONE });
        }
        self.remove(slot);
        let tick = self.tick(when) % TICKS;
        let head = &mut self.heads[tick as usize];
        self.links[index] = Link { previous: NONE, next: *head, tick };
        if let Some(next) = self.links.get_mut(*head as usize) {
            next.previous = slot;
        }
        *head = slot;
        let (word, bit) = place(tick);
        self.occupied[word] |= bit;
        self.occupied_words |= 1 << word;
        self.waiting += 1;
    }

    /// The tick in which a moment is looked at.
    fn tick(&self, when: Millis) -> u32 {
        // One more, so that the whole tick has passed; never the one that is being looked at.
        let ahead = when.since(self.reached).as_millis() as u32 / TICK_MS + 1;
        let ahead = ahead.min(TICKS - 1);
        let mask = (ahead / GRAIN + 1).next_power_of_two() / 2;
        let mask = mask.saturating_sub(1);
        let tick = self.current.wrapping_add(ahead).wrapping_add(mask) & !mask;
        // Rounded up it may lie behind the horizon, rounded down it is early.
        let behind = tick.wrapping_sub(self.current) >= TICKS;
        if behind { tick.wrapping_sub(mask + 1) } else { tick }
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
            None => {
                self.heads[tick as usize] = next;
                let (word, bit) = place(tick);
                if next == NONE {
                    self.occupied[word] &= !bit;
                    self.occupied_words &= !(u64::from(self.occupied[word] == 0) << word);
                }
            }
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
            let behind = now.0.wrapping_sub(self.reached.0) / TICK_MS;
            if behind == 0 {
                return None;
            }
            let jump = self.next_occupied().map_or(behind, |ahead| ahead.min(behind));
            self.current = self.current.wrapping_add(jump);
            self.reached = self.ahead(jump);
        }
    }

    /// How long until a tick passes that has something on it.
    pub(crate) fn next(&self, now: Millis) -> Option<Duration> {
        Some(self.ahead(self.next_occupied()?).since(now))
    }

    /// How many ticks ahead the next one is that has something on it.
    fn next_occupied(&self) -> Option<u32> {
        let (word, bit) = place(self.current);
        let from_here = self.occupied[word] & !(bit - 1);
        let (word, bits) = if from_here != 0 {
            (word, from_here)
        } else {
            // The word that comes next, or at last the same one with what is before the current tick.
            let others = self.occupied_words.rotate_right(word as u32 + 1);
            if others == 0 {
                return None;
            }
            let word = (word + 1 + others.trailing_zeros() as usize) % WORDS;
            (word, self.occupied[word])
        };
        let tick = word as u32 * WORD_BITS + bits.trailing_zeros();
        Some(tick.wrapping_sub(self.current) % TICKS)
    }

    /// When the tick begins that is so many ticks ahead.
    fn ahead(&self, ticks: u32) -> Millis {
        Millis(self.reached.0.wrapping_add(ticks.wrapping_mul(TICK_MS)))
    }
}

/// The word and the bit of a tick.
fn place(tick: u32) -> (usize, u64) {
    let tick = tick % TICKS;
    ((tick / WORD_BITS) as usize, 1 << (tick % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel() -> Deadlines {
        Deadlines::new(8)
    }

    fn pop_all(wheel: &mut Deadlines, now: u32) -> Vec<u32> {
        let mut slots: Vec<_> = std::iter::from_fn(|| wheel.pop(Millis(now))).collect();
        slots.sort_unstable();
        slots
    }

    /// How late a moment may be noticed.
    fn late(wait: u32) -> u32 {
        TICK_MS + wait / GRAIN
    }

    #[test]
    fn a_slot_is_looked_at_once_its_moment_has_passed_and_not_before() {
        for when in [0, 9, 10, 11, 999, 2_500, 16_000] {
            let mut wheel = wheel();
            wheel.insert(3, Millis(when));
            for now in 0..when {
                assert_eq!(wheel.pop(Millis(now)), None, "at {now}, due {when}");
            }
            assert_eq!(pop_all(&mut wheel, when + late(when)), [3], "due {when}");
            assert_eq!((wheel.waiting, wheel.next(Millis(when))), (0, None));
            assert!(wheel.occupied.iter().all(|word| *word == 0) && wheel.occupied_words == 0);
        }
    }

    #[test]
    fn next_is_when_pop_has_something() {
        let mut wheel = wheel();
        for when in [5, 73, 1_800] {
            wheel.insert(0, Millis(when));
            let now = Millis(0).after(wheel.next(Millis(0)).unwrap());
            assert!(now.reached(Millis(when)) && Millis(when + late(when)).reached(now));
            assert_eq!(wheel.pop(now), Some(0));
        }
    }

    #[test]
    fn a_moment_beyond_the_horizon_is_looked_at_early() {
        let mut wheel = wheel();
        wheel.insert(1, Millis(1_000_000));
        let now = Millis(0).after(wheel.next(Millis(0)).unwrap());
        assert!(Millis(TICK_MS * TICKS).reached(now));
        assert_eq!(wheel.pop(now), Some(1));
    }

    /// Against a list, across the moment at which milliseconds wrap.
    #[test]
    fn random_waits_are_looked_at_in_time() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut wheel, mut now) = (wheel(), u32::MAX - 60_000);
        assert_eq!(wheel.pop(Millis(now)), None);
        let mut waits: Vec<Option<(u32, u32)>> = vec![None; 50];
        for _ in 0..20_000 {
            now = now.wrapping_add(rng.u32(0..40));
            while let Some(slot) = wheel.pop(Millis(now)) {
                let (_, when) = waits[slot as usize].take().expect("it was put there");
                assert!(Millis(now).reached(Millis(when)), "slot {slot} is early");
            }
            let overdue = |&(began, when): &(u32, u32)| {
                let wait = when.wrapping_sub(began);
                Millis(now).reached(Millis(when.wrapping_add(late(wait) + TICK_MS)))
            };
            assert!(!waits.iter().flatten().any(overdue), "{waits:?} at {now}");
            let earliest = wheel.next(Millis(now)).map(|next| Millis(now).after(next));
            let first =
                waits.iter().flatten().map(|(_, when)| Millis(*when)).reduce(Millis::earlier);
            assert_eq!(earliest.is_some(), first.is_some());
            let slot = rng.usize(0..waits.len());
            match rng.u8(0..4) {
                0 => {
                    wheel.remove(slot as u32);
                    waits[slot] = None;
                }
                _ => {
                    let bits = rng.u32(0..14);
                    let when = now.wrapping_add(rng.u32(0..1 << bits));
                    wheel.insert(slot as u32, Millis(when));
                    waits[slot] = Some((now, when));
                }
            }
        }
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
        assert_eq!(Millis(4).before(Duration::from_millis(10)), late);
        let longest = Millis(4).before(Duration::from_secs(1 << 40));
        assert!(
            Millis(4).reached(longest)
                && Millis(4).since(longest) > Duration::from_secs(24 * 86_400)
        );
    }
}
