//! All connections of a thread told something, one after the other: some in each turn, or evenly over a time.

use std::time::{Duration, Instant};

/// Most places of one turn, so that many connections do not keep the thread from those that have work. Few in tests, so
/// that they need several turns.
pub(crate) const PLACES_MAX: u32 = if cfg!(test) { 8 } else { 4096 };

/// How often a turn is taken at most for the next places of a sweep that is spread.
const STEP_MIN: Duration = Duration::from_millis(10);

/// Sweeps that are under way, side by side, each with its number.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    all: Vec<(u32, Sweep)>,
    begun: u32,
}

impl Sweeps {
    /// Begins one through so many slots, and returns its number. One of `everything` makes those that run already end
    /// in its own time.
    pub(crate) fn begin(
        &mut self,
        (slots, everything): (u32, bool),
        spread: Duration,
        now: Instant,
    ) -> u32 {
        if everything {
            self.all.iter_mut().for_each(|(_, sweep)| sweep.restart(spread, now));
        }
        self.begun = self.begun.wrapping_add(1);
        self.all.push((self.begun, Sweep::new(slots, spread, now)));
        self.begun
    }

    /// The slots whose turn it is now, of so many that there are, each with the number of the sweep.
    pub(crate) fn next(&mut self, slots: u32, now: Instant) -> Vec<(u32, u32)> {
        let mut due = Vec::new();
        self.all.retain_mut(|(number, sweep)| {
            due.extend(sweep.next(slots, now).map(|slot| (slot, *number)));
            !sweep.is_over(slots, now)
        });
        due
    }

    /// Forgets those whose time has passed: there is nobody.
    pub(crate) fn forget_over(&mut self, now: Instant) {
        self.all.retain(|(_, sweep)| !sweep.is_over_in_time(now));
    }

    /// How long until some more are to be asked for.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.all.iter().map(|(_, sweep)| sweep.wait(now)).min()
    }
}

/// Goes through the slots of a table once.
///
/// Connections may be in neighbouring slots, since the one that was freed last is used first. So slots come in the
/// order of their bits from the last to the first (van der Corput): whatever part of a table is in use comes evenly.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    began: Instant,
    /// Over how long.
    spread: Duration,
    /// How many slots there were, rounded up to a power of two; those that came later come last.
    size: u32,
    /// The place in that order from which on slots are still to come.
    from: u32,
}

impl Sweep {
    /// Through so many slots, in so long a time; without one, in as many turns as it needs.
    fn new(slots: u32, spread: Duration, now: Instant) -> Self {
        Self { began: now, spread, size: slots.next_power_of_two(), from: 0 }
    }

    /// What is left of it takes so long, from now on.
    fn restart(&mut self, spread: Duration, now: Instant) {
        let left = 1.0 - f64::from(self.from.min(self.size)) / f64::from(self.size);
        // As if it had been at this place by now.
        let whole = if left > 0.0 { spread.div_f64(left) } else { Duration::ZERO };
        (self.began, self.spread) =
            (now.checked_sub(whole - spread.min(whole)).unwrap_or(now), whole);
    }

    /// The slots whose turn it is now, of so many that there are.
    fn next(&mut self, slots: u32, now: Instant) -> impl Iterator<Item = u32> + use<> {
        let elapsed = now.saturating_duration_since(self.began);
        let end = match elapsed < self.spread {
            true => (f64::from(self.size) * elapsed.div_duration_f64(self.spread)) as u32,
            false => self.size.max(slots),
        };
        let end = end.clamp(self.from, self.from.saturating_add(PLACES_MAX));
        let (from, size) = (std::mem::replace(&mut self.from, end), self.size);
        let slot = move |place: u32| match place < size {
            true => place.reverse_bits().checked_shr(32 - size.trailing_zeros()).unwrap_or(0),
            false => place,
        };
        (from..end).map(slot).filter(move |slot| *slot < slots)
    }

    /// Whether all slots have had their turn.
    fn is_over(&self, slots: u32, now: Instant) -> bool {
        self.from >= self.size.max(slots) && self.is_over_in_time(now)
    }

    /// Whether its time has passed.
    fn is_over_in_time(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= self.spread
    }

    /// How long until some more are to be asked for.
    fn wait(&self, now: Instant) -> Duration {
        let next = f64::from(self.from.saturating_add(1)) / f64::from(self.size);
        let due = self.began + self.spread.mul_f64(next.min(1.0));
        let end = (self.began + self.spread).saturating_duration_since(now);
        due.saturating_duration_since(now).max(STEP_MIN).min(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn next(sweep: &mut Sweep, slots: u32, now: Instant) -> Vec<u32> {
        sweep.next(slots, now).collect()
    }

    #[test]
    fn at_once_is_as_many_as_fit_into_each_turn() {
        let now = Instant::now();
        let mut sweep = Sweep::new(20, Duration::ZERO, now);
        let mut all = Vec::new();
        let mut turns = 0;
        while !sweep.is_over(20, now) {
            assert_eq!(sweep.wait(now), Duration::ZERO);
            let some = next(&mut sweep, 20, now);
            assert!(some.len() <= 8);
            all.extend(some);
            turns += 1;
        }
        all.sort_unstable();
        assert_eq!((all, turns), ((0..20).collect(), 4));
    }

    /// Whatever part of the slots is in use.
    #[test]
    fn neighbours_are_far_apart() {
        let now = Instant::now();
        let mut sweep = Sweep::new(256, 64 * S, now);
        let mut came = [0; 8];
        for second in 1..=64 {
            for slot in sweep.next(256, now + second * S) {
                if (240..256).contains(&slot) {
                    came[(second as usize - 1) / 8] += 1;
                }
            }
        }
        assert!(sweep.is_over(256, now + 64 * S));
        assert_eq!(came, [2; 8]);
    }

    /// Connections that come meanwhile come last.
    #[test]
    fn each_slot_comes_once() {
        let now = Instant::now();
        for slots in 0..40 {
            let mut sweep = Sweep::new(slots, S, now);
            let mut all = Vec::new();
            for step in 0..30 {
                all.extend(sweep.next(slots + step.min(5), now + S / 20 * step));
            }
            assert!(sweep.is_over(slots + 5, now + 2 * S), "{slots}");
            all.sort_unstable();
            let (old, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|slot| *slot < slots);
            assert_eq!(old, (0..slots).collect::<Vec<_>>());
            assert!(new.windows(2).all(|pair| pair[0] < pair[1]), "{new:?}");
        }
    }

    /// However often somebody else has a turn.
    #[test]
    fn the_wait_is_until_the_next_is_due() {
        let now = Instant::now();
        let mut sweep = Sweep::new(2, 4 * S, now);
        assert_eq!(sweep.wait(now), 2 * S);
        assert_eq!(next(&mut sweep, 2, now + S), [0_u32; 0]);
        assert_eq!(sweep.wait(now + S), S);
        assert_eq!(next(&mut sweep, 2, now + 2 * S), [0]);
        assert_eq!(sweep.wait(now + 3 * S), S);
        assert_eq!(sweep.wait(now + 4 * S), Duration::ZERO);
        assert_eq!(Sweep::new(1 << 20, S, now).wait(now), STEP_MIN);
    }

    /// What is left takes as long as is said then.
    #[test]
    fn one_that_is_restarted_goes_on_from_where_it_was() {
        let now = Instant::now();
        let mut sweep = Sweep::new(8, 100 * S, now);
        assert_eq!(next(&mut sweep, 8, now + 50 * S), [0, 4, 2, 6]);
        sweep.restart(4 * S, now + 60 * S);
        let later: Vec<_> = (61..=64).map(|second| next(&mut sweep, 8, now + second * S)).collect();
        assert_eq!(later, [[1], [5], [3], [7]]);
        assert!(sweep.is_over(8, now + 64 * S));
        let mut over = Sweep::new(1, S, now);
        assert_eq!(next(&mut over, 1, now + S), [0]);
        over.restart(9 * S, now + S);
        assert!(over.is_over(1, now + S));
    }
}
