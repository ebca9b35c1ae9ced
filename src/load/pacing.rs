//! When operations of an open loop start: planned beforehand, whatever the server does.
//!
//! ```text
//!   uniform, 2 threads:   0   1   2   3   4   5      k / rate
//!                         a   b   a   b   a   b      thread a takes the even k, thread b the odd
//! ```

use std::time::Duration;

use fastrand::Rng;

use super::plan::Arrival;

/// The planned starts of one thread, from the start of the run; it never ends and never goes back.
///
/// A schedule has no clock: what it plans does not depend on when it is asked.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrival: Arriving,
    /// Starts per second over all threads.
    rate: f64,
    /// Threads that share the rate.
    threads: u64,
}

#[derive(Debug, Clone)]
enum Arriving {
    /// The number of the next start, counted over all threads. Starts are computed from it, so that
    /// no rounding error adds up.
    Uniform { next: u64 },
    /// The last start in seconds.
    Poisson { last: f64, rng: Rng },
}

impl Schedule {
    /// All starts of a run at `rate_per_second`. The same seed gives the same starts.
    ///
    /// # Panics
    /// When the rate is not a positive number.
    pub fn new(rate_per_second: f64, arrival: Arrival, seed: u64) -> Self {
        let is_a_rate = rate_per_second.is_finite() && rate_per_second > 0.0;
        assert!(is_a_rate, "{rate_per_second} starts per second");
        let arrival = match arrival {
            Arrival::Uniform => Arriving::Uniform { next: 0 },
            Arrival::Poisson => Arriving::Poisson { last: 0.0, rng: Rng::with_seed(seed) },
        };
        Self { arrival, rate: rate_per_second, threads: 1 }
    }

    /// The part of an unused schedule that thread `index` of `of` starts. Together the threads keep
    /// the rate: uniform starts are dealt out in turn, and Poisson processes add up to one.
    ///
    /// # Panics
    /// When `index` is not below `of`.
    pub fn for_thread(mut self, index: usize, of: usize) -> Self {
        assert!(index < of, "thread {index} of {of}");
        self.threads = of as u64;
        match &mut self.arrival {
            Arriving::Uniform { next } => *next = index as u64,
            Arriving::Poisson { rng, .. } => *rng = fork(rng, index),
        }
        self
    }
}

/// The generator of thread `index`: independent of those of the others.
fn fork(rng: &mut Rng, index: usize) -> Rng {
    (0..index).fold(rng.fork(), |_, _| rng.fork())
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = match &mut self.arrival {
            Arriving::Uniform { next } => {
                let start = *next as f64 / self.rate;
                *next += self.threads;
                start
            }
            Arriving::Poisson { last, rng } => {
                *last += exponential(rng) * self.threads as f64 / self.rate;
                *last
            }
        };
        Some(Duration::from_secs_f64(seconds))
    }
}

/// Exponentially distributed with mean 1.
fn exponential(rng: &mut Rng) -> f64 {
    // f64() is below 1, so the logarithm's argument is above 0.
    -(1.0 - rng.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Arrival; 2] = [Arrival::Poisson, Arrival::Uniform];

    fn starts(schedule: Schedule, count: usize) -> Vec<Duration> {
        schedule.take(count).collect()
    }

    /// The starts of all threads of a run before `end`, in order.
    fn together(schedule: &Schedule, of: usize, end: Duration) -> Vec<Duration> {
        let thread = |index| schedule.clone().for_thread(index, of);
        let mut all: Vec<Duration> =
            (0..of).flat_map(|index| thread(index).take_while(|start| *start < end)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn uniform_starts_are_multiples_of_the_period() {
        let table: [(f64, u64, u64); 6] = [
            (1000.0, 0, 0),
            (1000.0, 7, 7_000_000),
            (3.0, 1, 333_333_333),
            (3.0, 3_000_000, 1_000_000_000_000_000),
            (0.5, 2, 4_000_000_000),
            (1e6, 3_600_000_000, 3_600_000_000_000),
        ];
        for (rate, k, nanos) in table {
            let mut schedule = Schedule::new(rate, Arrival::Uniform, 0);
            schedule.arrival = Arriving::Uniform { next: k };
            let apart = schedule.next().unwrap().abs_diff(Duration::from_nanos(nanos));
            assert!(apart <= Duration::from_nanos(1), "start {k} at {rate}/s is {apart:?} off");
        }
    }

    #[test]
    fn uniform_threads_take_turns() {
        let whole = Schedule::new(900.0, Arrival::Uniform, 0);
        let end = Duration::from_secs(1);
        assert_eq!(together(&whole, 3, end), together(&whole, 1, end));
        let second = starts(whole.for_thread(1, 3), 2);
        assert_eq!(
            second,
            [Duration::from_secs_f64(1.0 / 900.0), Duration::from_secs_f64(4.0 / 900.0)]
        );
    }

    #[test]
    fn a_seed_gives_the_same_starts_again_and_another_seed_does_not() {
        let poisson = |seed| starts(Schedule::new(1e4, Arrival::Poisson, seed), 100);
        assert_eq!(poisson(1), poisson(1));
        assert_ne!(poisson(1), poisson(2));
        let thread =
            |index| starts(Schedule::new(1e4, Arrival::Poisson, 1).for_thread(index, 2), 100);
        assert_eq!(thread(1), thread(1));
        assert_ne!(thread(0), thread(1));
    }

    #[test]
    fn starts_never_go_back() {
        for arrival in BOTH {
            let starts = starts(Schedule::new(1e7, arrival, 3), 100_000);
            assert!(starts.is_sorted(), "{arrival:?}");
        }
    }

    /// A Poisson count has the mean as its variance; 6 standard deviations are never exceeded.
    #[test]
    fn the_mean_rate_is_kept_however_many_threads_share_it() {
        let (rate, end) = (20_000.0, Duration::from_secs(5));
        for (arrival, of, seed) in
            BOTH.iter().flat_map(|arrival| [(arrival, 1, 1), (arrival, 2, 7), (arrival, 7, 11)])
        {
            let expected = rate * end.as_secs_f64();
            let count = together(&Schedule::new(rate, *arrival, seed), of, end).len() as f64;
            let bound = 6.0 * expected.sqrt();
            assert!((count - expected).abs() < bound, "{arrival:?} on {of} threads: {count}");
        }
    }

    /// Gaps of a Poisson process: mean and standard deviation are equal, and 1/e exceed the mean.
    #[test]
    fn poisson_gaps_are_exponential_also_where_threads_add_up() {
        for of in [1, 4] {
            let all =
                together(&Schedule::new(1e4, Arrival::Poisson, 5), of, Duration::from_secs(10));
            let gaps: Vec<f64> =
                all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            let longer = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
            assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{of}: {variance} {mean}");
            assert!((longer - (-1f64).exp()).abs() < 0.02, "{of}: {longer}");
        }
    }

    #[test]
    fn what_is_planned_does_not_depend_on_when_it_is_asked() {
        for arrival in BOTH {
            let at_once = starts(Schedule::new(500.0, arrival, 9), 50);
            let mut schedule = Schedule::new(500.0, arrival, 9);
            let mut piecemeal = Vec::new();
            for size in [1, 9, 40] {
                piecemeal.extend(schedule.by_ref().take(size));
                std::thread::yield_now();
            }
            assert_eq!(piecemeal, at_once, "{arrival:?}");
        }
    }
}
