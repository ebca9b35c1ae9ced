//! How busy a thread is, and how many connections more than others it may keep because of that.
//!
//! To hand a connection over costs a wake of another thread. A thread that has time to spare and whose connections
//! are short saves that: what it keeps too many of has gone in a moment. One that is busy, or whose connections
//! stay, shares them out evenly.

use std::time::{Duration, Instant};

/// How long a thread is looked at, at least.
const WINDOW: Duration = Duration::from_millis(10);

/// A thread that was on a CPU for more than so many percent of a window is busy.
const BUSY_PERCENT: u32 = 75;

/// The time since the last look.
#[derive(Debug)]
pub(super) struct Occupancy {
    /// When it began, and the CPU time of the thread then.
    since: Instant,
    used: Duration,
    /// Connections that have closed in it.
    closed: usize,
}

impl Occupancy {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, used: Duration::ZERO, closed: 0 }
    }

    /// So many connections have closed.
    pub(super) fn closed(&mut self, count: usize) {
        self.closed += count;
    }

    /// At the end of a window: how many connections more than others this thread may keep, before a limit. That is how
    /// many close within the shortest window, or none for a busy thread. `used` is the CPU time of the
    /// thread so far; one that cannot be read counts as busy.
    pub(super) fn slack(
        &mut self,
        now: Instant,
        used: impl FnOnce() -> Option<Duration>,
    ) -> Option<usize> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let used = used();
        let spent = used.map(|used| used.saturating_sub(self.used));
        let is_busy = spent.is_none_or(|spent| spent * 100 > elapsed * BUSY_PERCENT);
        let turnover = self.closed as u128 * WINDOW.as_nanos() / elapsed.as_nanos();
        *self = Self { since: now, used: used.unwrap_or_default(), closed: 0 };
        Some(if is_busy { 0 } else { usize::try_from(turnover).unwrap_or(usize::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_thread_with_time_to_spare_keeps_what_closes_soon() {
        let start = Instant::now();
        // Length of the window, CPU time, closed; then the slack.
        let table = [
            (10, 7, 25, Some(25)),
            (10, 8, 25, Some(0)),
            (10, 7, 0, Some(0)),
            // After a long sleep: one close in a second is not much.
            (1000, 1, 99, Some(0)),
            (1000, 1, 250, Some(2)),
            (9, 1, 25, None),
        ];
        for (elapsed, used, closed, slack) in table {
            let mut occupancy = Occupancy::new(start);
            occupancy.closed(closed);
            let found = occupancy.slack(start + elapsed * MS, || Some(used * MS));
            assert_eq!(found, slack, "{elapsed} {used} {closed}");
        }
    }

    #[test]
    fn each_window_counts_for_itself() {
        let start = Instant::now();
        let mut occupancy = Occupancy::new(start);
        occupancy.closed(7);
        assert_eq!(occupancy.slack(start + 5 * MS, || unreachable!()), None);
        occupancy.closed(3);
        assert_eq!(occupancy.slack(start + 10 * MS, || Some(MS)), Some(10));
        occupancy.closed(5);
        assert_eq!(occupancy.slack(start + 20 * MS, || Some(5 * MS)), Some(5));
        assert_eq!(occupancy.slack(start + 30 * MS, || Some(13 * MS)), Some(0));
        assert_eq!(occupancy.slack(start + 40 * MS, || None), Some(0));
    }
}
