//! How long connections have waited in an accept queue, before anybody knew of them.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::metrics::{DurationCounts, Durations, DurationsRecord};
use crate::sys;

/// The waits of a sample of the connections of one listener.
#[derive(Debug, Default)]
pub struct QueueWaits {
    /// One in so many is looked at; 0 is none.
    every: AtomicU32,
    /// How many go by before the next one is looked at.
    left: AtomicU32,
    waits: Durations,
    retransmitted: AtomicU64,
}

impl QueueWaits {
    /// One connection in `every` is looked at; 0 is none.
    pub fn new(every: u32) -> Self {
        Self { every: every.into(), ..Self::default() }
    }

    /// The same for one that counts already.
    pub fn look_at_one_in(&self, every: u32) {
        self.every.store(every, Ordering::Relaxed);
        self.left.store(0, Ordering::Relaxed);
    }

    /// A connection was just accepted, and nothing has been sent on it. Looks at it if it is its turn; if two threads
    /// accept on one socket, now and then at one more.
    pub fn accepted(&self, socket: BorrowedFd<'_>) {
        let every = self.every.load(Ordering::Relaxed);
        if every == 0 {
            return;
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.checked_sub(1).unwrap_or(every - 1), Ordering::Relaxed);
        if left > 0 {
            return;
        }
        // One that is not TCP has no such figures.
        if let Ok(info) = sys::tcp_accepted(socket) {
            self.waits.add(info.waited);
            self.retransmitted.fetch_add(info.retransmissions.into(), Ordering::Relaxed);
        }
    }

    /// The waits that were seen.
    pub fn waits(&self) -> DurationCounts {
        self.waits.get()
    }

    /// The same for another process.
    pub fn record(&self) -> DurationsRecord {
        self.waits.record()
    }

    /// Adds what another process has seen: waits, and SYN-ACKs that were sent again.
    pub fn add_all(&self, waits: &DurationsRecord, retransmitted: u64) {
        self.waits.add_all(waits);
        self.retransmitted.fetch_add(retransmitted, Ordering::Relaxed);
    }

    /// How often SYN-ACKs were sent again to the connections that were looked at.
    pub fn retransmitted(&self) -> u64 {
        self.retransmitted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_in_so_many_is_looked_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (every, seen) in [(0, 0), (1, 7), (3, 3), (100, 1)] {
            let waits = QueueWaits::new(every);
            for _ in 0..7 {
                let _client = TcpStream::connect(address).unwrap();
                waits.accepted(listener.accept().unwrap().0.as_fd());
            }
            assert_eq!(waits.waits().count, seen, "one in {every}");
        }
    }

    #[test]
    fn what_waited_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let waits = QueueWaits::new(1);
        waits.accepted(listener.accept().unwrap().0.as_fd());
        // A tick is 10 ms at most.
        assert!(waits.waits().sum_seconds >= 0.05, "{:?}", waits.waits());
        assert_eq!(waits.retransmitted(), 0);
    }
}
