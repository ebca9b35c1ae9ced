//! The worker by hand-written completions: no kernel, connections are descriptors of /dev/null.

mod close;
mod deadlines;
mod files;
mod linger;
mod listing;
mod panics;
mod phases;
mod preread;
mod pressed;
mod random;
mod receive;
mod send;
mod slow;
mod starve;
mod suspension;
mod told;
mod waiting;

use std::collections::HashMap;
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Instant;

use super::sending::SLOW;
use super::*;
use crate::config::RequestLimits;
use crate::connection::{FEED_INTERVAL, SEND_LIMIT_BYTES, Starved};
use crate::dispatch::{ListenerId, Pressed, mail};
use crate::ring::{BufferPool, Bytes, Descriptor, Kind, Operations, Shots};
use crate::service::{
    Action, ConnectionInfo, Input, Mailbox, NewMailbox, Pending, SendError, WorkerInfo,
};
use crate::sys::Errno;

const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 4096;
const BUDGET_BYTES: u32 = 10_000;

type Suspend = fn(usize) -> Option<Vec<u8>>;
type Resume = fn(&[u8]) -> Option<usize>;

/// A service that does what a test says.
struct Script {
    local: fn(&WorkerInfo<'_, u32>),
    open: fn(&ConnectionInfo<'_, u32>),
    data: fn(&Input<'_>, &mut Outbox) -> Action,
    half_closed: fn(&mut Outbox) -> Action,
    message: fn(u32, &mut Outbox) -> Action,
    writable: fn(&mut Outbox) -> Action,
    timeout: fn(&mut Outbox) -> Action,
    draining: fn(&mut Outbox) -> Action,
    pending: fn() -> Pending,
    overdue: fn(&mut Outbox),
    closed: fn(),
    suspend: Suspend,
    resume: Resume,
    has_mailboxes: bool,
    mailboxes: Mutex<Vec<Mailbox<u32>>>,
    undelivered: Mutex<Vec<u32>>,
    /// Which sessions were told that they are closed, and why.
    told: Mutex<Vec<(usize, CloseReason)>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            local: |_| {},
            open: |_| {},
            data: |input, outbox| {
                outbox.echo(0..input.bytes().len());
                Action::Continue
            },
            half_closed: |_| Action::Close,
            message: |message, outbox| {
                outbox.write(message.to_string().as_bytes());
                Action::Continue
            },
            writable: |_| Action::Continue,
            timeout: |outbox| {
                outbox.write(b"late");
                Action::Continue
            },
            draining: |_| Action::Await,
            pending: || Pending::Nothing,
            overdue: |_| {},
            closed: || {},
            suspend: |session| Some(vec![session as u8]),
            resume: |bytes| bytes.first().map(|session| usize::from(*session)),
            has_mailboxes: false,
            mailboxes: Mutex::default(),
            undelivered: Mutex::default(),
            told: Mutex::default(),
        }
    }
}

impl Service for Script {
    /// The number of the listener, which tells connections apart.
    type Session = usize;
    type Message = u32;
    /// What was told to nobody in particular, or could not be delivered.
    type Local = Vec<u32>;

    const MESSAGES: usize = 4;
    const UNSENT_BYTES: usize = 64 * 1024 * 1024;

    fn name(&self) -> &str {
        "script"
    }

    fn local(&self, worker: &WorkerInfo<'_, u32>) -> Vec<u32> {
        (self.local)(worker);
        Vec::new()
    }

    fn open(&self, _: &mut Vec<u32>, connection: &ConnectionInfo<'_, u32>) -> usize {
        (self.open)(connection);
        if self.has_mailboxes {
            self.mailboxes.lock().unwrap().push(connection.mailbox());
        }
        connection.listener()
    }

    fn data(
        &self,
        _: &mut usize,
        _: &mut Vec<u32>,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        (self.data)(input, outbox)
    }

    fn half_closed(&self, _: &mut usize, _: &mut Vec<u32>, outbox: &mut Outbox) -> Action {
        (self.half_closed)(outbox)
    }

    fn message(
        &self,
        _: &mut usize,
        _: &mut Vec<u32>,
        message: u32,
        outbox: &mut Outbox,
    ) -> Action {
        (self.message)(message, outbox)
    }

    fn local_message(&self, local: &mut Vec<u32>, message: u32) {
        local.push(message);
    }

    fn undelivered(&self, local: &mut Vec<u32>, message: u32) {
        local.push(message);
        self.undelivered.lock().unwrap().clone_from(local);
    }

    fn writable(&self, _: &mut usize, _: &mut Vec<u32>, outbox: &mut Outbox) -> Action {
        (self.writable)(outbox)
    }

    fn timeout(&self, _: &mut usize, _: &mut Vec<u32>, outbox: &mut Outbox) -> Action {
        (self.timeout)(outbox)
    }

    fn draining(&self, _: &mut usize, _: &mut Vec<u32>, outbox: &mut Outbox) -> Action {
        (self.draining)(outbox)
    }

    fn pending(&self, _: &usize) -> Pending {
        (self.pending)()
    }

    fn overdue(&self, _: &mut usize, _: &mut Vec<u32>, outbox: &mut Outbox) {
        (self.overdue)(outbox);
    }

    fn suspend(&self, session: &usize) -> Option<Vec<u8>> {
        (self.suspend)(*session)
    }

    fn resume(
        &self,
        bytes: &[u8],
        _: &mut Vec<u32>,
        mailbox: &NewMailbox<'_, u32>,
    ) -> Option<usize> {
        if self.has_mailboxes {
            self.mailboxes.lock().unwrap().push(mailbox.get());
        }
        (self.resume)(bytes)
    }

    fn closed(&self, session: usize, _: &mut Vec<u32>, reason: CloseReason) {
        (self.closed)();
        self.told.lock().unwrap().push((session, reason));
    }
}

/// What a worker has asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    Receive(Shots),
    Send(Vec<u8>),
    /// More follows at once.
    SendMore(Vec<u8>),
    SendAndClose(Vec<u8>),
    Shutdown(Shutdown),
    Close,
    Reset,
    CancelSend,
    CancelReceive,
}

use Asked::{CancelReceive, CancelSend, Close, Receive, Send, SendAndClose, SendMore};

const ONCE: Asked = Receive(Shots::Once);

fn many(credit_bytes: u32) -> Asked {
    Receive(Shots::Many { credit_bytes })
}

fn shut(how: Shutdown) -> Asked {
    Asked::Shutdown(how)
}

const LIMITS: ThreadLimits = ThreadLimits { capacity: 16, receive_credit: true };

fn settings<S: Service>(service: Arc<S>) -> SessionSettings<S> {
    SessionSettings {
        service,
        budget_bytes: BUDGET_BYTES,
        timeouts: SessionTimeouts {
            first_byte: Duration::from_millis(1000),
            idle: Duration::from_millis(3000),
            write_stall: Duration::from_millis(2000),
            linger: Duration::from_millis(500),
            requests: RequestLimits::OFF,
        },
        frontend: FrontendId(0),
        patience: None,
        trusted: Vec::new(),
        limit: Arc::new(ConnectionLimit::new(usize::MAX)),
        admission: Arc::default(),
        times: Arc::default(),
        log: None,
    }
}

/// What a thread does after the completions of a turn.
fn tick<S: Service>(worker: &mut Worker<S>, cx: &mut LoopContext<'_>) {
    worker.tick(cx);
    cx.feed(|key, cx| worker.ask_again(key, cx));
}

/// A worker with what it works on.
struct Bench {
    worker: Worker<Script>,
    /// Where what its sessions share is told something.
    local: Mailbox<u32>,
    /// Of connections to come.
    version: VersionId,
    script: Arc<Script>,
    limit: Arc<ConnectionLimit>,
    pool: BufferPool,
    starved: Starved,
    metrics: Arc<Block>,
    start: Instant,
    now: Instant,
    sockets: HashMap<Key, Descriptor>,
    adopted: u16,
    /// Whether somebody looks at waits.
    notes_waits: bool,
}

impl Bench {
    fn new(script: Script) -> Self {
        Self::with(script, LIMITS)
    }

    fn with(script: Script, limits: ThreadLimits) -> Self {
        let (script, metrics) = (Arc::new(script), Arc::new(Block::default()));
        let now = Instant::now();
        let settings = settings(Arc::clone(&script));
        let limit = Arc::clone(&settings.limit);
        let mail = mail(Script::MESSAGES, [None]).remove(0);
        let local = mail.workers()[0].clone();
        let mut worker = Worker::new(limits, mail, Arc::clone(&metrics));
        Self {
            version: worker.publish(Arc::new(settings)).unwrap(),
            worker,
            local,
            limit,
            starved: Starved::default(),
            script,
            pool: BufferPool::new(BUFFERS, BUFFER_BYTES).unwrap(),
            metrics,
            start: now,
            now,
            sockets: HashMap::new(),
            adopted: 0,
            notes_waits: false,
        }
    }

    fn millis(&self) -> Millis {
        Millis::between(self.start, self.now)
    }

    /// Lets the worker do something and returns what it asks for.
    fn act(
        &mut self,
        act: impl FnOnce(&mut Worker<Script>, &mut LoopContext<'_>),
    ) -> Vec<(Key, Asked)> {
        let mut operations = Operations::default();
        let (now, millis) = (self.now, self.millis());
        let (buffers, starved, notes_waits) = (&mut self.pool, &mut self.starved, self.notes_waits);
        let mut cx =
            LoopContext { buffers, operations: &mut operations, starved, now, millis, notes_waits };
        act(&mut self.worker, &mut cx);
        operations.drain().map(|(key, operation)| (key, self.asked(key, operation))).collect()
    }

    /// The same for something that concerns one connection only.
    #[track_caller]
    fn act_on(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Worker<Script>, &mut LoopContext<'_>),
    ) -> Vec<Asked> {
        let asked = self.act(act).into_iter();
        asked.inspect(|(other, _)| assert_eq!(*other, key)).map(|(_, asked)| asked).collect()
    }

    #[track_caller]
    fn asked(&mut self, key: Key, operation: Operation) -> Asked {
        let socket = match &operation {
            Operation::Receive { socket, .. }
            | Operation::Send { socket, .. }
            | Operation::Shutdown { socket, .. } => Some(*socket),
            Operation::SendAndClose { socket, .. }
            | Operation::Close { socket }
            | Operation::Reset { socket } => Some(Descriptor::of(socket)),
            _ => None,
        };
        if let Some(socket) = socket {
            let own = *self.sockets.entry(key).or_insert(socket);
            assert_eq!(own, socket, "another connection's socket");
        }
        match operation {
            Operation::Receive { shots, .. } => Receive(shots),
            Operation::Send { bytes, more: true, .. } => SendMore(self.wire(bytes)),
            Operation::Send { bytes, .. } => Send(self.wire(bytes)),
            Operation::SendAndClose { bytes, .. } => SendAndClose(self.wire(bytes)),
            Operation::Shutdown { how, .. } => Asked::Shutdown(how),
            Operation::Close { .. } => Close,
            Operation::Reset { .. } => Asked::Reset,
            Operation::Cancel(Kind::Send) => CancelSend,
            Operation::Cancel(Kind::Receive) => CancelReceive,
            other => panic!("a worker has no business with {other:?}"),
        }
    }

    fn wire(&self, bytes: Bytes) -> Vec<u8> {
        bytes.copied(&self.pool)
    }

    fn adopt(&mut self) -> Vec<(Key, Asked)> {
        let socket = File::open("/dev/null").unwrap().into();
        self.adopt_socket(socket)
    }

    fn adopt_socket(&mut self, socket: OwnedFd) -> Vec<(Key, Asked)> {
        self.adopt_pressed(socket, Pressed::default())
    }

    fn adopt_pressed(&mut self, socket: OwnedFd, pressed: Pressed) -> Vec<(Key, Asked)> {
        let listener = ListenerId { frontend: FrontendId(0), index: self.adopted };
        self.adopted += 1;
        assert!(self.limit.admit());
        let accepted = Accepted { pressed, ..Accepted::new(socket, listener, self.now) };
        let version = self.version;
        self.act(|worker, cx| worker.adopt(accepted, version, cx))
    }

    /// A new connection with its first receive in flight.
    #[track_caller]
    fn connect(&mut self) -> Key {
        let asked = self.adopt();
        let [(key, ONCE)] = asked[..] else { panic!("{asked:?} is no single receive") };
        key
    }

    /// A new connection whose peer has sent `input`.
    fn connect_with(&mut self, input: &[u8]) -> (Key, Vec<Asked>) {
        let key = self.connect();
        let asked = self.input(key, false, input);
        (key, asked)
    }

    #[track_caller]
    fn complete(&mut self, key: Key, more: bool, event: Event) -> Vec<Asked> {
        self.act_on(key, |worker, cx| worker.complete(Completion { key, more, event }, cx))
    }

    /// Bytes come, in one buffer.
    #[track_caller]
    fn input(&mut self, key: Key, more: bool, bytes: &[u8]) -> Vec<Asked> {
        let mut buffer = self.pool.take().expect("the test leaves a buffer");
        self.pool.write(&mut buffer, 0, bytes);
        let received = Received::Bytes { buffer, len: bytes.len() };
        self.complete(key, more, Event::Received(Ok(received)))
    }

    /// The peer's FIN comes.
    #[track_caller]
    fn end(&mut self, key: Key) -> Vec<Asked> {
        self.complete(key, false, Event::Received(Ok(Received::End)))
    }

    #[track_caller]
    fn receive_fails(&mut self, key: Key, errno: Errno) -> Vec<Asked> {
        self.complete(key, false, Event::Received(Err(errno)))
    }

    #[track_caller]
    fn sent(&mut self, key: Key, bytes: usize) -> Vec<Asked> {
        self.complete(key, false, Event::Sent(Ok(bytes)))
    }

    #[track_caller]
    fn send_fails(&mut self, key: Key, errno: Errno) -> Vec<Asked> {
        self.complete(key, false, Event::Sent(Err(errno)))
    }

    fn drain(&mut self) -> Vec<(Key, Asked)> {
        self.act(|worker, cx| worker.drain(None, Duration::ZERO, cx))
    }

    fn tick(&mut self) -> Vec<(Key, Asked)> {
        self.act(tick)
    }

    /// Time passes, then the worker's tick.
    fn pass(&mut self, millis: u64) -> Vec<(Key, Asked)> {
        self.now += Duration::from_millis(millis);
        self.tick()
    }

    /// How long until there is something to do unasked.
    fn next_tick(&self) -> Option<Duration> {
        let own = self.worker.next_tick(self.now, self.millis()).into_iter();
        own.chain(self.starved.next().filter(|_| self.worker.open() > 0)).min()
    }

    fn told(&self) -> Vec<(usize, CloseReason)> {
        self.script.told.lock().unwrap().clone()
    }

    /// The first connection has ended for this reason, and nothing is left of it.
    #[track_caller]
    fn ended(&mut self, reason: CloseReason) {
        assert_eq!(self.told(), [(0, reason)]);
        self.nothing_left();
    }

    /// No connection is left, and every buffer is back.
    #[track_caller]
    fn nothing_left(&mut self) {
        assert_eq!((self.worker.open(), self.pool.free()), (0, BUFFERS));
        assert_eq!(self.worker.take_closed(), usize::from(self.adopted));
        assert_eq!(self.limit.open(), 0);
    }

    fn count(&self, counter: Counter) -> u64 {
        self.metrics.get(counter)
    }
}
