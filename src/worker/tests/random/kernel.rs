//! The other side of the ring contract: takes operations, holds what is in flight, completes it in
//! any order and with any outcome that the contract allows.

use super::super::*;
use super::Choices;
use super::service::Chatter;
use crate::ring::Generation;

/// The key of a connection under which the worker has not asked for anything yet.
const UNKNOWN: Key = Key { slot: u32::MAX, generation: Generation::FIRST };

/// A send in flight, with the bytes as they were when it began.
#[derive(Debug)]
struct Sending {
    bytes: Bytes,
    content: Vec<u8>,
}

/// The kernel's end of a connection.
#[derive(Debug)]
struct Peer {
    key: Key,
    /// Its number, which is that of its session.
    id: usize,
    socket: Descriptor,
    receive: Option<Shots>,
    send: Option<Sending>,
    /// Given up with the last send.
    given_up: bool,
    shut: Option<Shutdown>,
    cancelled: bool,
    fin: bool,
    /// Its receive found no buffer and was not asked for again.
    starved: bool,
    delivered: Vec<u8>,
    wire: Vec<u8>,
}

impl Peer {
    fn in_flight(&self) -> bool {
        self.receive.is_some() || self.send.is_some()
    }
}

pub(super) struct Kernel {
    worker: Worker<Chatter>,
    version: VersionId,
    limit: Arc<ConnectionLimit>,
    starved: Starved,
    service: Arc<Chatter>,
    metrics: Arc<Block>,
    pool: BufferPool,
    operations: Operations,
    start: Instant,
    now: Instant,
    receive_credit: bool,
    peers: Vec<Peer>,
    gone: Vec<Key>,
    adopted: usize,
    closed: usize,
}

impl Kernel {
    pub(super) fn new(choices: &mut Choices) -> Self {
        let (buffer_bytes, budget_bytes) = [(64, 160), (4096, 10_000)][choices.below(2)];
        let receive_credit = !choices.one_in(4);
        let limits = ThreadLimits { capacity: 1000, receive_credit };
        let (service, metrics) = (Arc::<Chatter>::default(), Arc::<Block>::default());
        let settings = SessionSettings { budget_bytes, ..settings(Arc::clone(&service)) };
        let limit = Arc::clone(&settings.limit);
        let now = Instant::now();
        let mut worker = Worker::new(limits, Arc::clone(&metrics));
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
            adopted: 0,
            closed: 0,
        }
    }

    fn millis(&self) -> Millis {
        Millis::between(self.start, self.now)
    }

    /// Lets the worker do something, does what it asks for, and looks whether all is well.
    /// Returns the number of receives that it has asked for.
    fn act(&mut self, act: impl FnOnce(&mut Worker<Chatter>, &mut LoopContext<'_>)) -> usize {
        let millis = self.millis();
        let Self { pool: buffers, operations, starved, now, .. } = self;
        act(
            &mut self.worker,
            &mut LoopContext {
                buffers,
                operations,
                starved,
                now: *now,
                millis,
                notes_waits: false,
            },
        );
        let operations: Vec<_> = self.operations.drain().collect();
        let receive =
            |(_, operation): &&(Key, Operation)| matches!(operation, Operation::Receive { .. });
        let receives = operations.iter().filter(receive).count();
        operations.into_iter().for_each(|(key, operation)| self.start(key, operation));
        self.check();
        receives
    }

    pub(super) fn adopt(&mut self) {
        let socket: OwnedFd = File::open("/dev/null").unwrap().into();
        let (id, descriptor) = (self.adopted, Descriptor::of(&socket));
        self.adopted += 1;
        let listener = ListenerId { frontend: FrontendId(0), index: id as u16 };
        assert!(self.limit.admit());
        let accepted = Accepted { socket, listener, accepted_at: self.now };
        // The peer is there before the worker says under which key.
        self.peers.push(Peer {
            key: UNKNOWN,
            id,
            socket: descriptor,
            receive: None,
            send: None,
            given_up: false,
            shut: None,
            cancelled: false,
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
            Operation::Close { socket } => {
                // Brings no completion, so its key does not matter.
                let descriptor = Descriptor::of(&socket);
                let is_open = |peer: &&Peer| peer.socket == descriptor && !peer.given_up;
                let peer = self.peers.iter().find(is_open).expect("it is open");
                assert!(!peer.in_flight(), "a close with something in flight");
                let id = peer.id;
                self.forget(id);
            }
            Operation::Cancel(Kind::Send) => {
                let peer = self.peer(key, None);
                assert!(peer.send.is_some() && peer.given_up && !peer.cancelled);
                peer.cancelled = true;
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
        match bytes {
            Bytes::Static(bytes) => bytes.to_vec(),
            Bytes::Shared(part) => part.to_vec(),
            Bytes::Pool(range) => self.pool.range_bytes(range),
            Bytes::Pipe { .. } => panic!("a worker has no pipe"),
        }
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
            let fails = choices.one_in(if peer.shut.is_some() || peer.cancelled { 2 } else { 16 });
            self.complete_send(index, fails);
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

    fn received(&mut self, index: usize, more: bool, result: Result<Received, Errno>) {
        let peer = &mut self.peers[index];
        if !more {
            peer.receive = None;
        }
        peer.fin |= result == Ok(Received::End);
        peer.starved = result == Err(Errno::ENOBUFS);
        let completion = Completion { key: peer.key, more, event: Event::Received(result) };
        self.act(|worker, cx| worker.complete(completion, cx));
    }

    fn complete_send(&mut self, index: usize, fails: bool) {
        let peer = &mut self.peers[index];
        let sending = peer.send.take().expect("a send is in flight");
        let (key, id, given_up) = (peer.key, peer.id, peer.given_up);
        let errno = if peer.cancelled { Errno::ECANCELED } else { Errno::EPIPE };
        assert_eq!(self.content(sending.bytes), sending.content, "written to while it was sent");
        let result = if fails { Err(errno) } else { Ok(sending.content.len()) };
        if !fails {
            self.peers[index].wire.extend_from_slice(&sending.content);
        }
        let completion = Completion { key, more: false, event: Event::Sent(result) };
        if !given_up {
            self.act(|worker, cx| worker.complete(completion, cx));
            return;
        }
        let millis = self.millis();
        let Self { pool: buffers, operations, starved, now, .. } = self;
        let mut cx =
            LoopContext { buffers, operations, starved, now: *now, millis, notes_waits: false };
        self.worker.complete(completion, &mut cx);
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
        assert_eq!((self.worker.open(), self.limit.open()), (self.peers.len(), self.peers.len()));
        assert_eq!(self.adopted, self.closed + self.peers.len());
        for peer in self.peers.iter().filter(|peer| !peer.in_flight()) {
            let waits = peer.starved || (peer.fin && Chatter::outlives_fin(peer.id));
            assert!(waits, "nothing will ever happen to {peer:?}");
        }
        // One that is being joined gives its buffers back at the end.
        let idle = |peer: &Peer| peer.send.is_none() && peer.shut != Some(Shutdown::Both);
        if self.peers.iter().all(idle) {
            assert_eq!(self.pool.free(), self.pool.count(), "an idle connection holds no buffer");
        }
    }

    /// All peers take what is sent to them, and send their FIN.
    pub(super) fn peers_finish(&mut self) {
        self.tick();
        while let Some(index) = self.peers.iter().position(Peer::in_flight) {
            if self.peers[index].send.is_some() {
                self.complete_send(index, false);
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
                self.complete_send(index, true);
            }
        }
    }

    /// No peer does anything any more: only deadlines end what is left.
    pub(super) fn peers_fall_silent(&mut self) {
        for _ in 0..100 {
            self.pass(100);
            let ends = |peer: &Peer| {
                let is_shut = peer.shut == Some(Shutdown::Both) || peer.cancelled;
                is_shut && peer.in_flight()
            };
            while let Some(index) = self.peers.iter().position(ends) {
                if self.peers[index].receive.is_some() {
                    self.received(index, false, Ok(Received::End));
                } else {
                    self.complete_send(index, true);
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
        assert_eq!((ended, self.metrics.get(Counter::Opened)), (self.closed as u64, ended));
    }
}
