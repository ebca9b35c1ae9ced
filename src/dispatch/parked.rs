//! The parked protocol: who sleeps says so first, who brings work looks after it brought it.
//!
//! ```text
//!   sleeper                               waker
//!   -------                               -----
//!   announce: parked = true               make the work visible (push, release)
//!   fence                                 fence
//!   look for work; if there is some:      take_parked: parked was true?  -> send one wake
//!     resume: parked = false, do it       parked = false                    otherwise send none
//!   else wait
//! ```
//!
//! The two fences make it impossible that the sleeper misses the work and the waker misses the flag.
//! `tests/loom.rs` runs this file under loom, which finds a lost wake without either of them.

use super::sync::{AtomicBool, Ordering, fence};

/// Whether a thread is waiting, or about to.
#[derive(Debug)]
pub(super) struct Parked(AtomicBool);

impl Default for Parked {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl Parked {
    /// The sleeper, before it looks for work the last time.
    pub(super) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper, when it works again.
    pub(super) fn resume(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// The waker, after the work has become visible: true if the sleeper has to be woken, and then
    /// only for one of several wakers.
    #[must_use]
    pub(super) fn take_parked(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
