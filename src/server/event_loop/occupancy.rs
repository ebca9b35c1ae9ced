//! How busy a thread is, and which connections it may keep because of that.
//!
//! To hand a connection over costs a wake of another thread. A thread that has time to spare and whose connections
//! are short saves that: what it keeps too many of has gone in a moment. One that is busy, or whose connections
//! stay, shares them out evenly. One that accepts for all and whose service takes long over some requests keeps as
//! few as it can: nothing is accepted meanwhile.

use std::time::{Duration, Instant};

use crate::dispatch::Preference;

/// How long a thread is looked at, at least.
const WINDOW: Duration = Duration::from_millis(10);

/// A thread that was on a CPU for more than so many percent of a window is busy.
const BUSY_PERCENT: u32 = 75;

/// A turn is long if it takes longer than this, and so much more for each of its events.
const LONG_TURN: Duration = Duration::from_micros(100);
const LONG_EVENT: Duration = Duration::from_micros(5);

/// So many long turns within this time are the service's doing. A thread that waits for a CPU has one now and then.
const LONG_TURNS: u32 = 4;
const LONG_WINDOW: Duration = Duration::from_millis(100);

/// One turn that takes so long is enough.
const BLOCKED_TURN: Duration = Duration::from_millis(10);

/// How long a service is taken for one with long requests since it was last seen to be one.
const LONG_MEMORY: Duration = Duration::from_secs(10);

/// What a thread has done of late.
#[derive(Debug)]
pub(super) struct Occupancy {
    /// Whether no other thread accepts.
    accepts_alone: bool,
    /// When the window began, and the CPU time of the thread then.
    since: Instant,
    used: Duration,
    /// Connections that have closed in it.
    closed: usize,
    /// Long turns, and since when they are counted.
    long_turns: (u32, Instant),
    /// Until when the service is taken for one with long requests.
    long_until: Option<Instant>,
}

impl Occupancy {
    pub(super) fn new(accepts_alone: bool, now: Instant) -> Self {
        Self {
            accepts_alone,
            since: now,
            used: Duration::ZERO,
            closed: 0,
            long_turns: (0, now),
            long_until: None,
        }
    }

    /// So many connections have closed.
    pub(super) fn closed(&mut self, count: usize) {
        self.closed += count;
    }

    /// Whether it matters how long a turn takes.
    pub(super) fn watches_turns(&self) -> bool {
        self.accepts_alone
    }

    /// A turn with so many events is over.
    pub(super) fn turned(&mut self, events: usize, took: Duration, now: Instant) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        if took <= LONG_TURN + LONG_EVENT.saturating_mul(events) {
            return;
        }
        let (count, since) = self.long_turns;
        let is_over = now.saturating_duration_since(since) > LONG_WINDOW;
        self.long_turns = if is_over { (1, now) } else { (count + 1, since) };
        if self.long_turns.0 >= LONG_TURNS || took >= BLOCKED_TURN {
            self.long_until = Some(now + LONG_MEMORY);
        }
    }

    /// At the end of a window: which connections this thread may keep. While it may be ahead of the others, it is so by as
    /// many connections as close within the shortest window, or by none if it is busy. `used` is the CPU time of the
    /// thread so far; one that cannot be read counts as busy.
    pub(super) fn preference(
        &mut self,
        now: Instant,
        used: impl FnOnce() -> Option<Duration>,
    ) -> Option<Preference> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let used = used();
        let spent = used.map(|used| used.saturating_sub(self.used));
        let is_busy = spent.is_none_or(|spent| spent * 100 > elapsed * BUSY_PERCENT);
        let turnover = self.closed as u128 * WINDOW.as_nanos() / elapsed.as_nanos();
        (self.since, self.used, self.closed) = (now, used.unwrap_or_default(), 0);
        if self.long_until.is_some_and(|until| now < until) {
            return Some(Preference::Last);
        }
        let slack = if is_busy { 0 } else { usize::try_from(turnover).unwrap_or(usize::MAX) };
        Some(Preference::Slack(slack))
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
            let slack = slack.map(Preference::Slack);
            let mut occupancy = Occupancy::new(true, start);
            occupancy.closed(closed);
            let found = occupancy.preference(start + elapsed * MS, || Some(used * MS));
            assert_eq!(found, slack, "{elapsed} {used} {closed}");
        }
    }

    #[test]
    fn each_window_counts_for_itself() {
        let start = Instant::now();
        let mut occupancy = Occupancy::new(true, start);
        occupancy.closed(7);
        assert_eq!(occupancy.preference(start + 5 * MS, || unreachable!()), None);
        occupancy.closed(3);
        assert_eq!(occupancy.preference(start + 10 * MS, || Some(MS)), Some(Preference::Slack(10)));
        occupancy.closed(5);
        assert_eq!(
            occupancy.preference(start + 20 * MS, || Some(5 * MS)),
            Some(Preference::Slack(5))
        );
        assert_eq!(
            occupancy.preference(start + 30 * MS, || Some(13 * MS)),
            Some(Preference::Slack(0))
        );
        assert_eq!(occupancy.preference(start + 40 * MS, || None), Some(Preference::Slack(0)));
    }

    /// What a thread may keep a window after so many turns of `took` with `events`, one every `apart`.
    fn after(turns: u32, events: usize, took: Duration, apart: Duration) -> Option<Preference> {
        let start = Instant::now();
        let mut occupancy = Occupancy::new(true, start);
        for turn in 0..turns {
            occupancy.turned(events, took, start + turn * apart);
        }
        occupancy.preference(start + turns * apart + WINDOW, || Some(Duration::ZERO))
    }

    #[test]
    fn a_thread_whose_service_takes_long_comes_last() {
        let (us, even) = (Duration::from_micros, Some(Preference::Slack(0)));
        assert_eq!(after(4, 1, us(200), 10 * MS), Some(Preference::Last));
        assert_eq!(after(3, 1, us(200), 10 * MS), even, "too few");
        assert_eq!(after(4, 1, us(200), 60 * MS), even, "too seldom");
        assert_eq!(after(100, 1, us(100), MS), even, "each is short");
        assert_eq!(after(100, 200, us(1100), 10 * MS), even, "many events take their time");
        assert_eq!(after(1, 1, 10 * MS, MS), Some(Preference::Last), "it was blocked");
    }

    #[test]
    fn long_requests_are_forgotten() {
        let start = Instant::now();
        let mut occupancy = Occupancy::new(true, start);
        occupancy.turned(1, BLOCKED_TURN, start);
        let mut at = |after| occupancy.preference(start + after, || Some(Duration::ZERO));
        assert_eq!(at(LONG_MEMORY - MS), Some(Preference::Last));
        assert_eq!(at(LONG_MEMORY + WINDOW), Some(Preference::Slack(0)));
    }
}
