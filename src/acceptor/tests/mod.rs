//! The acceptor by hand-written completions: no kernel, connections are descriptors of /dev/null.

mod admission;
mod banned;
mod errors;
mod limit;
mod pauses;
mod phases;
mod pressed;
mod random;
mod room;

use std::fs::File;
use std::time::Duration;

use super::*;
use crate::config::{DispatchPolicy, ListenAddress};
use crate::dispatch::{FrontendId, Inbox, InboxSender, ListenerId, Parker, inbox};
use crate::listener::Pressure;
use crate::metrics::Pauses;
use crate::ring::{Descriptor, Kind, Operation, RingAddress, Shots, Waker};
use crate::sources::Admission;

/// More than any test wants to be admitted.
const UNLIMITED: usize = 1000;

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn parker() -> Arc<Parker> {
    Arc::new(Parker::new(RingAddress::new(Arc::new(null())), Waker::new(Arc::new(null()))))
}

/// What an acceptor has asked for, with the slot of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Many(u32),
    Single(u32),
    Cancel(u32),
    Wake,
    Reset,
    Close,
}

/// What an acceptor is built from.
struct Setup {
    listeners: usize,
    backlog: usize,
    limit: usize,
    workers: usize,
    capacity: usize,
    admission: Arc<Admission>,
}

impl Default for Setup {
    fn default() -> Self {
        let admission = Arc::default();
        Self { listeners: 1, backlog: 4, limit: UNLIMITED, workers: 1, capacity: 100, admission }
    }
}

/// An acceptor with what it works on.
struct Bench {
    acceptor: Acceptor,
    connection_limit: Arc<ConnectionLimit>,
    inboxes: Vec<Inbox>,
    /// Where the load of each worker can be read.
    loads: Vec<InboxSender>,
    listeners: Vec<OwnedFd>,
    metrics: Arc<Block>,
    /// Of each listener.
    pauses: Vec<Arc<Pauses>>,
    pressures: Vec<Arc<Pressure>>,
    frontend_limits: Vec<Arc<ConnectionLimit>>,
    now: Instant,
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let Setup { listeners, backlog, limit, workers, capacity, admission } = setup;
        let (loads, inboxes): (Vec<_>, _) = (0..workers).map(|_| inbox(capacity, parker())).unzip();
        let dispatcher = Dispatcher::new(loads.clone(), DispatchPolicy::RoundRobin, None);
        let connection_limit = Arc::new(ConnectionLimit::new(limit));
        let metrics = Arc::new(Block::default());
        let listeners: Vec<_> = (0..listeners).map(|_| null()).collect();
        let pauses: Vec<Arc<Pauses>> = listeners.iter().map(|_| Arc::default()).collect();
        let pressures: Vec<Arc<Pressure>> = listeners.iter().map(|_| Arc::default()).collect();
        let unlimited = |_| Arc::new(ConnectionLimit::new(usize::MAX));
        let frontend_limits: Vec<_> = listeners.iter().map(unlimited).collect();
        let source = |(index, socket): (usize, &OwnedFd)| Source {
            socket: Descriptor::of(socket),
            listener: ListenerId { frontend: FrontendId(0), index: index as u16 },
            address: ListenAddress::default(),
            backlog,
            limit: Arc::clone(&frontend_limits[index]),
            admission: Arc::clone(&admission),
            queues: 1,
            waits: Arc::default(),
            pauses: Arc::clone(&pauses[index]),
            pressure: Arc::clone(&pressures[index]),
            peer: crate::sys::peer_address,
        };
        let (limit, block) = (Arc::clone(&connection_limit), Arc::clone(&metrics));
        let mut acceptor = Acceptor::new(Arc::default(), dispatcher, limit, block);
        listeners.iter().enumerate().map(source).for_each(|source| {
            acceptor.add(source);
        });
        let now = Instant::now();
        Self {
            acceptor,
            connection_limit,
            inboxes,
            loads,
            listeners,
            metrics,
            pauses,
            pressures,
            frontend_limits,
            now,
        }
    }

    /// One listener far from any limit, with its multishot accept armed.
    #[track_caller]
    fn armed() -> Self {
        let mut bench = Self::new(Setup::default());
        assert_eq!(bench.turn(), [Asked::Many(0)]);
        bench
    }

    #[track_caller]
    fn turn(&mut self) -> Vec<Asked> {
        let mut operations = Operations::default();
        self.acceptor.turn(self.now, &mut operations);
        operations.drain().map(|(key, operation)| self.asked(key, &operation)).collect()
    }

    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        (0..self.listeners.len() as u32).map(Key::fixed)
    }

    /// All listeners drain.
    fn drain(&mut self) {
        self.keys().for_each(|key| self.acceptor.drain(key));
    }

    /// All listeners are closed.
    fn close(&mut self) {
        self.keys().for_each(|key| self.acceptor.close(key));
    }

    /// Whether all listeners are done with.
    fn is_done(&mut self) -> bool {
        self.keys().all(|key| self.acceptor.is_done(key))
    }

    #[track_caller]
    fn asked(&self, key: Key, operation: &Operation) -> Asked {
        match operation {
            Operation::Accept { listener, shots } => {
                let expected = Descriptor::of(&self.listeners[key.slot as usize]);
                assert_eq!(*listener, expected, "another listener's socket");
                match shots {
                    Shots::Many { .. } => Asked::Many(key.slot),
                    Shots::Once => Asked::Single(key.slot),
                }
            }
            Operation::Cancel(Kind::Accept) => Asked::Cancel(key.slot),
            Operation::Wake { .. } => Asked::Wake,
            Operation::Reset { .. } => Asked::Reset,
            Operation::Close { .. } => Asked::Close,
            other => panic!("an acceptor has no business with {other:?}"),
        }
    }

    fn complete(&mut self, slot: u32, more: bool, result: Result<OwnedFd, Errno>) {
        let (key, event) = (Key::fixed(slot), Event::Accepted(result));
        self.acceptor.complete(Completion { key, more, event }, self.now);
    }

    /// A connection comes; returns what it is known by.
    fn connection(&mut self, slot: u32, more: bool) -> Descriptor {
        let socket = null();
        let descriptor = Descriptor::of(&socket);
        self.complete(slot, more, Ok(socket));
        descriptor
    }

    /// So many connections come; returns what they are known by.
    fn connections(&mut self, slot: u32, count: usize) -> Vec<Descriptor> {
        (0..count).map(|_| self.connection(slot, true)).collect()
    }

    /// The last completion of an accept is an error.
    fn error(&mut self, slot: u32, errno: Errno) {
        self.complete(slot, false, Err(errno));
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// What lies in the first worker's inbox.
    fn dispatched(&self) -> Vec<Accepted> {
        std::iter::from_fn(|| self.inboxes[0].take()).collect()
    }

    /// What lies in the first worker's inbox, by descriptor.
    fn descriptors(&self) -> Vec<Descriptor> {
        self.dispatched().iter().map(|accepted| Descriptor::of(&accepted.socket)).collect()
    }

    /// How long accepting on a listener stood still, in milliseconds, for each cause.
    fn paused(&self, slot: usize) -> [u128; PauseCause::ALL.len()] {
        PauseCause::ALL.map(|cause| self.pauses[slot].get(cause, self.now).as_millis())
    }

    fn count(&self, counter: Counter) -> u64 {
        self.metrics.get(counter)
    }
}

/// So many single accepts on a listener.
fn singles(slot: u32, count: usize) -> Vec<Asked> {
    vec![Asked::Single(slot); count]
}
