//! A listening socket as whoever drives the world has it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::operation::Descriptor;
use super::remote::{Network, RemoteEnd};
use super::socket::{Listening, SocketId};
use crate::sys::Errno;

/// A simulated listening socket. Dropping it closes it and resets what is in its queue.
#[derive(Debug)]
pub struct Listener {
    pub(super) network: Network,
    pub(super) id: SocketId,
    pub(super) port: u16,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Listener {
    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// New handshakes meet silence from now on.
    pub fn stop_admitting(&self) {
        self.with(|listening| listening.admitting = false);
    }

    /// Whether a reset answers new handshakes from now on.
    pub fn refuse(&self, refusing: bool) {
        self.with(|listening| listening.refusing = refusing);
    }

    /// `watcher` is called when a connection comes into the queue.
    pub fn watch(&self, watcher: u32) {
        self.with(|listening| listening.watcher = Some(watcher));
    }

    /// Connections in the accept queue.
    pub fn waiting(&self) -> usize {
        self.with(|listening| listening.queue.len())
    }

    /// Every accept fails from now on, and nobody gets through any more.
    pub fn break_with(&self, errno: Errno) {
        self.with(|listening| listening.broken = Some(errno));
        let mut world = self.network.0.borrow_mut();
        world.closed(self.id);
        world.kick(self.id);
    }

    /// It is about to be closed: a violation if that resets connections in its queue, unless it is broken or the
    /// server stops.
    pub fn close_served(&self) {
        let waiting = if self.is_failing() { 0 } else { self.waiting() };
        let mut world = self.network.0.borrow_mut();
        if waiting > 0 && !world.drops_allowed {
            let port = self.port;
            world
                .violate(|| format!("{waiting} connections in the queue of port {port} are reset"));
        }
    }

    /// Whether accepts fail, for now or for ever.
    pub fn is_failing(&self) -> bool {
        self.with(|listening| listening.broken.is_some() || listening.shortage.is_some())
    }

    /// Whether an accept is in flight.
    pub fn is_armed(&self) -> bool {
        !self.network.0.borrow().sockets[self.id.0].in_flight.is_empty()
    }

    /// Takes a connection out of the queue without a ring: the end that a ring works on.
    pub fn take(&self) -> Option<OwnedFd> {
        let id = self.with(|listening| listening.queue.pop_front())?;
        Some(self.network.0.borrow_mut().give_out(id))
    }

    /// Takes a connection that a ring has opened out of the queue.
    pub fn take_remote(&self) -> Option<RemoteEnd> {
        let id = self.with(|listening| listening.queue.pop_front())?;
        Some(RemoteEnd { network: self.network.clone(), id })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Listening) -> T) -> T {
        let mut world = self.network.0.borrow_mut();
        look(world.sockets[self.id.0].listening().expect("it is a listener"))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("it is open until it is dropped").as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut world = self.network.0.borrow_mut();
        let id = self.id;
        if !world.sockets[id.0].in_flight.is_empty() {
            world.violate(|| format!("listener c{} closed with an accept in flight", id.0));
        }
        if let Some(descriptor) = &self.descriptor {
            world.give_up(Descriptor::of(descriptor));
        }
        world.closed(id);
    }
}
