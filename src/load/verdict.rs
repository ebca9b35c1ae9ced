//! Whether the figures of a run can be trusted, in sentences for people.
//!
//! A reason makes a run INVALID: its figures are the generator's or the machine's, not the server's.
//! A note stands beside valid figures.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::{Absence, Fault, Outcome, Phase, Verdict};
use super::plan::{CloseStyle, Mode, Pace, Target};
use crate::sys::Errno;
use lateness::{a_little_late, late};
use others::{others_connected, others_overflowed, overflows, too_few_accepted};

mod lateness;
mod others;
#[cfg(test)]
mod tests;

/// Share of a CPU from which on a thread has no time left.
const BUSY_SHARE: f64 = 0.95;

/// Share of the planned operations that may wait at the end without spoiling the latencies of the
/// others.
const LEFT_OVER_SHARE_MAX: f64 = 0.01;

/// Failures at the end of a window that mean more than bad luck: at least so many, and less likely
/// than this where operations failed all along.
const ABSENCE_FAILURES_MIN: u64 = 3;
const ABSENCE_LUCK_MAX: f64 = 1e-3;

/// What the outcome does not say of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// CPU time of the busiest generator thread in the window, over the window: 0 to 1.
    pub busiest_thread_share: f64,
    /// Share of the window that was over when the kernel was asked for the first time.
    pub unobserved_share: f64,
    /// The target is an address of this machine, so the kernel's counters are its too.
    pub target_is_here: bool,
}

/// A verdict and what else is to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// For [`Outcome::verdict`].
    pub verdict: Verdict,
    /// To be printed with the figures.
    pub notes: Vec<String>,
}

/// Judges a run by everything in `outcome` but its verdict.
pub fn judge(outcome: &Outcome, evidence: Evidence) -> Judgement {
    let reasons = [
        nothing_completed(outcome),
        target_went_away(outcome),
        generator_at_its_limit(outcome, evidence),
        late(outcome),
        not_started(outcome),
        cut_off(outcome),
        out_of_ports(outcome),
        too_few_accepted(outcome, evidence),
        overflows(outcome, evidence),
    ];
    let notes = [
        busy_in_a_closed_loop(outcome, evidence),
        a_little_late(outcome),
        some_failed(outcome),
        queued(outcome),
        left_over(outcome),
        resent(outcome),
        not_resent(outcome),
        unasked(outcome),
        not_closed(outcome),
        dropped_syns(outcome),
        others_connected(outcome, evidence),
        others_overflowed(outcome, evidence),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    let verdict = if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid(reasons) };
    Judgement { verdict, notes: notes.into_iter().flatten().collect() }
}

fn nothing_completed(outcome: &Outcome) -> Option<String> {
    (outcome.completed == 0).then(|| {
        let Outcome { started, failed, .. } = outcome;
        format!("no operation succeeded ({started} started, {failed} failed)")
    })
}

fn target_went_away(outcome: &Outcome) -> Option<String> {
    let Absence { since, failed } = outcome.absence?;
    if failed < ABSENCE_FAILURES_MIN || luck(outcome, failed) > ABSENCE_LUCK_MAX {
        return None;
    }
    Some(format!(
        "the target went away or stood still: from {:.3} s of the window on nothing succeeded, and \
         {failed} operations failed; the figures are those of the time before",
        since.as_secs_f64()
    ))
}

/// How likely so many operations fail one after another, if each fails as often as those before.
fn luck(outcome: &Outcome, failed: u64) -> f64 {
    let before = outcome.failed.saturating_sub(failed) as f64;
    (before / (before + outcome.completed as f64)).powf(failed as f64)
}

fn generator_at_its_limit(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let share = evidence.busiest_thread_share;
    (is_open_loop(outcome) && share >= BUSY_SHARE).then(|| {
        format!(
            "the generator was at its limit: a thread used {:.0} % of its CPU; lower --rate or \
             raise --threads",
            share * 100.0
        )
    })
}

fn busy_in_a_closed_loop(outcome: &Outcome, evidence: Evidence) -> Option<String> {
    let share = evidence.busiest_thread_share;
    (!is_open_loop(outcome) && share >= BUSY_SHARE).then(|| {
        format!(
            "the rate is the client's limit, not the server's: a generator thread used {:.0} % of \
             its CPU; compare the server's CPU time per operation",
            share * 100.0
        )
    })
}

fn not_started(outcome: &Outcome) -> Option<String> {
    let many = outcome.not_started;
    match outcome.plan.pace {
        _ if many == 0 => None,
        Pace::Fixed { .. } => is_material(outcome).then(|| {
            format!(
                "{many} operations were due and still waited for a free connection when the window \
                 ended, so that latencies leave out the worst; lower --rate or raise --connections"
            )
        }),
        Pace::Open { .. } | Pace::Closed { .. } => Some(format!(
            "{many} operations were due and not started, with as many in flight as --max-inflight \
             allows; lower --rate or raise --max-inflight"
        )),
    }
}

/// Whether more was left over at the end than what is always under way, one for each connection and
/// a percent of all.
fn is_material(outcome: &Outcome) -> bool {
    let planned = outcome.started + outcome.not_started;
    let usual = outcome.plan.pace.at_once() as f64 + planned as f64 * LEFT_OVER_SHARE_MAX;
    outcome.not_started as f64 > usual
}

/// What was cut off might have taken longer than anything that was measured.
fn cut_off(outcome: &Outcome) -> Option<String> {
    let cut = outcome.faults.iter().filter(|((_, fault), _)| *fault == Fault::CutOff);
    let many: u64 = cut.map(|(_, many)| many).sum();
    (many as f64 > outcome.started as f64 * LEFT_OVER_SHARE_MAX).then(|| {
        format!(
            "{many} operations were cut off by a second signal, so that latencies leave out the worst; \
             let a run come to its end, or give a shorter --response-timeout"
        )
    })
}

fn left_over(outcome: &Outcome) -> Option<String> {
    let is_noted = matches!(outcome.plan.pace, Pace::Fixed { .. }) && !is_material(outcome);
    (is_noted && outcome.not_started > 0).then(|| {
        let many = outcome.not_started;
        format!("{many} operations still waited for a free connection when the window ended")
    })
}

fn queued(outcome: &Outcome) -> Option<String> {
    (outcome.queued > 0).then(|| {
        let Outcome { queued, completed, .. } = outcome;
        format!(
            "{queued} of {completed} operations were due while all connections were busy, and waited; \
             their latency counts from the planned start"
        )
    })
}

fn resent(outcome: &Outcome) -> Option<String> {
    (outcome.resent > 0).then(|| {
        format!(
            "{} requests went out again on a new connection: the server had closed theirs before a byte \
             of the answer",
            outcome.resent
        )
    })
}

fn not_resent(outcome: &Outcome) -> Option<String> {
    (outcome.not_resent > 0).then(|| {
        format!(
            "{} requests failed because the server closed their kept connection before a byte of the \
             answer: a method that is not idempotent (POST, PATCH) is not sent again, as the server may have \
             acted on it (RFC 9110, section 9.2.2)",
            outcome.not_resent
        )
    })
}

fn unasked(outcome: &Outcome) -> Option<String> {
    (outcome.unasked > 0).then(|| {
        format!(
            "on {} idle connections the server sent bytes that no request had asked for \
             (unasked-answer): they are nobody's answer, and the connections were not used again \
             (RFC 9112, section 9.2); each counts as a failure of the run",
            outcome.unasked
        )
    })
}

/// With an answer there, the only thing that can take too long is the server's FIN.
fn not_closed(outcome: &Outcome) -> Option<String> {
    let many = outcome.faults.get(&(Phase::Close, Fault::TimedOut)).filter(|many| **many > 0)?;
    let asked = match (outcome.plan.mode, outcome.plan.close) {
        (Mode::Http { .. }, CloseStyle::Server) => "its last request said 'Connection: close'",
        (_, CloseStyle::Half) => "the client's FIN had come",
        _ => "the operation ends with that",
    };
    Some(format!(
        "{many} operations had their whole answer and failed because the server did not close the \
         connection within --response-timeout, although {asked}; with --close fin the client closes \
         behind the answer, and they succeed"
    ))
}

fn out_of_ports(outcome: &Outcome) -> Option<String> {
    let fault = (Phase::Connect, Fault::Errno(Errno::EADDRNOTAVAIL));
    let connects = outcome.faults.get(&fault).filter(|connects| **connects > 0)?;
    Some(format!(
        "{connects} connects found no free local port (EADDRNOTAVAIL); give --source for further \
         addresses, or end connections with --close server or --close rst"
    ))
}

fn some_failed(outcome: &Outcome) -> Option<String> {
    let Outcome { completed, failed, .. } = outcome;
    (*failed > 0 && *completed > 0).then(|| {
        let all = completed + failed;
        format!("{failed} of {all} operations failed; latencies are those of the others")
    })
}

fn dropped_syns(outcome: &Outcome) -> Option<String> {
    let dropped: u64 = outcome.dropped_syns.iter().sum();
    (dropped > 0).then(|| format!("{dropped} connects took as long as after a dropped SYN"))
}

fn is_open_loop(outcome: &Outcome) -> bool {
    outcome.plan.pace.rate().is_some()
}

fn is_tcp(outcome: &Outcome) -> bool {
    outcome.plan.targets.iter().all(|target| matches!(target, Target::Tcp(_)))
}

fn quantile(nanos: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_nanos(nanos.value_at_quantile(quantile))
}
