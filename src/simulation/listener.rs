//! A simulated listener where a server wants a real one.

use std::io;
use std::sync::Arc;

use crate::config::ListenAddress;
use crate::listener::QueueWaits;
use crate::metrics::Pauses;
use crate::ring::Descriptor;
use crate::ring::simulated::{Listener, Network};
use crate::server::event_loop::ListeningSocket;

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedListener {
    pub(super) listener: Listener,
    address: ListenAddress,
    queue_limit: usize,
}

impl SimulatedListener {
    pub(super) fn new(network: &Network, backlog: usize) -> Self {
        let listener = network.listen(backlog);
        let address = ListenAddress::Tcp(listener.address());
        Self { listener, address, queue_limit: backlog + 1 }
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        self.listener.close_served();
    }
}

impl ListeningSocket for SimulatedListener {
    fn address(&self) -> &ListenAddress {
        &self.address
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.listener)
    }

    fn queue_limit(&self) -> usize {
        self.queue_limit
    }

    fn waits(&self) -> Arc<QueueWaits> {
        Arc::default()
    }

    fn pauses(&self) -> Arc<Pauses> {
        Arc::default()
    }

    fn stop_admitting(&self) -> io::Result<()> {
        self.listener.stop_admitting();
        Ok(())
    }

    fn is_empty(&self) -> Option<bool> {
        Some(self.listener.waiting() == 0)
    }
}
