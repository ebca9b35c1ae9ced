//! What a running server tells about itself.

use crate::config::ListenAddress;
use crate::listener::AcceptQueue;
use crate::ring::engine::Chosen;

/// A moment in the life of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// What it runs on.
    pub engine: Chosen,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now, those on their way to a worker included.
    pub open: usize,
    /// Bytes received since the start.
    pub received_bytes: u64,
    /// Bytes handed to the kernel since the start.
    pub sent_bytes: u64,
    /// Difference between the most and the least loaded worker, in open connections.
    pub skew: usize,
    /// The accept queue of every listening socket that is still open.
    pub queues: Vec<QueueStatus>,
}

/// One accept queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Where it listens.
    pub address: ListenAddress,
    /// What is in it.
    pub queue: AcceptQueue,
}

impl Statistics {
    /// Connections that wait in all accept queues, and what these could hold.
    pub fn waiting(&self) -> (u64, u64) {
        let add = |(waiting, limit), status: &QueueStatus| {
            let AcceptQueue { waiting: now, limit: most, .. } = status.queue;
            (waiting + u64::from(now.unwrap_or(0)), limit + u64::from(most))
        };
        self.queues.iter().fold((0, 0), add)
    }
}
