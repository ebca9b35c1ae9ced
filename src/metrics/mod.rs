//! What is counted: one block of counters per thread, merged on read.
//!
//! A block has one writer, its thread, so counting is a load and a store without a lock prefix.
//! [`Counter::ALL`] is the list of everything that is counted so. [`Durations`] counts how long something took,
//! [`Pauses`] how long accepting stood still.

mod counter;
mod durations;
mod pauses;

use std::sync::atomic::{AtomicU64, Ordering};

pub use counter::Counter;
pub use durations::{DurationCounts, Durations, DurationsRecord, FrontendTimes, NativeCounts};
pub use pauses::{PauseCause, Pauses};

/// Keeps what it holds on cache lines of its own: 128 bytes, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// The counters of one thread.
#[derive(Debug)]
pub struct Block {
    counters: Padded<[AtomicU64; Counter::ALL.len()]>,
    buffers_free: AtomicU64,
    without_backend: AtomicU64,
}

impl Default for Block {
    fn default() -> Self {
        let counters = Padded([const { AtomicU64::new(0) }; Counter::ALL.len()]);
        Self { counters, buffers_free: AtomicU64::new(0), without_backend: AtomicU64::new(0) }
    }
}

impl Block {
    /// Adds to a counter. Only the block's own thread may call this.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        let cell = &self.counters.0[counter as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Adds one. Only the block's own thread may call this.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a counter that is counted elsewhere. Only the block's own thread may call this.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters.0[counter as usize].store(value, Ordering::Relaxed);
    }

    /// Notes how many buffers of the thread are free.
    #[inline]
    pub fn set_buffers_free(&self, count: u64) {
        self.buffers_free.store(count, Ordering::Relaxed);
    }

    /// How many buffers of the thread are free, from any thread.
    pub fn buffers_free(&self) -> u64 {
        self.buffers_free.load(Ordering::Relaxed)
    }

    /// Notes how many proxied connections of the thread have no backend yet.
    #[inline]
    pub fn set_without_backend(&self, count: u64) {
        self.without_backend.store(count, Ordering::Relaxed);
    }

    /// How many proxied connections of the thread have no backend yet, from any thread.
    pub fn without_backend(&self) -> u64 {
        self.without_backend.load(Ordering::Relaxed)
    }

    /// The value of a counter, from any thread.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.0[counter as usize].load(Ordering::Relaxed)
    }
}

/// The value of a counter over several blocks.
pub fn total<'a>(blocks: impl IntoIterator<Item = &'a Block>, counter: Counter) -> u64 {
    blocks.into_iter().map(|block| block.get(counter)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_add_up() {
        let blocks = [Block::default(), Block::default()];
        blocks[0].count(Counter::Accepted);
        blocks[1].add(Counter::Accepted, 4);
        blocks[1].count(Counter::Opened);
        assert_eq!(total(&blocks, Counter::Accepted), 5);
        assert_eq!(total(&blocks, Counter::Opened), 1);
    }

    #[test]
    fn the_list_is_in_the_order_of_the_values_and_names_are_unique() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index, "{counter:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
