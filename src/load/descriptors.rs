//! Whether the connections of a run have room under RLIMIT_NOFILE.
//!
//! A closed loop has as many connections as it was asked for. An open loop has as many as have begun
//! and not ended; it is planned for a target that answers nothing, because that is the moment in which
//! it must go on starting:
//!
//! ```text
//!   at a time = min(max-inflight, starts per second x seconds that one may last)
//! ```

use std::io;
use std::time::Duration;

use super::plan::{Mode, Pace, Plan};
use super::run::RunError;
use crate::sys::{self, NofileLimit};

/// Descriptors of one thread (ring, its duplicate, eventfd), and of everything else: the standard
/// ones, signals, and what /proc is read with.
const OF_A_THREAD: usize = 4;
const BESIDES: usize = 20;

/// More connections than this process may have open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reason} need {needed} descriptors ({connections} + {OF_A_THREAD} for each of {threads} \
     threads + {BESIDES}), and the limit on open files (RLIMIT_NOFILE) is {limit}; raise it with \
     ulimit -n, or lower {option}"
)]
pub struct TooFewDescriptors {
    /// Connections at a time.
    pub connections: usize,
    /// Where their number comes from.
    pub reason: String,
    /// The option that lowers it.
    pub option: &'static str,
    /// Threads of the generator.
    pub threads: usize,
    /// Descriptors that they and the generator itself need.
    pub needed: u64,
    /// The limit.
    pub limit: u64,
}

/// Raises the limit on open files as far as this process may, and holds that the run fits.
///
/// # Errors
/// It does not, or the limit cannot be read.
pub(super) fn check(plan: &Plan) -> Result<(), RunError> {
    Ok(room(plan, raise()?)?)
}

fn raise() -> io::Result<u64> {
    let NofileLimit { soft, hard } = sys::nofile()?;
    Ok(if sys::set_nofile_soft(hard).is_ok() { hard } else { soft })
}

fn room(plan: &Plan, limit: u64) -> Result<(), TooFewDescriptors> {
    let Demand { connections, reason, option } = Demand::of(plan);
    let needed = (OF_A_THREAD * plan.threads + BESIDES).saturating_add(connections) as u64;
    if needed <= limit {
        return Ok(());
    }
    let threads = plan.threads;
    Err(TooFewDescriptors { connections, reason, option, threads, needed, limit })
}

/// Connections at a time, and why.
struct Demand {
    connections: usize,
    reason: String,
    option: &'static str,
}

impl Demand {
    fn of(plan: &Plan) -> Self {
        match (plan.mode, plan.count, plan.pace) {
            (Mode::Hold, Some(count), _) => Self::asked_for(count as usize, "--count"),
            (_, _, Pace::Closed { connections } | Pace::Fixed { connections, .. }) => {
                Self::asked_for(connections, "--connections")
            }
            (_, _, Pace::Open { rate, max_inflight, .. }) => open(plan, rate, max_inflight),
        }
    }

    fn asked_for(connections: usize, option: &'static str) -> Self {
        Self { connections, reason: format!("{connections} connections"), option }
    }
}

fn open(plan: &Plan, rate: f64, max_inflight: usize) -> Demand {
    let seconds = longest(plan).as_secs_f64();
    // As many as a usize holds, if there are more.
    let due = (rate * seconds).ceil() as usize;
    if due >= max_inflight {
        let reason = format!("{max_inflight} operations in flight (--max-inflight)");
        return Demand { connections: max_inflight, reason, option: "--max-inflight" };
    }
    let reason = format!(
        "{due} operations in flight ({rate} per second, each of up to {seconds} s by the timeouts \
         and the length of the run)"
    );
    Demand { connections: due, reason, option: "--max-inflight, --rate or the timeouts" }
}

/// How long a connection may be open.
fn longest(plan: &Plan) -> Duration {
    let run = plan.warm_up + plan.duration;
    match plan.mode {
        Mode::Hold => run,
        _ => run.min(plan.timeouts.connect + plan.timeouts.response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Arrival;
    use crate::load::plan::testing::plan;

    fn needed(plan: &Plan) -> u64 {
        room(plan, 0).unwrap_err().needed
    }

    fn open_plan(mode: Mode, rate: f64, max_inflight: usize) -> Plan {
        let pace = Pace::Open { rate, arrival: Arrival::Uniform, max_inflight };
        let timeouts = super::super::plan::Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(3),
        };
        Plan { pace, timeouts, duration: Duration::from_secs(60), ..plan(mode) }
    }

    #[test]
    fn what_is_needed_is_what_can_be_open_at_a_time() {
        let few = 24;
        let table = [
            (plan(Mode::Crr), 4 + few),
            (Plan { threads: 3, ..plan(Mode::Crr) }, 4 + few + 8),
            (
                Plan {
                    pace: Pace::Fixed { connections: 7, rate: 1e6, arrival: Arrival::Uniform },
                    ..plan(Mode::Rr)
                },
                7 + few,
            ),
            (open_plan(Mode::Crr, 100.0, 4096), 500 + few),
            (open_plan(Mode::Crr, 100.0, 400), 400 + few),
            (open_plan(Mode::Crr, 1e18, 1 << 20), (1 << 20) + few),
            (open_plan(Mode::Hold, 100.0, 1 << 20), 6000 + few),
            (Plan { count: Some(50), ..open_plan(Mode::Hold, 100.0, 4096) }, 50 + few),
            (Plan { count: Some(900), ..plan(Mode::Hold) }, 900 + few),
        ];
        for (plan, expected) in table {
            assert_eq!(needed(&plan), expected, "{:?} {:?}", plan.mode, plan.pace);
            assert_eq!(room(&plan, expected), Ok(()));
            assert_eq!(room(&plan, expected - 1).map_err(|error| error.limit), Err(expected - 1));
        }
    }

    #[test]
    fn a_refusal_has_the_arithmetic_and_a_fix() {
        let table = [
            (open_plan(Mode::Crr, 100.0, 4096), ["100 per second", "5 s", "--rate"]),
            (open_plan(Mode::Crr, 1000.0, 4096), ["4096", "(--max-inflight)", "4120"]),
            (plan(Mode::Crr), ["4 connections", "--connections", "28"]),
        ];
        for (plan, words) in table {
            let text = room(&plan, 20).unwrap_err().to_string();
            for word in words.iter().chain(&["RLIMIT_NOFILE", "is 20;", "ulimit -n"]) {
                assert!(text.contains(word), "'{word}' is missing in: {text}");
            }
        }
    }
}
