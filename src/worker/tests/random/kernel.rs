//! The other side of the ring contract: takes operations, holds what is in flight, completes it in
//! any order and with any outcome that the contract allows.

use super::super::*;
use super::Choices;
use super::service::{Chatter, SLOW_CLIENTS};
use crate::connection::suspended::Suspended;
use crate::ring::Generation;

/// The key of a connection under which the worker has not asked for anything yet.
pub(super) const UNKNOWN: Key = Key { slot: u32::MAX, generation: Generation::FIRST };

/// A send in flight, with the bytes as they were when it began.
#[derive(Debug)]
struct Sending {
    bytes: Bytes,
    content: Vec<u8>,
}

/// The kernel's end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: Key,
    /// Its number, which is that of its session.
    pub(super) id: usize,
    pub(super) socket: Descriptor,
    pub(super) receive: Option<Shots>,
    pub(super) receive_cancelled: bool,
    send: Option<Sending>,
    /// Given up with the last send.
    given_up: bool,
    shut: Option<Shutdown>,
    pub(super) send_cancelled: bool,
    fin: bool,
    /// Its receive found no buffer and was not asked for again.
    pub(super) starved: bool,
    delivered: Vec<u8>,
    wire: Vec<u8>,
}

impl Peer {
    pub(super) fn in_flight(&self) -> bool {
        self.receive.is_some() || self.send.is_some()
    }

    /// Whether a socket is its own; the number of one that was given up may be another's.
    pub(super) fn owns(&self, socket: Descriptor) -> bool {
        self.socket == socket && !self.given_up
    }
}

pub(super) struct Kernel {
    pub(super) worker: Worker<Chatter>,
    pub(super) version: VersionId,
    pub(super) limit: Arc<ConnectionLimit>,
    starved: Starved,
    service: Arc<Chatter>,
    metrics: Arc<Block>,
    pool: BufferPool,
    pub(super) operations: Operations,
    start: Instant,
    now: Instant,
    receive_credit: bool,
    pub(super) peers: Vec<Peer>,
    pub(super) gone: Vec<Key>,
    /// Connections that the worker has given up, and that no other has taken; their places are counted here.
    pub(super) left: Vec<(Peer, Suspended)>,
    /// Connections that came here, as new ones or from another thread.
    pub(super) came: usize,
    /// Those of them that another thread has taken.
    pub(super) moved: usize,
    closed: usize,
}

impl Kernel {
    pub(super) fn new(service: &Arc<Chatter>, choices: &mut Choices) -> Self {
        let (buffer_bytes, budget_bytes) = [(64, 160), (4096, 10_000)][choices.below(2)];
        let receive_credit = !choices.one_in(4);
        let limits = ThreadLimits { capacity: 1000, receive_credit };
        let (service, metrics) = (Arc::clone(service), Arc::<Block>::default());
        let mut settings = SessionSettings { budget_bytes, ..settings(Arc::clone(&service)) };
        settings.timeouts.requests = SLOW_CLIENTS;
        let limit = Arc::clone(&settings.limit);
        let now = Instant::now();
        let mut worker = Worker::new(limits, Mail::none(), Arc::clone(&metrics));
        Self {
            version: worker.publish(Arc::new(settings)).unwrap(),
            worker,
            limit,
            starved: Starved::default(),
            service,
            metrics,
            pool: BufferPool::new(1 + choices.below(12), buffer_bytes).unwrap(),
            operations: Operations::default(),
            start: now,
            now,
            receive_credit,
            peers: Vec::new(),
            gone: Vec::new(),
            left: Vec::new(),
            came: 0,
            moved: 0,
            closed: 0,
        }
    }

    fn millis(&self) -> Millis {
        Millis::between(self.start, self.now)
    }

    /// Lets the worker do something, does what it asks for, and looks whether all is well.
    /// Returns the number of receives that it has asked for.
    pub(super) fn act(
        &mut self,
        act: impl FnOnce(&mut Worker<Chatter>, &mut LoopContext<'_>),
    ) -> usize {
        self.tell(act);
        self.obey()
    }

    /// Lets the worker do something.
    pub(super) fn tell(&mut self, act: impl FnOnce(&mut Worker<Chatter>, &mut LoopContext<'_>)) {
        let millis = self.millis();
        let Self { worker, pool: buffers, operations, starved, now, .. } = self;
        let now = *now;
        act(
            worker,
            &mut LoopContext { buffers, operations, starved, now, millis, notes_waits: false },
        );
    }

    /// Does what it has asked for; see [`act`](Self::act).
    pub(super) fn obey(&mut self) -> usize {
        let operations: Vec<_> = self.operations.drain().collect();
        let receive =
            |(_, operation): &&(Key, Operation)| matches!(operation, Operation::Receive { .. });
        let receives = operations.iter().filter(receive).count();
        operations.into_iter().for_each(|(key, operation)| self.start(key, operation));
        self.take_suspended();
        self.check();
        receives
    }

    pub(super) fn adopt(&mut self) {
        let socket: OwnedFd = File::open("/dev/null").unwrap().into();
        let (id, descriptor) = (self.service.opened(), Descriptor::of(&socket));
        self.came += 1;
        let listener = ListenerId { frontend: FrontendId(0), index: id as u16 };
        assert!(self.limit.admit());
        let accepted = Accepted::new(socket, listener, self.now);
        // The peer is there before the worker says under which key.
        self.peers.push(Peer {
            key: UNKNOWN,
            id,
            socket: descriptor,
            receive: None,
            receive_cancelled: false,
            send: None,
            given_up: false,
            shut: None,
            send_cancelled: false,
            fin: false,
            starved: false,
            delivered: Vec::new(),
            wire: Vec::new(),
        });
        let version = self.version;
        self.act(|worker, cx| worker.adopt(accepted, version, cx));
        assert_eq!(self.peers.iter().any(|peer| peer.id == id), !Chatter::panics_on(id));
    }

    pub(super) fn tick(&mut self) {
        let asked = self.act(super::super::tick);
        let waits = |peer: &Peer| peer.starved && !peer.in_flight();
        assert!(
            !self.peers.iter().any(waits) || asked >= self.pool.available(),
            "somebody waits for a buffer, and there are some"
        );
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.tick();
    }

    pub(super) fn drain(&mut self) {
        self.act(|worker, cx| worker.drain(None, Duration::ZERO, cx));
    }

    /// The peer under a key, which has to be a live one.
    #[track_caller]
    fn peer(&mut self, key: Key, socket: Option<Descriptor>) -> &mut Peer {
        let found = self.peers.iter_mut().find(|peer| {
            let is_new = peer.key == UNKNOWN && Some(peer.socket) == socket;
            peer.key == key || is_new
        });
        let peer = found.unwrap_or_else(|| panic!("{key:?} is no connection"));
        assert!(socket.is_none_or(|socket| socket == peer.socket), "another connection's socket");
        peer.key = key;
        peer
    }

    fn start(&mut self, key: Key, operation: Operation) {
        match operation {
            Operation::Receive { socket, shots } => {
                let credit = self.receive_credit;
                let peer = self.peer(key, Some(socket));
                assert!(peer.receive.is_none(), "two receives");
                assert!(!peer.fin && !peer.given_up && peer.shut != Some(Shutdown::Both));
                if let Shots::Many { credit_bytes } = shots {
                    assert!(credit && credit_bytes > 0);
                }
                peer.receive = Some(shots);
                peer.starved = false;
            }
            Operation::Send { socket, bytes, .. } => self.start_send(key, socket, bytes),
            Operation::SendAndClose { socket, bytes } => {
                let descriptor = Descriptor::of(&socket);
                assert!(!self.peer(key, Some(descriptor)).in_flight(), "a close with something");
                self.start_send(key, descriptor, bytes);
                self.peer(key, None).given_up = true;
            }
            Operation::Shutdown { socket, how } => {
                let peer = self.peer(key, Some(socket));
                assert!(!peer.given_up && peer.shut != Some(Shutdown::Both));
                assert!(how == Shutdown::Write || peer.in_flight(), "nothing to make end");
                peer.shut = Some(how);
            }
            Operation::Close { ref socket } | Operation::Reset { ref socket } => {
                // Brings no completion, so its key does not matter.
                let descriptor = Descriptor::of(socket);
                let is_reset = matches!(operation, Operation::Reset { .. });
                let is_its = |peer: &&Peer| peer.owns(descriptor);
                let peer = self.peers.iter().find(is_its).expect("it is open");
                assert!(!peer.in_flight(), "a close with something in flight");
                let id = peer.id;
                self.service.record(id).check_end(peer.wire.len(), is_reset);
                self.forget(id);
            }
            Operation::Cancel(kind @ (Kind::Send | Kind::Receive)) => {
                let peer = self.peer(key, None);
                let (is_there, cancelled) = match kind {
                    Kind::Send => (peer.send.is_some(), &mut peer.send_cancelled),
                    _ => (peer.receive.is_some(), &mut peer.receive_cancelled),
                };
                assert!(is_there && !std::mem::replace(cancelled, true));
            }
            other => panic!("a worker has no business with {other:?}"),
        }
    }

    fn start_send(&mut self, key: Key, socket: Descriptor, bytes: Bytes) {
        let content = self.content(bytes.clone());
        assert!((1..=SEND_LIMIT_BYTES).contains(&content.len()));
        let peer = self.peer(key, Some(socket));
        assert!(peer.send.is_none(), "two sends");
        assert!(peer.shut.is_none() && !peer.given_up);
        peer.send = Some(Sending { bytes, content });
    }

    fn content(&self, bytes: Bytes) -> Vec<u8> {
        bytes.copied(&self.pool)
    }

    /// The socket of a connection is closed.
    fn forget(&mut self, id: usize) {
        let index = self.peers.iter().position(|peer| peer.id == id).expect("it lives");
        let peer = self.peers.swap_remove(index);
        if peer.key != UNKNOWN {
            self.gone.push(peer.key);
        }
        let record = self.service.record(id);
        assert!(record.panicked || record.over.is_some(), "the service was not told");
        assert!(peer.delivered.starts_with(&record.input), "the service saw what nobody sent");
        assert!(record.output.starts_with(&peer.wire), "the peer got what nobody said");
        if let Some(CloseReason::PeerClosed | CloseReason::ServiceClosed) = record.over {
            assert_eq!(peer.wire.len(), record.output.len(), "an answer was lost");
        }
        if record.over == Some(CloseReason::PeerClosed) {
            assert_eq!(
                peer.delivered.len(),
                record.input.len(),
                "the service has missed something"
            );
        }
    }

    /// Completes something, if anything is in flight.
    pub(super) fn deliver(&mut self, choices: &mut Choices) {
        let busy: Vec<_> = (0..self.peers.len()).filter(|i| self.peers[*i].in_flight()).collect();
        if busy.is_empty() {
            return;
        }
        let index = busy[choices.below(busy.len())];
        let peer = &self.peers[index];
        if peer.receive.is_some() && (peer.send.is_none() || choices.below(3) > 0) {
            self.complete_receive(index, choices);
        } else {
            let breaks = peer.shut.is_some() || peer.send_cancelled;
            let fails = choices.one_in(if breaks { 2 } else { 16 });
            let part = peer.send_cancelled && !peer.given_up && !fails && choices.one_in(2);
            let part = part.then(|| choices.below(usize::from(u16::MAX)));
            self.complete_send(index, fails, part);
        }
    }

    fn complete_receive(&mut self, index: usize, choices: &mut Choices) {
        let peer = &self.peers[index];
        let outcome = choices.below(24);
        let is_shut = peer.shut == Some(Shutdown::Both);
        match outcome {
            21 => self.received(index, false, Err(Errno::ENOBUFS)),
            22 => self.received(index, false, Err(Errno::ECONNRESET)),
            23 => self.received(index, false, Ok(Received::End)),
            16..20 if peer.receive_cancelled => self.received(index, false, Err(Errno::ECANCELED)),
            // What had come before the shutdown is still there.
            3.. if is_shut => self.received(index, false, Ok(Received::End)),
            _ => self.complete_receive_with_bytes(index, choices),
        }
    }

    fn complete_receive_with_bytes(&mut self, index: usize, choices: &mut Choices) {
        let Some(mut buffer) = self.pool.take() else {
            return self.received(index, false, Err(Errno::ENOBUFS));
        };
        let first = choices.below(256) as u8;
        let longest = [8, self.pool.buffer_bytes()][choices.below(2)];
        let len = 1 + choices.below(longest);
        let peer = &mut self.peers[index];
        let mut bytes: Vec<u8> = (0..len).map(|i| (peer.delivered.len() + i) as u8).collect();
        bytes[0] = first;
        peer.delivered.extend_from_slice(&bytes);
        // The credit says when the last shot is due; a shot may be the last for other reasons too.
        let more = match &mut peer.receive {
            Some(Shots::Many { credit_bytes }) => {
                *credit_bytes = credit_bytes.saturating_sub(len as u32);
                *credit_bytes > 0 && !choices.one_in(6)
            }
            _ => false,
        };
        self.pool.write(&mut buffer, 0, &bytes);
        self.received(index, more, Ok(Received::Bytes { buffer, len }));
    }

    pub(super) fn received(&mut self, index: usize, more: bool, result: Result<Received, Errno>) {
        let peer = &mut self.peers[index];
        if !more {
            peer.receive = None;
            peer.receive_cancelled = false;
        }
        peer.fin |= result == Ok(Received::End);
        peer.starved = result == Err(Errno::ENOBUFS);
        let completion = Completion { key: peer.key, more, event: Event::Received(result) };
        self.act(|worker, cx| worker.complete(completion, cx));
    }

    /// Of a send that is cut short, so many bytes have gone, modulo its length, if any have.
    pub(super) fn complete_send(&mut self, index: usize, fails: bool, part: Option<usize>) {
        let peer = &mut self.peers[index];
        let sending = peer.send.take().expect("a send is in flight");
        let (key, id, given_up) = (peer.key, peer.id, peer.given_up);
        let cancelled = std::mem::take(&mut peer.send_cancelled);
        let errno = if cancelled { Errno::ECANCELED } else { Errno::EPIPE };
        assert_eq!(self.content(sending.bytes), sending.content, "written to while it was sent");
        let all = sending.content.len();
        let result = match part.map_or(all, |part| part % all) {
            0 => Err(errno),
            _ if fails => Err(errno),
            count => Ok(count),
        };
        self.peers[index].wire.extend_from_slice(&sending.content[..result.unwrap_or(0)]);
        let completion = Completion { key, more: false, event: Event::Sent(result) };
        if !given_up {
            self.act(|worker, cx| worker.complete(completion, cx));
            return;
        }
        self.tell(|worker, cx| worker.complete(completion, cx));
        assert!(self.operations.is_empty(), "its socket is closed");
        self.forget(id);
        self.check();
    }

    /// Something comes under a key whose connection is gone.
    pub(super) fn stale(&mut self, choices: &mut Choices) {
        if self.gone.is_empty() {
            return;
        }
        let key = self.gone[choices.below(self.gone.len())];
        let event = match (choices.below(3), self.pool.take()) {
            (0, Some(buffer)) => Event::Received(Ok(Received::Bytes { buffer, len: 1 })),
            (1, buffer) => {
                buffer.into_iter().for_each(|buffer| self.pool.recycle(buffer));
                Event::Sent(Err(Errno::EPIPE))
            }
            (_, buffer) => {
                buffer.into_iter().for_each(|buffer| self.pool.recycle(buffer));
                Event::Received(Ok(Received::End))
            }
        };
        let (open, free) = (self.worker.open(), self.pool.available());
        let carried = matches!(event, Event::Received(Ok(Received::Bytes { .. })));
        let completion = Completion { key, more: false, event };
        let receives = self.act(|worker, cx| worker.complete(completion, cx));
        assert_eq!((self.worker.open(), receives), (open, 0));
        assert_eq!(self.pool.available(), free + usize::from(carried));
    }

    /// What holds after every step.
    fn check(&mut self) {
        self.closed += self.worker.take_closed();
        let (here, left) = (self.peers.len(), self.left.len());
        assert_eq!((self.worker.open(), self.limit.open()), (here, here + left));
        assert_eq!(self.came, self.closed + here + left + self.moved);
        for peer in self.peers.iter().filter(|peer| !peer.in_flight()) {
            let waits = peer.starved || (peer.fin && Chatter::outlives_fin(peer.id));
            assert!(waits, "nothing will ever happen to {peer:?}");
        }
        // One that is being joined, or leaves, gives its buffers back at the end.
        let idle = |peer: &Peer| {
            let leaves = peer.shut == Some(Shutdown::Both) || peer.receive_cancelled;
            peer.send.is_none() && !leaves
        };
        if self.peers.iter().all(idle) {
            assert_eq!(self.pool.free(), self.pool.count(), "an idle connection holds no buffer");
        }
    }

    /// All peers take what is sent to them, and send their FIN.
    pub(super) fn peers_finish(&mut self) {
        self.tick();
        while let Some(index) = self.peers.iter().position(Peer::in_flight) {
            if self.peers[index].send.is_some() {
                self.complete_send(index, false, None);
            } else {
                self.received(index, false, Ok(Received::End));
            }
            self.tick();
        }
        let waits = |peer: &Peer| Chatter::outlives_fin(peer.id) && peer.fin;
        assert!(self.peers.iter().all(waits), "{:?}", self.peers);
        self.pass(3100);
    }

    /// The worker stops, and what is in flight ends.
    pub(super) fn stop(&mut self) {
        self.act(Worker::stop);
        while let Some(index) = self.peers.iter().position(Peer::in_flight) {
            if self.peers[index].receive.is_some() {
                self.received(index, false, Ok(Received::End));
            } else {
                self.complete_send(index, true, None);
            }
        }
    }

    /// No peer does anything any more: only deadlines end what is left.
    pub(super) fn peers_fall_silent(&mut self) {
        for _ in 0..100 {
            self.pass(100);
            let ends = |peer: &Peer| {
                let is_cancelled = peer.send_cancelled || peer.receive_cancelled;
                let is_shut = peer.shut == Some(Shutdown::Both) || is_cancelled;
                is_shut && peer.in_flight()
            };
            while let Some(index) = self.peers.iter().position(ends) {
                if self.peers[index].receive_cancelled {
                    self.received(index, false, Err(Errno::ECANCELED));
                } else if self.peers[index].receive.is_some() {
                    self.received(index, false, Ok(Received::End));
                } else {
                    self.complete_send(index, true, None);
                }
            }
        }
    }

    pub(super) fn nothing_left(&mut self) {
        self.check();
        assert!(self.peers.is_empty(), "{:?}", self.peers);
        assert_eq!(self.pool.free(), self.pool.count());
        assert_eq!(self.worker.next_tick(self.now, self.millis()), None);
        let ended: u64 = Counter::ALL
            .iter()
            .filter(|counter| counter.name().starts_with("closed_by_"))
            .map(|counter| self.metrics.get(*counter))
            .sum();
        assert_eq!(ended, self.closed as u64);
    }

    /// Connections that it was told of when they were new.
    pub(super) fn opened(&self) -> u64 {
        self.metrics.get(Counter::Opened)
    }
}
