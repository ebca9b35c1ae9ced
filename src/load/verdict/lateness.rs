//! Whether operations of an open loop started late, as against the latencies and the pace.
//!
//! Latency counts from the planned start, so lateness is a part of it. Like is compared with like: half of
//! the starts with half of the latencies, the latest percent with the longest one.

use std::time::Duration;

use super::{is_open_loop, quantile};
use crate::load::outcome::Outcome;

/// Lateness (p99) that spoils any latency.
const LATENESS_MAX: Duration = Duration::from_millis(1);

/// Lateness that spoils a latency, as a share of it.
const SHARE_MAX: f64 = 0.1;

/// Below this, lateness is the timer's and the scheduler's, which no generator that sleeps avoids: a
/// note instead of a reason. A thread that sleeps until a start is due is woken tens of microseconds late
/// on an idle machine, 0.1 ms and more in a virtual one.
const FLOOR: Duration = Duration::from_micros(100);

/// Where starts are farther apart than they are late, they come one by one as planned, and it is judged so
/// up to this.
const FLOOR_MAX: Duration = Duration::from_micros(250);

/// What part of the operations is looked at: of the starts, and of the latencies.
const PARTS: [(&str, f64); 2] = [("1 %", 0.99), ("half", 0.5)];

/// Lateness that shows in the latencies.
struct Late {
    part: &'static str,
    late: Duration,
    latency: Duration,
    is_reason: bool,
}

pub(super) fn late(outcome: &Outcome) -> Option<String> {
    let Late { part, late, latency, .. } = lateness(outcome).filter(|late| late.is_reason)?;
    Some(format!(
        "operations started late: {part} of them by {late:.1?} or more, where {part} of the latencies \
         are {latency:.1?} or more; lower --rate, raise --threads, or give the generator a CPU of its own"
    ))
}

pub(super) fn a_little_late(outcome: &Outcome) -> Option<String> {
    let Late { part, late, latency, .. } = lateness(outcome).filter(|late| !late.is_reason)?;
    Some(format!(
        "{part} of the operations started {late:.1?} late or more, which shows where {part} of the \
         latencies are {latency:.1?} or more: 'service' is without it"
    ))
}

/// The worst of it, if it shows.
fn lateness(outcome: &Outcome) -> Option<Late> {
    let floor = interval(outcome)?.clamp(FLOOR, FLOOR_MAX);
    let parts = PARTS.map(|(part, share)| {
        let late = quantile(&outcome.latencies.lateness, share);
        let latency = quantile(&outcome.latencies.total, share);
        let shows = late > latency.mul_f64(SHARE_MAX);
        let is_reason = late > LATENESS_MAX || (shows && late > floor);
        (shows || is_reason).then_some(Late { part, late, latency, is_reason })
    });
    let [most, half] = parts;
    // Where half is a reason and the latest show at all, these are one too.
    most.or(half)
}

/// The mean time between two starts of a thread of an open loop.
fn interval(outcome: &Outcome) -> Option<Duration> {
    let rate = outcome.plan.pace.rate().filter(|_| is_open_loop(outcome))?;
    let seconds = outcome.plan.threads as f64 / rate;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
