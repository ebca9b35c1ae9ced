//! How long accepting stood still, by cause.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why nobody is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseCause {
    /// All workers have as many connections as they have room for.
    Workers,
    /// No descriptor or no memory is left.
    Descriptors,
    /// The frontend has as many connections as it may have.
    FrontendLimit,
    /// The process has as many connections as it may have.
    ProcessLimit,
    /// Connections of the frontend come as fast as they may.
    FrontendRate,
}

impl PauseCause {
    /// All causes, in the order of their values.
    pub const ALL: [Self; 5] = [
        Self::Workers,
        Self::Descriptors,
        Self::FrontendLimit,
        Self::ProcessLimit,
        Self::FrontendRate,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Descriptors => "descriptors",
            Self::FrontendLimit => "frontend_max_connections",
            Self::ProcessLimit => "max_connections",
            Self::FrontendRate => "frontend_rate",
        }
    }
}

/// How long one listening socket was not accepted on, by one thread or more of those that accept there. These write, any thread reads; a pause that lasts is in the
/// figure from its first moment on, although nobody writes while it lasts.
#[derive(Debug)]
pub struct Pauses {
    /// What the times below count from.
    start: Instant,
    /// Threads that stand still, by cause. Held by those that write; mostly there is one.
    standing: Mutex<[u32; PauseCause::ALL.len()]>,
    spans: [Span; PauseCause::ALL.len()],
}

/// A time that grows by itself while it runs: in one word, so that no reader sees half of a change.
///
/// ```text
///   bits 63..1                                        bit 0
///   nanoseconds: the sum so far, and while it runs    whether it runs
///   minus the moment at which it began
/// ```
#[derive(Debug, Default)]
struct Span {
    word: AtomicI64,
    /// The most that was told. A pause ends at the moment of its acceptor's turn, which may be a little earlier than what
    /// a reader has told meanwhile; and what is told never goes back.
    told: AtomicI64,
}

impl Span {
    fn run(&self, runs: bool, at: i64) {
        let word = self.word.load(Ordering::Relaxed);
        let nanos = word >> 1;
        match (word & 1 == 1, runs) {
            (false, true) => self.word.store((nanos - at) << 1 | 1, Ordering::Relaxed),
            (true, false) => self.word.store((nanos + at) << 1, Ordering::Relaxed),
            _ => {}
        }
    }

    fn add(&self, nanos: i64) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word + (nanos << 1), Ordering::Relaxed);
    }

    fn get(&self, at: i64) -> i64 {
        let word = self.word.load(Ordering::Relaxed);
        let nanos = (word >> 1) + if word & 1 == 1 { at } else { 0 };
        self.told.fetch_max(nanos, Ordering::Relaxed).max(nanos)
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self { start: Instant::now(), standing: Mutex::default(), spans: Default::default() }
    }
}

impl Pauses {
    /// From `now` on the cause for which the calling thread stands still is another, or there is none.
    pub fn change(&self, (from, to): (Option<PauseCause>, Option<PauseCause>), now: Instant) {
        let at = self.since_start(now);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = from {
            let count = &mut standing[cause as usize];
            *count = count.saturating_sub(1);
            self.spans[cause as usize].run(*count > 0, at);
        }
        if let Some(cause) = to {
            standing[cause as usize] += 1;
            self.spans[cause as usize].run(true, at);
        }
    }

    /// Adds what another process has counted.
    pub fn add(&self, cause: PauseCause, span: Duration) {
        let _standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        self.spans[cause as usize].add(i64::try_from(span.as_nanos()).unwrap_or(0));
    }

    /// How long accepting has stood still for this cause until `now`, from any thread.
    pub fn get(&self, cause: PauseCause, now: Instant) -> Duration {
        let nanos = self.spans[cause as usize].get(self.since_start(now));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// In nanoseconds. A simulated time may lie before the start.
    fn since_start(&self, now: Instant) -> i64 {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4);
        match now.checked_duration_since(self.start) {
            Some(since) => nanos(since),
            None => -nanos(self.start - now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_list_is_in_the_order_of_the_values() {
        for (index, cause) in PauseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index, "{cause:?}");
        }
    }

    #[test]
    fn a_pause_is_in_the_figure_while_it_lasts_and_stays_there() {
        let (pauses, start) = (Pauses::default(), Instant::now());
        let (limit, workers) = (Some(PauseCause::ProcessLimit), Some(PauseCause::Workers));
        let seen =
            |at: u32| PauseCause::ALL.map(|cause| pauses.get(cause, start + at * MS).as_millis());
        assert_eq!(seen(5), [0; 5]);
        pauses.change((None, limit), start + 10 * MS);
        assert_eq!(seen(15), [0, 0, 0, 5, 0]);
        assert_eq!(seen(30), [0, 0, 0, 20, 0]);
        pauses.change((limit, workers), start + 40 * MS);
        assert_eq!(seen(45), [5, 0, 0, 30, 0]);
        pauses.change((workers, None), start + 50 * MS);
        assert_eq!(seen(90), [10, 0, 0, 30, 0]);
        pauses.change((None, limit), start + 100 * MS);
        assert_eq!(seen(101), [10, 0, 0, 31, 0]);
    }

    /// It is a pause until the last of them goes on.
    #[test]
    fn threads_that_share_a_socket() {
        let (pauses, start) = (Pauses::default(), Instant::now());
        let limit = Some(PauseCause::ProcessLimit);
        let seen = |at: u32| pauses.get(PauseCause::ProcessLimit, start + at * MS).as_millis();
        pauses.change((None, limit), start + 10 * MS);
        pauses.change((None, limit), start + 20 * MS);
        pauses.change((limit, None), start + 30 * MS);
        assert_eq!(seen(35), 25);
        pauses.change((limit, None), start + 40 * MS);
        assert_eq!(seen(90), 30);
    }

    #[test]
    fn what_another_process_has_counted_is_added_also_to_a_pause_that_lasts() {
        let (pauses, start) = (Pauses::default(), Instant::now());
        let cause = PauseCause::Workers;
        pauses.add(cause, 100 * MS);
        assert_eq!(pauses.get(cause, start), 100 * MS);
        pauses.change((None, Some(cause)), start);
        pauses.add(cause, 10 * MS);
        assert_eq!(pauses.get(cause, start + 5 * MS), 115 * MS);
        pauses.change((Some(cause), None), start + 7 * MS);
        assert_eq!(pauses.get(cause, start + 9 * MS), 117 * MS);
    }

    #[test]
    fn what_was_told_never_goes_back() {
        let (pauses, start) = (Pauses::default(), Instant::now());
        let cause = PauseCause::Descriptors;
        pauses.change((None, Some(cause)), start);
        assert_eq!(pauses.get(cause, start + 7 * MS), 7 * MS);
        // The turn that ends it began before that.
        pauses.change((Some(cause), None), start + 6 * MS);
        assert_eq!(pauses.get(cause, start + 8 * MS), 7 * MS);
    }
}
