//! From an accepted connection to the worker that serves it.

mod commands;
mod connection_limit;
mod inbox;
mod load;
mod look;
mod mailbox;
mod parked;
mod parker;
mod policy;
mod shed;

/// The atomics of [`parked`], named here so that the loom model can stand in others.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

use std::os::fd::OwnedFd;
use std::time::Instant;

pub use commands::{CommandSender, Commands, Done, commands};
pub use connection_limit::ConnectionLimit;
pub use inbox::{Inbox, InboxSender, inbox};
pub use load::{Load, skew};
pub use look::{Look, Looked, Told};
pub use mailbox::{Mail, Mailbox, SendError, mail};
pub use parker::Parker;
use policy::Choice;
pub use policy::Preference;
pub use shed::Shed;

use crate::config::DispatchPolicy;
use crate::metrics::Padded;
use crate::ring::Operations;
use crate::sources::Held;

/// Index of a worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub usize);

/// A frontend, for as long as any thread knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrontendId(pub u16);

/// A listener of a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId {
    /// What connections come in through there.
    pub frontend: FrontendId,
    /// Its place among the addresses of the frontend.
    pub index: u16,
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: OwnedFd,
    /// Which listener it came from.
    pub listener: ListenerId,
    /// When its completion was seen.
    pub accepted_at: Instant,
    /// Where its source is counted.
    pub held: Held,
    /// What goes along with it while others wait.
    pub pressed: Pressed,
}

impl Accepted {
    /// One whose source is not counted, and with which nothing goes along.
    pub fn new(socket: OwnedFd, listener: ListenerId, accepted_at: Instant) -> Self {
        Self { socket, listener, accepted_at, held: Held::NONE, pressed: Pressed::default() }
    }
}

/// What goes along with a connection because others wait; mostly nothing.
#[derive(Debug, Default)]
pub struct Pressed {
    /// Its acceptor wants to know how long it waits.
    pub look: Option<Look>,
    /// It is served before those that came before it: its place in the order in which its acceptor got them.
    pub newest_first: Option<u32>,
    /// It is not served if it has waited too long.
    pub shed: Option<Shed>,
}

/// A connection that no inbox had room for.
#[derive(Debug)]
#[must_use]
pub struct Rejected(pub Accepted);

/// What it took to tell workers of a batch of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wakes {
    /// Workers that were parked, and were woken.
    pub sent: usize,
    /// Workers that were awake; the one on the acceptor's own thread does not count.
    pub saved: usize,
}

/// Hands connections to workers. One per acceptor.
#[derive(Debug)]
pub struct Dispatcher {
    inboxes: Vec<InboxSender>,
    /// Workers that got a connection since the last [`wake`](Self::wake).
    touched: Vec<bool>,
    choice: Choice,
    home: Option<WorkerId>,
    /// The worker that is asked next to make room.
    evicts: usize,
}

impl Dispatcher {
    /// Dispatches to `inboxes` by `policy`. `home` is the worker on the acceptor's own thread.
    ///
    /// # Panics
    /// If there is no worker.
    pub fn new(inboxes: Vec<InboxSender>, policy: DispatchPolicy, home: Option<WorkerId>) -> Self {
        assert!(!inboxes.is_empty(), "a server has at least one worker");
        let touched = vec![false; inboxes.len()];
        Self { inboxes, touched, choice: Choice::new(policy, home), home, evicts: 0 }
    }

    /// How the worker on the acceptor's own thread is preferred with [`DispatchPolicy::LeastConnections`]: with
    /// a slack of none at first.
    pub fn prefer(&mut self, preference: Preference) {
        self.choice.prefer(preference);
    }

    /// Puts a connection into the inbox of the worker that the policy prefers, or, if that is full,
    /// into the next one with room.
    ///
    /// # Errors
    /// Gives the connection back when all inboxes are full.
    pub fn dispatch(&mut self, accepted: Accepted) -> Result<(), Rejected> {
        let count = self.inboxes.len();
        let preferred = self.choice.worker(&self.inboxes, &accepted);
        let mut rejected = accepted;
        for worker in (0..count).map(|offset| (preferred + offset) % count) {
            match self.inboxes[worker].send(rejected) {
                Ok(()) => {
                    self.touched[worker] = true;
                    return Ok(());
                }
                Err(accepted) => rejected = accepted,
            }
        }
        Err(Rejected(rejected))
    }

    /// Asks the next thread to close the connection of a frontend that has been idle for longest, to make room. False if
    /// it has been asked for more than it has done yet.
    pub fn evict(&mut self, frontend: FrontendId) -> bool {
        let worker = self.evicts % self.inboxes.len();
        self.evicts = worker + 1;
        self.touched[worker] = true;
        self.inboxes[worker].evict(frontend)
    }

    /// Wakes the parked workers among those that got connections: one wake per worker and batch.
    pub fn wake(&mut self, operations: &mut Operations) -> Wakes {
        let mut wakes = Wakes::default();
        for (worker, (sender, touched)) in self.inboxes.iter().zip(&mut self.touched).enumerate() {
            if !std::mem::take(touched) || self.home == Some(WorkerId(worker)) {
                continue;
            }
            match sender.parker().wake_from(operations) {
                true => wakes.sent += 1,
                false => wakes.saved += 1,
            }
        }
        wakes
    }
}

#[cfg(test)]
mod tests;
