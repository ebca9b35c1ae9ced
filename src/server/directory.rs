//! What there is of a server, for those who look at it: frontends, where they listen, upstreams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::Handle;
use crate::config::ListenAddress;
use crate::dispatch::ConnectionLimit;
use crate::listener::Listener;
use crate::metrics::FrontendTimes;
use crate::sources::Sources;
use crate::upstream::Upstream;

/// Whether a frontend takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontendState {
    /// It does, until the server drains.
    Listening,
    /// It was drained by hand; it has what is open.
    Drained,
    /// It is in the configuration no more; it has what is still open.
    Removed,
}

/// A frontend as it is seen from outside.
#[derive(Debug, Clone)]
pub struct FrontendStatus {
    /// Its name.
    pub name: String,
    /// What is done with its connections, in one word.
    pub service: String,
    /// Whether it takes connections.
    pub state: FrontendState,
    /// Where it listens, in the order of the configuration.
    pub addresses: Vec<ListenAddress>,
    /// Its connections and their limit.
    pub(super) limit: Arc<ConnectionLimit>,
    /// What is known of its sources.
    pub(super) sources: Arc<Sources>,
    /// How long its connections take.
    pub(super) times: Arc<FrontendTimes>,
    /// Its sockets, of all threads.
    pub(super) listeners: Vec<Weak<Listener>>,
}

impl FrontendStatus {
    /// Connections that are open or on their way to a worker.
    pub fn open(&self) -> usize {
        self.limit.open()
    }

    /// What is known of its sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How long its connections take.
    pub fn times(&self) -> &FrontendTimes {
        &self.times
    }

    /// Open connections at most; `None` is no limit but that of the process.
    pub fn max_connections(&self) -> Option<usize> {
        Some(self.limit.limit()).filter(|limit| *limit != usize::MAX)
    }

    /// A line for each address: `listening ADDRESS SERVICE`, and the name where that is another.
    pub fn listening(&self) -> impl Iterator<Item = String> {
        let Self { name, service, .. } = self;
        self.addresses.iter().map(move |address| match name == service {
            true => format!("listening {address} {service}"),
            false => format!("listening {address} {service} {name}"),
        })
    }

    /// Its sockets that are still open.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Arc<Listener>> {
        self.listeners.iter().filter_map(Weak::upgrade)
    }
}

impl Handle {
    /// What is known of the sources of all frontends together.
    pub fn process_sources(&self) -> Arc<Sources> {
        self.directory.sources()
    }

    /// All sockets that listen, each once.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        self.directory.listeners()
    }
}

#[derive(Debug, Default)]
struct Content {
    frontends: Vec<FrontendStatus>,
    removed: Vec<FrontendStatus>,
    upstreams: Vec<Arc<Upstream>>,
}

/// See the module. Clones are the same directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    content: Arc<Mutex<Content>>,
    /// Of all frontends together.
    sources: Arc<Sources>,
}

impl Directory {
    pub(super) fn set(
        &self,
        (frontends, removed): (Vec<FrontendStatus>, Vec<FrontendStatus>),
        upstreams: Vec<Arc<Upstream>>,
    ) {
        *self.content() = Content { frontends, removed, upstreams };
    }

    /// Those that were removed and still have connections.
    pub(super) fn removed(&self) -> Vec<FrontendStatus> {
        let mut content = self.content();
        content.removed.retain(|frontend| frontend.open() > 0);
        content.removed.clone()
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

    /// What is known of the sources of all frontends together.
    pub(super) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources)
    }

    /// Forgets sources of which nothing is lost.
    pub(super) fn forget_idle_sources(&self, now: Instant) {
        self.frontends().iter().for_each(|it| it.sources.forget_idle(now));
        self.sources.forget_idle(now);
    }

    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.content().upstreams.clone()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Whoever panicked with it has left it whole.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
