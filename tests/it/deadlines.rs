//! No connection without a deadline.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Pattern, connect, expect_alive, expect_echo, read_to_the_end};
use crate::harness::{SOON, Server, eventually};

/// The deadline that the tests set, and what a timer may round off.
const DEADLINE: Duration = Duration::from_millis(300);
const ROUNDING: Duration = Duration::from_millis(50);

/// A server whose first deadline is so long that it cannot stand in for the one under test.
#[track_caller]
fn start_patient(arguments: &[&str]) -> Server {
    Server::start(&[arguments, &["--first-byte-timeout", "60s"]].concat())
}

/// Holds that the connection ends by itself, and not before its deadline.
#[track_caller]
fn expect_expiry(stream: impl Read, start: Instant) {
    let end = read_to_the_end(stream).map(|_| start.elapsed());
    let after = end.expect("the server ends the connection");
    assert!(after + ROUNDING >= DEADLINE, "it ended after {after:?}, before its deadline");
}

#[test]
fn a_client_that_says_nothing() {
    for acceptors in ["0", "1"] {
        let arguments = ["echo", "--first-byte-timeout", "300ms", "--acceptors", acceptors];
        let server = Server::start(&arguments);
        let mut speaker = connect(server.address());
        expect_echo(&mut speaker, b"hello");
        let start = Instant::now();
        let silent: Vec<_> = (0..20).map(|_| connect(server.address())).collect();
        for stream in &silent {
            expect_expiry(stream, start);
        }
        expect_echo(&mut speaker, b"the idle timeout is another one");
        drop(speaker);
        server.stop();
    }
}

#[test]
fn a_client_that_falls_silent() {
    let server = start_patient(&["echo", "--idle-timeout", "300ms"]);
    let mut stream = connect(server.address());
    let start = Instant::now();
    expect_echo(&mut stream, b"hello");
    expect_expiry(&stream, start);
    expect_alive(server.address());
    server.stop();
}

#[test]
fn a_client_that_keeps_talking() {
    let server = Server::start(&["echo", "--idle-timeout", "2s"]);
    let mut stream = connect(server.address());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        expect_echo(&mut stream, b"still here");
        thread::sleep(Duration::from_millis(100));
    }
    drop(stream);
    server.stop();
}

/// Bytes that make no whole message are no progress: the deadline is one for the whole head.
#[test]
fn a_request_that_comes_in_drips() {
    let server = start_patient(&["http", "--idle-timeout", "300ms"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /").expect("it is open");
    let start = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("not zero");
    eventually(SOON, "the server ends the connection", || {
        stream.write_all(b"a").is_err() || read_to_the_end(&stream).is_ok()
    });
    assert!(start.elapsed() + ROUNDING >= DEADLINE, "it ended before its deadline");
    server.stop();
}

#[test]
fn a_client_that_does_not_read() {
    let server =
        start_patient(&["echo", "--idle-timeout", "60s", "--write-stall-timeout", "300ms"]);
    expect_alive(server.address());
    eventually(SOON, "the first is gone", || {
        let open = server.open_files();
        thread::sleep(Duration::from_millis(50));
        open == server.open_files()
    });
    let open = server.open_files();
    let stream = connect(server.address());
    fill(&stream);
    eventually(SOON, "the server gave up", || server.open_files() <= open);
    expect_alive(server.address());
    server.stop();
}

/// Sends until the server has closed or takes no more.
fn fill(mut stream: &std::net::TcpStream) {
    const MOST_BYTES: usize = 128 * 1024 * 1024;
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("not zero");
    let chunk = Pattern { seed: 5 }.bytes(0, 64 * 1024);
    let mut sent = 0;
    while sent < MOST_BYTES {
        match stream.write(&chunk) {
            Ok(count) => sent += count,
            Err(_) => return,
        }
    }
    panic!("the server took {sent} bytes of a peer that reads none");
}
