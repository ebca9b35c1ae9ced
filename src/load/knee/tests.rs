//! Searches against servers that are a formula.

use super::*;
use crate::load::report::tests::build::{outcome, report, written};
use crate::load::report::tests::expect_golden;

const LIMITS: Limits = Limits { p99_us: None, failure_share: 0.02, arrival: Arrival::Uniform };

/// A step of a second in which everything goes well.
fn well(rate: f64) -> Measured {
    let operations = rate.round() as u64;
    let total = Percentiles { p50_us: 100.0, p99_us: 300.0, p999_us: 500.0, max_us: 900.0 };
    Measured {
        seconds: 1.0,
        started: operations,
        completed: operations,
        failed: 0,
        not_started: 0,
        total: Some(total),
        lateness_p99_us: Some(4.0),
        server_cpus: Some(0.5),
        server_busiest: Some(0.5),
        generator_share: 0.3,
        valid: true,
    }
}

/// One in which a tenth fails.
fn badly(rate: f64) -> Measured {
    let well = well(rate);
    let failed = (well.started / 10).max(1);
    Measured { failed, completed: well.completed - failed, ..well }
}

/// Runs a search to its end.
fn search(possible: f64, limits: Limits, server: impl Fn(f64) -> Measured) -> Search {
    let mut search = Search::new(possible, limits);
    for _ in 0..200 {
        let Some(trial) = search.next() else { return search };
        search.note(server(trial.rate));
    }
    panic!("the search has no end: {:?}", search.next());
}

fn capacity(most: f64) -> impl Fn(f64) -> Measured {
    move |rate| if rate <= most { well(rate) } else { badly(rate) }
}

#[test]
fn the_knee_is_found_wherever_it_lies() {
    for (possible, most) in [
        (1000.0, 1000.0),
        (1000.0, 930.0),
        (1000.0, 101.0),
        (1000.0, 1599.0),
        // Below the first step, and beyond what the closed loop promised.
        (1000.0, 99.0),
        (1000.0, 3.1),
        (1000.0, 1700.0),
        (1000.0, 600_000.0),
        (700_000.0, 650_000.0),
    ] {
        let search = search(possible, LIMITS, capacity(most));
        let [knee, broken] =
            [search.knee(), search.broken()].map(|step| step.expect("it is there").trial.rate);
        assert!(knee <= most && most < broken, "{most}: {knee} to {broken}");
        assert!(broken - knee <= 0.025 * broken, "{most}: {knee} to {broken}");
        let [half, most_of_it] = search.parts().map(|step| step.expect("it was made").trial);
        assert_eq!((half.rate, most_of_it.rate), (0.5 * knee, 0.8 * knee));
        assert_eq!((half.lengths, half.phase, most_of_it.phase), (2, Phase::Half, Phase::Most));
        assert!(search.steps().len() < 60, "{most}: {} steps", search.steps().len());
        assert!(search.is_trusted(), "{most}");
    }
}

#[test]
fn the_steps_rise_by_tenths_and_halve() {
    let search = search(1000.0, LIMITS, capacity(340.0));
    let steps: Vec<_> = search
        .steps()
        .iter()
        .map(|step| (step.trial.rate.round(), step.trial.attempt, step.held()))
        .collect();
    let expected = [
        (100.0, 1, true),
        (200.0, 1, true),
        (300.0, 1, true),
        (400.0, 1, false),
        (400.0, 2, false),
        (350.0, 1, false),
        (350.0, 2, false),
        (325.0, 1, true),
        (338.0, 1, true),
        (344.0, 1, false),
        (344.0, 2, false),
        (169.0, 1, true),
        (270.0, 1, true),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_step_that_breaks_once_has_broken_by_chance() {
    let mut search = Search::new(1000.0, LIMITS);
    search.note(well(100.0));
    let rate = search.next().unwrap().rate;
    assert!(!search.note(badly(rate)).held());
    let again = search.next().unwrap();
    assert_eq!((again.rate, again.attempt), (rate, 2));
    search.note(well(rate));
    let next = search.next().unwrap();
    assert_eq!((next.phase, next.attempt), (Phase::Rising, 1));
    assert!((next.rate - 300.0).abs() < 1e-6 && search.broken().is_none(), "{next:?}");
}

#[test]
fn nothing_holds_and_everything_holds() {
    let nothing = search(1000.0, LIMITS, badly);
    assert!(nothing.knee().is_none() && !nothing.is_trusted());
    assert!(nothing.steps().last().unwrap().trial.rate < 2.0);
    let text = summary(&nothing).join("\n");
    assert!(text.starts_with("no rate held, not even 1."), "{text}");

    let everything = search(1000.0, LIMITS, well);
    assert_eq!(everything.broken(), None);
    assert_eq!(everything.cause(), Cause::Nothing);
    assert!(everything.knee().unwrap().trial.rate > RATE_MAX / 2.0);
    assert!(everything.is_trusted());
}

#[test]
fn what_breaks_a_step() {
    let base = well(1000.0);
    let late = Percentiles { p99_us: 20_001.0, ..base.total.unwrap() };
    let table: &[(&str, Measured, &[Broke])] = &[
        ("well", base, &[]),
        ("2 % failed", Measured { completed: 980, failed: 20, ..base }, &[]),
        ("more failed", Measured { completed: 979, failed: 21, ..base }, &[Broke::Failed]),
        (
            "not started",
            Measured { started: 979, completed: 979, not_started: 21, ..base },
            &[Broke::NotStarted],
        ),
        (
            "a generator that falls behind",
            Measured { started: 900, completed: 900, ..base },
            &[Broke::NotStarted],
        ),
        (
            "both",
            Measured { started: 950, completed: 940, failed: 10, not_started: 50, ..base },
            &[Broke::Failed, Broke::NotStarted],
        ),
        ("p99", Measured { total: Some(late), ..base }, &[Broke::P99]),
        (
            "nothing completed",
            Measured { completed: 0, failed: 1000, total: None, ..base },
            &[Broke::Failed],
        ),
    ];
    for (what, measured, expected) in table {
        let due = measured.due(1000.0, Arrival::Uniform);
        assert_eq!(measured.broke(due, &LIMITS, Some(20_000.0)), *expected, "{what}");
    }
}

#[test]
fn random_arrivals_fall_short_by_chance() {
    let short = Measured { started: 910, completed: 910, ..well(910.0) };
    // Three deviations of 1,000 are 95.
    assert_eq!(short.due(1000.0, Arrival::Poisson), 910.0);
    assert_eq!(short.due(1000.0, Arrival::Uniform), 999.0);
}

#[test]
fn the_limit_of_p99() {
    let with = |p99_us| {
        move |rate: f64| {
            let total = Percentiles { p99_us, ..well(rate).total.unwrap() };
            Measured { total: Some(total), ..well(rate) }
        }
    };
    for (limits, lowest_us, limit_us) in [
        (LIMITS, 300.0, 20_000.0),
        (LIMITS, 3000.0, 60_000.0),
        (Limits { p99_us: Some(700.0), ..LIMITS }, 300.0, 700.0),
    ] {
        let mut search = Search::new(1000.0, limits);
        search.note(with(lowest_us)(100.0));
        assert!(search.note(with(limit_us)(200.0)).held(), "{limit_us}");
        let step = search.note(with(limit_us + 1.0)(300.0));
        assert_eq!(step.broke, [Broke::P99], "{limit_us}");
        assert_eq!(step.p99_limit_us, Some(limit_us));
    }
    // The lowest rate is what counts, not one that broke above it.
    let mut search = Search::new(1000.0, LIMITS);
    let slow = Percentiles { p99_us: 1e6, ..well(1.0).total.unwrap() };
    for _ in 0..2 {
        search.note(Measured { total: Some(slow), ..badly(100.0) });
    }
    assert_eq!(search.note(well(50.0)).p99_limit_us, Some(20_000.0));
}

#[test]
fn what_limited_it() {
    let base = badly(1000.0);
    let cpus = |server: Option<f64>, generator| Measured {
        server_busiest: server,
        generator_share: generator,
        ..base
    };
    for (measured, cause, trusted) in [
        (cpus(Some(0.97), 0.4), Cause::ServerCpu, true),
        (cpus(Some(0.4), 0.97), Cause::GeneratorCpu, false),
        (cpus(None, 0.97), Cause::GeneratorCpu, false),
        (cpus(Some(0.97), 0.97), Cause::BothCpus, true),
        (cpus(Some(0.4), 0.4), Cause::NeitherCpu, true),
        (cpus(None, 0.4), Cause::ServerNotObserved, true),
    ] {
        let over = |rate: f64| if rate < 350.0 { well(rate) } else { measured };
        let search = search(1000.0, LIMITS, over);
        assert_eq!((search.cause(), search.is_trusted()), (cause, trusted));
        assert!(summary(&search)[2].contains(cause.in_words()));
    }
}

#[test]
fn a_rate_that_this_machine_cannot_make_is_the_end_of_the_rise() {
    let mut search = Search::new(1000.0, LIMITS);
    while let Some(trial) = search.next() {
        if trial.rate > 450.0 {
            let step = search.refuse("28232 ports".into());
            assert_eq!((step.held(), step.measured), (false, None));
        } else {
            search.note(well(trial.rate));
        }
    }
    assert!((440.0..=450.0).contains(&search.knee().unwrap().trial.rate));
    assert_eq!((search.cause(), search.is_trusted()), (Cause::Generator, false));
    assert!(summary(&search)[1].ends_with("28232 ports"), "{:?}", summary(&search));
    // No second attempt at what cannot be made.
    assert!(search.steps().iter().all(|step| step.held() || step.trial.attempt == 2));
}

#[test]
fn latencies_of_steps_that_are_not_valid_are_not_trusted() {
    let server = |rate: f64| Measured { valid: rate > 350.0, ..capacity(930.0)(rate) };
    assert!(search(1000.0, LIMITS, server).is_trusted());
    let server = |rate: f64| Measured { valid: rate < 700.0, ..capacity(930.0)(rate) };
    let search = search(1000.0, LIMITS, server);
    assert!(!search.is_trusted());
    assert!(summary(&search).last().unwrap().starts_with("INVALID"), "{:?}", summary(&search));
}

#[test]
fn figures_of_a_run_become_those_of_a_step() {
    let (outcome, report) = (outcome(0), report(0));
    let measured = Measured::of(&outcome, &report);
    assert_eq!((measured.started, measured.completed, measured.failed), (9560, 9550, 10));
    assert_eq!((measured.seconds, measured.valid), (10.003, true));
    let near = |own: Option<f64>, right: f64| (own.unwrap() - right).abs() < 1e-3;
    assert!(near(measured.server_cpus, 0.035) && near(measured.server_busiest, 0.034));
    assert_eq!(measured.total.unwrap().p99_us, report.latencies.total.summary().unwrap().p99_us);
}

/// A search that was stopped has a knee so far.
fn stopped() -> Search {
    let mut search = Search::new(1000.0, LIMITS);
    search.note(well(100.0));
    search
}

#[test]
fn lines_and_summary_are_as_written_down() {
    let slow = Percentiles { p99_us: 31_000.0, ..well(1.0).total.unwrap() };
    let server = |rate: f64| match rate {
        rate if rate < 8000.0 => well(rate),
        rate if rate < 9500.0 => Measured { valid: false, ..well(rate) },
        rate => Measured {
            total: Some(slow),
            server_busiest: Some(0.99),
            server_cpus: Some(1.04),
            ..badly(rate)
        },
    };
    let mut text = Vec::new();
    let mut refused = Search::new(1000.0, LIMITS);
    refused.note(well(100.0));
    refused.refuse("the run needs 99 local ports".into());
    let all = [search(10_000.0, LIMITS, server), search(40.0, LIMITS, badly), stopped(), refused];
    for search in &all {
        text.push(heading());
        text.extend(search.steps().iter().map(line));
        text.push(String::new());
        text.extend(summary(search));
        text.push("----".to_owned());
    }
    expect_golden("loadgen-knee.txt", &(text.join("\n") + "\n"));
}

#[test]
fn csv_has_a_line_for_each_step() {
    let mut search = stopped();
    search.note(Measured { completed: 0, failed: 200, total: None, ..badly(200.0) });
    search.note(badly(200.0));
    search.refuse("no ports".into());
    let text = written(|out| csv(&search, out));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    assert_eq!(lines[1][..8], ["rising", "1", "100.000", "1.000", "100", "100", "0", "0"]);
    assert_eq!((lines[1][9], lines[1][17], lines[2][8]), ("300.000", "true", ""));
    assert_eq!((lines[4][0], lines[4][3], lines[4][17]), ("halving", "", "false"));
}

#[test]
fn json_has_the_report_of_each_step() {
    let mut search = stopped();
    search.refuse("no ports".into());
    let reports = [Some(report(0)), None];
    let closed = report(0);
    let text = written(|out| Account::new(&search, &closed, &reports).to_json(out));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["schema"], &json["version"]), (&SCHEMA.into(), &VERSION.into()));
    assert_eq!((&json["complete"], &json["trusted"]), (&false.into(), &false.into()));
    assert_eq!((&json["knee_per_second"], &json["knee_step"]), (&100.0.into(), &0.into()));
    assert_eq!((&json["half_step"], &json["cause"]), (&().into(), &"generator".into()));
    assert_eq!(json["steps"][0]["report"]["schema"], crate::load::report::SCHEMA);
    assert_eq!(json["steps"][1]["refused"], "no ports");
    assert_eq!(json["steps"][1]["broke"], serde_json::json!(["refused"]));
}
