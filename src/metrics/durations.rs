//! How long something took, as counts by ranges.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Padded;

/// The upper ends of the ranges, in microseconds: from a hand-over between threads to a connection that stays for
/// an hour. What is longer than the last is in a range without end.
const BOUNDS_US: [u64; 18] = [
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    3_000_000,
    10_000_000,
    60_000_000,
    3_600_000_000,
];

/// Counts of durations. Any thread may add; readers see each figure as it is at some moment.
#[derive(Debug, Default)]
pub struct Durations(Padded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// How long the connections of a frontend took to get from one place to the next, on all threads.
#[derive(Debug, Default)]
pub struct FrontendTimes {
    /// From accept(2) to a worker.
    pub dispatch: Durations,
    /// Connects to a backend that succeeded.
    pub connect: Durations,
    /// From a worker to the first byte: of the backend, or without one of the client.
    pub first_byte: Durations,
    /// From a worker to the end, of connections that have ended.
    pub lifetime: Durations,
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
        let place = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < duration);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.0.counts[place].fetch_add(1, Ordering::Relaxed);
        self.0.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> DurationCounts {
        let counts = self.0.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS_US.map(|bound| bound as f64 / 1e6).into_iter().chain([f64::INFINITY]);
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
        for ms in [0, 1, 2, 3, 5, 3_600_000, 3_600_001] {
            durations.add(Duration::from_millis(ms));
        }
        let counts = durations.get();
        let found: Vec<_> = counts.ranges.iter().filter(|(_, count)| *count > 0).copied().collect();
        let expected =
            [(0.00005, 1), (0.001, 1), (0.002, 1), (0.005, 2), (3600.0, 1), (f64::INFINITY, 1)];
        assert_eq!(found, expected);
        assert_eq!((counts.count, counts.sum_seconds), (7, 7200.012));
    }
}
