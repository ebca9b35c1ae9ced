//! The report itself. docs/loadgen-schema.md says what each field means to a reader of the JSON.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::card::unix_ms;
use super::plan::ns;
use super::{Answers, Card, Latency, PlanReport, SCHEMA, VERSION};
use crate::load::outcome::Fault;
use crate::load::{Interval, KernelCounters, Latencies, Outcome, Phase, ServerUsage, Verdict};

const NS_PER_SECOND: f64 = 1e9;
const NS_PER_US: f64 = 1e3;
/// Largest share of the CPU that is read: measured ones are little above 1.
const CPU_SHARE_MAX: f64 = 1000.0;

/// What one run has shown, or several that were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// How many runs are in it.
    pub runs: usize,
    /// The machine of each run.
    pub cards: Vec<Card>,
    /// What was to be done.
    pub plan: PlanReport,
    /// Start of the window, milliseconds since 1970; of the first one when merged.
    pub started_unix_ms: u64,
    /// End of the window, milliseconds since 1970; of the last one when merged.
    pub ended_unix_ms: u64,
    /// Length of the window; of the longest one when merged.
    pub elapsed_ns: u64,
    /// How much was done.
    pub counts: Counts,
    /// Operations that succeeded, per second; added up when merged, if the runs were at the same time.
    pub rate_per_second: f64,
    /// Latencies of what succeeded.
    pub latencies: LatencyReport,
    /// HTTP only.
    pub answers: Option<Answers>,
    /// What failed: phase, then the errno's name or that of another [`Fault`].
    pub faults: BTreeMap<PhaseName, BTreeMap<String, u64>>,
    /// Connects whose first SYNs were dropped.
    pub dropped_syns: DroppedSyns,
    /// The window, second by second.
    pub intervals: Vec<IntervalReport>,
    /// What the kernel counted, for each network namespace.
    pub kernel: Vec<KernelReport>,
    /// What the observed servers used, each process once.
    pub servers: Vec<ServerReport>,
    /// CPU time of the servers for each operation that succeeded, microseconds.
    pub server_cpu_us_per_operation: Option<f64>,
    /// What the generator itself used.
    pub generator: Generator,
    /// Whether the figures can be trusted.
    pub verdict: VerdictReport,
    /// What else is to be known about them.
    pub notes: Vec<String>,
}

/// How much was done in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Operations begun.
    pub started: u64,
    /// Operations that succeeded.
    pub completed: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Operations that were due and did not start; see [`Outcome::not_started`].
    pub not_started: u64,
    /// Operations that waited for one of a fixed number of connections.
    pub queued: u64,
    /// Connections made.
    pub connections: u64,
    /// Kept connections that the server ended.
    pub closed_by_server: u64,
    /// Kept connections whose end the server announced, and that the client ended.
    pub closed_by_client: u64,
    /// Connections on which bytes came that nobody had asked for, while no request was out.
    pub unasked: u64,
    /// Requests that went out again on a new connection.
    pub resent: u64,
    /// Requests that did not, since their method does not allow to send them twice.
    pub not_resent: u64,
    /// Payload sent.
    pub sent_bytes: u64,
    /// Payload received.
    pub received_bytes: u64,
}

/// Latencies by what they measure; see [`Latencies`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyReport {
    /// The handshake.
    pub connect: Latency,
    /// From the actual start to the first byte of the response.
    pub first_byte: Latency,
    /// The operation from its planned start.
    pub total: Latency,
    /// The operation from its actual start.
    pub service: Latency,
    /// Ending the connection.
    pub close: Latency,
    /// Actual minus planned start.
    pub lateness: Latency,
}

/// A [`Phase`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum PhaseName {
    Connect,
    Send,
    Receive,
    Verify,
    Close,
}

/// Connects that took about as long as the kernel takes to send a SYN again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DroppedSyns {
    /// One SYN was dropped: about 1 s.
    pub one: u64,
    /// Two: about 2 s where the kernel resends linearly at first (from 6.5), 3 s elsewhere.
    pub two: u64,
    /// Three: about 3 s or 7 s.
    pub three: u64,
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalReport {
    /// Start, from the start of the window.
    pub start_ns: u64,
    /// How long it was.
    pub length_ns: u64,
    /// Operations that succeeded.
    pub completed: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Latency from the planned start.
    pub total: Latency,
}

/// Growth of the kernel's counters over the window; see [`KernelCounters`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelReport {
    /// Which machine and network namespace; generators that share one count the same events.
    pub namespace: String,
    /// TcpPassiveOpens.
    pub passive_opens: u64,
    /// TcpActiveOpens.
    pub active_opens: u64,
    /// ListenOverflows.
    pub listen_overflows: u64,
    /// ListenDrops.
    pub listen_drops: u64,
    /// TcpRetransSegs.
    pub retransmitted: u64,
    /// TCPTimeWaitOverflow.
    pub time_wait_overflow: u64,
}

/// What an observed server used during the window; see [`ServerUsage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerReport {
    /// Which machine and process; generators that observe the same one count the same time.
    pub process: String,
    /// CPU time of all its threads and children.
    pub cpu_ns: u64,
    /// Its threads at the end.
    pub threads: u32,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// Context switches.
    pub switches: u64,
}

/// What the generator itself used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// CPU time over the window; added up when merged.
    pub cpu_ns: u64,
    /// CPU time by elapsed time and threads: 1 is as busy as its threads can be. The highest of
    /// them when merged.
    #[serde(deserialize_with = "cpu_share")]
    pub cpu_share: f64,
}

/// Whether the figures can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictReport {
    /// They can.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

impl Report {
    /// The report of one run on the machine of `card`, which was read just before the run.
    pub fn from_outcome(outcome: &Outcome, card: &Card) -> Self {
        let elapsed_ns = ns(outcome.elapsed);
        let plan = PlanReport::from(&outcome.plan);
        let mut report = Self {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            runs: 1,
            cards: vec![card.clone()],
            started_unix_ms: unix_ms(outcome.started_at),
            ended_unix_ms: unix_ms(outcome.started_at + outcome.elapsed),
            elapsed_ns,
            counts: Counts::of(outcome),
            rate_per_second: per_second(outcome.completed, elapsed_ns),
            latencies: LatencyReport::from(&outcome.latencies),
            answers: outcome.plan.http.is_some().then(|| Answers::of(outcome)),
            faults: BTreeMap::new(),
            dropped_syns: DroppedSyns::from(outcome.dropped_syns),
            intervals: outcome.intervals.iter().map(IntervalReport::from).collect(),
            kernel: outcome.kernel.iter().map(|kernel| KernelReport::of(*kernel, card)).collect(),
            servers: outcome.server.iter().map(|usage| server(usage, outcome, card)).collect(),
            server_cpu_us_per_operation: None,
            generator: Generator::of(outcome.own_cpu_ns, elapsed_ns, plan.threads),
            verdict: VerdictReport::from(&outcome.verdict),
            notes: outcome.notes.clone(),
            plan,
        };
        for (&(phase, fault), &count) in &outcome.faults {
            *report.faults.entry(phase.into()).or_default().entry(name(fault)).or_default() +=
                count;
        }
        report.derive_server_cost();
        report
    }

    /// After the servers or the count of operations have changed.
    pub(super) fn derive_server_cost(&mut self) {
        let cpu_ns: f64 = self.servers.iter().map(|server| server.cpu_ns as f64).sum();
        let is_known = !self.servers.is_empty() && self.counts.completed > 0;
        self.server_cpu_us_per_operation =
            is_known.then(|| cpu_ns / NS_PER_US / self.counts.completed as f64);
    }
}

impl Counts {
    /// What counts against a run: operations that failed, and answers that no operation had asked for.
    pub fn failures(&self) -> u64 {
        self.failed.saturating_add(self.unasked)
    }

    fn of(outcome: &Outcome) -> Self {
        Self {
            started: outcome.started,
            completed: outcome.completed,
            failed: outcome.failed,
            not_started: outcome.not_started,
            queued: outcome.queued,
            connections: outcome.connections,
            closed_by_server: outcome.closed_by_server,
            closed_by_client: outcome.closed_by_client,
            unasked: outcome.unasked,
            resent: outcome.resent,
            not_resent: outcome.not_resent,
            sent_bytes: outcome.sent_bytes,
            received_bytes: outcome.received_bytes,
        }
    }
}

impl IntervalReport {
    /// Operations that succeeded, per second.
    pub fn rate_per_second(&self) -> f64 {
        per_second(self.completed, self.length_ns)
    }
}

/// 0 for a window of no length.
/// A share of the CPU that is no number of CPUs at all would be written as infinite.
fn cpu_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=CPU_SHARE_MAX).contains(&share) {
        return Ok(share);
    }
    Err(D::Error::custom(format!("cpu_share is {share}; it must be 0 to {CPU_SHARE_MAX}")))
}

pub(super) fn per_second(count: u64, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 { 0.0 } else { count as f64 * NS_PER_SECOND / elapsed_ns as f64 }
}

fn server(usage: &ServerUsage, outcome: &Outcome, card: &Card) -> ServerReport {
    let pid = outcome.plan.server_pid.map_or("unknown".to_owned(), |pid| pid.to_string());
    ServerReport {
        process: format!("{} pid {pid}", card.boot_id),
        cpu_ns: usage.cpu_ns,
        threads: usage.threads,
        rss_bytes: usage.rss_bytes,
        switches: usage.switches,
    }
}

/// What a fault is called in reports.
fn name(fault: Fault) -> String {
    match fault {
        Fault::Errno(errno) if errno.name() == "errno" => format!("errno {}", errno.0),
        Fault::Errno(errno) => errno.name().to_owned(),
        Fault::TimedOut => "timed-out".to_owned(),
        Fault::EarlyEnd => "early-end".to_owned(),
        Fault::WrongBytes => "wrong-bytes".to_owned(),
        Fault::WrongStatus => "wrong-status".to_owned(),
        Fault::WrongSize => "wrong-size".to_owned(),
        Fault::UnaskedAnswer => "unasked-answer".to_owned(),
        Fault::Http(broken) => broken.name().to_owned(),
        Fault::CutOff => "cut-off".to_owned(),
    }
}

impl KernelReport {
    fn of(counters: KernelCounters, card: &Card) -> Self {
        Self {
            namespace: format!("{} {}", card.boot_id, card.net_namespace),
            passive_opens: counters.passive_opens,
            active_opens: counters.active_opens,
            listen_overflows: counters.listen_overflows,
            listen_drops: counters.listen_drops,
            retransmitted: counters.retransmitted,
            time_wait_overflow: counters.time_wait_overflow,
        }
    }
}

impl Generator {
    fn of(cpu_ns: u64, elapsed_ns: u64, threads: usize) -> Self {
        let available_ns = elapsed_ns as f64 * threads as f64;
        let cpu_share = if available_ns > 0.0 { cpu_ns as f64 / available_ns } else { 0.0 };
        Self { cpu_ns, cpu_share }
    }
}

impl From<Phase> for PhaseName {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Connect => Self::Connect,
            Phase::Send => Self::Send,
            Phase::Receive => Self::Receive,
            Phase::Verify => Self::Verify,
            Phase::Close => Self::Close,
        }
    }
}

impl From<&Latencies> for LatencyReport {
    fn from(latencies: &Latencies) -> Self {
        Self {
            connect: Latency::from(&latencies.connect),
            first_byte: Latency::from(&latencies.first_byte),
            total: Latency::from(&latencies.total),
            service: Latency::from(&latencies.service),
            close: Latency::from(&latencies.close),
            lateness: Latency::from(&latencies.lateness),
        }
    }
}

impl From<[u64; 3]> for DroppedSyns {
    fn from([one, two, three]: [u64; 3]) -> Self {
        Self { one, two, three }
    }
}

impl From<&Interval> for IntervalReport {
    fn from(interval: &Interval) -> Self {
        Self {
            start_ns: ns(interval.start),
            length_ns: ns(interval.length),
            completed: interval.completed,
            failed: interval.failed,
            total: Latency::from(&interval.total),
        }
    }
}

impl From<&Verdict> for VerdictReport {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Valid => Self { valid: true, reasons: Vec::new() },
            Verdict::Invalid(reasons) => Self { valid: false, reasons: reasons.clone() },
        }
    }
}
