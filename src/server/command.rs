//! What a thread is told while it runs.
//!
//! The order is what makes it safe. A frontend is published to every thread before any of them listens for it;
//! it is retired by every thread once none listens any more and its inbox has been emptied since.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use super::connections::Settings;
use crate::connection::Listed;
use crate::connection::suspended::Suspended;
use crate::dispatch::{ConnectionLimit, FrontendId, ListenerId};
use crate::proxy::Splicing;
use crate::ring::Key;
use crate::sources::Admission;

/// One thing that a thread is told.
pub(crate) enum Command<S, L> {
    /// Connections of a frontend that come from now on go by these.
    Publish { frontend: FrontendId, settings: Settings<S> },
    /// Accept on this socket.
    Listen(Listening<L>),
    /// What comes in through a socket belongs to another listener from now on, or its queue has another length.
    Move { from: ListenerId, to: Listening<L> },
    /// When to splice, from now on.
    Splice(Splicing),
    /// Stop accepting on a listener, as in a drain: nobody new is admitted, who is in its queue is served.
    StopListening(ListenerId),
    /// Accept nobody any more, and refuse nobody: another process accepts on the same sockets. What is given is held
    /// until the last connection has been placed.
    StopAccepting(Arc<()>),
    /// Take some connections off this thread.
    Suspend(Suspend),
    /// Go on with connections that are on no thread, and give those back that make no sense here.
    Resume(Vec<Suspended>, Sender<Suspended>),
    /// Tell the sessions of a frontend to end.
    Drain(FrontendId),
    /// Tell of all connections, some slots at a time.
    List(Sender<Vec<Listed>>),
    /// Close a connection; says whether it was there.
    Close(Key, Sender<bool>),
    /// Forget a frontend, once so many sockets of it listen no more: none.
    Retire { frontend: FrontendId, sockets: Arc<AtomicUsize> },
}

/// Some connections to be taken off a thread.
#[derive(Debug)]
pub(crate) struct Suspend {
    /// Those of these frontends.
    pub(crate) of: Arc<HashSet<FrontendId>>,
    /// At most so many.
    pub(crate) most: usize,
    /// Where they go. That it is dropped says that these were all that could be moved then.
    pub(crate) to: Sender<Suspended>,
}

/// A socket to accept on.
pub(crate) struct Listening<L> {
    pub(crate) listener: ListenerId,
    pub(crate) socket: Arc<L>,
    /// How many connections its frontend may have.
    pub(crate) limit: Arc<ConnectionLimit>,
    /// Who may come in through its frontend.
    pub(crate) admission: Arc<Admission>,
    /// Accept queues of the frontend, those of all threads: they share the limit.
    pub(crate) queues: usize,
    /// Sockets of the frontend that still listen, on all threads; this one is counted.
    sockets: Arc<AtomicUsize>,
}

impl<L> Listening<L> {
    pub(crate) fn new(
        listener: ListenerId,
        socket: Arc<L>,
        (limit, queues): (Arc<ConnectionLimit>, usize),
        admission: Arc<Admission>,
        sockets: &Arc<AtomicUsize>,
    ) -> Self {
        sockets.fetch_add(1, Ordering::AcqRel);
        Self { listener, socket, limit, admission, queues, sockets: Arc::clone(sockets) }
    }
}

/// It is dropped when its last connection has been placed, or has gone to another listener.
impl<L> Drop for Listening<L> {
    fn drop(&mut self) {
        self.sockets.fetch_sub(1, Ordering::AcqRel);
    }
}
