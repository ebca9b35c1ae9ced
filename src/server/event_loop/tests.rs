//! A loop whose listeners are not what they should be.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::listening::SETTLE;
use super::*;
use crate::config::{DispatchPolicy, ListenAddress};
use crate::connection::ThreadLimits;
use crate::dispatch::{CommandSender, Done, ListenerId, Mail, Parker, commands, inbox};
use crate::listener::{Pressure, QueueWaits};
use crate::metrics::Pauses;
use crate::proxy::Splicing;
use crate::ring::epoll::Epoll;
use crate::ring::{Descriptor, Key, RingAddress, Sizes, Waker};
use crate::server::command::Listening;
use crate::server::detail::LAPSE;
use crate::service::Echo;
use crate::sys::Errno;

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

    fn waits(&self) -> Arc<QueueWaits> {
        Arc::default()
    }

    fn pauses(&self) -> Arc<Pauses> {
        Arc::default()
    }

    fn pressure(&self) -> Arc<Pressure> {
        Arc::default()
    }

    fn stop_admitting(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_empty(&self) -> Option<bool> {
        Some(self.is_empty)
    }
}

type Loop = EventLoop<Epoll, Echo, Queue>;

fn event_loop(listeners: Vec<Arc<Queue>>) -> (Loop, CommandSender<Command<Echo, Queue>>) {
    let sizes =
        Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };
    let ring = Epoll::new(&sizes).unwrap();
    let parker = Parker::new(RingAddress::new(Arc::new(null())), Waker::new(Arc::new(null())));
    let parker = Arc::new(parker);
    let (sender, inbox) = inbox(1, Arc::clone(&parker));
    let (commander, commands) = commands(parker);
    let metrics: Arc<Block> = Arc::default();
    let limits = ThreadLimits { capacity: 1, receive_credit: false };
    let splicing = Splicing::with_descriptors(0);
    let parts = Parts {
        accepts: true,
        dispatcher: Dispatcher::new(vec![sender], DispatchPolicy::RoundRobin, None),
        connections: Connections::new(limits, (splicing, Mail::none()), &metrics, Instant::now()),
        inbox,
        commands,
        metrics,
        cpu_time: || Some(Duration::ZERO),
    };
    let shared = Shared {
        lifecycle: Arc::new(Lifecycle::new(Duration::from_secs(60), 1)),
        connection_limit: Arc::new(ConnectionLimit::new(1)),
        queues: Arc::default(),
        refusals: Arc::default(),
    };
    let mut event_loop = EventLoop::new(ring, parts, shared);
    for (index, socket) in listeners.into_iter().enumerate() {
        let listening = listening(&event_loop, index, socket);
        event_loop.listen(listening, Instant::now());
    }
    (event_loop, commander)
}

fn listening(event_loop: &Loop, index: usize, socket: Arc<Queue>) -> Listening<Queue> {
    let listener = ListenerId { frontend: FrontendId(0), index: index as u16 };
    event_loop.shared.lifecycle.sockets().add(listener, 1);
    let limit = Arc::new(ConnectionLimit::new(usize::MAX));
    Listening::new(listener, socket, (limit, 1), Arc::default(), &Arc::default())
}

/// A server of many listeners that is told to drain as soon as it runs; nobody else would ever drain this one.
#[test]
fn a_listener_that_comes_during_a_drain_drains() {
    let (mut event_loop, commander) = event_loop(Vec::new());
    let now = Instant::now();
    let listening = listening(&event_loop, 0, Queue::new(true));
    assert!(commander.send(vec![Command::Listen(listening)], &Done::new(1)));
    event_loop.shared.lifecycle.enter(Phase::Draining, now);
    event_loop.follow_phase(now);
    // There is one to come, so this thread has not accepted its last connection.
    event_loop.accept(now);
    assert!(event_loop.accepts);
    event_loop.follow_commands(usize::MAX, now);
    assert_eq!(event_loop.listeners[0].drain_seen, Some(now));
    event_loop.accept(now + SETTLE);
    event_loop.accept(now + SETTLE);
    assert!(event_loop.listeners.is_empty() && !event_loop.accepts);
    drop(event_loop.operations.drain());
}

/// Each turn looks whether somebody does, and it lapses when nobody has for a while.
#[test]
fn waits_are_noted_while_somebody_looks() {
    let (mut event_loop, _commander) = event_loop(Vec::new());
    let mut notes = |look: Option<Instant>| {
        let waits = event_loop.shared.lifecycle.waits();
        look.map(|at| waits.look(at));
        event_loop.turn();
        event_loop.notes_waits
    };
    assert!(!notes(None));
    let now = Instant::now();
    assert!(notes(Some(now)));
    assert!(!notes(Some(now.checked_sub(2 * LAPSE).expect("the machine is up for longer"))));
}

/// Nobody accepts from its queue any more, so a drain must not wait for it.
#[test]
fn a_drain_asks_only_the_listeners_that_are_not_broken() {
    let (mut event_loop, _commander) = event_loop(vec![Queue::new(false), Queue::new(true)]);
    let now = Instant::now();
    event_loop.accept(now);
    let event = Event::Accepted(Err(Errno::EINVAL));
    event_loop.acceptor.complete(Completion { key: Key::fixed(0), more: false, event }, now);
    event_loop.stop_listening(None, now);
    event_loop.accept(now);
    assert_eq!(event_loop.listeners.len(), 2);
    event_loop.accept(now + SETTLE);
    // The broken one is gone; the other one's accept is being cancelled.
    assert_eq!(event_loop.listeners.len(), 1);
    assert!(
        event_loop.acceptor.is_done(Key::fixed(0)) && !event_loop.acceptor.is_done(Key::fixed(1))
    );
    // Nothing of it is ever started: it must not reach the kernel.
    drop(event_loop.operations.drain());
}
