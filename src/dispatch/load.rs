//! How much each worker has to do, as the dispatcher sees it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Padded;

/// Open connections of one worker. Goes up when a connection is dispatched, so that the dispatcher
/// sees its own decisions at once, and down when the worker has closed it.
#[derive(Debug, Default)]
pub struct Load {
    /// Written by acceptors.
    dispatched: Padded<AtomicUsize>,
    /// Written by the worker.
    closed: Padded<AtomicUsize>,
}

impl Load {
    /// Connections that were dispatched to the worker and that it has not closed.
    pub fn open(&self) -> usize {
        // In this order a close between the two reads can only make the result too high by what has
        // happened since, never negative.
        let closed = self.closed.0.load(Ordering::Acquire);
        self.dispatched.0.load(Ordering::Relaxed).wrapping_sub(closed)
    }

    /// Connections that were ever dispatched to the worker, modulo the word size.
    pub fn total(&self) -> usize {
        self.dispatched.0.load(Ordering::Relaxed)
    }

    /// The worker has closed `count` connections. Only the worker itself may say so.
    pub fn closed(&self, count: usize) {
        let before = self.closed.0.load(Ordering::Relaxed);
        self.closed.0.store(before.wrapping_add(count), Ordering::Release);
    }

    /// The worker has taken `count` connections that nobody has dispatched.
    pub(super) fn resumed(&self, count: usize) {
        self.dispatched.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn dispatched(&self) {
        self.dispatched.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn returned(&self) {
        self.dispatched.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Largest minus smallest number of open connections: 0 or 1 is as even as it gets.
pub fn skew<'a>(loads: impl IntoIterator<Item = &'a Load>) -> usize {
    let open = loads.into_iter().map(Load::open);
    let (least, most) = open.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    most.saturating_sub(least)
}
