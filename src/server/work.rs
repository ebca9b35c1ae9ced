//! What the worker threads of a server do.

use std::sync::Arc;
use std::time::Instant;

use super::plan::Descriptors;
use crate::config::Config;
use crate::connection::Serve;
use crate::metrics::Block;
use crate::process::Alarm;
use crate::ring::Capabilities;
use crate::service::Service;
use crate::upstream::Upstream;
use crate::worker::{SessionSettings, Worker};

/// What a worker thread knows when it builds its state machine.
pub(super) struct Place<'a> {
    pub(super) config: &'a Config,
    /// Connections that memory is reserved for.
    pub(super) capacity: usize,
    /// Descriptors that this worker has for itself.
    pub(super) descriptors: usize,
    pub(super) capabilities: Capabilities,
    pub(super) metrics: Arc<Block>,
    pub(super) now: Instant,
}

/// What connections are for: one value for all threads.
pub(super) trait Work: Send + Sync + 'static {
    /// Descriptors that it takes.
    fn descriptors(&self) -> Descriptors {
        Descriptors::ONE_EACH
    }

    /// The state machine of one thread.
    type Serving: Serve;

    /// Where connections are passed on to.
    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        Vec::new()
    }

    /// What watches over the threads that it has besides.
    fn alarms(&self) -> Vec<Alarm> {
        Vec::new()
    }

    /// What these count.
    fn blocks(&self) -> Vec<Arc<Block>> {
        Vec::new()
    }

    /// Builds the state machine of one thread, on that thread.
    fn serving(&self, place: Place<'_>) -> Self::Serving;
}

/// Connections are for a service.
pub(super) struct Serving<S>(pub(super) Arc<S>);

impl<S: Service> Work for Serving<S> {
    type Serving = Worker<S>;

    fn serving(&self, place: Place<'_>) -> Worker<S> {
        let Place { config, capacity, capabilities, metrics, now, .. } = place;
        let settings = SessionSettings {
            capacity,
            budget_bytes: config.frontends[0].limits.budget_bytes,
            timeouts: config.frontends[0].timeouts.sessions(),
            receive_credit: capabilities.receive_credit,
        };
        Worker::new(Arc::clone(&self.0), settings, metrics, now)
    }
}
