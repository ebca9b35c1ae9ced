//! A limit on open connections: that of the whole server, and that of each frontend.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Padded;

/// Counts connections in and out. What is out is the headroom.
///
/// Both numbers only grow, so a paused acceptor can tell from [`released`](Self::released) whether
/// anything has closed since it paused.
#[derive(Debug)]
pub struct ConnectionLimit {
    limit: AtomicUsize,
    admitted: Padded<AtomicUsize>,
    released: Padded<AtomicUsize>,
}

impl ConnectionLimit {
    /// Admits at most `limit` connections at a time.
    pub fn new(limit: usize) -> Self {
        let limit = AtomicUsize::new(limit);
        Self { limit, admitted: Padded::default(), released: Padded::default() }
    }

    /// Open connections at most.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Admits at most `limit` connections at a time from now on. Those that are open beyond that stay.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Connections that were admitted and not yet released.
    pub fn open(&self) -> usize {
        let released = self.released.0.load(Ordering::Acquire);
        self.admitted.0.load(Ordering::Acquire).wrapping_sub(released)
    }

    /// How many more connections may be admitted now.
    pub fn headroom(&self) -> usize {
        self.limit().saturating_sub(self.open())
    }

    /// How many connections were ever released, modulo the word size.
    pub fn released(&self) -> usize {
        self.released.0.load(Ordering::Acquire)
    }

    /// Takes one place, if there is one. Exact however many acceptors ask at once.
    #[must_use]
    pub fn admit(&self) -> bool {
        let admit = |admitted: usize| {
            // `admitted` may be old by now, and what it lacks be released already. Then the exchange
            // fails and looks again, so this must not read as full.
            let open = admitted.saturating_sub(self.released());
            (open < self.limit()).then(|| admitted.wrapping_add(1))
        };
        self.admitted.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, admit).is_ok()
    }

    /// Takes `count` places, whether there are so many or not: for connections that exist already.
    pub fn take(&self, count: usize) {
        self.admitted.0.fetch_add(count, Ordering::AcqRel);
    }

    /// Takes an admission back that led to nothing.
    pub fn withdraw(&self) {
        self.admitted.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Gives `count` places back.
    pub fn release(&self, count: usize) {
        self.released.0.fetch_add(count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() {
        let connection_limit = ConnectionLimit::new(2);
        assert!(connection_limit.admit() && connection_limit.admit() && !connection_limit.admit());
        assert_eq!((connection_limit.open(), connection_limit.headroom()), (2, 0));
        connection_limit.release(1);
        assert_eq!(
            (connection_limit.open(), connection_limit.headroom(), connection_limit.released()),
            (1, 1, 1)
        );
        assert!(connection_limit.admit() && !connection_limit.admit());
    }

    #[test]
    fn the_limit_is_exact_for_many_at_once() {
        let connection_limit = ConnectionLimit::new(1000);
        let admitted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| connection_limit.admit()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!((admitted, connection_limit.open()), (1000, 1000));
    }
}
