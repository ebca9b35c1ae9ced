//! Adding up runs of several processes or machines.

use std::fmt::Debug;

use super::form::per_second;
use super::sum::{add, add_latency};
use super::windows::Windows;
use super::{
    Counts, DroppedSyns, IntervalReport, KernelReport, LatencyReport, PlanReport, Report,
    ReportError, ServerReport, VerdictReport,
};
use crate::load::Pace;

/// Adds up runs that did the same work at the same time.
///
/// Generators in one network namespace, or that observe one server process, have counted the same
/// events: of these the highest figure is taken, not the sum. Runs that were not at the same time make
/// the sum invalid, and their rates are not added.
///
/// # Errors
/// There is no report, two did different work, or a sum is larger than any run can make it.
pub fn merge(reports: Vec<Report>) -> Result<Report, ReportError> {
    let (several, windows) = (reports.len() > 1, Windows::of(&reports));
    let mut reports = reports.into_iter();
    let mut sum = reports.next().ok_or(ReportError::Nothing)?;
    if several {
        sum.verdict = sum.verdict.of_run(1);
        sum.notes = of_run(sum.notes, 1);
    }
    for (which, report) in (2..).zip(reports) {
        check_same_work(&sum.plan, &report.plan, which)?;
        sum.add(report, which)?;
    }
    if let Some(reason) = windows.apart().filter(|_| several) {
        sum.rate_per_second = per_second(sum.counts.completed, windows.span_ns());
        sum.verdict.add(VerdictReport { valid: false, reasons: vec![reason] });
    }
    sum.derive_server_cost();
    Ok(sum)
}

fn check_same_work(
    first: &PlanReport,
    other: &PlanReport,
    which: usize,
) -> Result<(), ReportError> {
    same("mode", &first.mode, &other.mode, which)?;
    same("close style", &first.close, &other.close, which)?;
    same("loop", &kind(&first.pace), &kind(&other.pace), which)?;
    same("request_bytes", &first.request_bytes, &other.request_bytes, which)?;
    same("response_bytes", &first.response_bytes, &other.response_bytes, which)?;
    same("http", &first.http, &other.http, which)?;
    same("think_ns", &first.think_ns, &other.think_ns, which)
}

fn same<T: PartialEq + Debug>(
    what: &'static str,
    first: &T,
    other: &T,
    which: usize,
) -> Result<(), ReportError> {
    if first == other {
        return Ok(());
    }
    let text = |value: &T| format!("{value:?}").to_lowercase();
    Err(ReportError::Differs { which, what, first: text(first), other: text(other) })
}

fn kind(pace: &Pace) -> String {
    match pace {
        Pace::Closed { .. } => "closed".to_owned(),
        Pace::Open { arrival, .. } => format!("open {arrival:?}"),
        Pace::Fixed { arrival, .. } => format!("fixed {arrival:?}"),
    }
}

impl Report {
    fn add(&mut self, other: Self, which: usize) -> Result<(), ReportError> {
        add(&mut self.runs, other.runs, "runs")?;
        self.cards.extend(other.cards);
        self.plan.add(other.plan)?;
        self.started_unix_ms = self.started_unix_ms.min(other.started_unix_ms);
        self.ended_unix_ms = self.ended_unix_ms.max(other.ended_unix_ms);
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.counts.add(other.counts)?;
        add(&mut self.rate_per_second, other.rate_per_second, "rate_per_second")?;
        self.latencies.add(&other.latencies)?;
        if let (Some(own), Some(answers)) = (&mut self.answers, other.answers) {
            own.add(answers)?;
        }
        for (phase, faults) in other.faults {
            for (fault, count) in faults {
                let own = self.faults.entry(phase).or_default().entry(fault).or_default();
                add(own, count, "faults")?;
            }
        }
        self.dropped_syns.add(other.dropped_syns)?;
        add_intervals(&mut self.intervals, other.intervals)?;
        other.kernel.into_iter().for_each(|kernel| add_kernel(&mut self.kernel, kernel));
        other.servers.into_iter().for_each(|server| add_server(&mut self.servers, server));
        add(&mut self.generator.cpu_ns, other.generator.cpu_ns, "generator.cpu_ns")?;
        self.generator.cpu_share = self.generator.cpu_share.max(other.generator.cpu_share);
        self.verdict.add(other.verdict.of_run(which));
        self.notes.extend(of_run(other.notes, which));
        Ok(())
    }
}

impl PlanReport {
    fn add(&mut self, other: Self) -> Result<(), ReportError> {
        add_new(&mut self.targets, other.targets);
        add_new(&mut self.sources, other.sources);
        add_pace(&mut self.pace, other.pace)?;
        add(&mut self.threads, other.threads, "plan.threads")?;
        self.seeds.extend(other.seeds);
        self.duration_ns = self.duration_ns.max(other.duration_ns);
        self.warm_up_ns = self.warm_up_ns.max(other.warm_up_ns);
        self.count = self.count.zip(other.count).map(|(own, other)| own.saturating_add(other));
        Ok(())
    }
}

fn add_new(own: &mut Vec<String>, others: Vec<String>) {
    for other in others {
        if !own.contains(&other) {
            own.push(other);
        }
    }
}

/// The loops are the same: [`check_same_work`].
fn add_pace(own: &mut Pace, other: Pace) -> Result<(), ReportError> {
    match (own, other) {
        (Pace::Closed { connections }, Pace::Closed { connections: more }) => {
            add(connections, more, "plan.pace.connections")
        }
        (
            Pace::Open { rate, max_inflight, .. },
            Pace::Open { rate: more, max_inflight: more_inflight, .. },
        ) => {
            add(rate, more, "plan.pace.rate_per_second")?;
            add(max_inflight, more_inflight, "plan.pace.max_inflight")
        }
        (
            Pace::Fixed { rate, connections, .. },
            Pace::Fixed { rate: more, connections: more_connections, .. },
        ) => {
            add(rate, more, "plan.pace.rate_per_second")?;
            add(connections, more_connections, "plan.pace.connections")
        }
        _ => Ok(()),
    }
}

impl Counts {
    fn add(&mut self, other: Self) -> Result<(), ReportError> {
        add(&mut self.started, other.started, "counts.started")?;
        add(&mut self.completed, other.completed, "counts.completed")?;
        add(&mut self.failed, other.failed, "counts.failed")?;
        add(&mut self.not_started, other.not_started, "counts.not_started")?;
        add(&mut self.queued, other.queued, "counts.queued")?;
        add(&mut self.connections, other.connections, "counts.connections")?;
        add(&mut self.closed_by_server, other.closed_by_server, "counts.closed_by_server")?;
        add(&mut self.closed_by_client, other.closed_by_client, "counts.closed_by_client")?;
        add(&mut self.unasked, other.unasked, "counts.unasked")?;
        add(&mut self.resent, other.resent, "counts.resent")?;
        add(&mut self.not_resent, other.not_resent, "counts.not_resent")?;
        add(&mut self.sent_bytes, other.sent_bytes, "counts.sent_bytes")?;
        add(&mut self.received_bytes, other.received_bytes, "counts.received_bytes")
    }
}

impl LatencyReport {
    fn add(&mut self, other: &Self) -> Result<(), ReportError> {
        add_latency(&mut self.connect, &other.connect, "latencies.connect")?;
        add_latency(&mut self.first_byte, &other.first_byte, "latencies.first_byte")?;
        add_latency(&mut self.total, &other.total, "latencies.total")?;
        add_latency(&mut self.service, &other.service, "latencies.service")?;
        add_latency(&mut self.close, &other.close, "latencies.close")?;
        add_latency(&mut self.lateness, &other.lateness, "latencies.lateness")
    }
}

impl DroppedSyns {
    fn add(&mut self, other: Self) -> Result<(), ReportError> {
        add(&mut self.one, other.one, "dropped_syns.one")?;
        add(&mut self.two, other.two, "dropped_syns.two")?;
        add(&mut self.three, other.three, "dropped_syns.three")
    }
}

/// By index; what one run has more than the others is appended.
fn add_intervals(
    own: &mut Vec<IntervalReport>,
    others: Vec<IntervalReport>,
) -> Result<(), ReportError> {
    for (index, other) in others.into_iter().enumerate() {
        match own.get_mut(index) {
            Some(interval) => interval.add(&other)?,
            None => own.push(other),
        }
    }
    Ok(())
}

impl IntervalReport {
    fn add(&mut self, other: &Self) -> Result<(), ReportError> {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.length_ns = self.length_ns.max(other.length_ns);
        add(&mut self.completed, other.completed, "intervals.completed")?;
        add(&mut self.failed, other.failed, "intervals.failed")?;
        add_latency(&mut self.total, &other.total, "intervals.total")
    }
}

fn add_kernel(own: &mut Vec<KernelReport>, other: KernelReport) {
    let Some(same) = own.iter_mut().find(|kernel| kernel.namespace == other.namespace) else {
        return own.push(other);
    };
    same.passive_opens = same.passive_opens.max(other.passive_opens);
    same.active_opens = same.active_opens.max(other.active_opens);
    same.listen_overflows = same.listen_overflows.max(other.listen_overflows);
    same.listen_drops = same.listen_drops.max(other.listen_drops);
    same.retransmitted = same.retransmitted.max(other.retransmitted);
    same.time_wait_overflow = same.time_wait_overflow.max(other.time_wait_overflow);
}

fn add_server(own: &mut Vec<ServerReport>, other: ServerReport) {
    let Some(same) = own.iter_mut().find(|server| server.process == other.process) else {
        return own.push(other);
    };
    same.cpu_ns = same.cpu_ns.max(other.cpu_ns);
    same.threads = same.threads.max(other.threads);
    same.rss_bytes = same.rss_bytes.max(other.rss_bytes);
    same.switches = same.switches.max(other.switches);
}

/// With each sentence saying whose it is.
fn of_run(sentences: Vec<String>, which: usize) -> Vec<String> {
    sentences.into_iter().map(|sentence| format!("run {which}: {sentence}")).collect()
}

impl VerdictReport {
    fn of_run(self, which: usize) -> Self {
        Self { reasons: of_run(self.reasons, which), ..self }
    }

    fn add(&mut self, other: Self) {
        self.valid &= other.valid;
        self.reasons.extend(other.reasons);
    }
}
