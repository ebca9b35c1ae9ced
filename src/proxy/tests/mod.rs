//! The proxy by hand-written completions: no kernel, connections are descriptors of /dev/null.

mod backends;
mod deadlines;
mod ending;
mod forwarding;
mod listing;
mod moving;
mod preread;
mod pressed;
mod sources;
mod splicing;
mod streaming;
mod suspending;
mod thread;

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use super::*;
use crate::config::upstream::{PassiveHealth, UpstreamConfig};
use crate::connection::Starved;
use crate::dispatch::{ListenerId, Pressed};
use crate::ring::{BufferPool, Bytes, Operations, Shots, Spliced};
use crate::sys::Errno;

const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 4096;
const BUDGET_BYTES: u32 = 10_000;

/// What a proxy has asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    Open,
    Connect(String),
    Receive(Shots),
    Splice,
    Send(Vec<u8>),
    SendPiped {
        len: u32,
        more: bool,
    },
    /// The last bytes, held back for the FIN.
    SendLast(Vec<u8>),
    Shutdown(Shutdown),
    Close,
    Reset,
    Cancel(Kind),
}

use Asked::{Close, Open, Receive, Reset, Send, SendLast};
use End::{Backend, Client};

const ONCE: Asked = Receive(Shots::Once);

fn many(credit_bytes: u32) -> Asked {
    Receive(Shots::Many { credit_bytes })
}

/// As much as one end may bring while nothing waits for the other.
fn all() -> Asked {
    many(BUDGET_BYTES)
}

fn shut(how: Shutdown) -> Asked {
    Asked::Shutdown(how)
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

const LIMITS: ThreadLimits = ThreadLimits { capacity: 16, receive_credit: true };
const NO_PIPES: Splicing = Splicing { pipes: 0, patience: 2 };

fn settings() -> ProxySettings {
    ProxySettings {
        budget_bytes: BUDGET_BYTES,
        nodelay: false,
        retries: 1,
        splice: true,
        queue: 2,
        preread: PrereadRules::default(),
        upstreams: Vec::new(),
        log: None,
        frontend: FrontendId(0),
        limit: Arc::new(ConnectionLimit::new(usize::MAX)),
        admission: Arc::default(),
        times: Arc::default(),
        patience: None,
        timeouts: ProxyTimeouts {
            preread: Duration::from_millis(1000),
            connect: Duration::from_millis(2000),
            queue: Duration::from_millis(3000),
            idle: Duration::from_millis(5000),
            write_stall: Duration::from_millis(6000),
            half_closed: Duration::from_millis(4000),
            lifetime: None,
        },
    }
}

/// Two backends, the first of which is picked first; none is ever ejected.
fn upstream(change: impl FnOnce(&mut UpstreamConfig)) -> Arc<Upstream> {
    let backends = ["127.0.0.1:1", "127.0.0.1:2"].map(|backend| backend.parse().unwrap());
    let mut config = UpstreamConfig::new(backends.into());
    config.passive = PassiveHealth { failures: None, ..PassiveHealth::default() };
    change(&mut config);
    let resolve = Box::new(|_: &str, _: u16| unreachable!("an address is no name"));
    Upstream::without_threads(config, resolve).unwrap()
}

/// A proxy with what it works on.
struct Bench {
    proxy: Proxy,
    /// Of pairs to come.
    version: VersionId,
    limit: Arc<ConnectionLimit>,
    pool: BufferPool,
    starved: Starved,
    metrics: Arc<Block>,
    start: Instant,
    now: Instant,
    adopted: usize,
    /// Whether somebody looks at waits.
    notes_waits: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(settings(), vec![upstream(|_| {})], PrereadRules::default())
    }

    fn with(settings: ProxySettings, upstreams: Vec<Arc<Upstream>>, preread: PrereadRules) -> Self {
        let settings = ProxySettings { upstreams, preread, ..settings };
        Self::on_thread(settings, LIMITS, NO_PIPES)
    }

    fn on_thread(settings: ProxySettings, limits: ThreadLimits, splicing: Splicing) -> Self {
        let metrics = Arc::new(Block::default());
        let now = Instant::now();
        let limit = Arc::clone(&settings.limit);
        let mut proxy = Proxy::new(limits, splicing, Arc::clone(&metrics), now);
        Self {
            version: proxy.publish(Arc::new(settings)).unwrap(),
            proxy,
            limit,
            starved: Starved::default(),
            pool: BufferPool::new(BUFFERS, BUFFER_BYTES).unwrap(),
            metrics,
            start: now,
            now,
            adopted: 0,
            notes_waits: false,
        }
    }

    fn millis(&self) -> Millis {
        Millis::between(self.start, self.now)
    }

    /// Lets the proxy do something, ends the turn, and returns what it asks for; a socket that is
    /// given up asks under no key of a pair and is reported for both ends alike.
    fn act(
        &mut self,
        act: impl FnOnce(&mut Proxy, &mut LoopContext<'_>),
    ) -> Vec<(Key, End, Asked)> {
        let mut operations = Operations::default();
        let (now, millis) = (self.now, self.millis());
        let (buffers, starved, notes_waits) = (&mut self.pool, &mut self.starved, self.notes_waits);
        let mut cx =
            LoopContext { buffers, operations: &mut operations, starved, now, millis, notes_waits };
        act(&mut self.proxy, &mut cx);
        self.proxy.tick(&mut cx);
        cx.feed(|key, cx| self.proxy.ask_again(key, cx));
        let asked = operations.drain().map(|(key, operation)| {
            let (key, end) = End::of(key);
            (key, end, self.asked(operation))
        });
        asked.collect()
    }

    fn asked(&self, operation: Operation) -> Asked {
        match operation {
            Operation::Open { .. } => Open,
            Operation::Connect { address, .. } => {
                Asked::Connect(address.as_socket().unwrap().to_string())
            }
            Operation::Receive { shots, .. } => Receive(shots),
            Operation::Splice { .. } => Asked::Splice,
            Operation::Send { bytes: Bytes::Pipe { len, .. }, more, .. } => {
                Asked::SendPiped { len, more }
            }
            Operation::Send { bytes, more: false, .. } => Send(self.wire(bytes)),
            Operation::Send { bytes, more: true, .. } => SendLast(self.wire(bytes)),
            Operation::Shutdown { how, .. } => Asked::Shutdown(how),
            Operation::Close { .. } => Close,
            Operation::Reset { .. } => Reset,
            Operation::Cancel(kind) => Asked::Cancel(kind),
            other => panic!("a proxy has no business with {other:?}"),
        }
    }

    fn wire(&self, bytes: Bytes) -> Vec<u8> {
        bytes.copied(&self.pool)
    }

    fn adopt_socket(&mut self, socket: OwnedFd) -> Vec<(Key, End, Asked)> {
        self.adopt_pressed(socket, Pressed::default())
    }

    fn adopt_pressed(&mut self, socket: OwnedFd, pressed: Pressed) -> Vec<(Key, End, Asked)> {
        self.adopted += 1;
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        let accepted = Accepted { pressed, ..Accepted::new(socket, listener, self.now) };
        assert!(self.limit.admit());
        let version = self.version;
        self.act(|proxy, cx| proxy.adopt(accepted, version, cx))
    }

    fn adopt(&mut self) -> Vec<(Key, End, Asked)> {
        self.adopt_socket(null())
    }

    /// A new pair: its client is read and a socket for its backend is asked for.
    #[track_caller]
    fn accept(&mut self) -> Key {
        let asked = self.adopt();
        let [(key, Backend, Open), (_, Client, ONCE)] = asked[..] else { panic!("{asked:?}") };
        key
    }

    /// A new pair whose backend is being connected to; returns that one's address.
    #[track_caller]
    fn dial(&mut self) -> (Key, String) {
        let key = self.accept();
        (key, self.opened(key))
    }

    /// A new pair that forwards.
    #[track_caller]
    fn pair(&mut self) -> Key {
        let (key, _) = self.dial();
        assert_eq!(self.on(key, Backend, Event::Connected(Ok(()))), [(Backend, all())]);
        key
    }

    /// The socket for the backend is there; returns the address that is connected to.
    #[track_caller]
    fn opened(&mut self, key: Key) -> String {
        let mut asked = self.on(key, Backend, Event::Opened(Ok(null())));
        match (asked.pop(), asked.pop()) {
            (Some((Backend, Asked::Connect(address))), None) => address,
            other => panic!("{other:?}"),
        }
    }

    /// Something is completed for the last time.
    fn on(&mut self, key: Key, end: End, event: Event) -> Vec<(End, Asked)> {
        self.all_of([(key, end, false, event)])
    }

    /// Several things are completed in one turn.
    fn all_of<const N: usize>(
        &mut self,
        events: [(Key, End, bool, Event); N],
    ) -> Vec<(End, Asked)> {
        let asked = self.act(|proxy, cx| {
            for (key, end, more, event) in events {
                let key = end.key(key);
                proxy.complete(Completion { key, more, event }, cx);
            }
        });
        asked.into_iter().map(|(_, end, asked)| (end, asked)).collect()
    }

    /// What a receive brings when these bytes have come.
    fn bytes(&mut self, bytes: &[u8]) -> Event {
        let mut buffer = self.pool.take().expect("the test leaves a buffer");
        self.pool.write(&mut buffer, 0, bytes);
        Event::Received(Ok(Received::Bytes { buffer, len: bytes.len() }))
    }

    /// Bytes come from an end, and its receive goes on.
    fn input(&mut self, key: Key, end: End, bytes: &[u8]) -> Vec<(End, Asked)> {
        let event = self.bytes(bytes);
        self.all_of([(key, end, true, event)])
    }

    /// Bytes come from an end, and its receive is over.
    fn last_input(&mut self, key: Key, end: End, bytes: &[u8]) -> Vec<(End, Asked)> {
        let event = self.bytes(bytes);
        self.on(key, end, event)
    }

    fn fin(&mut self, key: Key, end: End) -> Vec<(End, Asked)> {
        self.on(key, end, Event::Received(Ok(Received::End)))
    }

    /// Bytes have come into a pipe, and nothing of them has gone on.
    fn spliced(&mut self, key: Key, end: End, len: usize) -> Vec<(End, Asked)> {
        self.spliced_on(key, end, (len, Ok(0)))
    }

    /// Bytes have come into a pipe, and so many have gone on.
    fn spliced_on(
        &mut self,
        key: Key,
        end: End,
        (len, sent): (usize, Result<usize, Errno>),
    ) -> Vec<(End, Asked)> {
        self.on(key, end, Event::Spliced(Ok(Spliced { len, sent })))
    }

    fn receive_fails(&mut self, key: Key, end: End, errno: Errno) -> Vec<(End, Asked)> {
        self.on(key, end, Event::Received(Err(errno)))
    }

    fn sent(&mut self, key: Key, end: End, bytes: usize) -> Vec<(End, Asked)> {
        self.on(key, end, Event::Sent(Ok(bytes)))
    }

    /// Time passes, then the proxy's turn.
    fn pass(&mut self, millis: u64) -> Vec<(End, Asked)> {
        self.now += Duration::from_millis(millis);
        self.act(|_, _| {}).into_iter().map(|(_, end, asked)| (end, asked)).collect()
    }

    fn count(&self, counter: Counter) -> u64 {
        self.metrics.get(counter)
    }

    /// No pair is left, every buffer is back, and each pair was counted once, under `counter`.
    #[track_caller]
    fn all_ended(&mut self, counter: Counter) {
        assert_eq!((self.proxy.open(), self.pool.free()), (0, BUFFERS));
        assert_eq!(self.proxy.take_closed(), self.adopted);
        assert_eq!(self.limit.open(), 0);
        assert_eq!(self.count(counter), self.adopted as u64, "{}", counter.name());
    }
}

/// The operations without their end: sockets that are given up are under no key.
fn operations(asked: Vec<(End, Asked)>) -> Vec<Asked> {
    asked.into_iter().map(|(_, asked)| asked).collect()
}
