//! Peers that do not read, do not speak, or come in greater number than there are descriptors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{
    Pattern, connect, connect_with_small_buffers, expect_alive, expect_echo, expect_end,
    finish_sending,
};
use crate::harness::{SOON, Server, eventually, meanwhile, skipped};
use crate::process;

const MIB: u64 = 1024 * 1024;

/// Five seconds without a shortage, and the time of a busy machine.
const CALM: Duration = Duration::from_secs(15);

/// Nothing has gone for this long: the way is full.
const QUIET: Duration = Duration::from_millis(700);

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    const GROWTH_MAX_BYTES: u64 = 8 * MIB;
    let server = Server::start(&["echo"]);
    expect_alive(server.address());
    let before = server.rss();
    let pattern = Pattern { seed: 4 };
    let slow = connect(server.address());
    let sent = pattern.send_until_blocked(&slow, QUIET, 256 * MIB);
    assert!(sent < 256 * MIB, "the server took {sent} bytes of a peer that reads none");
    let growth = server.rss().saturating_sub(before);
    assert!(growth < GROWTH_MAX_BYTES, "after {sent} bytes memory grew by {growth}");
    expect_alive(server.address());
    finish_sending(&slow);
    pattern.expect(&slow, sent);
    expect_end(&slow);
    server.stop();
}

#[test]
fn many_slow_readers_do_not_starve_a_quick_one() {
    const SLOW: u64 = 200;
    const MOST_BYTES: u64 = MIB;
    process::raise_descriptor_limit();
    let server = Server::start(&["echo"]);
    let slow: Vec<(Pattern, TcpStream)> = (0..SLOW)
        .map(|seed| (Pattern { seed }, connect_with_small_buffers(server.address())))
        .collect();
    let sent: Vec<u64> = thread::scope(|scope| {
        let senders: Vec<_> = slow
            .iter()
            .map(|(pattern, stream)| {
                scope.spawn(move || pattern.send_until_blocked(stream, QUIET, MOST_BYTES))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("it sends")).collect()
    });
    let mut quick = connect(server.address());
    for _ in 0..50 {
        expect_echo(&mut quick, b"still there?");
    }
    drop(quick);
    for ((pattern, stream), sent) in slow.into_iter().zip(sent) {
        pattern.expect(&stream, sent);
    }
    server.stop();
}

#[test]
fn ten_thousand_idle_connections() {
    const CONNECTIONS: usize = 10_000;
    /// The other tests of this process open sockets at the same time.
    const DESCRIPTORS_NEEDED: u64 = 13_000;
    let hard_limit = process::raise_descriptor_limit();
    if hard_limit < DESCRIPTORS_NEEDED {
        skipped(&format!(
            "10,000 connections need {DESCRIPTORS_NEEDED} descriptors; `ulimit -Hn` is {hard_limit}"
        ));
        return;
    }
    let server = Server::start(&[
        "echo",
        "--max-connections",
        "10100",
        "--first-byte-timeout",
        "60s",
        "--idle-timeout",
        "60s",
    ]);
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(server.address())).collect();
    eventually(SOON, "all were accepted", || server.open_files() > CONNECTIONS);
    for (index, stream) in idle.iter_mut().enumerate() {
        stream.write_all(&[index as u8]).expect("the connection is open");
    }
    for (index, stream) in idle.iter_mut().enumerate() {
        let mut back = [0];
        stream.read_exact(&mut back).expect("the byte comes back");
        assert_eq!(back, [index as u8]);
    }
    drop(idle);
    eventually(SOON, "all were closed", || server.open_files() < 200);
    expect_alive(server.address());
    server.stop();
}

/// 1000 clients and room for about 50: each gets its turn, nobody is refused, nothing spins.
#[test]
fn out_of_descriptors() {
    const CLIENTS: usize = 1000;
    const WINDOW: Duration = Duration::from_secs(1);
    const BUSY_MAX: Duration = Duration::from_millis(50);
    process::raise_descriptor_limit();
    let arguments = ["echo", "--max-connections", "1000", "--backlog", "1024", "--workers", "1"];
    let server = Server::start(&arguments);
    // Lowered after the start, since --max-connections would follow from it.
    process::leave_descriptors(server.pid(), 40);
    let waiting: Vec<TcpStream> = (0..CLIENTS)
        .map(|index| {
            let mut stream = connect(server.address());
            stream.write_all(&[index as u8]).expect("the kernel has taken the connection");
            stream
        })
        .collect();
    eventually(SOON, "no descriptor is left", || {
        let before = server.open_files();
        thread::sleep(Duration::from_millis(200));
        before > 30 && before == server.open_files()
    });
    let busy = server.cpu_time();
    let window = Instant::now();
    thread::sleep(WINDOW);
    let share = (server.cpu_time() - busy).div_f64(window.elapsed().as_secs_f64());
    assert!(share < BUSY_MAX, "blocked, the server used {share:?} of CPU time per second");
    for (index, mut stream) in waiting.into_iter().enumerate() {
        let mut back = [0];
        stream.read_exact(&mut back).unwrap_or_else(|error| panic!("client {index}: {error}"));
        assert_eq!(back, [index as u8]);
    }
    expect_alive(server.address());
    let count = |part: &str| {
        let log = server.stderr();
        log.lines().filter(|line| line.contains("accepting on") && line.contains(part)).count()
    };
    let pauses = format!("on {} pauses: accept(2) failed with EMFILE", server.address());
    eventually(CALM, "each pause that is told is over", || {
        count(&pauses) > 0 && count(&pauses) == count(" goes on: accept(2) has not failed for 5s")
    });
    // Two of a kind are five seconds apart.
    assert!(count(" pauses: ") <= 3, "{}", server.stderr());
    assert!(count("; the open connections (") > 0, "{}", server.stderr());
    server.stop();
}

fn expect_echo_of_a_byte(client: &mut TcpStream) {
    client.write_all(b"?").expect("the kernel has taken the connection");
    client.read_exact(&mut [0]).expect("it is served");
}

/// A pause that lasts, with a moment in which one connection more is let in: the last line says so, and how many
/// are open.
#[test]
fn the_last_line_of_a_pause_is_true() {
    const CLIENTS: usize = 80;
    let arguments = ["echo", "--max-connections", "100", "--workers", "1"];
    let server = Server::start(&arguments);
    // Lowered while it has all connections that it may have, so that no accept is in flight.
    let limit = process::limit_that_leaves(server.pid(), 40);
    let idle = server.open_files();
    let mut all: Vec<TcpStream> = (0..100).map(|_| connect(server.address())).collect();
    all.iter_mut().for_each(expect_echo_of_a_byte);
    process::limit_descriptors(server.pid(), limit);
    drop(all);
    eventually(SOON, "all are closed", || server.open_files() <= idle);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.address())).collect();
    let is_served = |client: &mut TcpStream| {
        client.set_read_timeout(Some(Duration::from_millis(1))).expect("it is open");
        client.read(&mut [0; 1]).is_ok_and(|count| count == 1)
    };
    for client in &mut clients {
        client.write_all(b"?").expect("the kernel has taken the connection");
    }
    let pause = format!("accepting on {} pauses: accept(2) failed with EMFILE", server.address());
    eventually(SOON, "it is told", || server.stderr().contains(&pause));
    let log = server.stderr();
    let open = log.split("; the open connections (").nth(1).and_then(|rest| rest.split(')').next());
    let open: usize = open.and_then(|count| count.parse().ok()).expect("it is a number");
    let mut served = Vec::new();
    eventually(SOON, "as many are served as are said to be open", || {
        served.extend(clients.extract_if(.., |client| is_served(client)));
        served.len() >= open
    });
    assert_eq!(served.len(), open, "{log}");
    drop(served.pop());
    eventually(SOON, "another is let in", || clients.iter_mut().any(is_served));
    let goes_on = || server.stderr().contains(" goes on: accept(2)");
    // As often as it tries now, that is a good time.
    meanwhile(Duration::from_secs(1), "the last line is that of the pause", || !goes_on());
    drop((served, clients));
    eventually(CALM, "that is over", goes_on);
    assert_eq!(server.stderr().matches(" pauses: ").count(), 1, "{}", server.stderr());
    server.stop();
}

/// A completion queue of 8 and 500 connections at once: each overflow must be noticed and mended.
#[test]
fn a_storm_on_a_stopped_server_with_a_short_completion_queue() {
    const CLIENTS: usize = 500;
    process::raise_descriptor_limit();
    for acceptors in ["1", "0"] {
        let arguments =
            ["echo", "--cq-entries", "8", "--backlog", "1024", "--acceptors", acceptors];
        let server = Server::start(&arguments);
        server.pause();
        let mut waiting: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.address())).collect();
        for (index, stream) in waiting.iter_mut().enumerate() {
            stream.write_all(&[index as u8]).expect("the kernel has taken the connection");
        }
        server.signal(libc::SIGCONT);
        for (index, stream) in waiting.iter_mut().enumerate() {
            let mut back = [0];
            stream.read_exact(&mut back).unwrap_or_else(|error| panic!("client {index}: {error}"));
            assert_eq!(back, [index as u8]);
        }
        drop(waiting);
        server.stop();
    }
}
