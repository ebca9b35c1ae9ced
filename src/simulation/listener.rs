//! A simulated listener where a server wants a real one.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::sources;
use crate::acceptor::PeerAddress;
use crate::config::ListenAddress;
use crate::listener::{Pressure, QueueWaits};
use crate::metrics::Pauses;
use crate::ring::Descriptor;
use crate::ring::simulated::{Listener, Network};
use crate::server::event_loop::ListeningSocket;

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedListener {
    /// Another server may have it, too.
    pub(super) listener: Rc<Listener>,
    address: ListenAddress,
    queue_limit: usize,
    /// Whether another server keeps it open.
    is_kept: Cell<bool>,
    pub(super) pressure: Arc<Pressure>,
}

impl SimulatedListener {
    pub(super) fn new(network: &Network, backlog: usize) -> Self {
        let listener = network.listen(backlog);
        let address = ListenAddress::Tcp(listener.address());
        let listener = Rc::new(listener);
        let (is_kept, pressure) = Default::default();
        Self { listener, address, queue_limit: backlog + 1, is_kept, pressure }
    }

    /// The same socket as another server has it.
    pub(super) fn of_another(&self) -> Self {
        Self {
            listener: Rc::clone(&self.listener),
            address: self.address.clone(),
            queue_limit: self.queue_limit,
            is_kept: Cell::new(false),
            pressure: Arc::default(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Another server listens on it from now on.
    pub(super) fn give_away(&self) {
        self.is_kept.set(true);
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        if Rc::strong_count(&self.listener) == 1 {
            self.listener.close_served();
        }
    }
}

impl ListeningSocket for SimulatedListener {
    fn address(&self) -> &ListenAddress {
        &self.address
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(&*self.listener)
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

    fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.pressure)
    }

    fn peer(&self) -> PeerAddress {
        sources::peer
    }

    fn is_kept(&self) -> bool {
        self.is_kept.get()
    }

    fn stop_admitting(&self) -> io::Result<()> {
        self.listener.stop_admitting();
        Ok(())
    }

    fn is_empty(&self) -> Option<bool> {
        Some(self.listener.waiting() == 0)
    }
}
