//! A sound run, and what makes it unsound.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::load::outcome::{KernelCounters, Latencies};
use crate::load::plan::{Arrival, CloseStyle, Plan, Sources, Timeouts};

const CLOSED: Pace = Pace::Closed { connections: 8 };
const OPEN: Pace = Pace::Open { rate: 1000.0, arrival: Arrival::Poisson, max_inflight: 100 };
const FAST: Pace = Pace::Open { rate: 50_000.0, arrival: Arrival::Poisson, max_inflight: 100 };
const FIXED: Pace = Pace::Fixed { connections: 8, rate: 1000.0, arrival: Arrival::Poisson };
const QUIET: Evidence =
    Evidence { busiest_thread_share: 0.3, unobserved_share: 0.0, target_is_here: true };
const BUSY: Evidence = Evidence { busiest_thread_share: 0.96, ..QUIET };
const ASKED_LATE: Evidence = Evidence { unobserved_share: 0.08, ..QUIET };
const ELSEWHERE: Evidence = Evidence { target_is_here: false, ..QUIET };

fn plan(mode: Mode, pace: Pace) -> Plan {
    Plan {
        targets: vec![Target::Tcp("127.0.0.1:80".parse().unwrap())],
        mode,
        pace,
        close: CloseStyle::Fin,
        request_bytes: 64,
        response_bytes: Some(64),
        http: None,
        think: Duration::ZERO,
        duration: Duration::from_secs(1),
        warm_up: Duration::ZERO,
        count: None,
        threads: 1,
        engine: crate::config::Engine::Auto,
        timeouts: Timeouts { connect: Duration::from_secs(1), response: Duration::from_secs(1) },
        sources: Sources::Kernel,
        seed: 1,
        server_pid: None,
    }
}

/// 1000 operations of 2 ms, 20 us late, all counted by the kernel.
fn sound(mode: Mode, pace: Pace) -> Outcome {
    let mut latencies = Latencies::default();
    latencies.total.record_n(2_000_000, 1000).unwrap();
    latencies.lateness.record_n(20_000, 1000).unwrap();
    Outcome {
        plan: plan(mode, pace),
        started_at: SystemTime::UNIX_EPOCH,
        elapsed: Duration::from_secs(1),
        started: 1000,
        completed: 1000,
        failed: 0,
        not_started: 0,
        queued: 0,
        connections: 1000,
        closed_by_server: 0,
        closed_by_client: 0,
        unasked: 0,
        resent: 0,
        not_resent: 0,
        statuses: BTreeMap::new(),
        body_bytes: 0,
        sent_bytes: 0,
        received_bytes: 0,
        latencies,
        faults: BTreeMap::new(),
        absence: None,
        dropped_syns: [0; 3],
        intervals: Vec::new(),
        kernel: Some(KernelCounters { passive_opens: 1000, ..KernelCounters::default() }),
        server: None,
        own_cpu_ns: 0,
        verdict: Verdict::Valid,
        notes: Vec::new(),
    }
}

type Change = fn(&mut Outcome);

fn judged(pace: Pace, evidence: Evidence, change: Change) -> Judgement {
    let mut outcome = sound(Mode::Crr, pace);
    change(&mut outcome);
    judge(&outcome, evidence)
}

/// From the middle of the window on so many operations failed, and so many had failed before.
fn absence(outcome: &mut Outcome, failed: u64, before: u64) {
    outcome.failed = failed + before;
    outcome.absence = Some(Absence { since: Duration::from_millis(500), failed });
}

fn lateness(outcome: &mut Outcome, nanos: u64) {
    outcome.latencies.lateness.clear();
    outcome.latencies.lateness.record_n(nanos, 1000).unwrap();
}

fn overflows(outcome: &mut Outcome, times: u64) {
    outcome.kernel.get_or_insert_default().listen_overflows = times;
}

fn slow_connect(outcome: &mut Outcome) {
    outcome.latencies.connect.record(1_010_000_000).unwrap();
}

fn slow_answer(outcome: &mut Outcome, millis: u64) {
    outcome.latencies.service.record(millis * 1_000_000).unwrap();
}

fn reset(outcome: &mut Outcome) {
    outcome.faults.insert((Phase::Receive, Fault::Errno(Errno::ECONNRESET)), 1);
}

fn latency(outcome: &mut Outcome, nanos: u64) {
    outcome.latencies.total.clear();
    outcome.latencies.total.record_n(nanos, 1000).unwrap();
}

/// Of a thousand operations 50 took 20 ms, and the others `nanos`.
fn tail(outcome: &mut Outcome, nanos: u64) {
    latency(outcome, nanos);
    outcome.latencies.total.record_n(20_000_000, 50).unwrap();
}

#[test]
fn a_sound_run_is_valid_and_needs_no_note() {
    for pace in [CLOSED, OPEN, FIXED] {
        let expected = Judgement { verdict: Verdict::Valid, notes: Vec::new() };
        assert_eq!(judged(pace, QUIET, |_| ()), expected, "{pace:?}");
    }
}

#[test]
fn what_makes_a_run_invalid() {
    let table: &[(Pace, Evidence, Change, &str)] = &[
        (OPEN, BUSY, |_| (), "96 % of its CPU; lower --rate"),
        (OPEN, QUIET, |o| lateness(o, 1_100_000), "started late: 1 % of them by 1.1ms"),
        (OPEN, QUIET, |o| lateness(o, 300_000), "where 1 % of the latencies are 2.0ms"),
        // A fast server: 130 us are more than a start is away from the next.
        (FAST, QUIET, |o| (latency(o, 150_000), lateness(o, 130_000)).1, "by 130.0µs or more"),
        (OPEN, QUIET, |o| (latency(o, 300_000), lateness(o, 290_000)).1, "are 300.0µs or more"),
        // A long tail does not hide what is wrong with the others.
        (OPEN, QUIET, |o| (tail(o, 2_000_000), lateness(o, 300_000)).1, "half of them by 300.0µs"),
        (OPEN, QUIET, |o| o.not_started = 5, "5 operations were due"),
        (FIXED, QUIET, |o| o.not_started = 19, "19 operations were due and still waited"),
        (FIXED, QUIET, |o| lateness(o, 1_100_000), "started late: 1 % of them by 1.1ms"),
        (
            CLOSED,
            QUIET,
            |o| _ = o.faults.insert((Phase::Receive, Fault::CutOff), 11),
            "11 operations were cut off",
        ),
        (CLOSED, QUIET, |o| o.completed = 0, "no operation succeeded"),
        (CLOSED, QUIET, |o| absence(o, 3, 0), "from 0.500 s of the window on nothing succeeded"),
        (OPEN, QUIET, |o| absence(o, 40, 1000), "and 40 operations failed"),
        (CLOSED, QUIET, |o| (overflows(o, 3), slow_connect(o)).1, "overflowed 3 times"),
        (CLOSED, QUIET, |o| (overflows(o, 3), slow_answer(o, 250)).1, "overflowed 3 times"),
        (
            CLOSED,
            QUIET,
            |o| {
                overflows(o, 3);
                o.plan.request_bytes = 100_000;
                slow_answer(o, 4);
            },
            "overflowed 3 times",
        ),
        (
            CLOSED,
            QUIET,
            |o| {
                overflows(o, 3);
                o.connections = 0;
                o.kernel.get_or_insert_default().passive_opens = 0;
                o.faults.insert((Phase::Connect, Fault::TimedOut), 1);
            },
            "overflowed 3 times",
        ),
        (CLOSED, QUIET, |o| (overflows(o, 3), reset(o)).1, "overflowed 3 times"),
        (FIXED, QUIET, |o| (overflows(o, 3), slow_answer(o, 250)).1, "overflowed 3 times"),
        (
            CLOSED,
            QUIET,
            |o| o.kernel.get_or_insert_default().passive_opens = 900,
            "another network namespace",
        ),
        (OPEN, QUIET, |o| o.kernel.get_or_insert_default().passive_opens = 900, "TcpPassiveOpens"),
        (
            CLOSED,
            QUIET,
            |o| _ = o.faults.insert((Phase::Connect, Fault::Errno(Errno::EADDRNOTAVAIL)), 7),
            "7 connects found no free local port",
        ),
    ];
    for &(pace, evidence, change, part) in table {
        match judged(pace, evidence, change).verdict {
            Verdict::Invalid(reasons) => {
                assert!(reasons.len() == 1 && reasons[0].contains(part), "'{part}': {reasons:?}");
            }
            Verdict::Valid => panic!("'{part}' is valid"),
        }
    }
}

#[test]
fn what_does_not_make_a_run_invalid() {
    let table: &[(&str, Pace, Evidence, Change)] = &[
        ("busy in a closed loop", CLOSED, BUSY, |_| ()),
        ("late in a closed loop", CLOSED, QUIET, |o| lateness(o, 5_000_000)),
        ("the last two failed", CLOSED, QUIET, |o| absence(o, 2, 0)),
        ("every other one failed, and the last three", CLOSED, QUIET, |o| absence(o, 3, 1000)),
        ("a few were cut off", CLOSED, QUIET, |o| {
            o.faults.insert((Phase::Receive, Fault::CutOff), 10);
        }),
        ("a little late", OPEN, QUIET, |o| lateness(o, 190_000)),
        ("late by less than starts are apart", OPEN, QUIET, |o| {
            latency(o, 150_000);
            lateness(o, 130_000);
        }),
        ("at random, on as many threads as keep starts apart", FAST, QUIET, |o| {
            o.plan.threads = 8;
            latency(o, 150_000);
            lateness(o, 130_000);
        }),
        ("late in a tail that is long", OPEN, QUIET, |o| {
            tail(o, 200_000);
            lateness(o, 5_000);
            o.latencies.lateness.record_n(900_000, 30).unwrap();
        }),
        ("connections at the edges", CLOSED, QUIET, |o| {
            o.kernel.get_or_insert_default().passive_opens = 1020
        }),
        ("the kernel was asked late", CLOSED, ASKED_LATE, |o| {
            o.kernel.get_or_insert_default().passive_opens = 900
        }),
        ("counters elsewhere", CLOSED, ELSEWHERE, |o| {
            o.kernel.get_or_insert_default().passive_opens = 0
        }),
        ("no counters", CLOSED, QUIET, |o| o.kernel = None),
        ("overflows elsewhere", CLOSED, ELSEWHERE, |o| {
            o.kernel.get_or_insert_default().listen_overflows = 9
        }),
        ("overflows in a storm", CLOSED, QUIET, |o| {
            o.plan.mode = Mode::Storm;
            o.kernel.get_or_insert_default().listen_overflows = 9;
        }),
        ("kept connections", CLOSED, QUIET, |o| {
            o.plan.mode = Mode::Rr;
            o.connections = 0;
        }),
        ("kept http connections", CLOSED, QUIET, |o| {
            o.plan.mode = Mode::Http { requests_per_connection: None };
            o.connections = 0;
        }),
        ("a unix socket", CLOSED, QUIET, |o| {
            o.plan.targets = vec![Target::Unix("/run/x.sock".into())];
            o.kernel = Some(KernelCounters { listen_overflows: 1, ..KernelCounters::default() });
        }),
    ];
    for &(name, pace, evidence, change) in table {
        assert_eq!(judged(pace, evidence, change).verdict, Verdict::Valid, "{name}");
    }
}

#[test]
fn what_others_did_does_not_make_a_run_invalid() {
    let table: &[(&str, Pace, Evidence, Change)] = &[
        ("connections of others", CLOSED, QUIET, |o| {
            o.kernel.get_or_insert_default().passive_opens = 1100
        }),
        ("overflows of others", CLOSED, QUIET, |o| overflows(o, 1_000_000)),
        ("overflows of others and a wrong answer", CLOSED, QUIET, |o| {
            overflows(o, 3);
            o.faults.insert((Phase::Verify, Fault::WrongStatus), 1);
        }),
        ("overflows without a connect", CLOSED, QUIET, |o| {
            overflows(o, 3);
            slow_answer(o, 250);
            (o.plan.mode, o.connections) = (Mode::Rr, 0);
        }),
        ("handshakes that were lost", CLOSED, QUIET, |o| {
            overflows(o, 100);
            o.kernel.get_or_insert_default().passive_opens = 900;
        }),
    ];
    for &(name, pace, evidence, change) in table {
        assert_eq!(judged(pace, evidence, change).verdict, Verdict::Valid, "{name}");
    }
}

#[test]
fn notes_stand_beside_valid_figures() {
    let table: &[(Pace, Evidence, Change, &str)] = &[
        (CLOSED, BUSY, |_| (), "the client's limit, not the server's"),
        (CLOSED, QUIET, |o| o.failed = 4, "4 of 1004 operations failed"),
        (FIXED, QUIET, |o| o.not_started = 18, "18 operations still waited"),
        (FIXED, QUIET, |o| o.queued = 30, "30 of 1000 operations were due while all"),
        (CLOSED, QUIET, |o| o.resent = 2, "2 requests went out again"),
        (
            CLOSED,
            QUIET,
            |o| o.kernel.get_or_insert_default().passive_opens = 1100,
            "accepted 100 connections more than the 1000",
        ),
        (CLOSED, QUIET, |o| overflows(o, 9), "of this machine, not of this run"),
        (FIXED, QUIET, |o| overflows(o, 9), "of this machine, not of this run"),
        (CLOSED, QUIET, |o| o.not_resent = 2, "2 requests failed because the server closed"),
        (CLOSED, QUIET, |o| o.unasked = 2, "on 2 idle connections"),
        (
            CLOSED,
            QUIET,
            |o| _ = o.faults.insert((Phase::Close, Fault::TimedOut), 3),
            "with --close fin the client closes",
        ),
        (CLOSED, QUIET, |o| o.dropped_syns = [2, 1, 0], "3 connects"),
        (OPEN, QUIET, |o| latency(o, 150_000), "started 20.0µs late"),
        (
            OPEN,
            QUIET,
            |o| (latency(o, 150_000), lateness(o, 130_000)).1,
            "started 130.0µs late or more, which shows where 1 % of the latencies are 150.0µs",
        ),
    ];
    for &(pace, evidence, change, part) in table {
        let Judgement { verdict, notes } = judged(pace, evidence, change);
        assert_eq!(verdict, Verdict::Valid, "{part}");
        assert!(notes.len() == 1 && notes[0].contains(part), "'{part}': {notes:?}");
    }
}

#[test]
fn all_reasons_are_given() {
    let judgement = judged(OPEN, BUSY, |o| {
        o.completed = 0;
        o.not_started = 1;
        overflows(o, 1);
        reset(o);
    });
    let Verdict::Invalid(reasons) = judgement.verdict else { panic!("valid") };
    assert_eq!(reasons.len(), 4, "{reasons:?}");
}
