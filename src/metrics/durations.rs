//! How long something took, as counts by ranges.
//!
//! Each count stands for a range so narrow that it lies in one range of a classic histogram and in one of a native
//! histogram. So both are sums of the same counts, and agree; and to count is one addition.
//!
//! ```text
//!   counted     |  |     | |     |   |  |      |
//!   classic     |  50us    |     100us         200us       18 bounds
//!   native         |     |       |   |  |      |           powers of the fourth root of 2
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Padded;

/// The upper ends of the classic ranges, in microseconds: from a hand-over between threads to a connection that stays for
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

/// The schema of the native histogram: a range ends 2^(1/4) times later than the one before, which is 19 %.
const SCHEMA: i32 = 2;
const ROOTS: [f64; 1 << SCHEMA] =
    [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// Native ranges end at 2^(n/4) seconds for n from -OCTAVES*4 to OCTAVES*4: from 1 us to 12 days. What is shorter counts
/// as zero, what is longer as a little longer.
const OCTAVES: i32 = 20;
const NATIVE_FIRST: i32 = -OCTAVES << SCHEMA;
const NATIVE_ENDS: usize = ((2 * OCTAVES) << SCHEMA) as usize + 1;

/// What one count stands for: all from the end of the one before to its own.
#[derive(Debug, Clone, Copy)]
struct Place {
    end_nanos: u64,
    /// The classic and the native range that it lies in.
    classic: u8,
    native: u8,
}

const PLACES: [Place; BOUNDS_US.len() + NATIVE_ENDS + 1] = places();

/// All ends in their order, with a last one that is none.
const fn places() -> [Place; BOUNDS_US.len() + NATIVE_ENDS + 1] {
    let none =
        Place { end_nanos: u64::MAX, classic: BOUNDS_US.len() as u8, native: NATIVE_ENDS as u8 };
    let mut places = [none; BOUNDS_US.len() + NATIVE_ENDS + 1];
    let (mut classic, mut native) = (0, 0);
    while classic + native < places.len() - 1 {
        let of_classic =
            if classic < BOUNDS_US.len() { BOUNDS_US[classic] * 1000 } else { u64::MAX };
        let of_native = if native < NATIVE_ENDS { native_end_nanos(native) } else { u64::MAX };
        let is_classic = of_classic <= of_native;
        let end_nanos = if is_classic { of_classic } else { of_native };
        places[classic + native] =
            Place { end_nanos, classic: classic as u8, native: native as u8 };
        if is_classic {
            classic += 1;
        } else {
            native += 1;
        }
    }
    places
}

const fn native_end_nanos(place: usize) -> u64 {
    let index = NATIVE_FIRST + place as i32;
    let mut seconds = ROOTS[index.rem_euclid(1 << SCHEMA) as usize];
    let mut octaves = index.div_euclid(1 << SCHEMA);
    while octaves > 0 {
        (seconds, octaves) = (seconds * 2.0, octaves - 1);
    }
    while octaves < 0 {
        (seconds, octaves) = (seconds / 2.0, octaves + 1);
    }
    (seconds * 1e9) as u64
}

/// Counts of durations. Any thread may add; readers see each figure as it is at some moment. Without any it takes a word or
/// two, else 1.5 KiB.
#[derive(Debug, Default)]
pub struct Durations(OnceLock<Box<Padded<Cells>>>);

#[derive(Debug)]
struct Cells {
    counts: [AtomicU64; PLACES.len()],
    sum_us: AtomicU64,
}

impl Default for Cells {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; PLACES.len()], sum_us: AtomicU64::new(0) }
    }
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
    /// The same in the ranges of a native histogram.
    pub native: NativeCounts,
}

/// What was counted, for another process: which ranges that has does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DurationsRecord {
    /// All of them, in microseconds.
    pub sum_us: u64,
    /// The ends of ranges in nanoseconds, in their order, and how many lie before each and not before another.
    pub counts: Vec<(u64, u64)>,
}

impl DurationsRecord {
    /// What has come since an earlier one of the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let known = |end: u64| {
            let place = before.counts.binary_search_by_key(&end, |(end, _)| *end);
            place.map_or(0, |place| before.counts[place].1)
        };
        let counts =
            self.counts.iter().map(|(end, count)| (*end, count.saturating_sub(known(*end))));
        Self {
            sum_us: self.sum_us.saturating_sub(before.sum_us),
            counts: counts.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// The ranges of a native histogram of Prometheus that are not empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NativeCounts {
    /// How many are no longer than [`ZERO_SECONDS`](Self::ZERO_SECONDS).
    pub zero: u64,
    /// The number of each range, in their order, and how many lie in it alone: range `n` ends at
    /// 2^(n / 2^[`SCHEMA`](Self::SCHEMA)) seconds.
    pub buckets: Vec<(i32, u64)>,
}

impl NativeCounts {
    /// How narrow the ranges are.
    pub const SCHEMA: i32 = SCHEMA;
    /// What is no longer counts as zero: the end of the range before the first.
    pub const ZERO_SECONDS: f64 = 1.0 / (1u64 << OCTAVES) as f64;

    fn add(&mut self, place: u8, count: u64) {
        let index = NATIVE_FIRST + i32::from(place);
        match self.buckets.last_mut() {
            _ if place == 0 => self.zero += count,
            Some((last, counted)) if *last == index => *counted += count,
            _ => self.buckets.push((index, count)),
        }
    }
}

impl Durations {
    /// Counts one.
    pub fn add(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let place = PLACES.partition_point(|place| place.end_nanos < nanos);
        let cells = &self.0.get_or_init(Box::default).0;
        cells.counts[place].fetch_add(1, Ordering::Relaxed);
        cells.sum_us.fetch_add(nanos / 1000, Ordering::Relaxed);
    }

    /// What was counted so far, for another process.
    pub fn record(&self) -> DurationsRecord {
        let Some(cells) = self.0.get() else { return DurationsRecord::default() };
        let counts = PLACES.iter().zip(&cells.0.counts);
        let counts = counts.map(|(place, cell)| (place.end_nanos, cell.load(Ordering::Relaxed)));
        DurationsRecord {
            sum_us: cells.0.sum_us.load(Ordering::Relaxed),
            counts: counts.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Adds what another process has counted.
    pub fn add_all(&self, more: &DurationsRecord) {
        if more.counts.is_empty() {
            return;
        }
        let cells = &self.0.get_or_init(Box::default).0;
        for (end, count) in &more.counts {
            let place = PLACES.partition_point(|place| place.end_nanos < *end);
            cells.counts[place].fetch_add(*count, Ordering::Relaxed);
        }
        cells.sum_us.fetch_add(more.sum_us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> DurationCounts {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let mut ranges: Vec<_> = bounds.map(|bound| (bound, 0)).collect();
        let (mut native, mut count) = (NativeCounts::default(), 0);
        let Some(cells) = self.0.get() else {
            return DurationCounts { sum_seconds: 0.0, count, ranges, native };
        };
        let sum_us = cells.0.sum_us.load(Ordering::Relaxed);
        for (place, cell) in PLACES.iter().zip(&cells.0.counts) {
            let here = cell.load(Ordering::Relaxed);
            if here > 0 {
                ranges[usize::from(place.classic)].1 += here;
                native.add(place.native, here);
                count += here;
            }
        }
        DurationCounts { sum_seconds: sum_us as f64 / 1e6, count, ranges, native }
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

    #[test]
    fn a_range_of_either_kind_includes_its_end() {
        let seconds = Duration::from_secs;
        let table = [
            (Duration::ZERO, None),
            (Duration::from_nanos(953), None),
            (Duration::from_nanos(954), Some(-79)),
            (Duration::from_millis(500), Some(-4)),
            (seconds(1), Some(0)),
            (seconds(1) + Duration::from_nanos(1), Some(1)),
            (Duration::from_millis(1414), Some(2)),
            (Duration::from_millis(1415), Some(3)),
            (seconds(1 << 20), Some(80)),
            (seconds(1 << 40), Some(81)),
            (Duration::MAX, Some(81)),
        ];
        for (duration, expected) in table {
            let durations = Durations::default();
            durations.add(duration);
            let native = durations.get().native;
            let found = native.buckets.first().map(|(index, _)| *index);
            assert_eq!(found, expected, "{duration:?}");
            assert_eq!(native.zero, u64::from(expected.is_none()), "{duration:?}");
        }
    }

    #[test]
    fn what_another_process_has_counted_is_added_once() {
        let (one, other) = (Durations::default(), Durations::default());
        let durations = [0, 70, 70, 3_000, u64::MAX].map(Duration::from_micros);
        durations.iter().for_each(|duration| one.add(*duration));
        assert_eq!(DurationsRecord::default(), Durations::default().record());
        other.add(durations[1]);
        let first = one.record();
        other.add_all(&first);
        assert_eq!(other.get().count, 6);
        one.add(durations[3]);
        let second = one.record();
        other.add_all(&second.since(&first));
        other.add_all(&second.since(&second));
        one.add(durations[1]);
        assert_eq!(other.get(), one.get());
    }

    /// Another version may have other ranges.
    #[test]
    fn counts_of_ranges_that_are_none_here_are_kept() {
        let durations = Durations::default();
        durations.add_all(&DurationsRecord { sum_us: 9, counts: vec![(60_001, 2), (u64::MAX, 1)] });
        let counts = durations.get();
        assert_eq!((counts.count, counts.sum_seconds), (3, 0.000_009));
        let found: Vec<_> = counts.ranges.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(found, [(0.0001, 2), (f64::INFINITY, 1)]);
    }

    #[test]
    fn both_histograms_hold_all_that_was_counted() {
        let durations = Durations::default();
        assert_eq!(durations.get().ranges.len(), BOUNDS_US.len() + 1);
        let mut expected = vec![0; BOUNDS_US.len() + 1];
        for step in 0..4000 {
            let us = (1.0065f64.powi(step) / 10.0) as u64;
            durations.add(Duration::from_micros(us));
            expected[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        }
        let DurationCounts { count, ranges, native, .. } = durations.get();
        assert_eq!(ranges.iter().map(|(_, count)| *count).collect::<Vec<u64>>(), expected);
        let in_native = native.zero + native.buckets.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((count, in_native), (4000, 4000));
        assert!(native.buckets.is_sorted_by(|(one, _), (next, _)| one < next));
    }
}
