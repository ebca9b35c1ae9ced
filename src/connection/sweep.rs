//! All connections of a thread told something, one after the other: some in each turn, or evenly over a time.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Most slots of one turn, so that many connections do not keep the thread from those that have work. Few in tests, so
/// that they need several turns.
pub(crate) const SLOTS_MAX: u32 = if cfg!(test) { 8 } else { 4096 };

/// How often a turn is taken for the next slots of a sweep that is spread.
const STEP_MIN: Duration = Duration::from_millis(10);

/// Goes through the slots of a table once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    began: Instant,
    /// Over how long.
    spread: Duration,
    /// From which slot on they are still to come.
    from: u32,
}

impl Sweep {
    /// One that takes so long; or as many turns as it needs.
    pub(crate) fn new(spread: Duration, now: Instant) -> Self {
        Self { began: now, spread, from: 0 }
    }

    /// The slots whose turn it is now, of so many that there are.
    pub(crate) fn next(&mut self, slots: u32, now: Instant) -> Range<u32> {
        let elapsed = now.saturating_duration_since(self.began);
        let end = match elapsed < self.spread {
            true => (f64::from(slots) * elapsed.div_duration_f64(self.spread)) as u32,
            false => slots,
        };
        let end = end.clamp(self.from, self.from.saturating_add(SLOTS_MAX));
        std::mem::replace(&mut self.from, end)..end
    }

    /// Whether all slots have had their turn.
    pub(crate) fn is_over(&self, slots: u32, now: Instant) -> bool {
        self.from >= slots && now.saturating_duration_since(self.began) >= self.spread
    }

    /// How long until some more are to be asked for.
    pub(crate) fn wait(&self, slots: u32, now: Instant) -> Duration {
        if now.saturating_duration_since(self.began) >= self.spread {
            return Duration::ZERO;
        }
        (self.spread / slots.max(1)).max(STEP_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn at_once_is_as_many_as_fit_into_each_turn() {
        let now = Instant::now();
        let mut sweep = Sweep::new(Duration::ZERO, now);
        assert_eq!(sweep.next(20, now), 0..8);
        assert!(!sweep.is_over(20, now));
        assert_eq!((sweep.next(20, now), sweep.next(20, now)), (8..16, 16..20));
        assert!(sweep.is_over(20, now));
        assert_eq!(sweep.wait(20, now), Duration::ZERO);
    }

    #[test]
    fn spread_is_even() {
        let now = Instant::now();
        let mut sweep = Sweep::new(10 * S, now);
        let taken: Vec<_> = (0..=10).map(|second| sweep.next(20, now + second * S)).collect();
        let expected: Vec<_> =
            (0..=10).map(|second| 2 * u32::saturating_sub(second, 1)..2 * second).collect();
        assert_eq!(taken, expected);
        assert!(sweep.is_over(20, now + 10 * S));
        assert_eq!(sweep.wait(20, now), S / 2);
        assert_eq!(sweep.wait(1_000_000, now), STEP_MIN);
    }

    /// Nobody asked for a while, and connections have come meanwhile.
    #[test]
    fn what_was_missed_is_caught_up_on() {
        let now = Instant::now();
        let mut sweep = Sweep::new(S, now);
        assert_eq!(sweep.next(4, now + S / 2), 0..2);
        assert_eq!(sweep.next(20, now + 2 * S), 2..10);
        assert!(!sweep.is_over(20, now + 2 * S));
        assert_eq!((sweep.next(20, now + 2 * S), sweep.next(20, now + 2 * S)), (10..18, 18..20));
        assert!(sweep.is_over(20, now + 2 * S));
    }
}
