//! The state of a simulated kernel and network, and its agenda.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::Spliced;
use super::super::operation::{Descriptor, Kind, PipeEnds};
use super::super::pool::PoolRange;
use super::super::tag::Key;
use super::Faults;
use super::notice::Notice;
use super::remote::Behaviour;
use super::socket::{Role, Socket, SocketId, Stream};
use super::token::Token;
use crate::shared::SharedPart;
use crate::sys::Errno;

/// Index of a ring in its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RingId(pub(super) usize);

/// What is to happen at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// Look whether this operation can go on.
    Attempt(u64),
    /// A handshake sends its next segment; so many were lost before.
    Handshake(SocketId, u16, u8),
    /// The network breaks a connection.
    Break(SocketId),
    /// A wait returns for no reason.
    Spurious(usize),
    /// Whoever drives the world wants to be called.
    Call(u32),
}

/// What a send sends.
#[derive(Debug)]
pub(super) enum Payload {
    Static(&'static [u8]),
    Shared(SharedPart),
    /// As it was when the send began.
    Pool(PoolRange, Vec<u8>),
    /// The bytes of several parts, of which these lie in the pool.
    Gathered(Vec<(PoolRange, Vec<u8>)>, Vec<u8>),
    Pipe(PipeEnds, Vec<u8>),
    /// What the file had of it when the send began.
    File(Vec<u8>),
}

impl Payload {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(part) => part,
            Self::Pool(_, bytes) | Self::Gathered(_, bytes) => bytes,
            Self::Pipe(_, bytes) | Self::File(bytes) => bytes,
        }
    }
}

/// An operation that has not ended.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) ring: RingId,
    pub(super) key: Key,
    /// `None` for an open.
    pub(super) socket: Option<SocketId>,
    pub(super) what: What,
    pub(super) cancelled: bool,
    /// Whether it stands on the agenda.
    pub(super) scheduled: bool,
}

impl InFlight {
    pub(super) fn is_send(&self) -> bool {
        self.what.kind() == Kind::Send
    }
}

/// What an operation in flight is.
#[derive(Debug)]
pub(super) enum What {
    Open,
    Connect,
    Accept { many: bool },
    Receive { many: bool, left: usize },
    Splice { pipe: PipeEnds, to: SocketId },
    Send { payload: Payload, sent: usize, close: bool },
}

impl What {
    /// Whether it is a receive into a buffer.
    pub(super) fn takes_buffer(&self) -> bool {
        matches!(self, Self::Receive { .. })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Open => Kind::Open,
            Self::Connect => Kind::Connect,
            Self::Accept { .. } => Kind::Accept,
            Self::Receive { .. } | Self::Splice { .. } => Kind::Receive,
            Self::Send { .. } => Kind::Send,
        }
    }
}

/// A completion whose buffer is still the kernel's.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) key: Key,
    pub(super) more: bool,
    pub(super) outcome: Outcome,
    pub(super) socket: Option<SocketId>,
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Outcome {
    Opened(Result<OwnedFd, Errno>),
    Connected(Result<(), Errno>),
    Accepted(Result<OwnedFd, Errno>),
    Received(Result<Option<(u16, Vec<u8>)>, Errno>),
    /// What has moved, and what is left in the pipe.
    Spliced(Result<(Spliced, Vec<u8>), Errno>, PipeEnds),
    Sent(Result<usize, Errno>, Payload),
}

/// The kernel's side of one ring.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    /// Buffers that lie with the kernel.
    pub(super) lent: Vec<u16>,
    pub(super) buffer_bytes: usize,
    pub(super) ready: VecDeque<Raw>,
    /// What is given back with the next reap.
    pub(super) released: Vec<(Key, OwnedFd)>,
    pub(super) capacity: usize,
    pub(super) woken: bool,
    pub(super) eventfd: File,
    pub(super) address: Descriptor,
    pub(super) in_flight: usize,
    pub(super) gone: bool,
    /// Something has come since it was last asked that is not the same failure again.
    pub(super) progress: bool,
}

impl Queue {
    /// Takes wakes from threads.
    pub(super) fn poll_eventfd(&mut self) -> bool {
        self.woken |= self.eventfd.read(&mut [0; 8]).is_ok();
        self.woken
    }
}

/// An entry of the agenda: when, a random number that orders what is due together, which came
/// first, what.
type Due = Reverse<(Duration, u32, u64, Happening)>;

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) start: Instant,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    agenda: BinaryHeap<Due>,
    sequence: u64,
    pub(super) operations_begun: u64,
    pub(super) sockets: Vec<Socket>,
    /// Only ever looked up, since numbers of descriptors differ from run to run.
    pub(super) tokens: HashMap<Descriptor, SocketId>,
    pub(super) rings: Vec<Queue>,
    pub(super) operations: BTreeMap<u64, InFlight>,
    pub(super) behaviours: BTreeMap<u16, Behaviour>,
    pub(super) next_port: u16,
    /// Whether somebody else runs the agenda, so that a ring only starts and reaps.
    pub(super) driven: bool,
    /// True when a socket that was dropped without an operation counts as closed.
    pub(super) drops_allowed: bool,
    /// True while what is dropped belongs to a process that has died.
    pub(super) crashing: bool,
    pub(super) trace: Option<String>,
    pub(super) violation: Option<String>,
    /// What has been told to whom and not been taken, if anybody wants to know.
    pub(super) notices: Option<Vec<(RingId, Notice)>>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: Duration::ZERO,
            start: Instant::now(),
            rng: Rng::with_seed(seed),
            faults,
            agenda: BinaryHeap::new(),
            sequence: 0,
            operations_begun: 0,
            sockets: Vec::new(),
            tokens: HashMap::new(),
            rings: Vec::new(),
            operations: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            next_port: 1,
            driven: false,
            drops_allowed: true,
            crashing: false,
            trace: None,
            violation: None,
            notices: None,
        }
    }

    /// Notes the first thing that must never happen.
    pub(super) fn violate(&mut self, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let text = text();
            self.note("", || format!("VIOLATION {text}"));
            self.violation = Some(text);
        }
    }

    /// Adds a line to the trace, if one is kept.
    pub(super) fn note(&mut self, who: &str, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let micros = self.now.as_nanos() as f64 / 1e3;
            trace.push_str(&format!("{micros:>14.3} us  {who:<11} {}\n", text()));
        }
    }

    pub(super) fn note_ring(&mut self, ring: RingId, text: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let name = self.rings[ring.0].name.clone();
            self.note(&name, text);
        }
    }

    pub(super) fn at(&mut self, when: Duration, what: Happening) {
        let tie = self.rng.u32(..);
        self.sequence += 1;
        self.agenda.push(Reverse((when.max(self.now), tie, self.sequence, what)));
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.agenda.peek().map(|Reverse((when, ..))| *when)
    }

    /// Runs the next entry of the agenda, moving time to it. Returns whom to call, if anyone.
    pub(super) fn run_next(&mut self) -> Option<u32> {
        let Reverse((when, _, _, what)) = self.agenda.pop()?;
        self.now = self.now.max(when);
        match what {
            Happening::Attempt(id) => self.attempt(id),
            Happening::Handshake(socket, port, lost) => self.handshake(socket, port, lost),
            Happening::Break(socket) => self.break_off(socket),
            Happening::Spurious(ring) => self.rings[ring].woken = true,
            Happening::Call(whom) => return Some(whom),
        }
        None
    }

    pub(super) fn add(&mut self, role: Role, token: Option<Token>) -> SocketId {
        let id = SocketId(self.sockets.len());
        if let Some(token) = &token {
            self.register(token.descriptor, id);
        }
        self.sockets.push(Socket::new(role, token));
        id
    }

    /// Gives out a descriptor for a socket that has none.
    pub(super) fn give_out(&mut self, id: SocketId) -> OwnedFd {
        let stream = self.sockets[id.0].stream();
        let addresses = stream.and_then(|stream| Some((stream.addresses?, stream.reset)));
        let (token, given) = match addresses {
            Some(((near, peer), reset)) => Token::between(near, (!reset).then_some(peer)),
            None => Token::new(),
        };
        self.register(token.descriptor, id);
        self.sockets[id.0].token = Some(token);
        given
    }

    /// A number that is given out again was closed before.
    pub(super) fn register(&mut self, descriptor: Descriptor, id: SocketId) {
        if let Some(old) = self.tokens.remove(&descriptor)
            && !self.has_others(old, descriptor)
        {
            self.dropped(old);
        }
        self.tokens.insert(descriptor, id);
    }

    /// The socket behind a descriptor that an operation names.
    pub(super) fn find(&mut self, ring: RingId, descriptor: Descriptor) -> Option<SocketId> {
        let found = self.tokens.get(&descriptor).copied();
        match found {
            Some(id) => self.claim(ring, id),
            None => {
                let name = self.rings[ring.0].name.clone();
                self.violate(|| format!("{name} names a descriptor that is not open"));
            }
        }
        found
    }

    /// The holder gives a descriptor up.
    pub(super) fn give_up(&mut self, descriptor: Descriptor) {
        let Some(id) = self.tokens.remove(&descriptor) else { return };
        if !self.has_others(id, descriptor) {
            self.sockets[id.0].token = None;
        }
    }

    /// Looks at every descriptor whether its holder has dropped it. Returns how many are held.
    pub(super) fn sweep(&mut self) -> usize {
        let mut held = 0;
        for index in 0..self.sockets.len() {
            match self.is_dropped(SocketId(index)) {
                Some(true) => self.dropped(SocketId(index)),
                Some(false) => held += 1,
                None => {}
            }
        }
        held
    }

    /// Whether a socket that somebody held has no descriptor any more.
    pub(super) fn is_dropped(&mut self, id: SocketId) -> Option<bool> {
        let socket = &mut self.sockets[id.0];
        let token = socket.token.as_mut()?;
        while token.is_dropped() {
            let Some(copy) = socket.copies.pop() else { return Some(true) };
            if self.tokens.get(&token.descriptor) == Some(&id) {
                self.tokens.remove(&token.descriptor);
            }
            token.is_now(copy);
        }
        Some(false)
    }

    /// A descriptor was closed behind the ring's back.
    pub(super) fn dropped(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id.0];
        if let Some(token) = socket.token.take() {
            self.tokens.remove(&token.descriptor);
        }
        for copy in std::mem::take(&mut socket.copies) {
            self.tokens.remove(&copy);
        }
        if self.crashing {
            return self.died(id);
        }
        let in_flight = self.sockets[id.0].in_flight.len();
        if in_flight > 0 {
            self.violate(|| format!("c{} was dropped with {in_flight} operations in flight", id.0));
        } else if !self.drops_allowed {
            self.violate(|| format!("c{} was dropped and not closed", id.0));
        }
        self.note("", || format!("c{} dropped", id.0));
        self.closed(id);
    }

    /// The near end of a socket is closed.
    pub(super) fn closed(&mut self, id: SocketId) {
        match &mut self.sockets[id.0].role {
            Role::Fresh => {}
            Role::Stream(_) => self.close_stream(id),
            Role::Listening(listening) => {
                listening.admitting = false;
                for waiting in std::mem::take(&mut listening.queue) {
                    self.note("", || format!("c{} reset in the accept queue", waiting.0));
                    self.break_off(waiting);
                }
            }
        }
    }

    fn close_stream(&mut self, id: SocketId) {
        let (now, loses) = (self.now, self.rng.bool());
        let Some(stream) = self.sockets[id.0].stream() else { return };
        stream.end_begins(now);
        stream.gives_up(now);
        stream.near_closed = true;
        if stream.incoming.bytes.is_empty() {
            stream.outgoing.fin = true;
        } else {
            // Closing over unread bytes sends a reset, which may overtake what was sent.
            stream.near_reset = true;
            if loses {
                stream.outgoing.bytes.clear();
            }
        }
        self.tell(id);
    }

    /// The network breaks a connection, or a peer resets it.
    pub(super) fn break_off(&mut self, id: SocketId) {
        let loses = self.rng.bool();
        let Some(stream) = self.sockets[id.0].stream() else { return };
        if stream.reset {
            return;
        }
        stream.reset = true;
        stream.faulted = true;
        if loses {
            stream.incoming.bytes.clear();
        }
        if stream.stage == super::socket::Stage::Connecting {
            stream.stage = super::socket::Stage::Failed(Errno::ECONNRESET);
        }
        self.note("", || format!("c{} broken", id.0));
        self.kick(id);
        self.tell(id);
    }

    /// Something has changed that operations on a socket may wait for.
    pub(super) fn kick(&mut self, id: SocketId) {
        for index in 0..self.sockets[id.0].in_flight.len() {
            let operation = self.sockets[id.0].in_flight[index];
            self.schedule(operation);
        }
    }

    pub(super) fn schedule(&mut self, id: u64) {
        let delay = self.faults.delay(&mut self.rng);
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if !std::mem::replace(&mut operation.scheduled, true) {
            self.at(self.now + delay, Happening::Attempt(id));
        }
    }

    /// Tells whoever watches the remote end that something has changed.
    pub(super) fn tell(&mut self, id: SocketId) {
        let delay = self.faults.delay(&mut self.rng);
        if let Some(watcher) = self.sockets[id.0].stream().and_then(|stream| stream.watcher) {
            self.at(self.now + delay, Happening::Call(watcher));
        }
    }

    /// A ring has been told: from here on it counts for how long nothing has moved. What the peer
    /// sends is no excuse for taking nothing of what is sent to it.
    pub(super) fn told(&mut self, ring: RingId, raw: &Raw) {
        let Some(socket) = raw.socket else { return };
        self.give_notice(ring, (socket, raw));
        let own = |other: &&Raw| other.socket == Some(socket);
        let mut ready = self.rings[ring.0].ready.iter().filter(own);
        let unknown = ready.any(|other| matches!(other.outcome, Outcome::Sent(..)));
        let mut in_flight = self.sockets[socket.0].in_flight.iter();
        let sending = in_flight.any(|id| self.operations.get(id).is_some_and(InFlight::is_send));
        let counts = match raw.outcome {
            Outcome::Received(Ok(_)) | Outcome::Spliced(Ok(_), _) => !sending && !unknown,
            Outcome::Sent(..) => true,
            _ => false,
        };
        let now = self.now;
        if counts && let Some(stream) = self.sockets[socket.0].stream() {
            stream.moved_at = now;
        }
    }

    pub(super) fn stream(&mut self, id: SocketId) -> &mut Stream {
        self.sockets[id.0].stream().expect("the socket is a stream")
    }
}
