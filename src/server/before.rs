//! What the processes before this one have counted, and what the one just before it still has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Handle;
use crate::metrics::{Block, Counter};

/// See the module. Written by the one who follows the process before this one.
#[derive(Debug, Default)]
pub(super) struct Before {
    counters: Block,
    open: AtomicUsize,
}

impl Before {
    /// How often this was counted before.
    pub(super) fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }

    /// Connections that the process before this one still has.
    pub(super) fn set_open(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
    }
}

impl Handle {
    /// All counters, by their names, with what was counted before this process.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let value = |counter: Counter| (counter.name().to_owned(), self.counter(counter));
        Counter::ALL.into_iter().map(value).collect()
    }

    /// What was counted before this process, from one who follows those before it. What has no name here is left out.
    pub fn set_counted_before(&self, counters: &BTreeMap<String, u64>) {
        for counter in Counter::ALL {
            if let Some(value) = counters.get(counter.name()) {
                self.before.counters.set(counter, *value);
            }
        }
    }

    /// The value of a counter, without what was counted before this process.
    pub fn counter_of_this_process(&self, counter: Counter) -> u64 {
        self.counter(counter).saturating_sub(self.before.counter(counter))
    }

    /// Those of them that are of these frontends, and may be those of processes before this one.
    pub fn open_of(&self, frontends: &[String]) -> usize {
        let all = self.control.lock().open_by_frontend();
        let of = all.into_iter().filter(|(name, _)| frontends.contains(name));
        of.map(|(_, open)| open).sum::<usize>().min(self.open_here())
    }

    /// Connections of this process that are open or on their way to a worker.
    pub fn open_here(&self) -> usize {
        self.open().saturating_sub(self.before.open.load(Ordering::Relaxed))
    }
}
