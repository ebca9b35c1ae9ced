//! A simulated listener where a server wants a real one.

use std::io;

use crate::config::ListenAddress;
use crate::ring::simulated::{Listener, Network};
use crate::server::event_loop::Drainable;

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedListener {
    pub(super) listener: Listener,
    pub(super) address: ListenAddress,
}

impl SimulatedListener {
    pub(super) fn new(network: &Network, backlog: usize) -> Self {
        let listener = network.listen(backlog);
        let address = ListenAddress::Tcp(listener.address());
        Self { listener, address }
    }
}

impl Drainable for SimulatedListener {
    fn stop_admitting(&self) -> io::Result<()> {
        self.listener.stop_admitting();
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.listener.waiting() == 0
    }

    fn address(&self) -> &ListenAddress {
        &self.address
    }
}
