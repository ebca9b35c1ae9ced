//! What the kernel counted in the network namespace, and how much of it may be this run's. Other programs
//! listen and connect there too; what cannot be ours is told, and spoils nothing.

use std::time::Duration;

use super::{Evidence, is_tcp, quantile};
use crate::load::outcome::{Fault, Outcome, Phase};
use crate::load::plan::{Mode, Pace};

/// Share by which counts of connections may differ.
const COUNT_TOLERANCE: f64 = 0.01;

/// A SYN that is dropped is sent again after 1 s (TCP_TIMEOUT_INIT), and what follows a lost handshake
/// after 200 ms (TCP_RTO_MIN). With room for timers that are early and for systems that have lower ones, what was
/// faster than this has lost no handshake.
const LOST_HANDSHAKE_MIN: Duration = Duration::from_millis(100);

/// A request of several segments probes for a lost one after two ticks (tcp_schedule_loss_probe), of which
/// there are a thousand a second at most.
const LOST_SEGMENT_MIN: Duration = Duration::from_millis(2);

/// No segment that leaves a machine is cut smaller than this.
const ONE_SEGMENT_BYTES: u64 = 500;

pub(super) fn too_few_accepted(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let Accepted { ours, kernels, tolerance } = accepted(outcome, evidence)?;
    // Whose handshake was lost is connected for the client alone.
    let lost = outcome.kernel?.listen_overflows;
    (ours as f64 - kernels as f64 > tolerance + lost as f64).then(|| {
        format!(
            "the client made {ours} connections and the kernel's listeners {kernels} (TcpPassiveOpens): \
             the server is in another network namespace, or not here"
        )
    })
}

pub(super) fn others_connected(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let Accepted { ours, kernels, tolerance } = accepted(outcome, evidence)?;
    let more = kernels.saturating_sub(ours);
    (more as f64 > tolerance).then(|| {
        format!(
            "listeners of this machine accepted {more} connections more than the {ours} that the client \
             made (TcpPassiveOpens): other programs connected meanwhile; they are of this machine, not of \
             this run"
        )
    })
}

/// Connections by both counts.
struct Accepted {
    ours: u64,
    kernels: u64,
    tolerance: f64,
}

fn accepted(outcome: &Outcome, evidence: Evidence) -> Option<Accepted> {
    if !evidence.target_is_here || !is_tcp(outcome) || !connects_for_operations(outcome.plan.mode) {
        return None;
    }
    let (ours, kernels) = (outcome.connections, outcome.kernel?.passive_opens);
    let share = COUNT_TOLERANCE + evidence.unobserved_share;
    Some(Accepted { ours, kernels, tolerance: ours as f64 * share + at_the_edges(outcome) })
}

/// Connections that one side may count in the window and the other not: those under way at either
/// end of it. Open loop: by Little's law.
fn at_the_edges(outcome: &Outcome) -> f64 {
    match outcome.plan.pace {
        Pace::Closed { connections } | Pace::Fixed { connections, .. } => 2.0 * connections as f64,
        Pace::Open { rate, max_inflight, .. } => {
            let longest = quantile(&outcome.latencies.total, 1.0).as_secs_f64();
            2.0 * (rate * longest).ceil().clamp(1.0, max_inflight as f64)
        }
    }
}

/// Whether connections are made all along the window, not only before it.
fn connects_for_operations(mode: Mode) -> bool {
    match mode {
        Mode::Accept | Mode::Crr | Mode::Hold | Mode::Storm => true,
        Mode::Http { requests_per_connection } => requests_per_connection.is_some(),
        Mode::Rr | Mode::Stream { .. } => false,
    }
}

pub(super) fn overflows(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let overflows = unexpected_overflows(outcome, evidence)?;
    may_have_lost_handshakes(outcome).then(|| {
        format!(
            "an accept queue overflowed {overflows} times (ListenOverflows) and operations were as slow \
             as after a lost handshake, or failed, so latencies may be those of lost handshakes; raise \
             the server's backlog and net.core.somaxconn, or lower the load"
        )
    })
}

pub(super) fn others_overflowed(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let overflows = unexpected_overflows(outcome, evidence)?;
    (!may_have_lost_handshakes(outcome)).then(|| {
        format!(
            "an accept queue overflowed {overflows} times (ListenOverflows): of this machine, not of this \
             run, in which no operation failed or was as slow as after a lost handshake"
        )
    })
}

fn unexpected_overflows(outcome: &Outcome, evidence: Evidence) -> Option<u64> {
    let expected = outcome.plan.mode == Mode::Storm || !evidence.target_is_here || !is_tcp(outcome);
    Some(outcome.kernel?.listen_overflows).filter(|overflows| *overflows > 0 && !expected)
}

/// Whether an operation of this run shows what a full accept queue does to one: the kernel drops the SYN, or
/// the end of the handshake, and something has to be sent again; or the connection fails.
fn may_have_lost_handshakes(outcome: &Outcome) -> bool {
    let failed = |phase: Option<Phase>| {
        let mut faults = outcome.faults.keys();
        faults
            .any(|(own, fault)| tells_of_the_network(*fault) && phase.is_none_or(|one| one == *own))
    };
    if outcome.connections == 0 && !failed(Some(Phase::Connect)) {
        return false;
    }
    let slow = if is_one_segment(outcome) { LOST_HANDSHAKE_MIN } else { LOST_SEGMENT_MIN };
    let latencies = &outcome.latencies;
    let slowest = [&latencies.connect, &latencies.service].map(|latency| quantile(latency, 1.0));
    failed(None) || slowest.into_iter().any(|slowest| slowest >= slow)
}

/// Whether a fault may come of a connection that the server knows nothing of.
fn tells_of_the_network(fault: Fault) -> bool {
    match fault {
        Fault::Errno(_) | Fault::TimedOut | Fault::EarlyEnd | Fault::CutOff => true,
        Fault::WrongBytes
        | Fault::WrongStatus
        | Fault::WrongSize
        | Fault::UnaskedAnswer
        | Fault::Http(_) => false,
    }
}

/// Whether all that a connection sends before its first answer is one segment.
fn is_one_segment(outcome: &Outcome) -> bool {
    let plan = &outcome.plan;
    let bytes = match &plan.http {
        Some(http) => http.largest_request_bytes() * http.pipeline,
        None => plan.request_bytes,
    };
    bytes as u64 <= ONE_SEGMENT_BYTES
}
