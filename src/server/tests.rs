//! Threads that panic end the server, and name themselves.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use super::event_loop::{Accepting, Drainable};
use super::work::{Place, Work};
use super::*;
use crate::acceptor::{Acceptor, Source};
use crate::config::upstream::UpstreamConfig;
use crate::config::{DispatchPolicy, Engine, Threads};
use crate::dispatch::{Dispatcher, ListenerId, inbox};
use crate::proxy::{AccessLog, LogForm};
use crate::ring::{Completion, Descriptor, Event, Key, Operations, RingAddress};
use crate::service::Echo;
use crate::sys::Errno;
use crate::worker::Worker;

/// One worker and one acceptor, on the engine that is everywhere.
fn config() -> Config {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let workers = Some(std::num::NonZeroUsize::MIN);
    let threads = Threads { workers, ..Config::default().threads };
    Config { listen, engine: Engine::Epoll, threads, ..Config::default() }
}

/// The thread whose panic has ended the server.
#[track_caller]
fn panicked(mut server: Server) -> String {
    match server.wait(Duration::from_secs(10)) {
        Some(Err(ServerError::Panicked { thread })) => thread,
        other => panic!("it ended with {other:?}"),
    }
}

struct Broken;

impl Work for Broken {
    type Serving = Worker<Echo>;

    fn serving(&self, _: Place<'_>) -> Worker<Echo> {
        panic!("on purpose");
    }
}

#[test]
fn a_thread_that_serves() {
    let server = start::start(&config(), Arc::new(Broken)).unwrap();
    assert_eq!(panicked(server), "worker-0");
}

#[test]
fn a_thread_of_the_program() {
    let server = Server::start(&config(), Echo).unwrap();
    let thread = server.handle().spawn("signals", || panic!("on purpose")).unwrap();
    thread.join().unwrap();
    assert_eq!(panicked(server), "signals");
}

#[test]
fn one_that_has_panicked_before_the_start() {
    let alarm = Alarm::default();
    alarm.watch("early", || panic!("on purpose"))();
    let server = Server::start(&config(), Echo).unwrap();
    server.handle().watch(&alarm);
    assert_eq!(panicked(server), "early");
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic!("on purpose");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_thread_that_writes_the_access_log() {
    let (sink, log) = AccessLog::new(LogForm::Json, "broken".into(), Box::new(Broken)).unwrap();
    // Nobody listens on port 1 of this machine's loopback network, or it does not matter.
    let upstream = UpstreamConfig::new(vec!["127.0.0.1:1".parse().unwrap()]);
    let proxy = ProxyConfig::new(upstream);
    let server = Server::start_proxy(&config(), &proxy, Some(sink)).unwrap();
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    drop(TcpStream::connect(address).unwrap());
    assert_eq!(panicked(server), "access-log");
    assert_eq!(log.finish(Duration::from_secs(10)), 1);
}

/// A listener that never empties, or one that does.
struct Door(ListenAddress, bool);

impl Drainable for Door {
    fn stop_admitting(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.1
    }

    fn address(&self) -> &ListenAddress {
        &self.0
    }
}

/// Nobody accepts from its queue any more, so a drain must not wait for it.
#[test]
fn a_drain_asks_only_the_listeners_that_are_not_broken() {
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let limit = Arc::new(ConnectionLimit::new(1));
    let source = |index| Source {
        socket: Descriptor::of(&null),
        listener: ListenerId(index),
        address: ListenAddress::default(),
        backlog: 1,
    };
    let ring = RingAddress::new(Arc::new(null.try_clone().unwrap()));
    let (sender, _inbox) = inbox(1, ring);
    let dispatcher = Dispatcher::new(vec![sender], DispatchPolicy::RoundRobin, None);
    let sources = [0, 1].map(source).to_vec();
    let mut acceptor = Acceptor::new(sources, 2, dispatcher, limit, Arc::default());
    let (now, mut operations) = (Instant::now(), Operations::default());
    acceptor.turn(now, &mut operations);
    let event = Event::Accepted(Err(Errno::EINVAL));
    acceptor.complete(Completion { key: Key::fixed(0), more: false, event }, now);
    let doors = [false, true].map(|is_empty| Arc::new(Door(ListenAddress::default(), is_empty)));
    let accepting = Accepting { acceptor, listeners: doors.to_vec(), index: 0 };
    assert!(accepting.sound().all(Drainable::is_empty));
    assert_eq!(accepting.sound().count(), 1);
}
