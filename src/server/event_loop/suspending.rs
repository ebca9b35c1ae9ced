//! Connections that leave a thread, and come to it, without being closed or accepted.
//!
//! ```text
//!   Suspend --> begin: cancel what is in flight --> nothing in flight --> the ring gives the sockets back --> sent
//! ```
//!
//! Some at a time: whoever asks for more has taken care of those before.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SendError, Sender};
use std::time::Instant;

use super::{EventLoop, ListeningSocket};
use crate::connection::LoopContext;
use crate::connection::suspended::Suspended;
use crate::ring::{Key, Operation, Ring};
use crate::server::command::Suspend;
use crate::service::Service;

/// Most slots that are looked at for one request.
const LOOKS_MAX: u32 = 65_536;

/// What is on its way off a thread.
#[derive(Debug, Default)]
pub(super) struct Suspending {
    /// Whoever has asked, until all that was begun for it has been sent.
    to: Option<Sender<Suspended>>,
    /// The slot at which the next look begins.
    next: u32,
    /// Those whose sockets the ring still has.
    releasing: Vec<Suspended>,
}

impl Suspending {
    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.to.is_none()
    }

    /// How many are out of their table and not sent.
    pub(super) fn releasing(&self) -> usize {
        self.releasing.len()
    }

    /// The ring has given a socket back. They come in the order in which they were given up.
    pub(super) fn released(&mut self, key: Key, socket: OwnedFd) {
        if let Some(suspended) = self.releasing.get_mut(key.slot as usize) {
            suspended.sockets.push(socket);
        }
    }
}

impl<R: Ring, S: Service, L: ListeningSocket> EventLoop<R, S, L> {
    /// Begins to take some connections off this thread.
    pub(super) fn suspend(&mut self, request: Suspend, now: Instant) {
        let Suspend { of, most, to } = request;
        let mut cx = LoopContext {
            buffers: self.ring.buffers(),
            operations: &mut self.operations,
            starved: &mut self.starved,
            now,
            millis: self.millis,
            notes_waits: self.notes_waits,
        };
        let slots = self.connections.slots();
        let mut begun = 0;
        for _ in 0..slots.min(LOOKS_MAX) {
            if begun == most {
                break;
            }
            let slot = self.suspending.next % slots;
            self.suspending.next = slot + 1;
            let is_of = |frontend| of.contains(&frontend);
            begun += usize::from(self.connections.suspend(slot, &is_of, &mut cx));
        }
        self.suspending.to = Some(to);
    }

    /// Sends those whose sockets the ring has given back, and has it give back those of others on which nothing is in
    /// flight any more.
    pub(super) fn send_suspended(&mut self, now: Instant) {
        let Some(to) = self.suspending.to.clone() else { return };
        let released = std::mem::take(&mut self.suspending.releasing);
        let sent = released.into_iter().filter_map(|it| to.send(it).err());
        // Whoever has asked has given up: they stay.
        let unheard: Vec<_> = sent.map(|SendError(suspended)| suspended).collect();
        self.resume(unheard, None, now);
        let taken = self.connections.take_suspended();
        self.inbox.closed(taken.len());
        for (place, mut suspended) in taken.into_iter().enumerate() {
            suspended.place.and_counted(&self.shared.connection_limit);
            for socket in std::mem::take(&mut suspended.sockets) {
                self.operations.push(Key::fixed(place as u32), Operation::Release { socket });
            }
            self.suspending.releasing.push(suspended);
        }
        if self.suspending.releasing.is_empty() && self.connections.suspending() == 0 {
            self.suspending.to = None;
        }
    }

    /// Goes on with connections that are on no thread.
    pub(super) fn resume(
        &mut self,
        connections: Vec<Suspended>,
        refused: Option<&Sender<Suspended>>,
        now: Instant,
    ) {
        let mut cx = LoopContext {
            buffers: self.ring.buffers(),
            operations: &mut self.operations,
            starved: &mut self.starved,
            now,
            millis: self.millis,
            notes_waits: self.notes_waits,
        };
        for suspended in connections {
            match self.connections.resume(suspended, &mut cx) {
                Ok(()) => self.inbox.resumed(1),
                // Without anybody who takes it back it is closed.
                Err(suspended) => drop(refused.map(|refused| refused.send(suspended))),
            }
        }
    }
}
