//! How many connections an endpoint has, and how many of these are still being opened: one number, so that
//! whoever looks sees both of one moment.
//!
//! ```text
//!  63                     32 31                      0
//! +-------------------------+-------------------------+
//! |       connecting        | all, connecting or open |
//! +-------------------------+-------------------------+
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Padded;

const ONE: u64 = 1;
const ONE_CONNECTING: u64 = 1 << 32;

/// The connections of one endpoint, counted by all workers.
#[derive(Debug, Default)]
pub(super) struct Gauge(Padded<AtomicU64>);

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
        let word = self.0.0.load(Ordering::Relaxed);
        let connecting = (word / ONE_CONNECTING) as usize;
        Connections { open: all(word) - connecting, connecting }
    }

    /// Those that are open or being opened.
    pub(super) fn all(&self) -> usize {
        all(self.0.0.load(Ordering::Relaxed))
    }

    /// One begins to connect, unless there are `max`.
    pub(super) fn acquire(&self, max: usize) -> bool {
        let more = |word: u64| (all(word) < max).then_some(word + ONE + ONE_CONNECTING);
        self.0.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One more is open, however many there are: it has come from elsewhere.
    pub(super) fn acquire_open(&self) {
        self.0.0.fetch_add(ONE, Ordering::Relaxed);
    }

    /// One of those that connect is open.
    pub(super) fn connected(&self) {
        self.0.0.fetch_sub(ONE_CONNECTING, Ordering::Relaxed);
    }

    /// One is over, that has still been connecting or was open.
    pub(super) fn release(&self, connecting: bool) {
        let one = if connecting { ONE + ONE_CONNECTING } else { ONE };
        let before = self.0.0.fetch_sub(one, Ordering::Relaxed);
        debug_assert!(all(before) > 0, "it was released more often than acquired");
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
}
