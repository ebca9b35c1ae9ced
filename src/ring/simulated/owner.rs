//! Who may work on a socket: one ring at a time, from its first operation until it gives the socket back.
//!
//! ```text
//!   holder --first operation--> ring --Release--> leaving --reap--> holder
//!     ^                                                               |
//!     +--------------- hand_on ------- nobody <------- take_off ------+
//! ```
//!
//! A socket on its way to another process has a descriptor in each, as a message with descriptors makes them: it is
//! closed when both are.

use std::os::fd::{AsFd, OwnedFd};

use super::super::operation::Descriptor;
use super::remote::Network;
use super::socket::{Role, Socket, SocketId};
use super::world::{Outcome, Raw, RingId, What, World};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Owner {
    /// Whoever has its descriptor.
    #[default]
    Holder,
    /// Nobody else.
    Ring(RingId),
    /// It is released, and this ring has not given it back yet.
    Leaving(RingId),
    /// It is on its way.
    Nobody,
}

impl World {
    /// A ring names a socket. Listeners may be worked on by many.
    pub(super) fn claim(&mut self, ring: RingId, id: SocketId) {
        let socket = &mut self.sockets[id.0];
        if matches!(socket.role, Role::Listening(_)) {
            return;
        }
        match socket.owner {
            Owner::Holder => socket.owner = Owner::Ring(ring),
            Owner::Ring(owner) if owner == ring => {}
            owner => {
                let name = self.rings[ring.0].name.clone();
                self.violate(|| format!("{name} works on c{}, which is owned by {owner:?}", id.0));
            }
        }
    }

    /// A ring has given a socket back that was released.
    pub(super) fn given_back(&mut self, descriptor: Descriptor) {
        if let Some(id) = self.tokens.get(&descriptor) {
            self.sockets[id.0].owner = Owner::Holder;
        }
    }

    /// A descriptor of a socket is gone. Whether there are others; then one of them stands for it.
    pub(super) fn has_others(&mut self, id: SocketId, gone: Descriptor) -> bool {
        let socket = &mut self.sockets[id.0];
        socket.copies.retain(|copy| *copy != gone);
        match &mut socket.token {
            Some(token) if token.descriptor == gone => match socket.copies.pop() {
                Some(copy) => {
                    token.is_now(copy);
                    true
                }
                None => false,
            },
            token => token.is_some(),
        }
    }

    /// A ring has closed a socket, which is closed if nobody has a copy.
    pub(super) fn closed_by_ring(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id.0];
        socket.closes = true;
        if socket.token.is_none() {
            self.closed(id);
        }
    }

    /// The process that had a socket has died.
    pub(super) fn died(&mut self, id: SocketId) {
        self.note("", || format!("c{} died with its process", id.0));
        if let Some(stream) = self.sockets[id.0].stream() {
            stream.faulted = true;
        }
        self.closed(id);
    }

    /// Forgets what is in flight on a ring whose process has died. Returns what was to be told.
    fn forget_ring(&mut self, ring: RingId) -> Vec<Raw> {
        let own: Vec<u64> =
            self.operations.iter().filter(|(_, one)| one.ring == ring).map(|(id, _)| *id).collect();
        for id in own {
            let Some(operation) = self.operations.remove(&id) else { continue };
            if let What::Splice { to, .. } = operation.what {
                self.sockets[to.0].spliced_to = false;
            }
            let Some(socket) = operation.socket else { continue };
            self.sockets[socket.0].in_flight.retain(|other| *other != id);
            if matches!(operation.what, What::Send { close: true, .. })
                && self.sockets[socket.0].token.is_none()
            {
                self.died(socket);
            }
        }
        let queue = &mut self.rings[ring.0];
        (queue.gone, queue.in_flight) = (true, 0);
        std::mem::take(&mut queue.ready).into()
    }

    fn socket_behind(&self, descriptor: &impl AsFd) -> Option<SocketId> {
        self.tokens.get(&Descriptor::of(descriptor)).copied()
    }
}

impl Network {
    /// A thread has let go of a socket, and nobody may work on it for now.
    pub fn take_off(&self, socket: &OwnedFd) {
        let mut world = self.0.borrow_mut();
        let Some(id) = world.socket_behind(socket) else { return };
        if world.sockets[id.0].owner != Owner::Holder {
            let owner = world.sockets[id.0].owner;
            world.violate(|| format!("c{} is handed over, but is owned by {owner:?}", id.0));
        }
        world.note("", || format!("c{} is on its way", id.0));
        world.sockets[id.0].owner = Owner::Nobody;
        if let Some(stream) = world.sockets[id.0].stream() {
            stream.goes_on();
        }
    }

    /// Whoever gets a socket that was on its way may work on it.
    pub fn hand_on(&self, socket: &OwnedFd) {
        let mut world = self.0.borrow_mut();
        let Some(id) = world.socket_behind(socket) else { return };
        if world.sockets[id.0].owner != Owner::Nobody {
            let owner = world.sockets[id.0].owner;
            world.violate(|| format!("c{} has come, but is owned by {owner:?}", id.0));
        }
        world.sockets[id.0].owner = Owner::Holder;
    }

    /// The same socket as another process has it.
    ///
    /// # Panics
    /// The process has no descriptors left.
    pub fn copy(&self, socket: &OwnedFd) -> OwnedFd {
        let copy = socket.try_clone().expect("the process has descriptors left");
        let mut world = self.0.borrow_mut();
        if let Some(id) = world.socket_behind(socket) {
            world.register(Descriptor::of(&copy), id);
            world.sockets[id.0].copies.push(Descriptor::of(&copy));
        }
        copy
    }

    /// A process closes a socket that another one may have, too.
    pub fn drop_copy(&self, socket: OwnedFd) {
        let mut world = self.0.borrow_mut();
        let descriptor = Descriptor::of(&socket);
        let Some(id) = world.tokens.remove(&descriptor) else { return };
        if !world.has_others(id, descriptor) {
            if !world.sockets[id.0].closes {
                world.dropped(id);
            } else {
                world.sockets[id.0].token = None;
                // A send that closes does so when it ends.
                if world.sockets[id.0].in_flight.is_empty() {
                    world.closed(id);
                }
            }
        }
        drop(world);
        drop(socket);
        let mut world = self.0.borrow_mut();
        // The others may be gone, too.
        if world.is_dropped(id) == Some(true) {
            world.dropped(id);
        }
    }

    /// The process of these rings dies. `drop_all` drops all that it has: nobody is to blame for that.
    pub fn crash(&self, rings: &[usize], drop_all: impl FnOnce()) {
        let mut untold = Vec::new();
        for ring in rings {
            untold.extend(self.0.borrow_mut().forget_ring(RingId(*ring)));
        }
        self.0.borrow_mut().crashing = true;
        drop(untold);
        drop_all();
        self.sweep();
        self.0.borrow_mut().crashing = false;
    }

    /// The sockets of which somebody has a descriptor.
    pub fn held(&self) -> Vec<String> {
        let world = self.0.borrow();
        let held = world.sockets.iter().enumerate().filter(|(_, socket)| socket.token.is_some());
        held.map(|(number, _)| format!("c{number}")).collect()
    }

    /// Connections that are accepted, told to a thread, and not closed.
    pub fn served(&self) -> usize {
        let mut world = self.0.borrow_mut();
        let is_untold = |raw: &&Raw| matches!(raw.outcome, Outcome::Accepted(Ok(_)));
        let untold: usize =
            world.rings.iter().map(|ring| ring.ready.iter().filter(is_untold).count()).sum();
        let is_held = |socket: &mut Socket| {
            let is_open = socket.token.is_some() && !socket.closes;
            let is_held = is_open || !socket.in_flight.is_empty();
            is_held && socket.stream().is_some_and(|stream| !stream.own)
        };
        let held =
            world.sockets.iter_mut().map(|socket| usize::from(is_held(socket))).sum::<usize>();
        held - untold
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::operation::{Operation, Operations, Shots};
    use super::super::super::{Completion, Event, Key, Ring, Wait};
    use super::super::{Faults, Simulated, Sizes};
    use super::*;
    use crate::ring::simulated::{RemoteEnd, RemoteRead};

    const SIZES: Sizes =
        Sizes { completion_entries: 8, buffers: 2, buffer_bytes: 64, receive_credit: true };

    /// Two rings, and a connection.
    fn scene() -> (Network, [Simulated; 2], OwnedFd, RemoteEnd) {
        let network = Network::new(1, Faults::none());
        let rings = ["one", "two"].map(|name| network.ring(name, &SIZES).unwrap());
        let listener = network.listen(1);
        let peer = network.dial(listener.port(), (64, 64), None);
        while !peer.is_established() {
            network.run_next();
        }
        let socket = listener.take().unwrap();
        network.allow_drops(false);
        (network, rings, socket, peer)
    }

    fn start(ring: &mut Simulated, operation: Operation) -> Vec<Completion> {
        let (mut operations, mut completions) = (Operations::default(), Vec::new());
        operations.push(Key::fixed(0), operation);
        ring.enter(&mut operations, &mut completions, Wait::No).unwrap();
        completions
    }

    fn receive(socket: &OwnedFd) -> Operation {
        Operation::Receive { socket: Descriptor::of(socket), shots: Shots::Once }
    }

    fn release(ring: &mut Simulated, socket: OwnedFd) -> OwnedFd {
        match start(ring, Operation::Release { socket }).pop().map(|completion| completion.event) {
            Some(Event::Released(socket)) => socket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_ring_owns_what_it_works_on_until_it_gives_it_back() {
        let (network, [mut one, mut two], socket, _peer) = scene();
        start(
            &mut one,
            Operation::Shutdown { socket: Descriptor::of(&socket), how: std::net::Shutdown::Write },
        );
        let socket = release(&mut one, socket);
        network.take_off(&socket);
        network.hand_on(&socket);
        start(&mut two, receive(&socket));
        assert_eq!(network.violation(), None);
        start(&mut one, receive(&socket));
        assert!(network.violation().unwrap().contains("owned by Ring(RingId(1))"));
    }

    #[test]
    fn nobody_works_on_what_is_on_its_way() {
        let (network, [mut one, _], socket, _peer) = scene();
        network.take_off(&socket);
        start(&mut one, receive(&socket));
        assert!(network.violation().unwrap().contains("owned by Nobody"));
    }

    #[test]
    fn what_a_ring_has_is_not_handed_over() {
        let (network, [mut one, _], socket, _peer) = scene();
        start(&mut one, receive(&socket));
        network.take_off(&socket);
        assert!(network.violation().unwrap().contains("is handed over, but is owned by Ring"));
    }

    #[test]
    fn a_socket_is_closed_when_all_its_copies_are() {
        for ring_first in [false, true] {
            let (network, [mut one, _], socket, peer) = scene();
            let copy = network.copy(&socket);
            let mut socket = Some(socket);
            if ring_first {
                start(&mut one, Operation::Close { socket: copy });
                assert_eq!(peer.read(1), RemoteRead::Nothing, "the other has it open");
                network.drop_copy(socket.take().unwrap());
            } else {
                network.drop_copy(socket.take().unwrap());
                assert_eq!(peer.read(1), RemoteRead::Nothing, "the other has it open");
                start(&mut one, Operation::Close { socket: copy });
            }
            assert_eq!((peer.read(1), network.violation()), (RemoteRead::End, None));
        }
    }

    #[test]
    fn the_last_copy_is_not_dropped_without_a_close() {
        let (network, _rings, socket, _peer) = scene();
        let copy = network.copy(&socket);
        network.drop_copy(socket);
        assert_eq!(network.violation(), None);
        network.drop_copy(copy);
        assert!(network.violation().unwrap().contains("was dropped and not closed"));
    }

    #[test]
    fn what_a_process_has_that_dies_ends_with_it() {
        let (network, [mut one, _], socket, peer) = scene();
        start(&mut one, receive(&socket));
        network.crash(&[0], || drop(socket));
        assert_eq!((peer.read(1), network.violation()), (RemoteRead::End, None));
        assert!(peer.is_broken());
    }
}
