//! How one thread of a server sleeps, and how others wake it: the one way for all of them.

use super::Padded;
use super::parked::Parked;
use crate::ring::{Key, Operation, Operations, RingAddress, Waker};

/// One thread, shared by those that may have to wake it.
///
/// A thread waits for work of any kind. One whose acceptor has paused waits for room as well, which the
/// others make all the time: a flag of its own says so, so that nobody wakes it for that in vain.
#[derive(Debug)]
pub struct Parker {
    parked: Padded<Parked>,
    paused: Padded<Parked>,
    ring: RingAddress,
    waker: Waker,
}

impl Parker {
    /// The thread on a ring that is named and woken by these two.
    pub fn new(ring: RingAddress, waker: Waker) -> Self {
        Self { parked: Padded::default(), paused: Padded::default(), ring, waker }
    }

    /// The thread itself, before it looks for work the last time: it is about to wait.
    pub fn announce(&self) {
        self.parked.0.announce();
    }

    /// The same for its acceptor, before that looks for room the last time.
    pub fn announce_pause(&self) {
        self.paused.0.announce();
    }

    /// The thread itself: it is at work.
    pub fn resume(&self) {
        self.parked.0.resume();
        self.paused.0.resume();
    }

    /// From another thread with a ring, after work for this one has become visible: wakes it if it waits
    /// and nobody else has woken it. True if that took a wake.
    pub fn wake_from(&self, operations: &mut Operations) -> bool {
        self.parked.0.take_parked() && self.send_wake(operations)
    }

    /// The same after room has been made, if its acceptor waits for that.
    pub fn wake_paused_from(&self, operations: &mut Operations) -> bool {
        self.paused.0.take_parked() && self.send_wake(operations)
    }

    /// From any thread, after work for this one has become visible: wakes it if it waits and nobody else has woken it.
    pub fn wake_if_parked(&self) {
        if self.parked.0.take_parked() {
            self.waker.wake();
        }
    }

    /// From anywhere, whatever the thread does.
    pub fn wake(&self) {
        self.waker.wake();
    }

    fn send_wake(&self, operations: &mut Operations) -> bool {
        let ring = self.ring.descriptor();
        operations.push(Key::fixed(0), Operation::Wake { ring });
        true
    }
}
