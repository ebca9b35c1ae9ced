//! The bounded channel between acceptors and one thread.

use std::cell::RefCell;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::load::Load;
use super::parker::Parker;
use super::{Accepted, FrontendId};

/// Most evictions that a thread has been asked for and has not begun.
const EVICTIONS: usize = 64;

/// The acceptors' end of a thread's inbox.
#[derive(Debug, Clone)]
pub struct InboxSender {
    sender: Sender<Accepted>,
    evictions: Sender<FrontendId>,
    load: Arc<Load>,
    parker: Arc<Parker>,
}

/// The thread's end of its inbox.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Accepted>,
    /// Those that are served newest first, the newest last: at most as many as the inbox holds.
    newest_first: RefCell<Vec<Accepted>>,
    capacity: usize,
    /// Frontends of which a connection is to make room.
    evictions: Receiver<FrontendId>,
    load: Arc<Load>,
    parker: Arc<Parker>,
}

/// Makes the inbox of the thread of `parker`, for at most `capacity` connections at a time.
pub fn inbox(capacity: usize, parker: Arc<Parker>) -> (InboxSender, Inbox) {
    let (sender, receiver) = bounded(capacity);
    let load = Arc::new(Load::default());
    let (evict, evictions) = bounded(EVICTIONS);
    let sender = InboxSender {
        sender,
        evictions: evict,
        load: Arc::clone(&load),
        parker: Arc::clone(&parker),
    };
    let newest_first = RefCell::default();
    (sender, Inbox { receiver, newest_first, capacity, evictions, load, parker })
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

    /// Asks for room in a frontend. False if too much has been asked for already.
    pub(super) fn evict(&self, frontend: FrontendId) -> bool {
        self.evictions.try_send(frontend).is_ok()
    }

    /// How to wake the thread, after a send.
    pub fn parker(&self) -> &Parker {
        &self.parker
    }
}

impl Inbox {
    /// The next connection: in the order of arrival, and behind these those that are served newest first. The last one
    /// is served however long it has waited, since its thread has nobody else.
    pub fn take(&self) -> Option<Accepted> {
        let mut taken = self.take_next()?;
        if self.is_empty() {
            taken.pressed.shed = None;
        }
        Some(taken)
    }

    fn take_next(&self) -> Option<Accepted> {
        let mut newest_first = self.newest_first.borrow_mut();
        while newest_first.len() < self.capacity
            && let Ok(accepted) = self.receiver.try_recv()
        {
            if accepted.pressed.newest_first.is_none() {
                return Some(accepted);
            }
            // What had no room for a while comes late.
            let age = |it: &Accepted| (it.accepted_at, it.pressed.newest_first);
            let place = newest_first.partition_point(|it| age(it) <= age(&accepted));
            newest_first.insert(place, accepted);
        }
        newest_first.pop()
    }

    /// A frontend of which a connection is to make room.
    pub fn take_eviction(&self) -> Option<FrontendId> {
        self.evictions.try_recv().ok()
    }

    /// Says that this thread is about to wait. True if it may, false if there is work.
    #[must_use]
    pub fn park(&self) -> bool {
        self.parker.announce();
        let may_wait = self.is_empty() && self.evictions.is_empty();
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
        self.receiver.len() + self.newest_first.borrow().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty() && self.newest_first.borrow().is_empty()
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
