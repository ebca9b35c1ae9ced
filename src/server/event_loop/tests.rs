//! A loop whose listeners are not what they should be.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::*;
use crate::config::{DispatchPolicy, Timeouts};
use crate::dispatch::{Parker, inbox};
use crate::ring::epoll::Epoll;
use crate::ring::{Key, RingAddress, Sizes, Waker};
use crate::server::sockets::Sockets;
use crate::service::Echo;
use crate::sys::Errno;
use crate::worker::{SessionSettings, Worker};

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A listener that never empties, or one that does.
struct Queue {
    socket: OwnedFd,
    address: ListenAddress,
    is_empty: bool,
}

impl Queue {
    fn new(is_empty: bool) -> Arc<Self> {
        Arc::new(Self { socket: null(), address: ListenAddress::default(), is_empty })
    }
}

impl ListeningSocket for Queue {
    fn address(&self) -> &ListenAddress {
        &self.address
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.socket)
    }

    fn queue_limit(&self) -> usize {
        1
    }

    fn stop_admitting(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.is_empty
    }
}

fn event_loop(listeners: Vec<Arc<Queue>>) -> EventLoop<Epoll, Worker<Echo>, Queue> {
    let sizes =
        Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };
    let ring = Epoll::new(&sizes).unwrap();
    let parker = Parker::new(RingAddress::new(Arc::new(null())), Waker::new(Arc::new(null())));
    let (sender, inbox) = inbox(1, Arc::new(parker));
    let settings = SessionSettings {
        capacity: 1,
        budget_bytes: 1024,
        timeouts: Timeouts::default().sessions(),
        receive_credit: false,
    };
    let metrics: Arc<Block> = Arc::default();
    let each = listeners.len();
    let connections = Worker::new(Arc::new(Echo), settings, Arc::clone(&metrics), Instant::now());
    let numbered = listeners.into_iter().enumerate();
    let parts = Parts {
        listeners: numbered.map(|(index, socket)| (ListenerId(index as u16), socket)).collect(),
        dispatcher: Dispatcher::new(vec![sender], DispatchPolicy::RoundRobin, None),
        connections,
        inbox,
        metrics,
    };
    let sockets = Sockets::new(vec![1; each]);
    let shared = Shared {
        lifecycle: Arc::new(Lifecycle::new(Duration::ZERO, 1, sockets)),
        connection_limit: Arc::new(ConnectionLimit::new(1)),
        queues: each,
    };
    EventLoop::new(ring, parts, shared)
}

/// Nobody accepts from its queue any more, so a drain must not wait for it.
#[test]
fn a_drain_asks_only_the_listeners_that_are_not_broken() {
    let mut event_loop = event_loop(vec![Queue::new(false), Queue::new(true)]);
    let now = Instant::now();
    event_loop.acceptor.turn(now, &mut event_loop.operations);
    assert!(!event_loop.sound().all(ListeningSocket::is_empty));
    let event = Event::Accepted(Err(Errno::EINVAL));
    event_loop.acceptor.complete(Completion { key: Key::fixed(0), more: false, event }, now);
    assert!(event_loop.sound().all(ListeningSocket::is_empty));
    assert_eq!(event_loop.sound().count(), 1);
    // Nothing of it is ever started: it must not reach the kernel.
    drop(event_loop.operations.drain());
}
