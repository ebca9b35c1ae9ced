//! Peers that do not read, and descriptors that run out.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{Pattern, connect_with_small_buffers, expect_alive, expect_echo};
use crate::harness::{Launch, SOON, Server, eventually, skipped};
use crate::process::raise_descriptor_limit;

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
    std::io::Read::read_exact(&mut at_backend, &mut [0; 1000]).expect("it is there");
    drop(held);
    at_backend.write_all(b"x").expect("it is open");
    std::io::Read::read_exact(&mut client, &mut [0; 1]).expect("the other way is free");
    drop((client, at_backend));
    proxy.stop();
}

#[test]
fn clients_that_do_not_read() {
    let backend = Backend::start(|mut stream: TcpStream| {
        let mut first = [0];
        if std::io::Read::read_exact(&mut stream, &mut first).is_err() {
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

/// Clients are accepted as far as descriptors go, and wait in line for those of their backends.
#[test]
fn descriptors_run_out_while_connecting() {
    const LIMIT: u64 = 64;
    const CLIENTS: usize = 50;
    let backend = Backend::echo();
    let arguments = ["--max-connections", "1000", "--workers", "1", "--queue-timeout", "60s"];
    let launch = |launch: Launch| launch.descriptors(LIMIT);
    let proxy = Proxy::launch(&[&backend.to()], &arguments, launch);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = crate::client::connect(proxy.address());
            client.write_all(b"?").expect("the kernel has taken the connection");
            client.set_nonblocking(true).expect("it can be set");
            client
        })
        .collect();
    let mut served = 0;
    while served < CLIENTS {
        eventually(SOON, "another one is served", || {
            let before = clients.len();
            clients.retain_mut(|client| std::io::Read::read(client, &mut [0; 1]).is_err());
            served += before - clients.len();
            before > clients.len()
        });
    }
    let entries = proxy.ended(CLIENTS);
    assert!(entries.iter().all(|entry| entry["ended"] == "client"), "{entries:#?}");
    expect_alive(proxy.address());
    proxy.stop();
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
