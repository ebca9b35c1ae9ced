//! Which operation starts when, for one thread.

use std::time::{Duration, Instant};

use super::pacing::Schedule;
use super::plan::{Mode, Pace, Plan};

#[cfg(test)]
mod tests;

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
    /// Whenever there is room.
    Closed,
    /// At planned moments.
    Planned {
        schedule: Schedule,
        /// The next one, which is taken off already.
        next: Instant,
        /// What finds no room waits for it, instead of being skipped.
        queues: bool,
        /// When there was no room for the last time.
        blocked: Option<Instant>,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start an operation.
    Start(Start),
    /// An operation was due then, but there is no room for it.
    Skip(Instant),
    /// Look again at that moment.
    At(Instant),
    /// Look again when an operation has ended.
    Later,
    /// Nothing starts any more.
    Over,
}

/// When an operation was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) planned: Instant,
    /// It was due earlier and has waited for room.
    pub(super) queued: bool,
}

/// The part of `total` that thread `index` of the plan has.
pub(super) fn share(total: usize, plan: &Plan, index: usize) -> usize {
    (total + plan.threads - 1 - index) / plan.threads
}

impl Pacer {
    pub(super) fn new(plan: &Plan, index: usize, start: Instant) -> Self {
        let planned = |rate, arrival, queues| {
            let schedule = Schedule::new(rate, arrival, plan.seed);
            let mut schedule = schedule.for_thread(index, plan.threads);
            let next = start + schedule.next().unwrap_or(Duration::MAX);
            Kind::Planned { schedule, next, queues, blocked: None }
        };
        let kind = match plan.pace {
            Pace::Closed { .. } => Kind::Closed,
            Pace::Open { rate, arrival, .. } => planned(rate, arrival, false),
            Pace::Fixed { rate, arrival, .. } => planned(rate, arrival, true),
        };
        let count = match (plan.mode, plan.pace) {
            (Mode::Storm, Pace::Closed { connections }) => Some(connections as u64),
            // There it is the number of connections, which are poked to the end of the window.
            (Mode::Hold, _) => None,
            _ => plan.count,
        };
        let left = count.map(|count| share(count as usize, plan, index) as u64);
        let from = start + plan.warm_up;
        Self { start, from, end: from + plan.duration, left, kind }
    }

    /// What to do now, and whether there is room for another operation.
    pub(super) fn next(&mut self, now: Instant, room: bool) -> Next {
        if self.left == Some(0) {
            return Next::Over;
        }
        let next = match &mut self.kind {
            _ if now >= self.end => return self.left_over(),
            Kind::Closed if room => {
                Next::Start(Start { planned: now.max(self.start), queued: false })
            }
            Kind::Closed => Next::Later,
            Kind::Planned { next, .. } if *next >= self.end => Next::Over,
            Kind::Planned { next, .. } if *next > now => Next::At(*next),
            Kind::Planned { queues: true, blocked, .. } if !room => {
                *blocked = Some(now);
                Next::Later
            }
            Kind::Planned { schedule, next, blocked, .. } => {
                let planned = *next;
                *next = schedule.next().map_or(self.end, |offset| self.start + offset);
                let queued = blocked.is_some_and(|blocked| planned <= blocked);
                if room { Next::Start(Start { planned, queued }) } else { Next::Skip(planned) }
            }
        };
        if matches!(next, Next::Start(start) if start.planned >= self.from) {
            self.left = self.left.map(|left| left - 1);
        }
        next
    }

    /// What was due before the end and still waits for room.
    fn left_over(&mut self) -> Next {
        let Kind::Planned { schedule, next, queues: true, .. } = &mut self.kind else {
            return Next::Over;
        };
        if *next >= self.end {
            return Next::Over;
        }
        let planned = *next;
        *next = schedule.next().map_or(self.end, |offset| self.start + offset);
        Next::Skip(planned)
    }
}
