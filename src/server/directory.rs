//! What there is of a server, for those who look at it: frontends, where they listen, upstreams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::statistics::QueueStatus;
use crate::config::ListenAddress;
use crate::dispatch::ConnectionLimit;
use crate::listener::Listener;
use crate::upstream::Upstream;

/// A frontend as it is seen from outside.
#[derive(Debug, Clone)]
pub struct FrontendStatus {
    /// Its name.
    pub name: String,
    /// What is done with its connections, in one word.
    pub protocol: String,
    /// Where it listens, in the order of the configuration.
    pub addresses: Vec<ListenAddress>,
    /// Its connections and their limit.
    pub(super) limit: Arc<ConnectionLimit>,
    /// Its sockets, of all threads.
    pub(super) listeners: Vec<Weak<Listener>>,
}

impl FrontendStatus {
    /// Connections that are open or on their way to a worker.
    pub fn open(&self) -> usize {
        self.limit.open()
    }

    /// Open connections at most; `None` is no limit but that of the process.
    pub fn max_connections(&self) -> Option<usize> {
        Some(self.limit.limit()).filter(|limit| *limit != usize::MAX)
    }

    /// The accept queue of each of its sockets that is still open.
    pub fn queues(&self) -> Vec<QueueStatus> {
        let sockets = self.listeners.iter().filter_map(Weak::upgrade);
        let queue = |socket: Arc<Listener>| {
            let address = socket.address().clone();
            socket.queue().ok().map(|queue| QueueStatus { address, queue })
        };
        sockets.filter_map(queue).collect()
    }
}

#[derive(Debug, Default)]
struct Content {
    frontends: Vec<FrontendStatus>,
    upstreams: Vec<Arc<Upstream>>,
}

/// See the module. Clones are the same directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Content>>);

impl Directory {
    pub(super) fn set(&self, frontends: Vec<FrontendStatus>, upstreams: Vec<Arc<Upstream>>) {
        *self.content() = Content { frontends, upstreams };
    }

    pub(super) fn frontends(&self) -> Vec<FrontendStatus> {
        self.content().frontends.clone()
    }

    pub(super) fn addresses(&self) -> Vec<ListenAddress> {
        self.content().frontends.iter().flat_map(|it| it.addresses.iter().cloned()).collect()
    }

    pub(super) fn listeners(&self) -> Vec<Arc<Listener>> {
        let content = self.content();
        content
            .frontends
            .iter()
            .flat_map(|it| it.listeners.iter().filter_map(Weak::upgrade))
            .collect()
    }

    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.content().upstreams.clone()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Whoever panicked with it has left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
