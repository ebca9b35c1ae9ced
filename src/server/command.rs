//! What a thread is told while it runs.
//!
//! The order is what makes it safe. A frontend is published to every thread before any of them listens for it;
//! it is retired by every thread once none listens any more and its inbox has been emptied since.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::connections::Settings;
use crate::dispatch::{ConnectionLimit, FrontendId, ListenerId};

/// One thing that a thread is told.
pub(crate) enum Command<S, L> {
    /// Connections of a frontend that come from now on go by these.
    Publish { frontend: FrontendId, settings: Settings<S> },
    /// Accept on this socket.
    Listen(Listening<L>),
    /// Stop accepting on a listener, as in a drain: nobody new is admitted, who is in its queue is served.
    StopListening(ListenerId),
    /// Tell the sessions of a frontend to end.
    Drain(FrontendId),
    /// Forget a frontend, once so many sockets of it listen no more: none.
    Retire { frontend: FrontendId, sockets: Arc<AtomicUsize> },
}

/// A socket to accept on.
pub(crate) struct Listening<L> {
    pub(crate) listener: ListenerId,
    pub(crate) socket: Arc<L>,
    /// How many connections its frontend may have.
    pub(crate) limit: Arc<ConnectionLimit>,
    /// Accept queues of the frontend, those of all threads: they share the limit.
    pub(crate) queues: usize,
    /// Sockets of the frontend that still listen, on all threads.
    pub(crate) sockets: Arc<AtomicUsize>,
}
