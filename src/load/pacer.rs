//! Which operation starts when, for one thread.

use std::time::{Duration, Instant};

use super::pacing::Schedule;
use super::plan::{Mode, Pace, Plan};

/// Connections that `hold` opens, or pokes, at a time.
const HOLD_AT_ONCE: usize = 64;

/// Starts of one thread.
pub(super) struct Pacer {
    start: Instant,
    /// When the window begins.
    from: Instant,
    /// No operation starts from then on.
    end: Instant,
    /// Starts in the window that are left, if they are counted.
    left: Option<u64>,
    kind: Kind,
}

enum Kind {
    /// So many operations at a time.
    Closed { at_once: usize },
    /// At planned moments; the next one is taken off already.
    Open { schedule: Schedule, next: Instant, max_inflight: usize },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start an operation that was planned for then.
    Start(Instant),
    /// An operation was due then, but there is no room for it.
    Skip(Instant),
    /// Look again at that moment.
    At(Instant),
    /// Look again when an operation has ended.
    Later,
    /// Nothing starts any more.
    Over,
}

impl Pacer {
    pub(super) fn new(plan: &Plan, index: usize, start: Instant) -> Self {
        let share = |total: usize| (total + plan.threads - 1 - index) / plan.threads;
        let kind = match plan.pace {
            Pace::Closed { connections } if plan.mode == Mode::Hold => {
                let held = plan.count.map_or(connections, |count| count as usize);
                Kind::Closed { at_once: share(held).min(HOLD_AT_ONCE) }
            }
            Pace::Closed { connections } => Kind::Closed { at_once: share(connections) },
            Pace::Open { rate, arrival, max_inflight } => {
                let schedule = Schedule::new(rate, arrival, plan.seed);
                let mut schedule = schedule.for_thread(index, plan.threads);
                let next = start + schedule.next().unwrap_or(Duration::MAX);
                Kind::Open { schedule, next, max_inflight: share(max_inflight) }
            }
        };
        let count = match (plan.mode, plan.pace) {
            (Mode::Storm, Pace::Closed { connections }) => Some(connections as u64),
            // There it is the number of connections, which are poked to the end of the window.
            (Mode::Hold, _) => None,
            _ => plan.count,
        };
        let left = count.map(|count| share(count as usize) as u64);
        let from = start + plan.warm_up;
        Self { start, from, end: from + plan.duration, left, kind }
    }

    /// What to do now, with so many operations active.
    pub(super) fn next(&mut self, now: Instant, active: usize) -> Next {
        if now >= self.end || self.left == Some(0) {
            return Next::Over;
        }
        let next = match &mut self.kind {
            Kind::Closed { at_once } if active < *at_once => Next::Start(now.max(self.start)),
            Kind::Closed { .. } => Next::Later,
            Kind::Open { next, .. } if *next >= self.end => Next::Over,
            Kind::Open { next, .. } if *next > now => return Next::At(*next),
            Kind::Open { schedule, next, max_inflight } => {
                let planned = *next;
                *next = schedule.next().map_or(self.end, |offset| self.start + offset);
                if active < *max_inflight { Next::Start(planned) } else { Next::Skip(planned) }
            }
        };
        if matches!(next, Next::Start(planned) if planned >= self.from) {
            self.left = self.left.map(|left| left - 1);
        }
        next
    }
}
