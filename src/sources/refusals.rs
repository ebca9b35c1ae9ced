//! Who is refused at accept, where the kernel does not do it: shared by all acceptors, each of which has a copy.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ranges::Ranges;

/// The version of a set that refuses nobody.
const NOBODY: u64 = 0;

/// Common to all threads.
#[derive(Debug, Default)]
pub struct Refusals {
    /// [`NOBODY`], or the number of the set.
    version: AtomicU64,
    /// With the number of the last one, whatever it was.
    current: Mutex<(u64, Arc<Ranges>)>,
}

impl Refusals {
    /// From now on these are refused.
    pub fn set(&self, ranges: Ranges) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let number = current.0 + 1;
        let version = if ranges.is_empty() { NOBODY } else { number };
        *current = (number, Arc::new(ranges));
        self.version.store(version, Ordering::Release);
    }
}

/// What one acceptor knows of them.
#[derive(Debug, Clone, Default)]
pub struct Refuses {
    shared: Arc<Refusals>,
    version: u64,
    ranges: Arc<Ranges>,
}

impl Refuses {
    /// Of these.
    pub fn of(shared: &Arc<Refusals>) -> Self {
        Self { shared: Arc::clone(shared), ..Self::default() }
    }

    /// Whether anybody is refused: one load, and all that there is to pay as long as nobody is.
    pub fn anybody(&self) -> bool {
        self.shared.version.load(Ordering::Relaxed) != NOBODY
    }

    /// Whether this address is. Takes a lock only when the set is another than at the last call.
    pub fn address(&mut self, address: IpAddr) -> bool {
        let version = self.shared.version.load(Ordering::Acquire);
        if version == NOBODY {
            return false;
        }
        if version != self.version {
            let current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            (self.version, self.ranges) = (current.0, Arc::clone(&current.1));
        }
        self.ranges.contains(address)
    }
}
