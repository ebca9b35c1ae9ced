//! Connections that are not served any more once they have waited too long, and how many those were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The wait from which on a connection is not served any more.
#[derive(Debug, Clone)]
pub struct Shed {
    from: Duration,
    /// How many were not.
    count: Arc<AtomicU64>,
}

impl Shed {
    /// From this wait on, counted there.
    pub fn new(from: Duration, count: Arc<AtomicU64>) -> Self {
        Self { from, count }
    }

    /// Whether a connection that has waited so long is not served; then it is counted.
    pub fn takes(&self, waited: Duration) -> bool {
        let takes = waited >= self.from;
        self.count.fetch_add(u64::from(takes), Ordering::Relaxed);
        takes
    }
}
