//! The whole seconds of a run, and what drawing them again says about its percentiles.

use fastrand::Rng;

use super::spread::{self, Spread};
use crate::load::report::{IntervalReport, Report};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// What may be missing of a second that counts as whole: an open loop ends with its last planned start.
const NS_MISSING_MAX: u64 = NS_PER_SECOND / 10;

/// Seconds of the longest window.
const SECONDS_MAX: u64 = 3600;

/// Seconds that are told apart; in a longer run several in a row count as one.
const PIECES_MAX: usize = 60;

/// How often the seconds are drawn. The error of a variance is about a tenth then.
const RESAMPLES: usize = 200;

/// A second of a run, or several in a row. Counts are those of a file that anybody may have written:
/// no integer holds their sums.
#[derive(Debug, Clone, Default, PartialEq)]
struct Second {
    length: f64,
    completed: f64,
    failed: f64,
    /// Latencies in nanoseconds and how often each was; ascending.
    latencies: Vec<(u64, f64)>,
}

/// The whole seconds of a run; what is left at its end is left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seconds {
    seconds: Vec<Second>,
    /// How many there were before some of them were put together.
    pub(super) count: usize,
}

impl Seconds {
    pub(super) fn of(report: &Report) -> Self {
        let elapsed_ns = report.elapsed_ns.saturating_add(NS_MISSING_MAX);
        let count = (elapsed_ns / NS_PER_SECOND).min(SECONDS_MAX) as usize;
        // A second in which nothing was planned at the end of the run has no interval.
        let single: Vec<Second> = (0..count)
            .map(|index| report.intervals.get(index).map_or(Second::empty(), Second::of))
            .collect();
        let together = count.div_ceil(PIECES_MAX).max(1);
        let seconds = single.chunks_exact(together).map(Second::sum).collect();
        Self { seconds, count }
    }

    /// Operations completed per second, in each.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.seconds.iter().map(|second| second.completed / second.length).collect()
    }

    /// Operations that succeeded and all that ended, in each.
    pub(super) fn completed(&self) -> Vec<(f64, f64)> {
        let pair = |second: &Second| (second.completed, second.completed + second.failed);
        self.seconds.iter().map(pair).collect()
    }

    /// The uncertainty of each quantile of the latencies, by a bootstrap over the seconds: they are
    /// drawn with repetition, and the latencies of what was drawn taken together. Quantiles ascend.
    pub(super) fn quantiles<const N: usize>(
        &self,
        quantiles: [f64; N],
        seed: u64,
    ) -> [Option<Spread>; N] {
        let mut rng = Rng::with_seed(seed);
        let all = self.latencies();
        let mut drawn = [(); N].map(|()| Vec::new());
        for _ in 0..RESAMPLES {
            let weights = self.draw(&mut rng);
            let weighted = all.iter().map(|&(value, index, times)| (value, weights[index] * times));
            let totals = self.seconds.iter().map(Second::total);
            let total = totals.zip(&weights).map(|(total, weight)| total * weight).sum();
            extend(&mut drawn, logarithms(weighted, total, quantiles));
        }
        let mut series = [(); N].map(|()| Vec::new());
        for second in &self.seconds {
            let latencies = second.latencies.iter().copied();
            extend(&mut series, logarithms(latencies, second.total(), quantiles));
        }
        std::array::from_fn(|which| self.spread(&drawn[which], &series[which]))
    }

    /// Of all seconds: value, second, how often. Ascending.
    fn latencies(&self) -> Vec<(u64, usize, f64)> {
        let mut all: Vec<(u64, usize, f64)> = Vec::new();
        for (index, second) in self.seconds.iter().enumerate() {
            all.extend(second.latencies.iter().map(|&(value, times)| (value, index, times)));
        }
        all.sort_unstable_by_key(|&(value, index, _)| (value, index));
        all
    }

    /// How often each second is drawn, in as many draws as there are seconds.
    fn draw(&self, rng: &mut Rng) -> Vec<f64> {
        let mut weights = vec![0.0; self.seconds.len()];
        for _ in 0..weights.len() {
            weights[rng.usize(..self.seconds.len())] += 1.0;
        }
        weights
    }

    fn spread(&self, drawn: &[f64], series: &[f64]) -> Option<Spread> {
        let count = self.seconds.len();
        if drawn.len() < RESAMPLES / 2 {
            return None;
        }
        // A bootstrap divides by the count, where one second less is free.
        let free = count as f64 / (count as f64 - 1.0);
        Some(Spread::new(spread::variance(drawn) * free, count, series))
    }
}

impl Second {
    fn empty() -> Self {
        Self { length: 1.0, ..Self::default() }
    }

    fn of(interval: &IntervalReport) -> Self {
        let recorded = interval.total.histogram().iter_recorded();
        Self {
            length: 1.0,
            completed: interval.completed as f64,
            failed: interval.failed as f64,
            latencies: recorded
                .map(|step| (step.value_iterated_to(), step.count_at_value() as f64))
                .collect(),
        }
    }

    fn sum(several: &[Self]) -> Self {
        if let [one] = several {
            return one.clone();
        }
        let total = |figure: fn(&Self) -> f64| several.iter().map(figure).sum();
        let mut latencies: Vec<_> =
            several.iter().flat_map(|second| second.latencies.iter().copied()).collect();
        latencies.sort_unstable_by_key(|&(value, _)| value);
        Self {
            length: total(|second| second.length),
            completed: total(|second| second.completed),
            failed: total(|second| second.failed),
            latencies,
        }
    }

    /// Latencies in it.
    fn total(&self) -> f64 {
        self.latencies.iter().map(|(_, times)| times).sum()
    }
}

/// The logarithm of the value at or below which each share of `total` lies. Values ascend and have
/// weights, and the quantiles ascend.
fn logarithms<const N: usize>(
    weighted: impl Iterator<Item = (u64, f64)>,
    total: f64,
    quantiles: [f64; N],
) -> [Option<f64>; N] {
    let (mut found, mut next, mut so_far) = ([None; N], 0, 0.0);
    for (value, weight) in weighted.filter(|(_, weight)| *weight > 0.0) {
        so_far += weight;
        while next < N && so_far >= quantiles[next] * total {
            found[next] = Some((value as f64).ln());
            next += 1;
        }
        if next == N {
            break;
        }
    }
    found
}

fn extend<const N: usize>(lists: &mut [Vec<f64>; N], values: [Option<f64>; N]) {
    lists.iter_mut().zip(values).for_each(|(list, value)| list.extend(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::build::report;

    #[test]
    fn quantiles_of_weighted_values() {
        let table = [(1, 5.0), (2, 0.0), (3, 4.0), (9, 1.0)];
        let found = logarithms(table.into_iter(), 10.0, [0.1, 0.5, 0.51, 0.9, 0.91, 1.0]);
        let expected = [1.0_f64, 1.0, 3.0, 3.0, 9.0, 9.0].map(|value| Some(value.ln()));
        assert_eq!(found, expected);
        assert_eq!(logarithms([].into_iter(), 0.0, [0.5]), [None]);
        assert_eq!(logarithms([(4, 0.0)].into_iter(), 0.0, [0.5]), [None]);
    }

    #[test]
    fn the_last_part_of_a_second_is_left_out_and_silent_seconds_count() {
        let mut report = report(0);
        for (elapsed_ms, intervals, count) in
            [(10_003, 10, 10), (9_899, 10, 9), (9_901, 10, 10), (10_000, 8, 10), (400, 1, 0)]
        {
            report.elapsed_ns = elapsed_ms * 1_000_000;
            report.intervals.truncate(intervals);
            let seconds = Seconds::of(&report);
            assert_eq!((seconds.count, seconds.seconds.len()), (count, count), "{elapsed_ms} ms");
            let silent = seconds.rates().iter().filter(|rate| **rate == 0.0).count();
            assert_eq!(silent, count.saturating_sub(intervals), "{elapsed_ms} ms");
        }
    }

    #[test]
    fn many_seconds_are_put_together() {
        let mut report = report(0);
        let one = report.intervals[0].clone();
        report.elapsed_ns = 150 * NS_PER_SECOND;
        report.intervals = vec![one.clone(); 150];
        let seconds = Seconds::of(&report);
        assert_eq!((seconds.count, seconds.seconds.len()), (150, 50));
        assert!(seconds.rates().iter().all(|rate| *rate == one.completed as f64));
        let sum: f64 = seconds.seconds[0].latencies.iter().map(|(_, times)| times).sum();
        assert_eq!(sum, 3.0 * one.total.count() as f64);
    }

    #[test]
    fn a_file_that_claims_years_is_no_work() {
        let mut report = report(0);
        report.elapsed_ns = u64::MAX;
        assert_eq!(Seconds::of(&report).count, SECONDS_MAX as usize);
    }
}
