//! The interval log that HdrHistogram programs read (HistogramLogAnalyzer, the Python package).

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::Report;

/// Written by hand, because the crate's builder knows neither the version nor the legend.
const FORMAT: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str =
    r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// The values are nanoseconds and `Interval_Max` is milliseconds, as in the Java programs.
const MAX_VALUE_DIVISOR: f64 = 1e6;

const MS_PER_SECOND: f64 = 1e3;

/// Writes one histogram per interval: latencies from the planned start, in nanoseconds.
///
/// # Errors
/// Those of the writer.
pub fn hdr_log(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let start_seconds = report.started_unix_ms as f64 / MS_PER_SECOND;
    writeln!(out, "{FORMAT}")?;
    writeln!(out, "#[StartTime: {start_seconds:.3} (seconds since epoch)]")?;
    writeln!(out, "{LEGEND}")?;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .with_max_value_divisor(MAX_VALUE_DIVISOR)
        .begin_log_with(out, &mut serializer)?;
    for interval in &report.intervals {
        let start = Duration::from_nanos(interval.start_ns);
        let length = Duration::from_nanos(interval.length_ns);
        let written = log.write_histogram(interval.total.histogram(), start, length, None);
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
        })?;
    }
    Ok(())
}
