//! `loadgen http` against servers that people have: its counts are those of the server's own log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::json;

use super::{Measured, alone};
use crate::harness::{SOON, eventually};

mod haproxy;
mod hyper;
mod nginx;
mod python;

const OPERATIONS: u64 = 100;

/// Runs 100 requests, on 4 connections unless the options say otherwise, with no warm-up, so that all are counted.
#[track_caller]
fn run(url: &str, options: &[&str]) -> Measured {
    let common = ["http", url, "-n", "100", "--warm-up", "0s", "-d", "9s"];
    let connections = if options.contains(&"-c") { &[][..] } else { &["-c", "4"] };
    Measured::run("servers", &[&common, connections, options].concat())
}

/// Who ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The client does, after the last request.
    Never,
    /// The server does, behind each answer.
    Each,
    /// The server does, behind the tenth answer.
    AfterTen,
    /// The server does, while a connection rests between two requests.
    AtRest,
}

/// A request, and how it has to be answered.
#[derive(Debug, Clone, Copy)]
struct Case {
    path: &'static str,
    options: &'static [&'static str],
    status: &'static str,
    closed: Closed,
}

/// A request in the log of a server: fields with a blank between them, status and connection first.
#[derive(Debug)]
struct Line(Vec<String>);

impl Line {
    fn status(&self) -> &str {
        &self.0[0]
    }

    fn connection(&self) -> &str {
        &self.0[1]
    }
}

/// Waits until a log has so many lines of requests of this program, which `is_request` tells.
fn await_lines(path: &str, count: u64, is_request: impl Fn(&str) -> bool) {
    let logged = || {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| is_request(line)).count() as u64
    };
    eventually(SOON, "the log has a line for each request", || logged() >= count);
}

/// The lines of a server that has ended.
fn lines(path: &str) -> Vec<Line> {
    let text = fs::read_to_string(path).expect("the server has a log");
    text.lines().map(|line| Line(line.split(' ').map(str::to_owned).collect())).collect()
}

/// Holds that a run counted what the server did: requests, statuses, connections and who ended them.
#[track_caller]
fn agree(case: &Case, run: &Measured, logged: &[&Line]) {
    let Case { path, closed, .. } = case;
    assert_eq!(run.json["faults"], json!({}), "{path}: {}", run.exit.stdout);
    same_counts(path, run, logged.iter().map(|line| line.status()));
    let statuses = json!({case.status: OPERATIONS});
    assert_eq!(run.json["answers"]["statuses"], statuses, "{path}");
    let mut requests = BTreeMap::<_, u64>::new();
    logged.iter().for_each(|line| *requests.entry(line.connection()).or_default() += 1);
    assert_eq!(run.count("connections"), requests.len() as u64, "{path}: {requests:?}");
    let (made, ended) = (requests.len(), ended(run) as usize);
    let full = requests.values().filter(|requests| **requests == 10).count();
    let right = match closed {
        Closed::Never => (made, ended) == (4, 0),
        Closed::Each => (made, ended) == (100, 100),
        Closed::AfterTen => (10..=13).contains(&made) && ended == full,
        // The client ends those that rest when the last request is answered.
        Closed::AtRest => made > 4 && (made - 4..=made).contains(&ended),
    };
    assert!(right, "{path}: {made} connections, {ended} closed by the server: {requests:?}");
}

/// Connections that the server ended, or said that it does: on a busy machine its FIN may come after the client
/// has stopped waiting for it.
fn ended(run: &Measured) -> u64 {
    run.count("closed_by_server") + run.count("closed_by_client")
}

/// Holds that a run has seen as many answers as the server has logged, and the same by status.
#[track_caller]
fn same_counts<'a>(what: &str, run: &Measured, logged: impl Iterator<Item = &'a str>) {
    let mut statuses = BTreeMap::<_, u64>::new();
    logged.for_each(|status| *statuses.entry(status).or_default() += 1);
    assert_eq!(run.json["answers"]["statuses"], json!(statuses), "{what}: {}", run.exit.stdout);
    let total = run.count("completed") + run.count("failed");
    assert_eq!((total, statuses.values().sum()), (OPERATIONS, OPERATIONS), "{what}");
}

/// Holds that the paths of a table are told apart.
fn all_differ(cases: &[Case]) {
    let paths: BTreeSet<_> = cases.iter().map(|case| case.path).collect();
    assert_eq!(paths.len(), cases.len(), "two cases have the same path");
}
