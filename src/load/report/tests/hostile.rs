//! Reports that no loadgen has written: an error or a report, never a panic.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::{report, written};
use crate::load::outcome::histogram;
use crate::load::report::{Report, ReportError, csv, hdr_log, html, merge, svg, table};

/// Enough for every kind of field, and small enough to be read often.
static SMALL: LazyLock<Report> = LazyLock::new(|| {
    let mut report = report(0);
    report.intervals.truncate(2);
    report
});

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(&*SMALL).unwrap());

fn document() -> Value {
    DOCUMENT.clone()
}

/// Where all values of a document are: `/counts/started`.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    let below = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| places(field, &below(name), found));
        }
        Value::Array(items) => {
            (0..)
                .zip(items)
                .for_each(|(index, item)| places(item, &format!("{place}/{index}"), found));
        }
        _ => {}
    }
}

/// A histogram with so many operations of 1 us, 2 us and so on.
fn counting(counts: &[u64]) -> Value {
    let mut full = histogram();
    for (us, count) in (1..).zip(counts) {
        full.record_n(1_000 * us, *count).unwrap();
    }
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&full, &mut bytes).unwrap();
    STANDARD.encode(bytes).into()
}

/// Half of the largest count that the format holds.
const HALF: u64 = 1 << 62;

fn hostile_value(which: usize) -> Value {
    let values = [
        Value::Null,
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(u64::MAX),
        json!(u64::MAX / 2),
        json!(u32::MAX),
        json!(1e308),
        json!(-1e308),
        json!(5e-324),
        json!(""),
        json!("\u{0}<&\"'\u{fffe}"),
        json!("AAAA"),
        json!("crr"),
        counting(&[HALF; 4]),
        counting(&[1 << 52, 1 << 52]),
        counting(&[u64::MAX >> 1]),
        json!([]),
        json!({}),
    ];
    values[which % values.len()].clone()
}

/// Changes, removes or doubles one value. Every third change is of a histogram, if there is one.
fn mutate(document: &mut Value, place: usize, which: usize) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let is_histogram = |place: &&String| place.ends_with("/histogram");
    if which.is_multiple_of(3) && found.iter().any(|place| is_histogram(&place)) {
        found.retain(|place| is_histogram(&place));
    }
    let place = &found[place % found.len()];
    let (parent, name) = place.rsplit_once('/').unwrap_or_default();
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) if which.is_multiple_of(11) => _ = fields.remove(name),
        Some(Value::Array(items)) if which.is_multiple_of(5) => items.extend_from_within(..),
        _ => *document.pointer_mut(place).unwrap() = hostile_value(which / 3),
    }
}

/// Everything that can be done with a report, as `loadgen merge` and `loadgen report` do.
fn use_it(report: Report) {
    written(|out| table(&report, out));
    written(|out| csv(&report, out));
    // A histogram of 2^53 operations has no room in the log.
    let _ = hdr_log(&report, &mut Vec::new());
    let pairs = [("one", &report), ("two", &report)];
    for text in [svg(&pairs[..1]), svg(&pairs), html(&pairs)] {
        let text = text.unwrap();
        assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
    }
    for reports in [vec![report.clone()], vec![SMALL.clone(), report.clone(), report]] {
        if let Ok(sum) = merge(reports) {
            let text = written(|out| sum.to_json(out));
            Report::from_json(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
}

#[test]
fn a_share_of_the_cpu_that_cannot_be_is_an_error() {
    for share in [1e308, -1e308, -0.1] {
        let mut document = document();
        *document.pointer_mut("/generator/cpu_share").unwrap() = json!(share);
        let error = Report::from_json(&document.to_string()).unwrap_err().to_string();
        assert!(error.contains("cpu_share is"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn changed_documents_never_panic(
        changes in prop::collection::vec((any::<usize>(), any::<usize>()), 1..4)
    ) {
        let mut document = document();
        for (place, which) in changes {
            mutate(&mut document, place, which);
        }
        if let Ok(report) = Report::from_json(&document.to_string()) {
            use_it(report);
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = document().to_string().into_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(1 + end.index(2 * bytes.len()));
        if let Ok(report) = Report::from_json(&String::from_utf8_lossy(&bytes)) {
            use_it(report);
        }
    }
}

#[track_caller]
fn too_large(place: &str, value: Value) {
    let mut document = document();
    *document.pointer_mut(place).expect(place) = value;
    let changed = Report::from_json(&document.to_string()).expect(place);
    let error = merge(vec![changed.clone(), changed]).expect_err(place);
    assert!(matches!(error, ReportError::TooLarge { .. }), "{place}: {error}");
    let name = place.rsplit('/').find(|part| !["histogram", "1", "ECONNREFUSED"].contains(part));
    let parts = error.to_string();
    assert!(name.is_some_and(|name| parts.contains(name) || name == "connect"), "{place}: {parts}");
}

#[test]
fn sums_without_room_are_errors_that_name_them() {
    for place in [
        "/runs",
        "/counts/started",
        "/counts/completed",
        "/counts/received_bytes",
        "/faults/connect/ECONNREFUSED",
        "/dropped_syns/two",
        "/intervals/1/completed",
        "/generator/cpu_ns",
        "/plan/threads",
        "/plan/pace/open/max_inflight",
    ] {
        too_large(place, u64::MAX.into());
    }
    too_large("/rate_per_second", json!(1e308));
    too_large("/plan/pace/open/rate_per_second", json!(1e308));
    let many = counting(&[1 << 52, 1]);
    too_large("/latencies/total/histogram", many.clone());
    too_large("/intervals/1/total/histogram", many);
}

#[test]
fn a_histogram_that_counts_more_than_any_run_is_refused() {
    let mut document = document();
    document["latencies"]["total"]["histogram"] = counting(&[HALF, HALF]);
    let error = Report::from_json(&document.to_string()).unwrap_err();
    assert!(error.to_string().contains("it counts 9223372036854775808 operations"), "{error}");
}

#[test]
fn what_servers_used_is_shown_however_much_it_is() {
    let mut document = document();
    let mut server = document["servers"][0].clone();
    server["rss_bytes"] = u64::MAX.into();
    server["cpu_ns"] = u64::MAX.into();
    document["servers"] = json!([server, server]);
    use_it(Report::from_json(&document.to_string()).unwrap());
}
