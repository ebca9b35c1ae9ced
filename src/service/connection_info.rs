//! What a service may ask of a connection when its session begins.

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::dispatch::Mailbox;

/// What is known of a connection when its session opens. `M` is what its session can be told:
/// [`Service::Message`](super::Service::Message).
pub struct ConnectionInfo<'a, M = Infallible> {
    listener: usize,
    peer: &'a dyn Fn() -> Option<SocketAddr>,
    mailbox: NewMailbox<'a, M>,
}

impl<'a, M> ConnectionInfo<'a, M> {
    /// `listener` is the index of the listener in the order of the configuration; `peer` is asked
    /// only if the service wants to know. It has no [mailbox](Self::mailbox).
    pub fn new(listener: usize, peer: &'a dyn Fn() -> Option<SocketAddr>) -> Self {
        Self { listener, peer, mailbox: NewMailbox(None) }
    }

    /// The same with somebody who makes its mailbox.
    #[must_use]
    pub fn with_mailbox(self, make: &'a dyn Fn() -> Mailbox<M>) -> Self {
        Self { mailbox: NewMailbox(Some(make)), ..self }
    }

    /// Index of the listener that took the connection, in the order of the configuration.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// The client's address, as the PROXY header says where one had to come, else one getpeername(2) per call,
    /// so keep it if it is needed again. `None` for unix sockets and when the peer has already gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        (self.peer)()
    }

    /// Where the session is told something, from any thread. Only a session that asks has one, and pays for it: some
    /// 100 bytes. Each call gives the same one.
    pub fn mailbox(&self) -> Mailbox<M> {
        self.mailbox.get()
    }
}

/// The mailbox of a session that begins.
pub struct NewMailbox<'a, M>(Option<&'a dyn Fn() -> Mailbox<M>>);

impl<'a, M> NewMailbox<'a, M> {
    /// With somebody who makes it; each call of `make` has to give the same one.
    pub fn new(make: &'a dyn Fn() -> Mailbox<M>) -> Self {
        Self(Some(make))
    }

    /// See [`ConnectionInfo::mailbox`].
    pub fn get(&self) -> Mailbox<M> {
        self.0.map_or_else(Mailbox::nowhere, |make| make())
    }
}

/// What is known of a worker when it makes what its sessions share.
#[derive(Debug)]
pub struct WorkerInfo<'a, M = Infallible> {
    index: usize,
    mailboxes: &'a [Mailbox<M>],
}

impl<'a, M> WorkerInfo<'a, M> {
    /// `mailboxes` are those of all workers; this one is the one at `index`.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn new(index: usize, mailboxes: &'a [Mailbox<M>]) -> Self {
        assert!(index < mailboxes.len(), "worker {index} of {}", mailboxes.len());
        Self { index, mailboxes }
    }

    /// Its place among the workers.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where the workers are told something ([`Service::local_message`](super::Service::local_message)), one mailbox
    /// for each of them, in the order of their indices.
    pub fn mailboxes(&self) -> &'a [Mailbox<M>] {
        self.mailboxes
    }
}
