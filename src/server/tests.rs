//! Whole servers: threads that panic end them and name themselves; connections that stay are spread evenly.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::*;
use crate::access_log::AccessLog;
use crate::config::upstream::UpstreamConfig;
use crate::config::{
    AccessLogConfig, Engine, LogFormat, LogTarget, Process, Protocol, ProxyConfig, Threads,
};
use crate::service::{Action, ConnectionInfo, Echo, Input, Outbox, Responder};

/// One worker and one acceptor, on the engine that is everywhere.
fn config() -> Config {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let workers = Some(std::num::NonZeroUsize::MIN);
    let threads = Threads { workers, ..Process::default().threads };
    let mut config = Config::default();
    config.frontends[0].listen = listen;
    (config.process.engine, config.process.threads) = (Engine::Epoll, threads);
    config
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

#[test]
fn a_thread_of_the_program() {
    let server = Server::start_with(&config(), Echo).unwrap();
    let thread = server.handle().spawn("signals", || panic!("on purpose")).unwrap();
    thread.join().unwrap();
    assert_eq!(panicked(server), "signals");
}

#[test]
fn one_that_has_panicked_before_the_start() {
    let alarm = Alarm::default();
    alarm.watch("early", || panic!("on purpose"))();
    let server = Server::start_with(&config(), Echo).unwrap();
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
    let (sink, log) = AccessLog::new(LogFormat::Json, "broken".into(), Box::new(Broken)).unwrap();
    let logs = AccessLogs::default();
    let log_config =
        AccessLogConfig { target: LogTarget::File("broken".into()), format: LogFormat::Json };
    drop(logs.insert(log_config.clone(), sink, log));
    // Nobody listens on port 1 of this machine's loopback network, or it does not matter.
    let upstream = UpstreamConfig::new(vec!["127.0.0.1:1".parse().unwrap()]);
    let mut config = config();
    config.upstreams = vec![upstream];
    let proxy = ProxyConfig::new("default");
    config.frontends[0].protocol = Protocol::Proxy(Box::new(proxy));
    config.frontends[0].access_log = Some(log_config);
    let server =
        start::prepare(&config, Box::new(|_| Arc::new(Echo)), (logs.clone(), Heritage::default()))
            .unwrap();
    server.handle().control.lock().open();
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    drop(TcpStream::connect(address).unwrap());
    assert_eq!(panicked(server), "access-log");
    let blocks = logs.blocks();
    logs.finish(Duration::from_secs(10));
    assert_eq!(total(blocks.iter().map(AsRef::as_ref), Counter::LogDropped), 1);
}

/// What starts by default: the first worker accepts for all.
/// Answers with the name of its thread, and blocks that thread meanwhile.
struct Blocking;

impl Responder for Blocking {
    type Session = ();

    fn name(&self) -> &str {
        "blocking"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), _: &Input<'_>, outbox: &mut Outbox) -> Action {
        std::thread::sleep(Duration::from_millis(20));
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        outbox.write(name.as_bytes());
        Action::Continue
    }
}

#[test]
fn a_worker_that_blocks_and_accepts_for_all_leaves_connections_to_the_others() {
    let mut config = config();
    config.process.threads.workers = std::num::NonZeroUsize::new(2);
    let server = Server::start_with(&config, Blocking).unwrap();
    let ListenAddress::Tcp(address) = server.addresses()[0] else { panic!("it listens on TCP") };
    let mut clients = Vec::new();
    let mut served_by = || {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        let mut name = [0; "worker-0".len()];
        client.read_exact(&mut name).unwrap();
        clients.push(client);
        String::from_utf8(name.to_vec()).unwrap()
    };
    // None closes. So long as nothing has blocked, the first worker takes one where both have as many.
    assert_eq!([served_by(), served_by()], ["worker-0", "worker-1"]);
    for _ in 0..3 {
        assert_eq!(served_by(), "worker-1");
        assert_eq!(served_by(), "worker-0");
    }
    server.handle().shutdown();
    drop(clients);
    server.join().unwrap();
}

#[test]
fn connections_that_stay_are_spread_evenly() {
    let mut config = config();
    config.process.threads.workers = std::num::NonZeroUsize::new(3);
    let server = Server::start_with(&config, Echo).unwrap();
    let ListenAddress::Tcp(address) = server.addresses()[0] else { panic!("it listens on TCP") };
    let exchange = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    };
    let clients: Vec<TcpStream> = (0..41).map(exchange).collect();
    let statistics = server.handle().statistics();
    assert!(statistics.skew <= 1, "{statistics:?}");
    drop(clients);
    server.handle().shutdown();
    server.join().unwrap();
}

#[test]
fn a_list_of_connections_does_not_wait_for_a_change() {
    let server = Server::start_with(&config(), Echo).unwrap();
    let handle = server.handle();
    let change = handle.control.lock();
    assert!(handle.connections(Duration::from_millis(20)).is_none());
    drop(change);
    assert_eq!(handle.connections(Duration::from_secs(10)).unwrap(), []);
    handle.shutdown();
    server.join().unwrap();
}
