//! Operations as a ring starts them, and what about them breaks the contract.

use std::net::Shutdown;
use std::os::fd::OwnedFd;

use socket2::{Domain, SockAddr};

use super::super::operation::{Descriptor, Kind, Operation, Shots};
use super::super::tag::Key;
use super::owner::Owner;
use super::remote::Behaviour;
use super::socket::{Role, Socket, SocketId, Stage, Stream};
use super::world::{Happening, InFlight, Outcome, Payload, Raw, RingId, What, World};
use crate::sys::Errno;

/// Bytes that either direction of a connection which a ring has opened takes.
const CONNECTED_WINDOW_BYTES: usize = 4096;

impl World {
    /// Starts an operation; `payload` is what it sends.
    pub(super) fn start(
        &mut self,
        ring: RingId,
        key: Key,
        operation: Operation,
        payload: Option<Payload>,
    ) {
        match operation {
            Operation::Open { domain } => self.start_open(ring, key, domain),
            Operation::Connect { socket, address } => self.connect(ring, key, (socket, &address)),
            Operation::Accept { listener, shots } => {
                let many = matches!(shots, Shots::Many { .. });
                self.begin_on(ring, key, (listener, What::Accept { many }));
            }
            Operation::Receive { socket, shots } => {
                let (many, left) = match shots {
                    Shots::Once => (false, usize::MAX),
                    Shots::Many { credit_bytes } => (true, credit_bytes as usize),
                };
                self.begin_on(ring, key, (socket, What::Receive { many, left }));
            }
            Operation::Splice { socket, pipe, to } => {
                let Some(to) = self.find(ring, to) else { return };
                let sends =
                    self.sockets[to.0].in_flight.iter().any(|id| self.operations[id].is_send());
                if sends || std::mem::replace(&mut self.sockets[to.0].spliced_to, true) {
                    self.violate(|| format!("a splice to c{}, which is being sent to", to.0));
                }
                self.begin_on(ring, key, (socket, What::Splice { pipe, to }));
            }
            Operation::Send { socket, .. } => {
                let what = send(payload, false);
                self.begin_on(ring, key, (socket, what));
            }
            Operation::SendAndClose { socket, .. } => {
                self.send_and_close(ring, key, socket, payload);
            }
            Operation::Shutdown { socket, how } => self.shutdown(ring, socket, how),
            Operation::Close { socket } => self.close(ring, socket),
            Operation::Reset { socket } => {
                if let Some(id) = self.find(ring, Descriptor::of(&socket))
                    && let now = self.now
                    && let Some(stream) = self.sockets[id.0].stream()
                {
                    stream.gives_up(now);
                    stream.near_reset = true;
                }
                self.close(ring, socket);
            }
            Operation::Release { socket } => self.release(ring, key, socket),
            Operation::Cancel(kind) => self.cancel(ring, key, kind),
            Operation::Wake { ring: other } => self.wake(ring, other),
        }
    }

    fn start_open(&mut self, ring: RingId, key: Key, _: Domain) {
        self.begin(ring, key, None, What::Open);
    }

    /// Begins an operation on a descriptor.
    fn begin_on(&mut self, ring: RingId, key: Key, (descriptor, what): (Descriptor, What)) {
        let Some(socket) = self.find(ring, descriptor) else { return };
        let kind = what.kind();
        let same = |id: &u64| self.operations[id].what.kind() == kind;
        let twice = self.sockets[socket.0].in_flight.iter().any(same)
            || kind == Kind::Send && self.sockets[socket.0].spliced_to;
        if twice && kind != Kind::Accept {
            self.violate(|| format!("two operations {kind:?} in flight on c{}", socket.0));
            return;
        }
        let now = self.now;
        if let Some(stream) = self.sockets[socket.0].stream() {
            stream.touched.get_or_insert(now);
            let late = match kind {
                Kind::Send => stream.shut_write,
                Kind::Receive => stream.shut_read,
                _ => false,
            };
            if matches!(kind, Kind::Send | Kind::Receive) {
                stream.goes_on();
            }
            if kind == Kind::Receive {
                stream.asked_at = Some(now);
            }
            if late {
                self.violate(|| format!("{kind:?} on c{} behind its shutdown", socket.0));
            }
        }
        self.begin(ring, key, Some(socket), what);
    }

    fn begin(&mut self, ring: RingId, key: Key, socket: Option<SocketId>, what: What) {
        let kind = what.kind();
        let bytes = match &what {
            What::Send { payload, .. } => payload.bytes().len(),
            What::Receive { left, .. } => *left,
            _ => 0,
        };
        self.note_ring(ring, || match socket {
            Some(socket) if bytes == usize::MAX => format!("c{} {kind:?} once", socket.0),
            Some(socket) => format!("c{} {kind:?} {bytes}", socket.0),
            None => format!("{kind:?}"),
        });
        let id = self.sequence_of_operation();
        let operation = InFlight { ring, key, socket, what, cancelled: false, scheduled: false };
        self.operations.insert(id, operation);
        self.rings[ring.0].in_flight += 1;
        if let Some(socket) = socket {
            self.sockets[socket.0].in_flight.push(id);
        }
        self.schedule(id);
    }

    fn sequence_of_operation(&mut self) -> u64 {
        self.operations_begun += 1;
        self.operations_begun
    }

    fn send_and_close(
        &mut self,
        ring: RingId,
        key: Key,
        socket: OwnedFd,
        payload: Option<Payload>,
    ) {
        let descriptor = Descriptor::of(&socket);
        let Some(id) = self.find(ring, descriptor) else { return };
        self.nothing_in_flight(id, "SendAndClose");
        let now = self.now;
        self.stream(id).end_begins(now);
        self.begin_on(ring, key, (descriptor, send(payload, true)));
        self.give_up(descriptor);
        self.sockets[id.0].closes = true;
    }

    fn close(&mut self, ring: RingId, socket: OwnedFd) {
        let descriptor = Descriptor::of(&socket);
        let Some(id) = self.find(ring, descriptor) else { return };
        self.nothing_in_flight(id, "Close");
        self.note_ring(ring, || format!("c{} Close", id.0));
        self.give_up(descriptor);
        self.closed_by_ring(id);
    }

    fn release(&mut self, ring: RingId, key: Key, socket: OwnedFd) {
        let Some(id) = self.find(ring, Descriptor::of(&socket)) else { return };
        self.nothing_in_flight(id, "Release");
        self.note_ring(ring, || format!("c{} Release", id.0));
        self.sockets[id.0].owner = Owner::Leaving(ring);
        self.rings[ring.0].released.push((key, socket));
    }

    fn nothing_in_flight(&mut self, id: SocketId, what: &str) {
        let Socket { in_flight, spliced_to, .. } = &self.sockets[id.0];
        let in_flight = in_flight.len() + usize::from(*spliced_to);
        if in_flight > 0 {
            self.violate(|| format!("{what} of c{} with {in_flight} operations in flight", id.0));
        }
    }

    fn shutdown(&mut self, ring: RingId, socket: Descriptor, how: Shutdown) {
        let Some(id) = self.find(ring, socket) else { return };
        self.note_ring(ring, || format!("c{} Shutdown {how:?}", id.0));
        let now = self.now;
        let Some(stream) = self.sockets[id.0].stream() else { return };
        stream.end_begins(now);
        if how == Shutdown::Both {
            stream.gives_up(now);
        }
        if how != Shutdown::Write {
            stream.shut_read = true;
        }
        if how != Shutdown::Read {
            stream.shut_write = true;
            stream.outgoing.fin = true;
        }
        self.kick(id);
        self.tell(id);
    }

    fn cancel(&mut self, ring: RingId, key: Key, kind: Kind) {
        self.note_ring(ring, || format!("Cancel {kind:?} of slot {}", key.slot));
        let meant: Vec<u64> = self
            .operations
            .iter_mut()
            .filter(|(_, one)| one.ring == ring && one.key == key && one.what.kind() == kind)
            .map(|(id, one)| {
                one.cancelled = true;
                *id
            })
            .collect();
        // What has ended and was not told yet is given up all the same.
        // Keys of different kinds may be the same.
        let is_meant = |raw: &&Raw| {
            let receives = matches!(raw.outcome, Outcome::Received(_));
            raw.key == key && kind == Kind::Receive && receives
        };
        let untold = self.rings[ring.0].ready.iter().filter(is_meant);
        let untold: Vec<SocketId> = untold.filter_map(|raw| raw.socket).collect();
        let now = self.now;
        for socket in untold {
            if let Some(stream) = self.sockets[socket.0].stream() {
                stream.is_cancelled();
                stream.gives_up(now);
            }
        }
        for id in meant {
            self.schedule(id);
            // What was to end when it is sent ends now. A connect may be well all the same, and a
            // splice be followed by a receive.
            let operation = &self.operations[&id];
            let goes_on = matches!(operation.what, What::Connect | What::Splice { .. });
            let socket = operation.socket.filter(|_| !goes_on);
            if let Some(stream) = socket.and_then(|socket| self.sockets[socket.0].stream()) {
                stream.is_cancelled();
                stream.gives_up(now);
            }
            let socket = socket.filter(|_| kind == Kind::Send);
            if let Some(stream) = socket.and_then(|socket| self.sockets[socket.0].stream()) {
                stream.ended = Some(now.saturating_sub(stream.moved_at));
            }
        }
    }

    fn wake(&mut self, ring: RingId, address: Descriptor) {
        let found = self.rings.iter().position(|one| one.address == address && !one.gone);
        if let Some(other) = found {
            self.rings[other].woken = true;
            let name = self.rings[other].name.clone();
            self.note_ring(ring, || format!("wakes {name}"));
        }
    }

    fn connect(&mut self, ring: RingId, key: Key, (socket, address): (Descriptor, &SockAddr)) {
        let Some(id) = self.find(ring, socket) else { return };
        if !matches!(self.sockets[id.0].role, Role::Fresh) {
            self.violate(|| format!("c{} is connected twice", id.0));
            return;
        }
        let windows = (CONNECTED_WINDOW_BYTES, CONNECTED_WINDOW_BYTES);
        let mut stream = Stream::new(windows, None, self.now);
        stream.own = true;
        self.sockets[id.0].role = Role::Stream(Box::new(stream));
        self.begin(ring, key, Some(id), What::Connect);
        if self.chance(self.faults.no_port) {
            return self.fail(id, Errno::EADDRNOTAVAIL);
        }
        let port = address.as_socket().map_or(0, |address| address.port());
        self.dial(id, port);
    }

    /// Begins a handshake of `id` with whatever is at `port`.
    pub(super) fn dial(&mut self, id: SocketId, port: u16) {
        let round_trip = std::time::Duration::from_micros(self.rng.u64(20..5000));
        self.at(self.now + round_trip, Happening::Handshake(id, port, 0));
    }

    /// A segment of a handshake arrives.
    pub(super) fn handshake(&mut self, id: SocketId, port: u16, lost: u8) {
        /// Segments after which a handshake fails.
        const TRIES: u8 = 4;
        let now = self.now;
        if self.stream(id).stage != Stage::Connecting {
            return;
        }
        let listening = self.sockets.iter_mut().find_map(|socket| {
            let is_open = socket.token.is_some();
            socket.listening().filter(|listening| is_open && listening.port == port)
        });
        let silent = match listening {
            Some(listening) if listening.refusing => return self.fail(id, Errno::ECONNREFUSED),
            Some(listening) => !listening.admitting || listening.queue.len() > listening.backlog,
            None => match self.behaviours.get(&port).copied().unwrap_or(Behaviour::Refuses) {
                Behaviour::Refuses => return self.fail(id, Errno::ECONNREFUSED),
                Behaviour::Swallows => true,
                Behaviour::Silent => return self.establish(id),
                Behaviour::Resets => {
                    self.establish(id);
                    let later = std::time::Duration::from_micros(self.rng.u64(0..20_000));
                    return self.at(now + later, Happening::Break(id));
                }
            },
        };
        if !silent {
            self.establish(id);
            self.enqueue(id, port);
        } else if lost + 1 == TRIES {
            self.fail(id, Errno::ETIMEDOUT);
        } else {
            let pause = std::time::Duration::from_secs(1 << lost);
            self.at(now + pause, Happening::Handshake(id, port, lost + 1));
        }
    }

    fn fail(&mut self, id: SocketId, errno: Errno) {
        self.note("", || format!("c{} handshake: {}", id.0, errno.name()));
        self.stream(id).stage = Stage::Failed(errno);
        self.kick(id);
        self.tell(id);
    }

    fn establish(&mut self, id: SocketId) {
        let now = self.now;
        let stream = self.stream(id);
        stream.stage = Stage::Established;
        stream.moved_at = now;
        self.kick(id);
        self.tell(id);
    }

    fn enqueue(&mut self, id: SocketId, port: u16) {
        self.note("", || format!("c{} established at port {port}", id.0));
        let found = self.sockets.iter_mut().position(|socket| {
            let is_open = socket.token.is_some();
            socket.listening().is_some_and(|listening| is_open && listening.port == port)
        });
        let Some(listener) = found else { return };
        if let Some(listening) = self.sockets[listener].listening() {
            listening.queue.push_back(id);
            if let Some(watcher) = listening.watcher {
                self.at(self.now, Happening::Call(watcher));
            }
        }
        self.kick(SocketId(listener));
    }
}

fn send(payload: Option<Payload>, close: bool) -> What {
    What::Send { payload: payload.expect("a send has bytes"), sent: 0, close }
}
