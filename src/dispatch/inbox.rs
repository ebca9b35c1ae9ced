//! The bounded channel between acceptors and one thread.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Accepted;
use super::load::Load;
use super::parker::Parker;

/// The acceptors' end of a thread's inbox.
#[derive(Debug, Clone)]
pub struct InboxSender {
    sender: Sender<Accepted>,
    load: Arc<Load>,
    parker: Arc<Parker>,
}

/// The thread's end of its inbox.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Accepted>,
    load: Arc<Load>,
    parker: Arc<Parker>,
}

/// Makes the inbox of the thread of `parker`, for at most `capacity` connections at a time.
pub fn inbox(capacity: usize, parker: Arc<Parker>) -> (InboxSender, Inbox) {
    let (sender, receiver) = bounded(capacity);
    let load = Arc::new(Load::default());
    let sender = InboxSender { sender, load: Arc::clone(&load), parker: Arc::clone(&parker) };
    (sender, Inbox { receiver, load, parker })
}

impl InboxSender {
    /// Connections that the thread has not taken yet.
    pub fn waiting(&self) -> usize {
        self.sender.len()
    }

    /// The worker's load.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Puts a connection into the inbox, or gives it back if that is full or the worker has gone.
    pub(super) fn send(&self, accepted: Accepted) -> Result<(), Accepted> {
        self.load.dispatched();
        self.sender.try_send(accepted).map_err(|error| {
            self.load.returned();
            match error {
                TrySendError::Full(accepted) | TrySendError::Disconnected(accepted) => accepted,
            }
        })
    }

    /// How to wake the thread, after a send.
    pub fn parker(&self) -> &Parker {
        &self.parker
    }
}

impl Inbox {
    /// The next connection.
    pub fn take(&self) -> Option<Accepted> {
        self.receiver.try_recv().ok()
    }

    /// Says that this thread is about to wait. True if it may, false if there is work.
    #[must_use]
    pub fn park(&self) -> bool {
        self.parker.announce();
        let may_wait = self.receiver.is_empty();
        if !may_wait {
            self.resume();
        }
        may_wait
    }

    /// Says that this thread is about to wait and that its acceptor has paused. It has to look for room once
    /// more before it [parks](Self::park).
    pub fn pause(&self) {
        self.parker.announce_pause();
    }

    /// Says that this thread is at work.
    pub fn resume(&self) {
        self.parker.resume();
    }

    /// The worker has closed `count` connections.
    pub fn closed(&self, count: usize) {
        self.load.closed(count);
    }

    /// The worker has taken `count` connections that nobody has dispatched.
    pub fn resumed(&self, count: usize) {
        self.load.resumed(count);
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
        let left = std::iter::from_fn(|| self.take()).count();
        self.closed(left);
    }
}
