//! Peers that do not read, and descriptors that run out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{Pattern, connect_with_small_buffers, expect_echo};
use crate::harness::{Launch, SOON, Server, eventually, meanwhile, skipped};
use crate::process::{self, raise_descriptor_limit};

use super::Proxy;
use super::backend::{Backend, greet};

const MIB: u64 = 1 << 20;

/// How long a sender that is held up waits before it counts as held up.
const QUIET: Duration = Duration::from_millis(300);

/// What two workers may take: the 512 buffers of 32 KiB that lie with the kernel of each, and as much again
/// for what waits.
const MEMORY_LIMIT: u64 = 64 * MIB;

#[test]
fn backends_that_do_not_read() {
    let (deaf, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&deaf], &["--workers", "2"]);
    let before = proxy.server.rss();
    let mut held: Vec<_> = (0..20)
        .map(|_| (connect_with_small_buffers(proxy.address()), connections.next()))
        .collect();
    std::thread::scope(|scope| {
        for (seed, (client, _)) in held.iter().enumerate() {
            scope.spawn(move || {
                let pattern = Pattern { seed: seed as u64 };
                let sent = pattern.send_until_blocked(client, QUIET, 64 * MIB);
                assert!(sent < 32 * MIB, "{sent} bytes went to nobody");
            });
        }
    });
    let grown = proxy.server.rss().saturating_sub(before);
    assert!(grown < MEMORY_LIMIT, "it grew by {grown} bytes");
    // Nothing of it is lost, and others go on meanwhile.
    let (mut client, mut at_backend) = held.pop().expect("there are twenty");
    at_backend.read_exact(&mut [0; 1000]).expect("it is there");
    drop(held);
    at_backend.write_all(b"x").expect("it is open");
    client.read_exact(&mut [0; 1]).expect("the other way is free");
    drop((client, at_backend));
    proxy.stop();
}

#[test]
fn clients_that_do_not_read() {
    let backend = Backend::start(|mut stream: TcpStream| {
        let mut first = [0];
        if stream.read_exact(&mut first).is_err() {
            return;
        }
        if first == *b"e" {
            return greet("echo", stream);
        }
        while stream.write_all(&[7; 64 * 1024]).is_ok() {}
    });
    let proxy = Proxy::start(&[&backend], &["--workers", "2"]);
    let before = proxy.server.rss();
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut client = connect_with_small_buffers(proxy.address());
        client.write_all(b"!").expect("it is open");
        deaf.push(client);
    }
    let mut other = crate::client::connect(proxy.address());
    other.write_all(b"e").expect("it is open");
    assert_eq!(super::line(&other), "echo");
    for _ in 0..50 {
        expect_echo(&mut other, &[5; 1000]);
        std::thread::sleep(Duration::from_millis(10));
    }
    let grown = proxy.server.rss().saturating_sub(before);
    assert!(grown < MEMORY_LIMIT, "it grew by {grown} bytes");
    drop((deaf, other));
    proxy.stop();
}

/// What does not fit waits in the kernel's queue, for longer than the proxy's own would hold it.
#[test]
fn more_connections_than_descriptors_wait_before_they_are_accepted() {
    const CLIENTS: usize = 50;
    let backend = Backend::echo();
    let arguments = ["--max-connections", "1000", "--workers", "1", "--queue-timeout", "100ms"];
    let proxy =
        Proxy::launch(&[&backend.to()], &arguments, |launch: Launch| launch.descriptors(64));
    let most = lowered(&proxy);
    assert!((5..CLIENTS / 2).contains(&most), "{most}");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = crate::client::connect(proxy.address());
            client.write_all(b"?").expect("the kernel has taken the connection");
            client
        })
        .collect();
    for client in &mut clients[..most] {
        client.read_exact(&mut [0]).expect("it is served");
    }
    let queued = || process::accept_queue(proxy.address().port()) as usize;
    meanwhile(QUIET, "all others are in the kernel's queue", || queued() == CLIENTS - most);
    for place in most..CLIENTS {
        drop(clients.remove(0));
        clients[most - 1].read_exact(&mut [0]).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    drop(clients);
    let entries = proxy.ended(CLIENTS);
    assert!(entries.iter().all(|entry| entry["ended"] == "client"), "{entries:#?}");
    let log = proxy.server.stderr();
    assert!(!log.contains("EMFILE"), "{log}");
    proxy.stop();
}

/// How many connections it may have in place of the 1000 that were asked for.
fn lowered(proxy: &Proxy) -> usize {
    let mut most = None;
    eventually(SOON, "that is told, with the limit and what to do", || {
        let log = proxy.server.stderr();
        let line = log.split_once("max-connections is lowered from 1000 to ");
        let line = line.and_then(|(_, rest)| rest.split_once('\n')).map_or("", |(line, _)| line);
        let whole = ["RLIMIT_NOFILE) of 64 ", "2 descriptors each", "ulimit -n"];
        let is_whole = whole.iter().all(|part| line.contains(part));
        most = line.split(':').next().and_then(|most| most.parse().ok());
        is_whole
    });
    most.expect("a number is in it")
}

/// The limit is lowered while it runs: who is accepted already waits in the queue. It is told once in a while
/// and counted once, however often it is tried.
#[test]
fn descriptors_run_out_while_connecting() {
    const CLIENTS: usize = 4;
    let backend = Backend::echo();
    let arguments = ["--workers", "1", "--queue-timeout", "300ms"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let mut first = crate::client::connect(proxy.address());
    expect_echo(&mut first, b"well");
    process::leave_descriptors(proxy.server.pid(), 1);
    for _ in 0..CLIENTS {
        super::expect_reset(proxy.address());
    }
    let entries = proxy.ended(CLIENTS);
    for entry in &entries {
        assert_eq!((&entry["ended"], &entry["errno"]), (&"queue-timeout".into(), &"EMFILE".into()));
        assert_eq!(entry["attempts"], 0, "{entry:#}");
    }
    expect_echo(&mut first, b"still");
    drop(first);
    let Proxy { server, folder: _folder } = proxy;
    let log = server.stop();
    let told = format!("WARN backend {} was not connected to: EMFILE ", backend.to());
    let cause = "; this machine is short of something (descriptors, ports or memory); the backend is not \
                 to blame; the connection waits in the queue\n";
    let rest = "WARN upstream default: 3 more connects failed since the last such line; the last one: EMFILE ";
    for part in [&*told, cause, rest] {
        assert_eq!(log.matches(part).count(), 1, "'{part}' is not in:\n{log}");
    }
    assert!(log.contains(&format!("backend_no_descriptor={CLIENTS} ")), "{log}");
}

/// The backend and the client are processes of their own: here a connection is one descriptor each,
/// and two of the proxy.
#[test]
fn nine_thousand_at_once() {
    const CONNECTIONS: u64 = 9_000;
    let limit = raise_descriptor_limit();
    if limit < 2 * CONNECTIONS + 500 {
        skipped(&format!("9000 proxied connections: the limit on open files is {limit}"));
        return;
    }
    let backend = Server::start(&["echo", "--first-byte-timeout", "60s"]);
    let proxy = Proxy::start_to(&[&backend.address().to_string()], &[]);
    let address = proxy.address().to_string();
    let arguments = ["hold", &address, "-c", "9000", "-d", "10s", "--connect-timeout", "20s"];
    let load = std::thread::spawn({
        let arguments = arguments.map(str::to_owned);
        move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Launch::loadgen(&arguments).run_within(Duration::from_secs(60))
        }
    });
    eventually(Duration::from_secs(40), "all are open", || {
        proxy.server.open_files() as u64 >= 2 * CONNECTIONS
    });
    load.join().expect("no panic");
    eventually(Duration::from_secs(20), "all have ended", || {
        proxy.entries().len() as u64 >= CONNECTIONS
    });
    let entries = proxy.stop();
    let bad: Vec<_> = entries.iter().filter(|entry| entry["ended"] != "client").take(3).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    backend.stop();
}
