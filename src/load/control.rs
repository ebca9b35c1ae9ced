//! How a run is stopped and how far it is, between its threads and the one that started it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::client::Client;
use super::recorder::Recorder;

/// Stops a run early and tells how far it is, from any thread.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    cut_off: AtomicBool,
    completed: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicU64,
}

impl Control {
    /// Starts nothing any more and lets what is in flight end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Starts nothing any more, and waits for nothing: what is in flight fails, as cut off.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Operations that have begun and not ended.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Operations that have succeeded and failed so far, within the window.
    pub fn progress(&self) -> (u64, u64) {
        (self.completed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Whether [`Control::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Adds what a thread has come to since it reported last.
    pub(super) fn report(&self, client: &Client, reported: &mut Progress) {
        let Recorder { completed, failed, .. } = client.recorder;
        let now = Progress { completed, failed, under_way: client.under_way };
        // It wraps where it went down.
        let add = |total: &AtomicU64, now: u64, then: u64| {
            if now != then {
                total.fetch_add(now.wrapping_sub(then), Ordering::Relaxed);
            }
        };
        add(&self.completed, now.completed, reported.completed);
        add(&self.failed, now.failed, reported.failed);
        add(&self.under_way, now.under_way, reported.under_way);
        *reported = now;
    }
}

/// How far a thread is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    completed: u64,
    failed: u64,
    under_way: u64,
}
