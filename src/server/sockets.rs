//! How many sockets still listen: an address may have one in each of several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::dispatch::ListenerId;

/// Counts the sockets that listen, for each address and for the whole server.
#[derive(Debug)]
pub(crate) struct Sockets {
    each: Vec<AtomicUsize>,
    all: AtomicUsize,
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
    /// So many sockets listen for each address of the configuration.
    pub(crate) fn new(each: impl IntoIterator<Item = usize>) -> Self {
        let each: Vec<usize> = each.into_iter().collect();
        let all = AtomicUsize::new(each.iter().sum());
        Self {
            each: each.into_iter().map(AtomicUsize::new).collect(),
            all,
            lost: AtomicBool::new(false),
        }
    }

    /// One of this listener has broken while the server was serving. Of several threads that ask at once, one is
    /// told that it was the last.
    pub(crate) fn lose(&self, listener: ListenerId) -> Left {
        let here = self.each[usize::from(listener.0)].fetch_sub(1, Ordering::AcqRel) - 1;
        let all = self.all.fetch_sub(1, Ordering::AcqRel) - 1;
        if all == 0 {
            self.lost.store(true, Ordering::Release);
        }
        Left { here, all }
    }

    /// Whether the last one has broken while the server was serving.
    pub(crate) fn are_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_socket_of_an_address_and_of_all() {
        let sockets = Sockets::new([2, 1]);
        let table = [(0, 1, 2), (1, 0, 1), (0, 0, 0)];
        for (listener, here, all) in table {
            assert!(!sockets.are_lost());
            assert_eq!(sockets.lose(ListenerId(listener)), Left { here, all });
        }
        assert!(sockets.are_lost());
    }
}
