//! Pictures: well-formed, self-contained, and what stands in them.

use std::io::Write;
use std::process::{Command, Stdio};

use super::build::{card, empty_report, http, outcome, report};
use crate::load::report::{Report, ReportError, html, svg};
use crate::load::{Mode, Verdict};

const PARSER: &str = "import sys, xml.dom.minidom as m; m.parseString(sys.stdin.buffer.read())";

/// Panics when python3 says that it is not well-formed XML; says so when there is no python3.
#[track_caller]
fn expect_well_formed(text: &str) {
    let python = Command::new("python3")
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        let skipped = "SKIPPED: no python3 to parse the pictures with\n";
        return std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    };
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

/// Names and paths as no one would choose them.
fn hostile() -> Report {
    let mut outcome = outcome(0);
    outcome.plan.mode = Mode::Http { requests_per_connection: Some(1) };
    outcome.plan.http = Some(http("/"));
    outcome.verdict = Verdict::Invalid(vec!["late <b>".into()]);
    let mut report = Report::from_outcome(&outcome, &card());
    // Its command line would refuse it; a file from elsewhere may hold anything.
    report.plan.http.as_mut().expect("it is HTTP").path = "/<script>\"&'\u{1}".into();
    report
}

#[test]
fn pictures_and_pages_are_well_formed() {
    let (one, two, empty, hostile) = (report(0), report(400_000), empty_report(), hostile());
    let single = {
        let mut report = report(0);
        report.intervals.truncate(1);
        report
    };
    let sets: [&[(&str, &Report)]; 5] = [
        &[("one", &one)],
        &[("one", &one), ("two & <more>", &two)],
        &[("empty", &empty)],
        &[("\u{0}\"'<", &hostile), ("empty", &empty)],
        &[("single", &single)],
    ];
    for set in sets {
        for text in [svg(set).unwrap(), html(set).unwrap()] {
            expect_well_formed(&text);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}

#[test]
fn pages_load_nothing_and_run_nothing() {
    let page = html(&[("<script>", &hostile())]).unwrap();
    for word in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("prefers-color-scheme:dark"));
    assert!(page.contains("do not use these figures"));
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn each_report_has_a_line_and_a_name() {
    let reports: Vec<Report> = (0..8).map(|index| report(index * 50_000)).collect();
    let names: Vec<String> = (0..8).map(|index| format!("run {index}")).collect();
    let pairs: Vec<(&str, &Report)> = names.iter().map(String::as_str).zip(&reports).collect();
    let picture = svg(&pairs).unwrap();
    let lines = picture.lines().filter(|line| line.starts_with("<path class=\"line"));
    assert!(lines.count() >= 3 * 8);
    assert!(names.iter().all(|name| picture.contains(&format!(">{name}<"))));
    assert!(matches!(svg(&[]), Err(ReportError::Nothing)));
    assert!(matches!(html(&[]), Err(ReportError::Nothing)));
}

/// The path of a line, by its place in the picture.
fn line(picture: &str, index: usize) -> &str {
    let mut lines = picture.lines().filter(|line| line.starts_with("<path class=\"line"));
    let line = lines.nth(index).expect("a line");
    line.split(" d=\"").nth(1).and_then(|data| data.split('"').next()).expect("a path")
}

#[test]
fn a_run_of_one_interval_is_a_line_over_all_of_it_without_a_name() {
    let mut report = report(0);
    report.intervals.truncate(1);
    let page = html(&[("", &report)]).unwrap();
    // The second picture is the rate: from 0 s at the left edge of the plot to 1 s at the right.
    let points: Vec<&str> = line(&page, 1).split(['M', 'L', ' ']).collect();
    assert!(matches!(points[..], ["", "86.0", low, "740.0", high] if low == high), "{points:?}");
    assert!(!page.contains("h20\"/>\n<text x=\"112.0\" y=\"48.0\" text-anchor=\"start\"></text>"));
    assert!(!page.contains("<h2></h2>"), "a heading without a text");
    assert!(page.contains(">p50</text>") && page.contains(">max</text>"));
}

/// `WRITE_PICTURES=folder` keeps them, to be looked at.
#[test]
fn pictures_can_be_looked_at() {
    let Some(folder) = std::env::var_os("WRITE_PICTURES").map(std::path::PathBuf::from) else {
        return;
    };
    let reports: Vec<Report> = (0..8).map(|index| report(index * 150_000)).collect();
    let names: Vec<String> = (0..8).map(|index| format!("server number {index}")).collect();
    let pairs: Vec<(&str, &Report)> = names.iter().map(String::as_str).zip(&reports).collect();
    for (file, pairs) in [("one", &pairs[..1]), ("two", &pairs[..2]), ("eight", &pairs[..])] {
        std::fs::write(folder.join(format!("{file}.svg")), svg(pairs).unwrap()).unwrap();
        std::fs::write(folder.join(format!("{file}.html")), html(pairs).unwrap()).unwrap();
    }
}
