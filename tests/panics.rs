//! Threads that only panic if what they say does: a subscriber that panics on them, for the whole process.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use uring_acceptor::config::upstream::{ActiveCheck, UpstreamConfig};
use uring_acceptor::config::{Config, Engine, ListenAddress, Protocol, ProxyConfig};
use uring_acceptor::server::{Server, ServerError};

/// Panics in threads that check endpoints, and in those that serve.
struct Trap;

impl Subscriber for Trap {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, _: &Event<'_>) {
        let thread = std::thread::current();
        let is_ours = |name: &str| name.starts_with("check-") || name.starts_with("worker-");
        assert!(!thread.name().is_some_and(is_ours), "on purpose");
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A proxy with these upstreams.
fn config(proxy: ProxyConfig, upstream: UpstreamConfig) -> Config {
    // The first of the process is as good as any other.
    let _ = tracing::subscriber::set_global_default(Trap);
    let mut config = Config::default();
    config.frontends[0].listen = vec!["127.0.0.1:0".parse().expect("it is an address")];
    config.frontends[0].protocol = Protocol::Proxy(Box::new(proxy));
    config.process.engine = Engine::Epoll;
    config.upstreams = vec![upstream];
    config
}

/// The thread whose panic has ended a server.
fn panicked(mut server: Server) -> String {
    match server.wait(Duration::from_secs(10)) {
        Some(Err(ServerError::Panicked { thread })) => thread,
        other => panic!("it ended with {other:?}"),
    }
}

#[test]
fn a_thread_that_serves_ends_the_server_by_its_panic() {
    let upstream = UpstreamConfig::new(vec!["127.0.0.1:1".parse().expect("it is an address")]);
    let mut config = config(ProxyConfig::new("default"), upstream);
    config.frontends[0].trusted = vec!["127.0.0.0/8".parse().expect("it is a network")];
    let server = Server::start(&config).expect("it runs");
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"no PROXY header\r\n").expect("it is read");
    assert!(panicked(server).starts_with("worker-"));
}

#[test]
fn a_health_checker_that_panics_ends_the_server() {
    // A port that was free a moment ago; so its check fails, and a line says so.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend = gone.local_addr().expect("it is bound").to_string();
    drop(gone);
    let mut upstream = UpstreamConfig::new(vec![backend.parse().expect("it is an address")]);
    upstream.active.check = ActiveCheck::Connect;
    upstream.active.interval = Duration::from_millis(10);
    let server = Server::start(&config(ProxyConfig::new("default"), upstream)).expect("it runs");
    assert_eq!(panicked(server), "check-0");
}
