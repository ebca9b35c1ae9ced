//! Whether runs were at the same time. Only then their rates can be added.

use super::Report;

/// Share of the longest window that all windows must have in common. Less, and the target was under
/// less load than the sum of the runs for a time that shows.
const COMMON_SHARE_MIN: f64 = 0.9;

const MS_PER_SECOND: f64 = 1e3;
const NS_PER_MS: u64 = 1_000_000;

/// When the windows of several runs were, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    first_start: u64,
    last_start: u64,
    first_end: u64,
    last_end: u64,
    longest: u64,
}

impl Windows {
    /// Those of `reports`. A merged one counts from its first start to its last end.
    pub(super) fn of(reports: &[Report]) -> Self {
        let starts = reports.iter().map(|report| report.started_unix_ms);
        let ends = reports.iter().map(|report| report.ended_unix_ms);
        let lengths = starts.clone().zip(ends.clone());
        Self {
            first_start: starts.clone().min().unwrap_or_default(),
            last_start: starts.max().unwrap_or_default(),
            first_end: ends.clone().min().unwrap_or_default(),
            last_end: ends.max().unwrap_or_default(),
            longest: lengths.map(|(from, to)| to.saturating_sub(from)).max().unwrap_or_default(),
        }
    }

    /// From the first start to the last end, in nanoseconds.
    pub(super) fn span_ns(&self) -> u64 {
        self.last_end.saturating_sub(self.first_start).saturating_mul(NS_PER_MS)
    }

    /// Why rates cannot be added, if so.
    pub(super) fn apart(&self) -> Option<String> {
        let common = self.first_end.saturating_sub(self.last_start);
        let needed = self.longest as f64 * COMMON_SHARE_MIN;
        ((common as f64) < needed).then(|| {
            format!(
                "the runs were not at the same time: their windows have {} s in common, and the \
                 longest took {} s; the rate is that from the first start to the last end, not the \
                 sum. Start them together, and watch the clocks of the machines",
                common as f64 / MS_PER_SECOND,
                self.longest as f64 / MS_PER_SECOND
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::build::report;
    use super::*;

    fn windows(times: &[(u64, u64)]) -> Windows {
        let reports: Vec<Report> = times
            .iter()
            .map(|&(started_unix_ms, ended_unix_ms)| Report {
                started_unix_ms,
                ended_unix_ms,
                ..report(0)
            })
            .collect();
        Windows::of(&reports)
    }

    #[test]
    fn runs_are_together_when_nearly_all_of_the_longest_is_common() {
        let table: &[(&[(u64, u64)], bool)] = &[
            (&[(1000, 2000)], true),
            (&[(1000, 2000), (1000, 2000)], true),
            (&[(1000, 2000), (1100, 2100)], true),
            (&[(1000, 2000), (1101, 2101)], false),
            (&[(1000, 2000), (1000, 1500)], false),
            (&[(1000, 2000), (2000, 3000)], false),
            (&[(1000, 2000), (9000, 9999)], false),
            (&[(1000, 2000), (1060, 2060), (1120, 2120)], false),
            (&[(1000, 1000), (1000, 1000)], true),
            // As no program writes it.
            (&[(2000, 1000), (u64::MAX, 0)], true),
            (&[(0, u64::MAX), (u64::MAX, 0)], false),
        ];
        for (times, together) in table {
            assert_eq!(windows(times).apart().is_none(), *together, "{times:?}");
        }
    }

    #[test]
    fn the_reason_has_the_figures() {
        let windows = windows(&[(1000, 2000), (1750, 2750)]);
        let text = windows.apart().unwrap();
        assert!(text.contains("have 0.25 s in common") && text.contains("took 1 s"), "{text}");
        assert_eq!(windows.span_ns(), 1_750_000_000);
    }
}
