//! Connections that wait too long: what the operator sees, and idle ones that make room.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::admin::Watched;
use crate::client::{connect, expect_alive, expect_echo, expect_end};
use crate::folder::Folder;
use crate::harness::{SOON, eventually};

/// Clients of one round.
const CLIENTS: usize = 20;

/// Some connect while the server stands still, and are served or reset when it goes on: none of them has waited for less
/// than this. Returns how many were reset.
fn round(watched: &Watched, address: SocketAddr) -> usize {
    watched.server.pause();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    for client in &mut clients {
        client.write_all(b"?").expect("the kernel has taken the connection");
    }
    std::thread::sleep(Duration::from_millis(30));
    watched.server.signal(libc::SIGCONT);
    let is_reset = |client: &mut TcpStream| client.read_exact(&mut [0; 1]).is_err();
    clients.iter_mut().filter_map(|client| is_reset(client).then_some(())).count()
}

#[test]
fn an_overload_is_told_wherever_one_looks_and_ends() {
    let shed = ["echo", "--workers", "1", "--overload", "shed", "--overload-interval", "500ms"];
    let watched = Watched::start(&shed);
    let address = watched.server.address();
    expect_alive(address);
    let overloaded = || watched.metric("acceptor_listener_overloaded", &[]);
    assert_eq!((overloaded(), watched.verdict(address)), (0.0, "healthy".to_owned()));
    let (mut reset, mut was_overloaded) = (0, false);
    eventually(SOON, "some are reset", || {
        reset += round(&watched, address);
        was_overloaded |= overloaded() > 0.0;
        reset > 0
    });
    assert!(was_overloaded && watched.verdict(address) == "overloaded");
    let status = watched.ok("/status");
    assert!(status.contains("\"overload\": \"shed\""), "{status}");
    assert_eq!(watched.metric("acceptor_listener_shed_total", &[]), reset as f64);
    assert_eq!(
        watched.metric("acceptor_closed_connections_total", &["reason=\"shed\""]),
        reset as f64
    );
    assert!(watched.metric("acceptor_listener_overloads_total", &[]) >= 1.0);
    eventually(SOON, "it is logged", || watched.server.stderr().contains(": overloaded: "));
    // Nobody comes any more.
    eventually(SOON, "it ends", || overloaded() == 0.0);
    expect_alive(address);
    watched.server.stop();
}

/// A connection that is idle, for a little less than the one before.
fn idle(address: SocketAddr) -> TcpStream {
    let client = connect(address);
    expect_echo(&client, b"hello");
    std::thread::sleep(Duration::from_millis(50));
    client
}

#[test]
fn the_connection_that_has_been_idle_for_longest_makes_room() {
    let folder = Folder::new();
    let log = folder.file("log");
    let limit = ["--max-connections", "3", "--workers", "1", "--access-log", &log];
    let watched = Watched::start(&[&["echo", "--overload", "evict"], &limit[..]].concat());
    let address = watched.server.address();
    let mut open: Vec<TcpStream> = (0..3).map(|_| idle(address)).collect();
    // The first has something to say again, so the second is the one.
    expect_echo(&open[0], b"again");
    let newcomer = connect(address);
    expect_echo(&newcomer, b"let me in");
    expect_end(&open.remove(1));
    open.iter().for_each(|client| expect_echo(client, b"still here"));
    let evicted = || watched.metric("acceptor_closed_connections_total", &["reason=\"eviction\""]);
    eventually(SOON, "it is counted", || evicted() == 1.0);
    eventually(SOON, "it is logged", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ended=evicted"))
    });
    // Nobody else waits, so nobody else makes room.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(evicted(), 1.0);
    drop((open, newcomer));
    watched.server.stop();
}

/// Without it who comes waits for as long as the others stay.
#[test]
fn nobody_makes_room_by_default() {
    let watched = Watched::start(&["echo", "--max-connections", "2", "--workers", "1"]);
    let address = watched.server.address();
    let open: Vec<TcpStream> = (0..2).map(|_| idle(address)).collect();
    let newcomer = connect(address);
    std::thread::sleep(Duration::from_millis(1500));
    open.iter().for_each(|client| expect_echo(client, b"still here"));
    drop(open);
    expect_echo(&newcomer, b"at last");
    drop(newcomer);
    watched.server.stop();
}
