//! What rings are told, for whoever keeps books beside the server.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::super::operation::Descriptor;
use super::remote::Network;
use super::socket::{Role, SocketId};
use super::world::{Outcome, Raw, RingId, World};
use crate::sys;

/// Something that a ring was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It has a new connection.
    Accepted {
        /// Its number in the trace.
        connection: usize,
        /// The port that it was made to.
        port: u16,
        /// Where it comes from, if it has an address and has not been reset.
        peer: Option<SocketAddr>,
    },
    /// One that was to be closed behind its last bytes is closed.
    Closed {
        /// Its number in the trace.
        connection: usize,
    },
}

impl World {
    /// A ring is told of something on a socket.
    pub(super) fn give_notice(&mut self, ring: RingId, (id, raw): (SocketId, &Raw)) {
        if self.notices.is_none() {
            return;
        }
        let notice = match (&raw.outcome, &self.sockets[id.0].role) {
            (Outcome::Accepted(Ok(socket)), Role::Listening(listening)) => {
                let Some(connection) = self.tokens.get(&Descriptor::of(socket)) else { return };
                let peer = sys::peer_address(socket.as_fd()).ok().flatten();
                Notice::Accepted { connection: connection.0, port: listening.port, peer }
            }
            // Whoever sends otherwise keeps the descriptor.
            (Outcome::Sent(..), Role::Stream(_)) if self.sockets[id.0].token.is_none() => {
                Notice::Closed { connection: id.0 }
            }
            _ => return,
        };
        self.notices.get_or_insert_default().push((ring, notice));
    }
}

impl Network {
    /// Keeps notices from now on.
    pub fn keep_notices(&self) {
        self.0.borrow_mut().notices = Some(Vec::new());
    }

    /// What the ring with this [number](super::Simulated::number) has been told since the last call, in order.
    pub fn take_notices(&self, ring: usize) -> Vec<Notice> {
        let mut world = self.0.borrow_mut();
        let notices = world.notices.get_or_insert_default();
        notices.extract_if(.., |(of, _)| of.0 == ring).map(|(_, notice)| notice).collect()
    }

    /// The number in the trace of the connection behind a descriptor.
    pub fn number_of(&self, socket: &OwnedFd) -> Option<usize> {
        self.0.borrow().tokens.get(&Descriptor::of(socket)).map(|id| id.0)
    }

    /// Since when a ring has worked on a connection.
    pub fn worked_on_since(&self, connection: usize) -> Option<Duration> {
        let mut world = self.0.borrow_mut();
        world.sockets[connection].stream().and_then(|stream| stream.touched)
    }
}
