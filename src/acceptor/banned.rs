//! Banned sources that the kernel does not keep out: they are reset as soon as they are accepted.

use std::os::fd::{AsFd, OwnedFd};

use super::Acceptor;
use crate::config::ListenAddress;
use crate::metrics::Counter;
use crate::ring::Key;
use crate::sources::Refuses;
use crate::sys;

impl Acceptor {
    /// Turns these away from now on.
    pub fn refuse(&mut self, refuses: Refuses) {
        self.refuses = refuses;
    }

    /// Gives a connection back unless it comes from a banned source: then it is reset and counted. The peer of a unix socket
    /// has no address.
    pub(super) fn unless_banned(&mut self, key: Key, socket: OwnedFd) -> Option<OwnedFd> {
        if !self.refuses.anybody() {
            return Some(socket);
        }
        let is_tcp = self
            .listenings
            .get(key)
            .is_some_and(|listening| matches!(listening.source.address, ListenAddress::Tcp(_)));
        // One that has no address any more is gone.
        let peer = if is_tcp { sys::peer_address(socket.as_fd()).ok().flatten() } else { None };
        if !peer.is_some_and(|peer| self.refuses.address(peer.ip())) {
            return Some(socket);
        }
        self.metrics.count(Counter::AcceptBanned);
        // Without it the peer sees an end in place of a reset.
        let _ = sys::reset_on_close(socket.as_fd());
        None
    }
}
