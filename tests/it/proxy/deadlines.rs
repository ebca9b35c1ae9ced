//! Every state of a pair has a deadline, and the log says which one it was.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{connect, expect_echo, finish_sending, reset};

use super::backend::{Backend, BlackHole};
use super::{Proxy, Seen, seen};

/// The deadline that the tests set, and what a timer may round off.
const DEADLINE: Duration = Duration::from_millis(300);
const ROUNDING: Duration = Duration::from_millis(50);

/// Holds that the connection ends in this way and not before the deadline.
#[track_caller]
fn expect_expiry(stream: impl Read, start: Instant, how: Seen) {
    assert_eq!(seen(stream), how);
    let after = start.elapsed();
    assert!(after + ROUNDING >= DEADLINE, "it ended after {after:?}, before its deadline");
}

#[test]
fn two_that_say_nothing() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &["--idle-timeout", "300ms"]);
    let start = Instant::now();
    let client = connect(proxy.address());
    let at_backend = connections.next();
    expect_expiry(&client, start, Seen::Fin);
    expect_expiry(&at_backend, start, Seen::Fin);
    proxy.expect_ended("idle");
    proxy.stop();
}

/// What the client does not take is lost, so it must not see a regular end.
#[test]
fn a_peer_that_does_not_read() {
    let backend = Backend::start(|mut stream| {
        stream.set_write_timeout(Some(crate::harness::SOON)).expect("not zero");
        while stream.write_all(&[7; 64 * 1024]).is_ok() {}
    });
    let proxy = Proxy::start(&[&backend], &["--idle-timeout", "300ms"]);
    let client = connect(proxy.address());
    proxy.expect_ended("write-stall");
    assert_eq!(seen(&client), Seen::Reset);
    proxy.stop();
}

#[test]
fn two_that_keep_talking() {
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &["--idle-timeout", "2s"]);
    let mut client = connect(proxy.address());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        expect_echo(&mut client, b"still here");
        thread::sleep(Duration::from_millis(100));
    }
    drop(client);
    proxy.expect_ended("client");
    proxy.stop();
}

#[test]
fn silence_behind_one_fin() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &["--half-closed-timeout", "300ms"]);
    let client = connect(proxy.address());
    let at_backend = connections.next();
    let start = Instant::now();
    finish_sending(&client);
    expect_expiry(&client, start, Seen::Reset);
    // The client's FIN has been passed on, and is read before the reset.
    let end = seen(&at_backend);
    assert!(matches!(end, Seen::Fin | Seen::Reset), "{end:?}");
    proxy.expect_ended("half-closed");
    proxy.stop();
}

/// However busy it is, and up to a tenth earlier.
#[test]
fn a_lifetime() {
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &["--lifetime", "300ms"]);
    let start = Instant::now();
    let mut client = connect(proxy.address());
    let error = loop {
        let mut byte = [0];
        let result = client.write_all(b"?").and_then(|()| client.read_exact(&mut byte));
        if let Err(error) = result {
            break error;
        }
        assert!(start.elapsed() < crate::harness::SOON, "it lives on");
        thread::sleep(Duration::from_millis(5));
    };
    let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(start.elapsed() + ROUNDING >= DEADLINE * 9 / 10);
    proxy.expect_ended("lifetime");
    proxy.stop();
}

#[test]
fn a_backend_that_does_not_answer() {
    let hole = BlackHole::new();
    let arguments = ["--connect-timeout", "300ms", "--retries", "0"];
    let proxy = Proxy::start_to(&[&hole.to()], &arguments);
    let start = Instant::now();
    let client = connect(proxy.address());
    expect_expiry(&client, start, Seen::Reset);
    let entry = proxy.expect_ended("connect-timeout");
    assert_eq!(entry["failed_connects"], 1);
    assert_eq!((&entry["backend"], &entry["errno"]), (&hole.to().into(), &"ETIMEDOUT".into()));
    assert!(entry["connect_ms"].is_null(), "{entry:#}");
    proxy.stop();
}

#[test]
fn a_client_that_goes_while_its_backend_does_not_answer() {
    let hole = BlackHole::new();
    let proxy = Proxy::start_to(&[&hole.to()], &["--connect-timeout", "60s"]);
    let client = connect(proxy.address());
    thread::sleep(super::A_WHILE);
    reset(client);
    proxy.expect_ended("client-reset");
    proxy.stop();
}

#[test]
fn a_queue_that_does_not_move() {
    let backend = Backend::named("only");
    let arguments = ["--backend-max-connections", "1", "--queue-timeout", "300ms"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let (_, first) = super::who_answers(proxy.address());
    let start = Instant::now();
    expect_expiry(&connect(proxy.address()), start, Seen::Reset);
    proxy.expect_ended("queue-timeout");
    drop(first);
    proxy.stop();
}

/// What is read first has one deadline; partial data does not reset it.
#[test]
fn a_greeting_that_comes_in_drips() {
    let backend = Backend::echo();
    let arguments = ["--proxy-protocol-in", "127.0.0.0/8", "--first-byte-timeout", "300ms"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let start = Instant::now();
    let mut client = connect(proxy.address());
    for byte in b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n" {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(30));
    }
    assert!(start.elapsed() + ROUNDING >= DEADLINE);
    proxy.expect_ended("preread-timeout");
    assert_eq!(backend.accepted(), 0);
    proxy.stop();
}
