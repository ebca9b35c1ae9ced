//! How long something took, as counts by ranges.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Padded;

/// The upper ends of the ranges, in milliseconds; what is longer than the last is in none of them.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// Counts of durations. Any thread may add; readers see each figure as it is at some moment.
#[derive(Debug, Default)]
pub struct Durations(Padded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationCounts {
    /// All of them, in seconds.
    pub sum_seconds: f64,
    /// How many.
    pub count: u64,
    /// The upper end of each range in seconds, and how many lie in that range alone. The last is without end.
    pub ranges: Vec<(f64, u64)>,
}

impl Durations {
    /// Counts one.
    pub fn add(&self, duration: Duration) {
        let place = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < duration);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.0.counts[place].fetch_add(1, Ordering::Relaxed);
        self.0.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> DurationCounts {
        let counts = self.0.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS_MS.map(|bound| bound as f64 / 1e3).into_iter().chain([f64::INFINITY]);
        let ranges: Vec<_> = bounds.zip(counts).collect();
        DurationCounts {
            sum_seconds: self.0.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
            count: ranges.iter().map(|(_, count)| count).sum(),
            ranges,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_its_range() {
        let durations = Durations::default();
        for ms in [0, 1, 2, 3, 5, 10_000, 10_001] {
            durations.add(Duration::from_millis(ms));
        }
        let counts = durations.get();
        let found: Vec<_> = counts.ranges.iter().filter(|(_, count)| *count > 0).copied().collect();
        let expected = [(0.001, 2), (0.002, 1), (0.005, 2), (10.0, 1), (f64::INFINITY, 1)];
        assert_eq!(found, expected);
        assert_eq!((counts.count, counts.sum_seconds), (7, 20.012));
    }
}
