//! One line per interval, for spreadsheets.

use std::io::{self, Write};

use super::{IntervalReport, Report};

/// The columns; docs/loadgen-schema.md says what they mean.
const HEADER: &str = "start_ns,length_ns,completed,failed,rate_per_second,\
                      min_us,mean_us,p50_us,p90_us,p99_us,p999_us,max_us";

/// Writes the header and one line per interval. An interval without a completed operation has empty
/// latency columns.
///
/// # Errors
/// Those of the writer.
pub fn csv(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    report.intervals.iter().try_for_each(|interval| line(interval, out))
}

fn line(interval: &IntervalReport, out: &mut impl Write) -> io::Result<()> {
    let IntervalReport { start_ns, length_ns, completed, failed, .. } = interval;
    let rate = interval.rate_per_second();
    write!(out, "{start_ns},{length_ns},{completed},{failed},{rate:.3}")?;
    let Some(summary) = interval.total.summary() else { return writeln!(out, ",,,,,,,") };
    for us in [
        summary.min_us,
        summary.mean_us,
        summary.p50_us,
        summary.p90_us,
        summary.p99_us,
        summary.p999_us,
        summary.max_us,
    ] {
        write!(out, ",{us:.3}")?;
    }
    writeln!(out)
}
