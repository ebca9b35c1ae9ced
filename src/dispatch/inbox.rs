//! The bounded channel between acceptors and one worker.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::load::Load;
use super::parked::Parked;
use super::{Accepted, Padded};
use crate::planted::{self, Bug};
use crate::ring::{Descriptor, RingAddress};

/// What both ends of an inbox share.
#[derive(Debug, Default)]
struct Shared {
    parked: Padded<Parked>,
    load: Load,
}

/// The acceptors' end of a worker's inbox.
#[derive(Debug, Clone)]
pub struct InboxSender {
    sender: Sender<Accepted>,
    shared: Arc<Shared>,
    ring: RingAddress,
}

/// The worker's end of its inbox.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Accepted>,
    shared: Arc<Shared>,
}

/// Makes the inbox of the worker on `ring`, for at most `capacity` connections at a time.
pub fn inbox(capacity: usize, ring: RingAddress) -> (InboxSender, Inbox) {
    let (sender, receiver) = bounded(capacity);
    let shared = Arc::new(Shared::default());
    let sender = InboxSender { sender, shared: Arc::clone(&shared), ring };
    (sender, Inbox { receiver, shared })
}

impl InboxSender {
    /// The worker's load.
    pub fn load(&self) -> &Load {
        &self.shared.load
    }

    /// Puts a connection into the inbox, or gives it back if that is full or the worker has gone.
    pub(super) fn send(&self, accepted: Accepted) -> Result<(), Accepted> {
        self.shared.load.dispatched();
        self.sender.try_send(accepted).map_err(|error| {
            self.shared.load.returned();
            match error {
                TrySendError::Full(accepted) | TrySendError::Disconnected(accepted) => accepted,
            }
        })
    }

    /// After a send: the ring to wake, if the worker is parked and nobody else wakes it.
    pub(super) fn wake(&self) -> Option<Descriptor> {
        self.shared.parked.0.take_parked().then(|| self.ring.descriptor())
    }
}

impl Inbox {
    /// The next connection.
    pub fn take(&self) -> Option<Accepted> {
        self.receiver.try_recv().ok()
    }

    /// Says that this worker is about to wait. True if it may, false if there is work.
    #[must_use]
    pub fn park(&self) -> bool {
        self.shared.parked.0.announce();
        let may_wait = self.receiver.is_empty();
        if !may_wait {
            self.resume();
        }
        may_wait
    }

    /// Says that this worker is at work.
    pub fn resume(&self) {
        self.shared.parked.0.resume();
    }

    /// The worker has closed `count` connections.
    pub fn closed(&self, count: usize) {
        self.shared.load.closed(count);
    }

    /// How many connections wait.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

/// A bounded channel keeps what is in it for as long as there are senders, and a handle to a server
/// that has stopped is one. Nobody else would close these connections.
impl Drop for Inbox {
    fn drop(&mut self) {
        if planted::is(Bug::InboxKept) {
            return;
        }
        let left = std::iter::from_fn(|| self.take()).count();
        self.closed(left);
    }
}
