//! The table, CSV and the interval log, the last also as another program reads it.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::build::{self, card, empty_report, outcome, report, written};
use super::expect_golden;
use crate::load::report::{IntervalReport, Latency, Report, csv, hdr_log, table};
use crate::load::{CloseStyle, Mode, Pace, Verdict};

#[test]
fn the_table_is_as_written_down() {
    let mut http = outcome(7_000);
    http.plan.mode = Mode::Http { requests_per_connection: None };
    http.plan.pace = Pace::Closed { connections: 1_000 };
    http.plan.close = CloseStyle::Server;
    http.plan.http = Some(build::http("/a?b=c"));
    http.statuses = [(200, 9_000), (204, 500), (404, 50)].into();
    (http.body_bytes, http.closed_by_server, http.resent, http.queued) = (123_456, 95, 7, 12);
    http.not_started = 1_234;
    (http.closed_by_client, http.unasked, http.not_resent) = (8, 1_003, 2);
    http.notes = vec!["2 requests were not sent again".into()];
    http.verdict = Verdict::Invalid(vec!["lateness p99 above 1 ms".into()]);
    let reports = [report(0), Report::from_outcome(&http, &card()), empty_report()];
    let tables = reports.map(|report| written(|out| table(&report, out)));
    expect_golden("report.txt", &tables.join("\n----\n\n"));
}

#[test]
fn csv_has_a_header_and_a_line_per_interval() {
    let mut report = report(0);
    report.intervals[1] =
        IntervalReport { completed: 0, total: Latency::empty(), ..report.intervals[1].clone() };
    let text = written(|out| csv(&report, out));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 11);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    assert_eq!(lines[1][..5], ["0", "1000000000", "1000", "1", "1000.000"]);
    assert_eq!(lines[2][..6], ["1000000000", "1000000000", "0", "1", "0.000", ""]);
    let p50_us = report.intervals[0].total.summary().unwrap().p50_us;
    assert_eq!(lines[1][7], format!("{p50_us:.3}"));
}

#[test]
fn the_interval_log_is_read_back() {
    let report = report(0);
    let text = written(|out| hdr_log(&report, out));
    assert!(text.starts_with("#[Histogram log format version 1.3]\n#[StartTime: 1790000001.123 "));
    let mut intervals = report.intervals.iter();
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let LogEntry::Interval(read) = entry.unwrap() else { continue };
        let interval = intervals.next().expect("as many as were written");
        assert_eq!(read.start_timestamp().as_nanos(), u128::from(interval.start_ns));
        let bytes = base64::engine::general_purpose::STANDARD.decode(read.encoded_histogram());
        let decoded: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.unwrap().as_slice()).unwrap();
        assert_eq!(decoded, *interval.total.histogram());
    }
    assert_eq!(intervals.count(), 0);
}

const READER: &str = "
import sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
with_all = HdrHistogram(1, 3600000000000, 3)
reader = HistogramLogReader(sys.argv[1], with_all)
while True:
    interval = reader.get_next_interval_histogram()
    if interval is None:
        break
    with_all.add(interval)
print(with_all.get_total_count(), with_all.get_value_at_percentile(50),
      with_all.get_value_at_percentile(99), '%.3f' % reader.get_start_time_sec())
";

fn python(arguments: &[&str]) -> Option<std::process::Output> {
    let output = Command::new("python3").args(arguments).stdin(Stdio::null()).output().ok()?;
    Some(output)
}

#[test]
fn another_program_reads_the_same_figures_from_the_interval_log() {
    if !python(&["-c", "import hdrh"]).is_some_and(|output| output.status.success()) {
        let skipped = "SKIPPED: no python3 with hdrhistogram to read the interval log with\n";
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    }
    let report = report(0);
    let path = std::env::temp_dir().join(format!("interval-log-{}.hlog", std::process::id()));
    std::fs::write(&path, written(|out| hdr_log(&report, out))).unwrap();
    let output = python(&["-c", READER, path.to_str().unwrap()]).unwrap();
    std::fs::remove_file(&path).unwrap();
    let total = report.latencies.total.histogram();
    let at = |quantile| total.value_at_quantile(quantile);
    let expected = format!("{} {} {} 1790000001.123\n", total.len(), at(0.5), at(0.99));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{error}");
}
