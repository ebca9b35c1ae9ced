//! How many connections an endpoint has, and how many of these are still being opened: one number, so that
//! whoever looks sees both of one moment.
//!
//! ```text
//!  63                     32 31                      0
//! +-------------------------+-------------------------+
//! |       connecting        | all, connecting or open |
//! +-------------------------+-------------------------+
//! ```

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::metrics::Padded;

const ONE: u64 = 1;
const ONE_CONNECTING: u64 = 1 << 32;

/// The connections of one endpoint, counted by all workers.
#[derive(Debug, Default)]
pub(super) struct Gauge(Padded<Counted>);

#[derive(Debug)]
struct Counted {
    word: AtomicU64,
    /// Most that may be acquired while another process counts them too: it has the rest of the limit.
    share: AtomicUsize,
}

/// There is no other process.
const WHOLE: usize = usize::MAX;

impl Default for Counted {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), share: AtomicUsize::new(WHOLE) }
    }
}

/// The connections of one endpoint at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those whose connect has succeeded.
    pub open: usize,
    /// Those whose connect has not ended.
    pub connecting: usize,
}

impl Gauge {
    pub(super) fn get(&self) -> Connections {
        let word = self.word().load(Ordering::Relaxed);
        let connecting = (word / ONE_CONNECTING) as usize;
        Connections { open: all(word) - connecting, connecting }
    }

    fn word(&self) -> &AtomicU64 {
        &self.0.0.word
    }

    fn share(&self) -> &AtomicUsize {
        &self.0.0.share
    }

    /// Those that are open or being opened.
    pub(super) fn all(&self) -> usize {
        all(self.word().load(Ordering::Relaxed))
    }

    /// Whether there is none left for one more, if there may be `max`.
    pub(super) fn is_full(&self, max: usize) -> bool {
        self.all() >= max.min(self.share().load(Ordering::Relaxed))
    }

    /// One begins to connect, unless there are `max` or the whole share.
    pub(super) fn acquire(&self, max: usize) -> bool {
        let most = max.min(self.share().load(Ordering::Relaxed));
        let more = |word: u64| (all(word) < most).then_some(word + ONE + ONE_CONNECTING);
        let Ok(before) = self.word().fetch_update(Ordering::SeqCst, Ordering::Relaxed, more) else {
            return false;
        };
        // The share may have become smaller meanwhile: either this is seen here, or the one there.
        let is_within = all(before) < self.share().load(Ordering::SeqCst);
        if !is_within {
            self.release(true);
        }
        is_within
    }

    /// One more is open, however many there are: it has come from elsewhere.
    pub(super) fn acquire_open(&self) {
        self.word().fetch_add(ONE, Ordering::Relaxed);
    }

    /// One of those that connect is open.
    pub(super) fn connected(&self) {
        self.word().fetch_sub(ONE_CONNECTING, Ordering::Relaxed);
    }

    /// One is over, that has still been connecting or was open.
    pub(super) fn release(&self, connecting: bool) {
        let one = if connecting { ONE + ONE_CONNECTING } else { ONE };
        let before = self.word().fetch_sub(one, Ordering::Relaxed);
        debug_assert!(all(before) > 0, "it was released more often than acquired");
    }

    /// One is another process's from now on, and its place too.
    pub(super) fn give_away(&self, connecting: bool) {
        let less = |share: usize| (share != WHOLE).then(|| share.saturating_sub(1));
        // With no share there is nothing to make smaller.
        let _: Result<usize, usize> =
            self.share().fetch_update(Ordering::SeqCst, Ordering::Relaxed, less);
        self.release(connecting);
    }

    /// From now on there are at most those that there are and `spare` more, of `max`, and never more than after the last
    /// time. Returns how many that may be.
    pub(super) fn narrow(&self, spare: usize, max: usize) -> usize {
        let now = self.all();
        let most = now.saturating_add(spare).min(max.max(now)).min(WHOLE - 1);
        let share = self.share().fetch_min(most, Ordering::SeqCst).min(most);
        share.max(all(self.word().load(Ordering::SeqCst)))
    }

    /// No other process counts them any more.
    pub(super) fn widen(&self) {
        self.share().store(WHOLE, Ordering::SeqCst);
    }
}

fn all(word: u64) -> usize {
    (word % ONE_CONNECTING) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connects_counts_for_the_limit_and_is_told_apart() {
        let gauge = Gauge::default();
        assert!(gauge.acquire(2) && gauge.acquire(2) && !gauge.acquire(2));
        assert_eq!(gauge.get(), Connections { open: 0, connecting: 2 });
        gauge.connected();
        assert_eq!(gauge.get(), Connections { open: 1, connecting: 1 });
        gauge.release(true);
        assert_eq!((gauge.get(), gauge.all()), (Connections { open: 1, connecting: 0 }, 1));
        gauge.acquire_open();
        assert_eq!(gauge.get(), Connections { open: 2, connecting: 0 });
        gauge.release(false);
        gauge.release(false);
        assert_eq!((gauge.get(), gauge.all()), (Connections { open: 0, connecting: 0 }, 0));
    }

    #[test]
    fn a_share_of_the_limit_only_becomes_smaller() {
        let gauge = Gauge::default();
        assert!(gauge.acquire(9) && gauge.acquire(9));
        assert_eq!(gauge.narrow(1, 9), 3);
        assert!(gauge.acquire(9), "there was one to spare");
        assert!(!gauge.acquire(9) && gauge.is_full(9));
        gauge.give_away(true);
        assert!(!gauge.acquire(9), "its place went with it");
        gauge.release(true);
        assert_eq!((gauge.narrow(5, 9), gauge.all()), (2, 1));
        gauge.widen();
        assert!(gauge.acquire(9) && gauge.acquire(9) && !gauge.is_full(9));
        gauge.give_away(true);
        assert!(gauge.acquire(usize::MAX), "there is no share");
    }

    #[test]
    fn a_share_is_no_more_than_the_limit() {
        let gauge = Gauge::default();
        assert!(gauge.acquire(1));
        assert_eq!(gauge.narrow(3, 1), 1);
        gauge.give_away(true);
        assert!(!gauge.acquire(1), "the other process has the only one");
    }

    /// Whoever narrows the share knows all that are acquired behind its back.
    #[test]
    fn what_is_told_of_a_share_holds_while_others_acquire() {
        const ROUNDS: usize = 20_000;
        let (gauge, held) = (Gauge::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let churn = || {
                for _ in 0..ROUNDS {
                    if gauge.acquire(64) {
                        held.fetch_add(1, Ordering::SeqCst);
                        held.fetch_sub(1, Ordering::SeqCst);
                        gauge.release(true);
                    }
                }
            };
            scope.spawn(churn);
            scope.spawn(churn);
            for _ in 0..ROUNDS {
                let told = gauge.narrow(0, 64);
                for _ in 0..10 {
                    assert!(held.load(Ordering::SeqCst) <= told);
                }
                gauge.widen();
            }
        });
        assert_eq!(gauge.all(), 0);
    }
}
