//! JSON: there and back, and what is refused.

use super::build::{card, empty_report, http, outcome, report, written};
use crate::load::report::{Report, ReportError};
use crate::load::{Mode, Pace};

fn json(report: &Report) -> String {
    written(|out| report.to_json(out))
}

#[track_caller]
fn refused(text: &str, expected: &str) -> ReportError {
    let error = Report::from_json(text).expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}");
    error
}

#[test]
fn what_was_written_is_read_back() {
    for report in [report(0), report(123_456), empty_report()] {
        assert_eq!(Report::from_json(&json(&report)).unwrap(), report);
    }
}

#[test]
fn each_mode_and_loop_is_read_back() {
    let modes = [
        Mode::Accept,
        Mode::Rr,
        Mode::Http { requests_per_connection: None },
        Mode::Http { requests_per_connection: Some(1) },
        Mode::Stream { echo: true },
        Mode::Hold,
        Mode::Storm,
    ];
    for mode in modes {
        let mut outcome = outcome(0);
        outcome.plan.mode = mode;
        outcome.plan.pace = Pace::Closed { connections: 64 };
        outcome.plan.http = matches!(mode, Mode::Http { .. }).then(|| http("/"));
        outcome.statuses = [(200, 7), (503, 1)].into();
        let report = Report::from_outcome(&outcome, &card());
        assert_eq!(Report::from_json(&json(&report)).unwrap(), report, "{mode:?}");
    }
}

#[test]
fn units_and_summaries_stand_in_the_text() {
    let value: serde_json::Value = serde_json::from_str(&json(&report(0))).unwrap();
    assert_eq!(value["schema"], "uring-acceptor/loadgen");
    assert_eq!(value["plan"]["pace"]["open"]["rate_per_second"], 1_000.1);
    assert_eq!(value["plan"]["close"], "fin");
    assert_eq!(value["faults"]["connect"]["ECONNREFUSED"], 3);
    assert_eq!(value["faults"]["close"]["errno 999"], 1);
    let connect = &value["latencies"]["connect"];
    assert_eq!(connect["count"], 9_550);
    assert!(connect["summary"]["p50_us"].as_f64().is_some_and(|us| (20.9..21.1).contains(&us)));
    let cost = value["server_cpu_us_per_operation"].as_f64().unwrap();
    assert!((cost - 350_000.0 / 9_550.0).abs() < 1e-9, "{cost}");
    assert_eq!(value["started_unix_ms"], 1_790_000_001_123_u64);
    assert_eq!(value["ended_unix_ms"], 1_790_000_011_126_u64);
}

#[test]
fn other_schemas_and_versions_are_refused() {
    let good = json(&report(0));
    refused(&good.replace("acceptor/loadgen", "acceptor/other"), "'uring-acceptor/loadgen'");
    refused(&good.replace("\"version\": 4", "\"version\": 3"), "is 3, this program knows 4");
    refused("{}", "schema is missing");
    refused("[]", "schema is missing");
    refused("", "let loadgen write it again");
    refused(&good[..good.len() / 2], "let loadgen write it again");
}

#[test]
fn unknown_and_missing_fields_are_refused() {
    let good = json(&report(0));
    let places = ["{\n  \"schema\"", "{\n    \"started\"", "{\n        \"rate_per_second\""];
    for place in places {
        assert!(good.contains(place), "{place}");
        let name = place.trim_start_matches(['{', '\n', ' ']);
        refused(&good.replacen(place, &format!("{{\"novel\": 1, {name}"), 1), "novel");
    }
    refused(&good.replace("\"failed\"", "\"flawed\""), "flawed");
    refused(&good.replace("      \"cpu_ns\": 350000000,\n", ""), "missing field `cpu_ns`");
}

#[test]
fn a_corrupt_histogram_is_named() {
    let mut value: serde_json::Value = serde_json::from_str(&json(&report(0))).unwrap();
    let good = value["latencies"]["service"]["histogram"].as_str().unwrap().to_owned();
    for bad in ["", "*", "AAAA", &good[..good.len() / 8 * 4]] {
        value["latencies"]["service"]["histogram"] = bad.into();
        let error = refused(&value.to_string(), "histogram of latencies.service is corrupt");
        assert!(matches!(error, ReportError::CorruptHistogram { .. }));
    }
    value["latencies"]["service"]["histogram"] = good.into();
    value["intervals"][3]["total"]["histogram"] = "AAAA".into();
    refused(&value.to_string(), "histogram of intervals.3.total is corrupt");
}

#[test]
fn a_histogram_with_other_bounds_is_refused() {
    use base64::Engine as _;
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};
    let mut bytes = Vec::new();
    let other = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1_000, 2).unwrap();
    V2Serializer::new().serialize(&other, &mut bytes).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&json(&report(0))).unwrap();
    value["latencies"]["total"]["histogram"] =
        base64::engine::general_purpose::STANDARD.encode(bytes).into();
    refused(&value.to_string(), "its bounds are 1 to 1000 ns with 2 digits");
}
