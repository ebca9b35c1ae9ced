//! Threads that only panic if what they say does: a subscriber that panics on them, for the whole process.

use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use uring_acceptor::config::upstream::{ActiveCheck, UpstreamConfig};
use uring_acceptor::config::{Config, Engine, Protocol, ProxyConfig};
use uring_acceptor::server::{Server, ServerError};

/// Panics in threads that check endpoints.
struct Trap;

impl Subscriber for Trap {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, _: &Event<'_>) {
        let thread = std::thread::current();
        assert!(!thread.name().is_some_and(|name| name.starts_with("check-")), "on purpose");
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_health_checker_that_panics_ends_the_server() {
    tracing::subscriber::set_global_default(Trap).expect("it is the first");
    let mut config = Config::default();
    config.frontends[0].listen = vec!["127.0.0.1:0".parse().expect("it is an address")];
    config.process.engine = Engine::Epoll;
    // A port that was free a moment ago; so its check fails, and a line says so.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend = gone.local_addr().expect("it is bound").to_string();
    drop(gone);
    let mut upstream = UpstreamConfig::new(vec![backend.parse().expect("it is an address")]);
    upstream.active.check = ActiveCheck::Connect;
    upstream.active.interval = Duration::from_millis(10);
    config.frontends[0].protocol = Protocol::Proxy(Box::new(ProxyConfig::new("default")));
    config.upstreams = vec![upstream];
    let started = Server::start_proxy(&config, None);
    match started.expect("it runs").wait(Duration::from_secs(10)) {
        Some(Err(ServerError::Panicked { thread })) => assert_eq!(thread, "check-0"),
        other => panic!("it ended with {other:?}"),
    }
}
