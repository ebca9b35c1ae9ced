//! Adding up runs of several processes or machines.

use std::fmt::Debug;

use super::{
    Counts, DroppedSyns, IntervalReport, KernelReport, LatencyReport, PlanReport, Report,
    ReportError, ServerReport, VerdictReport,
};
use crate::load::Pace;

/// Adds up runs that did the same work at the same time.
///
/// Generators in one network namespace, or that observe one server process, have counted the same
/// events: of these the highest figure is taken, not the sum.
///
/// # Errors
/// There is no report, or two did different work.
pub fn merge(reports: Vec<Report>) -> Result<Report, ReportError> {
    let several = reports.len() > 1;
    let mut reports = reports.into_iter();
    let mut sum = reports.next().ok_or(ReportError::Nothing)?;
    if several {
        sum.verdict = sum.verdict.of_run(1);
    }
    for (which, report) in (2..).zip(reports) {
        check_same_work(&sum.plan, &report.plan, which)?;
        sum.add(report, which);
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
    same("http_path", &first.http_path, &other.http_path, which)
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
    }
}

impl Report {
    fn add(&mut self, other: Self, which: usize) {
        self.runs += other.runs;
        self.cards.extend(other.cards);
        self.plan.add(other.plan);
        self.started_unix_ms = self.started_unix_ms.min(other.started_unix_ms);
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.counts.add(other.counts);
        self.rate_per_second += other.rate_per_second;
        self.latencies.add(&other.latencies);
        for (phase, faults) in other.faults {
            for (fault, count) in faults {
                *self.faults.entry(phase).or_default().entry(fault).or_default() += count;
            }
        }
        self.dropped_syns.add(other.dropped_syns);
        add_intervals(&mut self.intervals, other.intervals);
        other.kernel.into_iter().for_each(|kernel| add_kernel(&mut self.kernel, kernel));
        other.servers.into_iter().for_each(|server| add_server(&mut self.servers, server));
        self.generator.cpu_ns += other.generator.cpu_ns;
        self.generator.cpu_share = self.generator.cpu_share.max(other.generator.cpu_share);
        self.verdict.add(other.verdict.of_run(which));
    }
}

impl PlanReport {
    fn add(&mut self, other: Self) {
        add_new(&mut self.targets, other.targets);
        add_new(&mut self.sources, other.sources);
        self.pace = together(self.pace, other.pace);
        self.threads += other.threads;
        self.seeds.extend(other.seeds);
        self.duration_ns = self.duration_ns.max(other.duration_ns);
        self.warm_up_ns = self.warm_up_ns.max(other.warm_up_ns);
        self.count = self.count.zip(other.count).map(|(own, other)| own.saturating_add(other));
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
fn together(own: Pace, other: Pace) -> Pace {
    match (own, other) {
        (Pace::Closed { connections }, Pace::Closed { connections: more }) => {
            Pace::Closed { connections: connections + more }
        }
        (
            Pace::Open { rate, arrival, max_inflight },
            Pace::Open { rate: more, max_inflight: more_inflight, .. },
        ) => Pace::Open { rate: rate + more, arrival, max_inflight: max_inflight + more_inflight },
        (own, _) => own,
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.started += other.started;
        self.completed += other.completed;
        self.failed += other.failed;
        self.not_started += other.not_started;
        self.connections += other.connections;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }
}

impl LatencyReport {
    fn add(&mut self, other: &Self) {
        self.connect.add(&other.connect);
        self.first_byte.add(&other.first_byte);
        self.total.add(&other.total);
        self.service.add(&other.service);
        self.close.add(&other.close);
        self.lateness.add(&other.lateness);
    }
}

impl DroppedSyns {
    fn add(&mut self, other: Self) {
        self.one += other.one;
        self.two += other.two;
        self.three += other.three;
    }
}

/// By index; what one run has more than the others is appended.
fn add_intervals(own: &mut Vec<IntervalReport>, others: Vec<IntervalReport>) {
    for (index, other) in others.into_iter().enumerate() {
        match own.get_mut(index) {
            Some(interval) => interval.add(&other),
            None => own.push(other),
        }
    }
}

impl IntervalReport {
    fn add(&mut self, other: &Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.length_ns = self.length_ns.max(other.length_ns);
        self.completed += other.completed;
        self.failed += other.failed;
        self.total.add(&other.total);
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

impl VerdictReport {
    /// With each reason saying whose it is.
    fn of_run(mut self, which: usize) -> Self {
        for reason in &mut self.reasons {
            *reason = format!("run {which}: {reason}");
        }
        self
    }

    fn add(&mut self, other: Self) {
        self.valid &= other.valid;
        self.reasons.extend(other.reasons);
    }
}
