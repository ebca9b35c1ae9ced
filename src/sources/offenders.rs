//! Sources that were refused so often that they are to be banned.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::network::Network;

/// Most that are noted until somebody takes them. Whoever is refused again is noted again.
const NOTED_MAX: usize = 1024;

/// See the module. Noted by those who refuse, taken by whoever bans, once a second.
#[derive(Debug, Default)]
pub(super) struct Offenders {
    is_any: AtomicBool,
    noted: Mutex<Vec<(Network, Duration)>>,
}

impl Offenders {
    /// This one is to be banned for so long.
    pub(super) fn note(&self, network: Network, time: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX {
            noted.push((network, time));
            self.is_any.store(true, Ordering::Release);
        }
    }

    /// Those that were noted since the last call.
    pub(super) fn take(&self) -> Vec<(Network, Duration)> {
        if !self.is_any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
