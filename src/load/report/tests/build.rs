//! Outcomes made by hand.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::load::outcome::{Fault, histogram};
use crate::load::report::{Card, Report};
use crate::load::request::{Order, Template};
use crate::load::status::StatusSet;
use crate::load::{
    Arrival, CloseStyle, ExpectBody, HttpPlan, Interval, KernelCounters, Latencies, Mode, Outcome,
    Pace, Phase, Plan, ServerUsage, Sources, Target, Timeouts, Verdict,
};
use crate::sys::Errno;

const OPERATIONS_PER_SECOND: u64 = 1_000;
const STARTED_UNIX_MS: u64 = 1_790_000_001_123;

pub(in crate::load) fn plan() -> Plan {
    Plan {
        targets: vec![Target::Tcp("127.0.0.1:7000".parse().unwrap())],
        mode: Mode::Crr,
        pace: Pace::Open { rate: 1_000.1, arrival: Arrival::Poisson, max_inflight: 4_096 },
        close: CloseStyle::Fin,
        request_bytes: 64,
        response_bytes: Some(64),
        http: None,
        think: Duration::ZERO,
        duration: Duration::from_secs(10),
        warm_up: Duration::from_secs(1),
        count: None,
        threads: 1,
        engine: crate::config::Engine::Auto,
        timeouts: Timeouts { connect: Duration::from_secs(10), response: Duration::from_secs(5) },
        sources: Sources::Rotate(vec!["127.0.0.2".parse().unwrap()]),
        seed: 7,
        server_pid: Some(42),
    }
}

pub(in crate::load) fn http(path: &str) -> HttpPlan {
    HttpPlan {
        requests: vec![Template::get(path).render("h", false)],
        order: Order::InTurn,
        pipeline: 1,
        expect_status: StatusSet::default(),
        expect_body: ExpectBody::Any,
    }
}

/// Latencies that fall off towards a long tail; `offset_ns` makes outcomes differ.
fn record(target: &mut hdrhistogram::Histogram<u64>, count: u64, offset_ns: u64) {
    for index in 1..=count {
        target.record(offset_ns + 40_000 + 20_000_000 / index).unwrap();
    }
}

fn intervals(offset_ns: u64) -> Vec<Interval> {
    (0..10)
        .map(|second| {
            let mut total = histogram();
            let count = OPERATIONS_PER_SECOND - second * 10;
            record(&mut total, count, offset_ns + second * 3_000);
            let start = Duration::from_secs(second);
            Interval { start, length: Duration::from_secs(1), completed: count, failed: 1, total }
        })
        .collect()
}

fn latencies(intervals: &[Interval], offset_ns: u64) -> Latencies {
    let mut latencies = Latencies::default();
    for interval in intervals {
        latencies.total.add(&interval.total).unwrap();
        latencies.service.add(&interval.total).unwrap();
    }
    let count = latencies.total.len();
    latencies.connect.record_n(21_000 + offset_ns, count).unwrap();
    latencies.first_byte.record_n(35_000 + offset_ns, count).unwrap();
    latencies.close.record_n(9_000 + offset_ns, count).unwrap();
    latencies.lateness.record_n(800, count).unwrap();
    latencies
}

pub(in crate::load) fn outcome(offset_ns: u64) -> Outcome {
    let intervals = intervals(offset_ns);
    let completed = intervals.iter().map(|interval| interval.completed).sum();
    Outcome {
        plan: plan(),
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(STARTED_UNIX_MS),
        elapsed: Duration::from_millis(10_003),
        started: completed + 10,
        completed,
        failed: 10,
        not_started: 0,
        queued: 0,
        connections: completed + 3,
        closed_by_server: 0,
        closed_by_client: 0,
        unasked: 0,
        resent: 0,
        not_resent: 0,
        statuses: BTreeMap::new(),
        body_bytes: 0,
        sent_bytes: completed * 64,
        received_bytes: completed * 64,
        latencies: latencies(&intervals, offset_ns),
        faults: BTreeMap::from([
            ((Phase::Connect, Fault::Errno(Errno::ECONNREFUSED)), 3),
            ((Phase::Receive, Fault::TimedOut), 6),
            ((Phase::Close, Fault::Errno(Errno(999))), 1),
        ]),
        absence: None,
        dropped_syns: [3, 1, 0],
        intervals,
        kernel: Some(kernel(completed)),
        server: Some(server()),
        own_cpu_ns: 4_400_000_000,
        verdict: Verdict::Valid,
        notes: Vec::new(),
    }
}

fn kernel(completed: u64) -> KernelCounters {
    KernelCounters {
        passive_opens: completed,
        active_opens: completed + 3,
        listen_overflows: 4,
        retransmitted: 5,
        ..KernelCounters::default()
    }
}

fn server() -> ServerUsage {
    ServerUsage {
        cpu_ns: 350_000_000,
        busiest_ns: 340_000_000,
        threads: 3,
        rss_bytes: 12_300_000,
        switches: 20_001,
    }
}

pub(in crate::load) fn card() -> Card {
    Card {
        program_version: "0.1.0".into(),
        kernel_release: "6.18.1".into(),
        cpu_model: "Test & CPU <1>".into(),
        cpus: 2,
        sysctls: BTreeMap::from([("net.core.somaxconn".into(), "4096".into())]),
        boot_id: "11111111-2222-3333-4444-555555555555".into(),
        net_namespace: "net:[4026531840]".into(),
        read_at_unix_ms: 1_790_000_000_123,
    }
}

pub(in crate::load) fn report(offset_ns: u64) -> Report {
    Report::from_outcome(&outcome(offset_ns), &card())
}

/// A report in which nothing was measured.
pub(in crate::load) fn empty_report() -> Report {
    let empty = Outcome {
        elapsed: Duration::ZERO,
        completed: 0,
        connections: 0,
        latencies: Latencies::default(),
        intervals: Vec::new(),
        server: None,
        ..outcome(0)
    };
    Report::from_outcome(&empty, &card())
}

pub(in crate::load) fn written(write: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}
