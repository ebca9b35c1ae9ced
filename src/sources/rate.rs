//! How fast something may come: the generic cell rate algorithm (ITU-T I.371), in whole microseconds.
//!
//! One number is all that has to be kept: the theoretical arrival time, at which all that has come would have come if
//! it had come evenly. What comes earlier than that by more than the burst allows is too early.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Rate;

/// A rate as the algorithm needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spacing {
    /// From one to the next, if they come evenly; in nanoseconds, since 3 a second is no whole number of microseconds.
    interval_ns: u64,
    /// How early one may come.
    tolerance_ns: u64,
}

/// Too early, by so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooEarly(pub Duration);

impl From<Rate> for Spacing {
    fn from(rate: Rate) -> Self {
        let period_ns = u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = (period_ns / u64::from(rate.count.get())).max(1);
        let tolerance_ns = interval_ns.saturating_mul(u64::from(rate.burst.get() - 1));
        Self { interval_ns, tolerance_ns }
    }
}

impl Spacing {
    /// The same for `times` as many.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        let times = u64::from(times.max(1));
        // The burst grows with it: (burst * times - 1) intervals of the new length.
        let span = self.tolerance_ns.saturating_add(self.interval_ns);
        let interval_ns = (self.interval_ns / times).max(1);
        Self { interval_ns, tolerance_ns: span.saturating_sub(interval_ns) }
    }

    /// Something comes at `now`, in nanoseconds since whenever. The theoretical arrival time from then on.
    ///
    /// # Errors
    /// It is too early; nothing has changed.
    pub fn take(self, arrival_ns: u64, now_ns: u64) -> Result<u64, TooEarly> {
        let earliest = arrival_ns.saturating_sub(self.tolerance_ns);
        match earliest.checked_sub(now_ns) {
            None | Some(0) => Ok(arrival_ns.max(now_ns).saturating_add(self.interval_ns)),
            Some(early) => Err(TooEarly(Duration::from_nanos(early))),
        }
    }

    /// The same in microseconds.
    ///
    /// # Errors
    /// It is too early; nothing has changed.
    pub fn take_us(self, arrival_us: u64, now_us: u64) -> Result<u64, TooEarly> {
        self.take(arrival_us * 1_000, now_us * 1_000).map(|ns| (ns + 500) / 1_000)
    }

    /// How long one has to wait with which the theoretical arrival time has become this.
    pub(super) fn waits_us(self, arrival_us: u64, now_us: u64) -> Duration {
        let own_us = arrival_us.saturating_sub(self.interval_us());
        Duration::from_micros(own_us.saturating_sub(self.tolerance_ns / 1_000 + now_us))
    }

    /// From one to the next, in microseconds.
    pub(super) fn interval_us(self) -> u64 {
        (self.interval_ns + 500) / 1_000
    }

    /// How many may come at once at `now`.
    pub fn room(self, arrival_ns: u64, now_ns: u64) -> u64 {
        let latest = now_ns.saturating_add(self.tolerance_ns);
        latest.checked_sub(arrival_ns.max(now_ns)).map_or(0, |room| room / self.interval_ns + 1)
    }

    /// The theoretical arrival time for somebody who comes at `now`, in microseconds, if it may have been taken of another
    /// rate. One that is further ahead than it can be by this rate, with some who wait for this long, is as if the burst
    /// were used up: whoever comes need not wait for what a lower rate held back.
    pub(super) fn fit_us(self, arrival_us: u64, now_us: u64, patience: Duration) -> u64 {
        // Both are rounded.
        let most = self.ahead_most() + patience + Duration::from_micros(2);
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        match arrival_us.saturating_sub(now_us) > most_us {
            true => now_us + self.tolerance_ns / 1_000,
            false => arrival_us,
        }
    }

    /// How far the theoretical arrival time may be ahead of now at most.
    pub fn ahead_most(self) -> Duration {
        Duration::from_nanos(self.tolerance_ns.saturating_add(self.interval_ns))
    }
}

/// The rate of all that comes in through one frontend. Exact for all threads that ask.
#[derive(Debug, Default)]
pub struct Bucket {
    arrival_ns: AtomicU64,
    /// How far it may be ahead by the rate that was asked for last.
    ahead_most_ns: AtomicU64,
}

impl Bucket {
    /// Counts one that comes, whether there is room or not: it has been accepted already.
    pub fn count(&self, spacing: Spacing, now_ns: u64) {
        self.fit(spacing, now_ns);
        let next = |arrival: u64| Some(arrival.max(now_ns).saturating_add(spacing.interval_ns));
        let _ = self.arrival_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// How many may come at once now.
    pub fn room(&self, spacing: Spacing, now_ns: u64) -> u64 {
        self.fit(spacing, now_ns);
        spacing.room(self.arrival_ns.load(Ordering::Relaxed), now_ns)
    }

    /// Where the rate is another than before: what is further ahead than it allows was taken of one that was lower.
    fn fit(&self, spacing: Spacing, now_ns: u64) {
        let most = spacing.tolerance_ns.saturating_add(spacing.interval_ns);
        if self.ahead_most_ns.load(Ordering::Relaxed) != most {
            self.ahead_most_ns.store(most, Ordering::Relaxed);
            self.arrival_ns.fetch_min(now_ns.saturating_add(most), Ordering::Relaxed);
        }
    }

    /// How long until one may come.
    pub fn wait(&self, spacing: Spacing, now_ns: u64) -> Duration {
        self.fit(spacing, now_ns);
        let arrival = self.arrival_ns.load(Ordering::Relaxed);
        spacing.take(arrival, now_ns).err().map_or(Duration::ZERO, |TooEarly(early)| early)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;

    use super::*;

    fn rate(count: u32, period: Duration, burst: u32) -> Rate {
        let positive = |number| NonZeroU32::new(number).unwrap();
        Rate { count: positive(count), period, burst: positive(burst) }
    }

    proptest! {
        /// governor says the same of each of a row of arrivals, at whatever moments they come.
        #[test]
        fn governor_agrees(
            count in 1..2_000_u32,
            burst in 1..50_u32,
            gaps_us in proptest::collection::vec(0..400_000_u64, 1..300),
        ) {
            let spacing = Spacing::from(rate(count, Duration::from_secs(1), burst));
            let burst = NonZeroU32::new(burst).unwrap();
            let interval = Duration::from_nanos(spacing.interval_ns);
            let quota = Quota::with_period(interval).unwrap().allow_burst(burst);
            let clock = FakeRelativeClock::default();
            let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
            // Nobody comes before the clock is wound up.
            let (mut arrival, mut now) = (0, 1_000_000_000);
            for gap in gaps_us {
                // Small gaps in between, so that many come too early.
                let gap = if gap % 3 == 0 { gap } else { gap % 700 };
                now += gap * 1_000;
                clock.advance(Duration::from_micros(gap));
                let taken = spacing.take(arrival, now);
                prop_assert_eq!(taken.is_ok(), oracle.check().is_ok(), "at {}", now);
                prop_assert_eq!(spacing.room(arrival, now) > 0, taken.is_ok());
                arrival = taken.unwrap_or(arrival);
            }
        }
    }

    #[test]
    fn a_burst_and_then_evenly() {
        let spacing = Spacing::from(rate(10, Duration::from_secs(1), 3));
        let now = 5_000_000_000;
        let mut arrival = 0;
        for left in (1..=3).rev() {
            assert_eq!(spacing.room(arrival, now), left);
            arrival = spacing.take(arrival, now).unwrap();
        }
        assert_eq!(spacing.room(arrival, now), 0);
        assert_eq!(spacing.take(arrival, now), Err(TooEarly(Duration::from_millis(100))));
        assert!(spacing.take(arrival, now + 99_999_999).is_err());
        assert!(spacing.take(arrival, now + 100_000_000).is_ok());
    }

    #[test]
    fn more_of_the_same() {
        let once = Spacing::from(rate(10, Duration::from_secs(1), 3));
        assert_eq!(once.times(4), Spacing::from(rate(40, Duration::from_secs(1), 12)));
        assert_eq!(once.times(1), once);
    }

    #[test]
    fn a_bucket_counts_what_came_too_early_as_well() {
        let spacing = Spacing::from(rate(10, Duration::from_secs(1), 2));
        let bucket = Bucket::default();
        assert_eq!((bucket.room(spacing, 0), bucket.wait(spacing, 0)), (2, Duration::ZERO));
        (0..3).for_each(|_| bucket.count(spacing, 0));
        assert_eq!(bucket.room(spacing, 0), 0);
        assert_eq!(bucket.wait(spacing, 0), Duration::from_millis(200));
        assert_eq!(bucket.room(spacing, 200_000_000), 1);
    }
}
