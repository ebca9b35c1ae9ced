//! How many sockets still listen: an address may have one in each of several threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dispatch::ListenerId;

/// Counts the sockets that listen, for each address and for the whole server.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    each: Mutex<HashMap<ListenerId, usize>>,
    /// The last one was lost while the server was serving.
    lost: AtomicBool,
}

/// What listens once a socket is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Sockets of the same address.
    pub(crate) here: usize,
    /// Sockets of all addresses.
    pub(crate) all: usize,
}

impl Sockets {
    /// So many more sockets listen for this address.
    pub(crate) fn add(&self, listener: ListenerId, count: usize) {
        *self.each().entry(listener).or_default() += count;
    }

    /// One of this listener is closed on purpose.
    pub(crate) fn remove(&self, listener: ListenerId) {
        take_one(&mut self.each(), listener);
    }

    /// Those of a listener are another one's from now on.
    pub(crate) fn rename(&self, from: ListenerId, to: ListenerId) {
        let mut each = self.each();
        if let Some(count) = each.remove(&from) {
            each.insert(to, count);
        }
    }

    /// One of this listener has broken while the server was serving. Of several threads that ask at once, one is
    /// told that it was the last.
    pub(crate) fn lose(&self, listener: ListenerId) -> Left {
        let mut each = self.each();
        let here = take_one(&mut each, listener);
        let all = each.values().sum();
        if all == 0 {
            self.lost.store(true, Ordering::Release);
        }
        Left { here, all }
    }

    fn each(&self) -> MutexGuard<'_, HashMap<ListenerId, usize>> {
        // Whoever panicked with it has left a map.
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last one has broken while the server was serving.
    pub(crate) fn are_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// Returns how many are left of it.
fn take_one(each: &mut HashMap<ListenerId, usize>, listener: ListenerId) -> usize {
    let Some(count) = each.get_mut(&listener) else { return 0 };
    *count -= 1;
    let left = *count;
    if left == 0 {
        each.remove(&listener);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::FrontendId;

    #[test]
    fn the_last_socket_of_an_address_and_of_all() {
        let sockets = Sockets::default();
        let listener = |index| ListenerId { frontend: FrontendId(0), index };
        for (index, count) in [(0, 2), (1, 1), (2, 1)] {
            sockets.add(listener(index), count);
        }
        sockets.remove(listener(2));
        let table = [(0, 1, 2), (1, 0, 1), (0, 0, 0)];
        for (index, here, all) in table {
            assert!(!sockets.are_lost());
            assert_eq!(sockets.lose(listener(index)), Left { here, all });
        }
        assert!(sockets.are_lost());
    }
}
