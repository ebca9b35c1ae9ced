//! Merging is adding, and refuses what is not the same work.

use super::build::{card, outcome, report};
use crate::load::report::{Card, PhaseName, Report, ReportError, merge};
use crate::load::{CloseStyle, Mode, Outcome, Pace, Target, Verdict};

fn changed(change: impl FnOnce(&mut Outcome)) -> Report {
    let mut outcome = outcome(0);
    change(&mut outcome);
    Report::from_outcome(&outcome, &card())
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Outcome), expected: &str) {
    let error = merge(vec![report(0), changed(change)]).expect_err(expected);
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn counts_histograms_and_faults_are_those_of_one_run_with_all_operations() {
    let (one, two) = (report(0), report(50_000));
    let sum = merge(vec![one.clone(), two.clone()]).unwrap();
    let mut total = one.latencies.total.histogram().clone();
    total.add(two.latencies.total.histogram()).unwrap();
    assert_eq!(*sum.latencies.total.histogram(), total);
    assert_eq!(sum.counts.completed, one.counts.completed + two.counts.completed);
    assert_eq!(sum.faults[&PhaseName::Receive]["timed-out"], 12);
    assert_eq!((sum.dropped_syns.one, sum.dropped_syns.two), (6, 2));
    assert_eq!(sum.rate_per_second, one.rate_per_second + two.rate_per_second);
    assert_eq!(sum.elapsed_ns, one.elapsed_ns);
    assert_eq!((sum.runs, sum.cards.len(), sum.plan.threads), (2, 2, 2));
    assert!(matches!(sum.plan.pace, Pace::Open { rate: 2_000.2, max_inflight: 8_192, .. }));
    assert_eq!(sum.intervals.len(), 10);
    assert_eq!(sum.intervals[4].completed, 2 * one.intervals[4].completed);
    assert_eq!(sum.intervals[4].total.count(), sum.intervals[4].completed);
}

#[test]
fn one_report_stays_as_it_is_and_a_merged_one_can_be_written() {
    let one = changed(|outcome| outcome.verdict = Verdict::Invalid(vec!["late".into()]));
    assert_eq!(merge(vec![one.clone()]).unwrap(), one);
    let sum = merge(vec![one.clone(), report(9_000), one]).unwrap();
    let text = super::build::written(|out| sum.to_json(out));
    assert_eq!(Report::from_json(&text).unwrap(), sum);
}

#[test]
fn runs_of_different_lengths() {
    let short = changed(|outcome| {
        outcome.intervals.truncate(4);
        outcome.elapsed /= 2;
    });
    for reports in [vec![short.clone(), report(0)], vec![report(0), short]] {
        let sum = merge(reports).unwrap();
        assert_eq!(sum.intervals.len(), 10);
        assert_eq!(sum.intervals[3].completed, 2 * 970);
        assert_eq!(sum.intervals[4].completed, 960);
        assert_eq!(sum.elapsed_ns, report(0).elapsed_ns);
    }
}

#[test]
fn rates_of_runs_that_were_not_at_the_same_time_are_not_added() {
    let later =
        |seconds| changed(|outcome| outcome.started_at += std::time::Duration::from_secs(seconds));
    let sum = merge(vec![report(0), later(1), later(20)]).unwrap();
    assert_eq!(sum.counts.completed, 3 * report(0).counts.completed);
    let (first, last) = (report(0).started_unix_ms, later(20).ended_unix_ms);
    assert_eq!((sum.started_unix_ms, sum.ended_unix_ms), (first, last));
    let rate = sum.counts.completed as f64 * 1e3 / (last - first) as f64;
    assert!((sum.rate_per_second - rate).abs() < 1e-6, "{}", sum.rate_per_second);
    assert!(!sum.verdict.valid);
    assert!(sum.verdict.reasons[0].contains("have 0 s in common"), "{:?}", sum.verdict.reasons);
    // A tenth of the window is what starting by hand may cost.
    let together = merge(vec![report(0), later(1)]).unwrap();
    assert!(together.verdict.valid);
    assert_eq!(together.rate_per_second, 2.0 * report(0).rate_per_second);
}

#[test]
fn what_two_generators_counted_together_is_not_added_twice() {
    let (one, two) = (report(0), report(1_000));
    let sum = merge(vec![one.clone(), two.clone()]).unwrap();
    assert_eq!((sum.servers.len(), sum.kernel.len()), (1, 1));
    assert_eq!(sum.servers[0].cpu_ns, 350_000_000);
    let half = one.server_cpu_us_per_operation.unwrap() / 2.0;
    assert!((sum.server_cpu_us_per_operation.unwrap() - half).abs() < 1e-9);

    let elsewhere = Card { boot_id: "another".into(), ..card() };
    let two = Report::from_outcome(&outcome(1_000), &elsewhere);
    let sum = merge(vec![one, two]).unwrap();
    assert_eq!((sum.servers.len(), sum.kernel.len()), (2, 2));
    assert!((sum.server_cpu_us_per_operation.unwrap() - 2.0 * half).abs() < 1e-9);
}

#[test]
fn it_is_invalid_if_one_is_and_says_which() {
    let late = |outcome: &mut Outcome| {
        outcome.verdict = Verdict::Invalid(vec!["the generator was late".into()]);
    };
    let sum = merge(vec![report(0), changed(late)]).unwrap();
    assert!(!sum.verdict.valid);
    assert_eq!(sum.verdict.reasons, ["run 2: the generator was late"]);
    let sum = merge(vec![changed(late), report(0)]).unwrap();
    assert_eq!(sum.verdict.reasons, ["run 1: the generator was late"]);
    assert!(merge(vec![report(0), report(0)]).unwrap().verdict.valid);
}

#[test]
fn other_targets_are_listed() {
    let unix = changed(|outcome| outcome.plan.targets = vec![Target::Unix("/run/a".into())]);
    let sum = merge(vec![report(0), unix, report(0)]).unwrap();
    assert_eq!(sum.plan.targets, ["127.0.0.1:7000", "unix:/run/a"]);
}

#[test]
fn other_work_is_refused() {
    refused(
        |outcome| outcome.plan.mode = Mode::Accept,
        "report 2 has mode accept, report 1 has crr",
    );
    refused(|outcome| outcome.plan.close = CloseStyle::Rst, "report 2 has close style rst");
    refused(|outcome| outcome.plan.pace = Pace::Closed { connections: 1 }, "report 2 has loop");
    refused(|outcome| outcome.plan.request_bytes = 1, "report 2 has request_bytes 1");
    refused(|outcome| outcome.plan.response_bytes = None, "report 2 has response_bytes none");
    assert!(matches!(merge(Vec::new()), Err(ReportError::Nothing)));
}
