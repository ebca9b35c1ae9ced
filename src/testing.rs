//! A service is tried without sockets: by the worker that would serve it, with clients that a test speaks for.
//!
//! What the worker does with a service is the same as in a server: it is asked in the same order, its answers are bounded
//! by the same limits, deadlines and timers run, on a clock that stands still until [`Harness::pass`]. Everything that can
//! happen has happened when a function returns. There is no thread, so a test is the same each time.
//!
//! ```
//! use uring_acceptor::service::Echo;
//! use uring_acceptor::testing::{Harness, split_everywhere};
//!
//! let mut harness = Harness::new(Echo);
//! let client = harness.connect();
//! harness.send(client, b"hello");
//! assert_eq!(harness.received(client), b"hello");
//! harness.finish(client);
//! assert!(harness.is_closed(client));
//!
//! assert_eq!(split_everywhere(|| Echo, b"hello"), b"hello");
//! ```

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::connection::{LoopContext, Millis, Starved, ThreadLimits, VersionId};
use crate::dispatch::{Accepted, ConnectionLimit, FrontendId, ListenerId, mail};
use crate::metrics::Block;
use crate::ring::{
    BufferPool, Bytes, Completion, Descriptor, Event, Key, Kind, Operation, Operations, Received,
    Shots,
};
use crate::service::{Mailbox, Service};
use crate::sys::Errno;
use crate::worker::{SessionSettings, Worker};

/// Buffers of a worker, and the size of each.
const BUFFERS: usize = 64;
const BUFFER_BYTES: usize = 4096;

/// Bytes that may wait for a client before it is no longer read from.
const BUDGET_BYTES: u32 = 64 * 1024;

/// A service that makes so many steps without anything coming from outside goes round in circles.
const STEPS_MAX: usize = 1_000_000;

/// A client of a [`Harness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(usize);

/// Workers that serve one service, and their clients; see the module.
pub struct Harness<S: Service> {
    workers: Vec<Thread<S>>,
    clients: Vec<Connection>,
    /// Where workers are told something, in the order of their indices.
    mailboxes: Vec<Mailbox<S::Message>>,
    start: Instant,
    now: Instant,
}

struct Thread<S: Service> {
    worker: Worker<S>,
    version: VersionId,
    limit: Arc<ConnectionLimit>,
    pool: BufferPool,
    starved: Starved,
    operations: Operations,
}

/// A client, and the kernel's end of its connection.
struct Connection {
    worker: usize,
    key: Option<Key>,
    socket: Descriptor,
    receive: Option<Shots>,
    send: Option<Bytes>,
    gives_up: bool,
    shut: Option<Shutdown>,
    send_cancelled: bool,
    receive_cancelled: bool,
    is_closed: bool,
    was_reset: bool,
    is_reset: bool,
    /// Whether it takes what is sent to it.
    reads: bool,
    unread: Vec<u8>,
    finished: bool,
    has_ended: bool,
    received: Vec<u8>,
}

impl<S: Service> Harness<S> {
    /// One worker.
    pub fn new(service: S) -> Self {
        Self::with_workers(service, 1)
    }

    /// So many workers.
    ///
    /// # Panics
    /// If there is no memory for their buffers.
    pub fn with_workers(service: S, workers: usize) -> Self {
        let service = Arc::new(service);
        let mails = mail(S::MESSAGES, (0..workers).map(|_| None));
        let mailboxes = mails.first().map_or_else(Vec::new, |mail| mail.workers().to_vec());
        let thread = |mail| {
            let limits = ThreadLimits { capacity: 0, receive_credit: true };
            let mut worker = Worker::new(limits, mail, Arc::new(Block::default()));
            let settings = settings(Arc::clone(&service));
            let limit = Arc::clone(&settings.limit);
            let version = worker.publish(Arc::new(settings)).expect("the first version has room");
            let pool = BufferPool::new(BUFFERS, BUFFER_BYTES).expect("there is memory");
            let (starved, operations) = (Starved::default(), Operations::default());
            Thread { worker, version, limit, pool, starved, operations }
        };
        let workers = mails.into_iter().map(thread).collect();
        let start = Instant::now();
        Self { workers, clients: Vec::new(), mailboxes, start, now: start }
    }

    /// Where the workers are told something, in the order of their indices.
    pub fn mailboxes(&self) -> &[Mailbox<S::Message>] {
        &self.mailboxes
    }

    /// What the sessions of a worker share, to look at it. The service makes it if nobody has needed it yet.
    ///
    /// # Panics
    /// If there is no worker of this index.
    pub fn local(&self, worker: usize) -> impl std::ops::Deref<Target = S::Local> + '_ {
        let Thread { worker, version, .. } = &self.workers[worker];
        worker.local(*version)
    }

    /// A client connects to the first worker.
    pub fn connect(&mut self) -> Client {
        self.connect_to(0)
    }

    /// A client connects to a worker.
    ///
    /// # Panics
    /// If there is none of this index, or no descriptor is left.
    pub fn connect_to(&mut self, worker: usize) -> Client {
        let socket: OwnedFd = File::open("/dev/null").expect("a descriptor is left").into();
        self.clients.push(Connection::new(worker, Descriptor::of(&socket)));
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        let accepted = Accepted::new(socket, listener, self.now);
        let Thread { limit, version, .. } = &self.workers[worker];
        assert!(limit.admit(), "the limit has no end");
        let version = *version;
        self.tell(worker, |worker, cx| worker.adopt(accepted, version, cx));
        self.settle();
        Client(self.clients.len() - 1)
    }

    /// A client sends something. What the service does not want yet waits.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.clients[client.0].unread.extend_from_slice(bytes);
        self.settle();
    }

    /// A client sends its FIN.
    pub fn finish(&mut self, client: Client) {
        self.clients[client.0].finished = true;
        self.settle();
    }

    /// A client resets its connection.
    pub fn reset(&mut self, client: Client) {
        self.clients[client.0].is_reset = true;
        self.settle();
    }

    /// What a client has been sent since it was last asked.
    pub fn received(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.clients[client.0].received)
    }

    /// A client takes nothing of what is sent to it any more, or does again.
    pub fn stall(&mut self, client: Client, stalls: bool) {
        self.clients[client.0].reads = !stalls;
        self.settle();
    }

    /// Whether the server has closed the connection of a client.
    pub fn is_closed(&self, client: Client) -> bool {
        self.clients[client.0].is_closed
    }

    /// Whether it was closed with a reset: the client was not sent all of an answer.
    pub fn was_reset(&self, client: Client) -> bool {
        self.clients[client.0].was_reset
    }

    /// What a client has sent and the service has not been given.
    pub fn unread(&self, client: Client) -> &[u8] {
        &self.clients[client.0].unread
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        // One moment after the other, as in a server.
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            self.now = next;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// The server begins to drain.
    pub fn drain(&mut self) {
        for worker in 0..self.workers.len() {
            self.tell(worker, |worker, cx| worker.drain(None, Duration::ZERO, cx));
        }
        self.settle();
    }

    fn next_moment(&self) -> Option<Instant> {
        let millis = Millis::between(self.start, self.now);
        let waits = self.workers.iter().filter_map(|it| it.worker.next_tick(self.now, millis));
        waits.min().map(|wait| self.now + wait.max(Duration::from_millis(1)))
    }

    /// Lets everything happen that can. To be called when another thread has told a session something.
    ///
    /// # Panics
    /// If that has no end.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let mut is_quiet = true;
            for worker in 0..self.workers.len() {
                self.tell(worker, |worker, cx| {
                    worker.tick(cx);
                    cx.feed(|key, cx| worker.ask_again(key, cx));
                });
            }
            for client in 0..self.clients.len() {
                is_quiet &= !self.step(client);
            }
            // Each may have told one before it something.
            if is_quiet && !self.workers.iter().any(|it| it.worker.has_mail()) {
                return;
            }
        }
        panic!("the service goes round in circles: {STEPS_MAX} steps, and no end");
    }

    /// Lets a worker do something, and does what it asks for.
    fn tell(&mut self, index: usize, act: impl FnOnce(&mut Worker<S>, &mut LoopContext<'_>)) {
        let (now, millis) = (self.now, Millis::between(self.start, self.now));
        let Thread { worker, pool, starved, operations, .. } = &mut self.workers[index];
        let (buffers, notes_waits) = (pool, false);
        act(worker, &mut LoopContext { buffers, operations, starved, now, millis, notes_waits });
        let asked: Vec<_> = self.workers[index].operations.drain().collect();
        asked.into_iter().for_each(|(key, operation)| self.start((index, key), operation));
    }

    fn start(&mut self, of: (usize, Key), operation: Operation) {
        match operation {
            Operation::Receive { socket, shots } => {
                self.client(of, Some(socket)).receive = Some(shots);
            }
            Operation::Send { socket, bytes, .. } => {
                self.client(of, Some(socket)).send = Some(bytes);
            }
            Operation::SendAndClose { socket, bytes } => {
                let client = self.client(of, Some(Descriptor::of(&socket)));
                (client.send, client.gives_up) = (Some(bytes), true);
            }
            Operation::Shutdown { socket, how } => {
                self.client(of, Some(socket)).shut = Some(how);
            }
            Operation::Close { socket } => {
                self.client(of, Some(Descriptor::of(&socket))).is_closed = true;
            }
            Operation::Reset { socket } => {
                let client = self.client(of, Some(Descriptor::of(&socket)));
                (client.is_closed, client.was_reset) = (true, true);
            }
            Operation::Cancel(Kind::Send) => self.client(of, None).send_cancelled = true,
            Operation::Cancel(Kind::Receive) => self.client(of, None).receive_cancelled = true,
            // A worker has nothing else in flight.
            _ => {}
        }
    }

    /// The client of a connection. It is there before its worker says under which key.
    fn client(
        &mut self,
        (worker, key): (usize, Key),
        socket: Option<Descriptor>,
    ) -> &mut Connection {
        let is_its = |client: &&mut Connection| {
            client.worker == worker
                && !client.is_closed
                && (client.key == Some(key)
                    || client.key.is_none() && Some(client.socket) == socket)
        };
        let client = self.clients.iter_mut().find(is_its).expect("the connection is open");
        client.key = Some(key);
        client
    }

    /// Completes something on a connection. False if there is nothing.
    fn step(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        let (worker, Some(key)) = (client.worker, client.key) else { return false };
        let pool = &mut self.workers[worker].pool;
        let Some((event, more)) = client.send(pool).or_else(|| client.receive(pool)) else {
            return false;
        };
        if client.gives_up && client.send.is_none() {
            client.is_closed = true;
        }
        let completion = Completion { key, more, event };
        self.tell(worker, |worker, cx| worker.complete(completion, cx));
        true
    }
}

impl Connection {
    fn new(worker: usize, socket: Descriptor) -> Self {
        Self {
            worker,
            key: None,
            socket,
            receive: None,
            send: None,
            gives_up: false,
            shut: None,
            send_cancelled: false,
            receive_cancelled: false,
            is_closed: false,
            was_reset: false,
            is_reset: false,
            reads: true,
            unread: Vec::new(),
            finished: false,
            has_ended: false,
            received: Vec::new(),
        }
    }

    /// The send in flight, once it has ended.
    fn send(&mut self, pool: &BufferPool) -> Option<(Event, bool)> {
        let is_over = self.is_reset || self.shut == Some(Shutdown::Both);
        if !self.reads && !is_over && !self.send_cancelled {
            return None;
        }
        let bytes = self.send.take()?;
        if std::mem::take(&mut self.send_cancelled) {
            return Some((Event::Sent(Err(Errno::ECANCELED)), false));
        }
        if is_over {
            return Some((Event::Sent(Err(Errno::EPIPE)), false));
        }
        let before = self.received.len();
        match bytes {
            Bytes::File(part) => match part.read() {
                Ok(bytes) if bytes.is_empty() => {
                    return Some((Event::Sent(Err(Errno::ENODATA)), false));
                }
                Ok(bytes) => self.received.extend_from_slice(&bytes),
                Err(error) => return Some((Event::Sent(Err(Errno::of(&error))), false)),
            },
            bytes => self.received.extend(bytes.copied(pool)),
        }
        Some((Event::Sent(Ok(self.received.len() - before)), false))
    }

    /// What the receive in flight brings.
    fn receive(&mut self, pool: &mut BufferPool) -> Option<(Event, bool)> {
        let shots = self.receive?;
        if std::mem::take(&mut self.receive_cancelled) {
            self.receive = None;
            return Some((Event::Received(Err(Errno::ECANCELED)), false));
        }
        if self.is_reset {
            self.receive = None;
            return Some((Event::Received(Err(Errno::ECONNRESET)), false));
        }
        if self.shut == Some(Shutdown::Both) || self.unread.is_empty() && self.finished {
            self.receive = None;
            self.has_ended = true;
            return Some((Event::Received(Ok(Received::End)), false));
        }
        if self.unread.is_empty() {
            return None;
        }
        let Some(mut buffer) = pool.take() else {
            self.receive = None;
            return Some((Event::Received(Err(Errno::ENOBUFS)), false));
        };
        let most = match shots {
            Shots::Many { credit_bytes } => BUFFER_BYTES.min(credit_bytes as usize),
            Shots::Once => BUFFER_BYTES,
        };
        let len = self.unread.len().min(most);
        pool.write(&mut buffer, 0, &self.unread[..len]);
        self.unread.drain(..len);
        self.receive = match shots {
            Shots::Many { credit_bytes } if credit_bytes as usize > len => {
                Some(Shots::Many { credit_bytes: credit_bytes - len as u32 })
            }
            _ => None,
        };
        Some((Event::Received(Ok(Received::Bytes { buffer, len })), self.receive.is_some()))
    }
}

/// What the sessions go by: what they would by default.
fn settings<S: Service>(service: Arc<S>) -> SessionSettings<S> {
    SessionSettings {
        service,
        budget_bytes: BUDGET_BYTES,
        timeouts: Timeouts::default().sessions(),
        frontend: FrontendId(0),
        patience: None,
        trusted: Vec::new(),
        limit: Arc::new(ConnectionLimit::new(usize::MAX)),
        admission: Arc::default(),
        times: Arc::default(),
        log: None,
    }
}

/// Sends `input` to a service in one piece, then in two pieces split at each of its positions, then byte by byte, each time
/// to a new service of `make`, with the FIN behind it. Returns the answer.
///
/// # Panics
/// If an answer is another one than that to the whole; the message says where the input was split.
pub fn split_everywhere<S: Service>(make: impl Fn() -> S, input: &[u8]) -> Vec<u8> {
    let answer = |parts: &mut dyn Iterator<Item = &[u8]>| {
        let mut harness = Harness::new(make());
        let client = harness.connect();
        parts.for_each(|part| harness.send(client, part));
        harness.finish(client);
        harness.received(client)
    };
    let whole = answer(&mut [input].into_iter());
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for place in 1..input.len() {
        let (head, tail) = input.split_at(place);
        let split = answer(&mut [head, tail].into_iter());
        assert!(
            split == whole,
            "split at {place}, behind {:?}, the answer is {:?}, but {:?} to the whole",
            shown(head),
            shown(&split),
            shown(&whole)
        );
    }
    let bytes = answer(&mut input.chunks(1));
    assert!(
        bytes == whole,
        "byte by byte the answer is {:?}, but {:?} to the whole",
        shown(&bytes),
        shown(&whole)
    );
    whole
}
