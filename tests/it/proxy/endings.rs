//! How the end of one side reaches the other.

use std::io::{Read, Write};
use std::thread;

use crate::client::{connect, expect_echo, expect_end, finish_sending, reset};

use super::backend::{self, Backend};
use super::{Proxy, Seen, seen};

#[test]
fn a_reset_by_the_client_reaches_the_backend() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &[]);
    let mut client = connect(proxy.address());
    client.write_all(b"?").expect("it is open");
    let mut at_backend = connections.next();
    at_backend.read_exact(&mut [0; 1]).expect("the byte comes");
    reset(client);
    assert_eq!(seen(&at_backend), Seen::Reset);
    proxy.expect_ended("client-reset");
    proxy.stop();
}

#[test]
fn a_reset_by_the_backend_reaches_the_client() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &[]);
    let mut client = connect(proxy.address());
    let mut at_backend = connections.next();
    // One that comes before the proxy has looked is a connect that failed.
    at_backend.write_all(b"!").expect("it is open");
    client.read_exact(&mut [0; 1]).expect("the byte comes");
    reset(at_backend);
    assert_eq!(seen(&client), Seen::Reset);
    proxy.expect_ended("backend-reset");
    proxy.stop();
}

/// No other backend is tried: this one may have acted on what it got.
#[test]
fn a_reset_behind_the_first_byte_is_not_retried() {
    let resets = |mut stream: std::net::TcpStream| {
        if stream.read_exact(&mut [0; 1]).is_ok() {
            reset(stream);
        }
    };
    let backends = [Backend::start(resets), Backend::start(resets)];
    let proxy = Proxy::start(&[&backends[0], &backends[1]], &[]);
    let mut client = connect(proxy.address());
    client.write_all(b"?").expect("it is open");
    assert_eq!(seen(&client), Seen::Reset);
    let entry = proxy.expect_ended("backend-reset");
    assert_eq!(entry["failed_connects"], 0);
    assert_eq!(backends[0].accepted() + backends[1].accepted(), 1);
    proxy.stop();
}

#[test]
fn a_client_that_has_ended_still_gets_its_answer() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &[]);
    let mut client = connect(proxy.address());
    client.write_all(b"question").expect("it is open");
    finish_sending(&client);
    let mut at_backend = connections.next();
    let mut question = String::new();
    at_backend.read_to_string(&mut question).expect("a FIN comes behind it");
    assert_eq!(question, "question");
    thread::sleep(super::A_WHILE);
    at_backend.write_all(b"answer").expect("it is open");
    drop(at_backend);
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("a FIN comes behind it");
    assert_eq!(answer, "answer");
    proxy.expect_ended("client");
    proxy.stop();
}

#[test]
fn a_backend_that_has_ended_still_gets_what_the_client_sends() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &[]);
    let mut client = connect(proxy.address());
    let mut at_backend = connections.next();
    at_backend.write_all(b"last words").expect("it is open");
    finish_sending(&at_backend);
    let mut words = String::new();
    client.read_to_string(&mut words).expect("a FIN comes behind them");
    assert_eq!(words, "last words");
    thread::sleep(super::A_WHILE);
    client.write_all(b"more").expect("it is open");
    drop(client);
    let mut more = String::new();
    at_backend.read_to_string(&mut more).expect("a FIN comes behind it");
    assert_eq!(more, "more");
    proxy.expect_ended("backend");
    proxy.stop();
}

/// A client that goes before a backend has been asked.
#[test]
fn a_client_that_ends_at_once() {
    let backend = Backend::start(backend::echo);
    let proxy = Proxy::start(&[&backend], &[]);
    let client = connect(proxy.address());
    finish_sending(&client);
    expect_end(&client);
    proxy.expect_ended("client");
    proxy.stop();
}

#[test]
fn a_drain_lets_pairs_end_by_themselves() {
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &["--drain-timeout", "60s"]);
    let mut client = connect(proxy.address());
    expect_echo(&mut client, b"before");
    proxy.server.signal(libc::SIGTERM);
    thread::sleep(super::A_WHILE);
    expect_echo(&mut client, b"while it drains");
    finish_sending(&client);
    expect_end(&client);
    let Proxy { server, folder } = proxy;
    assert_eq!(server.wait(crate::harness::SOON).code, Some(0));
    let entries = super::entries_of(folder.0.join("access.log").as_path());
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["ended"], "client");
}

/// Idle ones end one after the other, with a FIN, long before the drain timeout.
#[test]
fn a_drain_that_is_spread_ends_idle_pairs_over_its_time() {
    const CLIENTS: usize = 20;
    const SPREAD: std::time::Duration = std::time::Duration::from_secs(1);
    let backend = Backend::echo();
    let arguments = ["--workers", "1", "--drain-timeout", "60s", "--drain-spread", "1s"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(proxy.address())).collect();
    clients.iter_mut().for_each(|client| expect_echo(client, b"before"));
    // Nobody has said anything for a second.
    thread::sleep(SPREAD * 11 / 10);
    let start = std::time::Instant::now();
    proxy.server.signal(libc::SIGTERM);
    for client in &clients {
        expect_end(client);
    }
    assert!(start.elapsed() + SPREAD / 100 >= SPREAD * 9 / 10, "they ended at once");
    let Proxy { server, folder } = proxy;
    let exit = server.wait(crate::harness::SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("no connection was cut off"), "{}", exit.stderr);
    let entries = super::entries_of(folder.0.join("access.log").as_path());
    assert_eq!(entries.len(), CLIENTS);
    assert!(entries.iter().all(|entry| entry["ended"] == "drained"), "{entries:#?}");
}

/// Every one of them is in the log before the program ends.
#[test]
fn the_drain_timeout_ends_what_is_still_open() {
    const CLIENTS: usize = 100;
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &["--drain-timeout", "300ms"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(proxy.address())).collect();
    clients.iter_mut().for_each(|client| expect_echo(client, b"before"));
    proxy.server.signal(libc::SIGTERM);
    for client in &clients {
        seen(client);
    }
    let Proxy { server, folder } = proxy;
    assert_eq!(server.wait(crate::harness::SOON).code, Some(0));
    let entries = super::entries_of(folder.0.join("access.log").as_path());
    assert_eq!(entries.len(), CLIENTS);
    assert!(entries.iter().all(|entry| entry["ended"] == "stopped"), "{entries:#?}");
}
