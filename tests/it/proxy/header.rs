//! The PROXY protocol, in and out, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::client::{connect, finish_sending, reset};
use crate::harness::{SOON, eventually};

use super::backend::{Backend, Connections};
use super::{Proxy, Seen, seen};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TRUST: &[&str] = &["--proxy-protocol-in", "127.0.0.0/8"];

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().expect("it is connected").port()
}

/// Version 2, TCP over IPv4.
fn version_2(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x21, 0x11, 0, 12]);
    bytes.extend(source.0);
    bytes.extend(destination.0);
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes
}

/// Everything that the backend gets until the FIN.
#[track_caller]
fn received(connections: &Connections) -> Vec<u8> {
    let mut bytes = Vec::new();
    connections.next().read_to_end(&mut bytes).expect("a FIN comes behind it");
    bytes
}

#[track_caller]
fn send(proxy: &Proxy, bytes: &[u8]) -> TcpStream {
    let mut client = connect(proxy.address());
    client.write_all(bytes).expect("it is open");
    client
}

/// A backend that speaks first needs it before the client has said anything.
#[test]
fn a_header_goes_out_before_the_client_speaks() {
    let home = [127, 0, 0, 1];
    for version in ["v1", "v2"] {
        let (backend, connections) = Backend::handing_over();
        let proxy = Proxy::start(&[&backend], &["--proxy-protocol-out", version]);
        let mut client = connect(proxy.address());
        let (from, to) = (port(&client), proxy.address().port());
        let wanted = match version {
            "v1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").into_bytes(),
            _ => version_2((home, from), (home, to)),
        };
        let mut at_backend = connections.next();
        let mut header = vec![0; wanted.len()];
        at_backend.read_exact(&mut header).expect("it comes");
        assert_eq!(header, wanted, "{version}");
        client.write_all(b"and then").expect("it is open");
        finish_sending(&client);
        let mut rest = Vec::new();
        at_backend.read_to_end(&mut rest).expect("a FIN comes behind it");
        assert_eq!(rest, b"and then");
        drop((client, at_backend));
        let entry = proxy.expect_ended("client");
        assert_eq!(entry["from_client_bytes"], 8, "the header is not the client's");
        proxy.stop();
    }
}

#[test]
fn a_header_is_taken_off_and_told_on() {
    let one = b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\n".to_vec();
    let two = version_2(([192, 0, 2, 7], 1111), ([198, 51, 100, 8], 2222));
    for header in [one, two] {
        let (backend, connections) = Backend::handing_over();
        let arguments = [TRUST, &["--proxy-protocol-out", "v1"]].concat();
        let proxy = Proxy::start(&[&backend], &arguments);
        let client = send(&proxy, &[&header[..], b"payload"].concat());
        finish_sending(&client);
        let text = String::from_utf8(received(&connections)).expect("it is text");
        assert!(text.starts_with("PROXY TCP4 192.0.2.7 "), "{text}");
        assert!(text.contains(" 1111 ") && text.ends_with("\r\npayload"), "{text}");
        drop(client);
        let entry = proxy.ended(1).remove(0);
        assert_eq!(entry["client"], "192.0.2.7:1111");
        assert_eq!(entry["from_client_bytes"], 7, "no header is the client's");
        assert_eq!(entry["from_backend_bytes"], 0, "{entry:#}");
        proxy.stop();
    }
}

#[test]
fn a_header_in_drips() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], TRUST);
    let mut client = connect(proxy.address());
    for byte in b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\nhello" {
        client.write_all(&[*byte]).expect("it is open");
        thread::sleep(Duration::from_millis(1));
    }
    finish_sending(&client);
    assert_eq!(received(&connections), b"hello");
    drop(client);
    proxy.stop();
}

/// Health checks of the proxy in front, and clients that it knows nothing of.
#[test]
fn a_header_without_addresses() {
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    for header in [&b"PROXY UNKNOWN\r\n"[..], &local] {
        let (backend, connections) = Backend::handing_over();
        let proxy = Proxy::start(&[&backend], TRUST);
        let client = send(&proxy, &[header, b"x"].concat());
        finish_sending(&client);
        assert_eq!(received(&connections), b"x");
        let own = client.local_addr().expect("it is connected").to_string();
        drop(client);
        assert_eq!(proxy.ended(1)[0]["client"], own.as_str());
        proxy.stop();
    }
}

/// Whoever is not trusted cannot say who he is: his bytes are the backend's business.
#[test]
fn a_header_from_elsewhere_is_not_touched() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &["--proxy-protocol-in", "10.0.0.0/8"]);
    let bytes = b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\nhello";
    let client = send(&proxy, bytes);
    finish_sending(&client);
    assert_eq!(received(&connections), bytes);
    drop(client);
    let entry = proxy.ended(1).remove(0);
    assert!(entry["client"].as_str().is_some_and(|a| a.starts_with("127.0.0.1:")), "{entry:#}");
    proxy.stop();
}

#[test]
fn garbage_reaches_nobody() {
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    let zeros = format!("not a PROXY header: begins with '{}'", r"\x00".repeat(16));
    let escape = b"\x1b[2J \"'\\\xff\n";
    let bad: [(&[u8], &str); 5] = [
        (
            b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n",
            r"not a PROXY header: begins with 'GET / HTTP/1.1\r\nHost: a.'...",
        ),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY protocol 1: the source port, from byte 27 on, is wrong: begins with \
             'PROXY TCP4 1.2.3.4 1.2.3'...",
        ),
        (
            &long,
            "PROXY protocol 1: the source address, from byte 11 on, is wrong: begins with \
             'PROXY TCP4 1111111111111'...",
        ),
        (&[0; 16], &zeros),
        (escape, r#"not a PROXY header: begins with '\x1b[2J \"\'\\\xff\n'"#),
    ];
    for (bytes, reason) in bad {
        let (backend, connections) = Backend::handing_over();
        let proxy = Proxy::start(&[&backend], TRUST);
        let client = send(&proxy, bytes);
        assert_eq!(seen(&client), Seen::Reset);
        let entry = proxy.expect_ended("bad-proxy-header");
        assert_eq!(entry["reason"], reason);
        let line = format!("is reset, bad-proxy-header: {reason}");
        eventually(SOON, "it is logged", || proxy.server.stderr().contains(&line));
        connections.expect_none();
        proxy.stop();
    }
}

/// Whoever sends one wrong header sends many: one line of a thread's log in ten seconds.
#[test]
fn a_flood_of_garbage_is_one_line() {
    const CLIENTS: usize = 20;
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &[TRUST, &["--workers", "1"]].concat());
    for _ in 0..CLIENTS {
        assert_eq!(seen(&send(&proxy, b"GET / HTTP/1.1\r\n\r\n")), Seen::Reset);
    }
    proxy.ended(CLIENTS);
    let lines = || proxy.server.stderr().matches("bad-proxy-header").count();
    eventually(SOON, "one is told", || lines() > 0);
    // The report comes behind all of them.
    proxy.server.signal(libc::SIGUSR1);
    let report = || proxy.server.stderr().contains("closed_by_bad_proxy_header=20");
    eventually(SOON, "they are counted", report);
    let told = lines();
    assert!(told < CLIENTS / 2, "{told} lines");
    // What was suppressed is told at the end.
    let Proxy { server, folder: _folder } = proxy;
    let log = server.stop();
    let rest = format!("{} more connections were reset since the last such line", CLIENTS - 1);
    assert_eq!((told, log.matches(&rest).count()), (1, 1), "{log}");
}

/// A balancer that looks whether somebody listens is no error, and no line of the log at its usual level.
#[test]
fn a_check_that_connects_and_closes() {
    for more in [TRUST, &["--route", "a.example.org=127.0.0.1:1"]] {
        let (backend, connections) = Backend::handing_over();
        let proxy = Proxy::start(&[&backend], more);
        drop(connect(proxy.address()));
        let entry = proxy.expect_ended("client-closed-early");
        assert!(entry["reason"].is_null() && entry["backend"].is_null(), "{entry:#}");
        assert_eq!(entry["attempts"], 0);
        connections.expect_none();
        let log = proxy.server.stderr();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        proxy.stop();
    }
}

/// The same with a reset, which may come before anybody has looked at the connection.
#[test]
fn a_check_that_connects_and_resets() {
    const CHECKS: usize = 20;
    for more in [TRUST, &["--route", "a.example.org=127.0.0.1:1"]] {
        let (backend, connections) = Backend::handing_over();
        let proxy = Proxy::start(&[&backend], &[more, &["--workers", "2"]].concat());
        let mut clients: Vec<String> = Vec::new();
        for _ in 0..CHECKS {
            let client = connect(proxy.address());
            clients.push(client.local_addr().expect("it is connected").to_string());
            reset(client);
        }
        let entries = proxy.ended(CHECKS);
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        let mut seen: Vec<_> = entries.iter().map(|entry| text(entry, "client")).collect();
        clients.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, clients);
        let ended: Vec<_> = entries.iter().map(|entry| text(entry, "ended")).collect();
        assert_eq!(ended, ["client-closed-early"; CHECKS]);
        connections.expect_none();
        proxy.stop();
    }
}

/// One byte is not `1 bytes`.
#[test]
fn a_byte_of_a_hello() {
    let backend = Backend::echo();
    let proxy = Proxy::start(&[&backend], &["--route", "a.example.org=127.0.0.1:1"]);
    let client = send(&proxy, &[0x16]);
    finish_sending(&client);
    assert_eq!(seen(&client), Seen::Reset);
    let reason = r"the client closed after 1 byte of a ClientHello: begins with '\x16'";
    assert_eq!(proxy.expect_ended("bad-client-hello")["reason"], reason);
    proxy.stop();
}

#[test]
fn half_a_hello() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &["--route", "a.example.org=127.0.0.1:1"]);
    let client = send(&proxy, &[0x16, 3, 1, 0]);
    finish_sending(&client);
    assert_eq!(seen(&client), Seen::Reset);
    let entry = proxy.expect_ended("bad-client-hello");
    let reason =
        r"the client closed after 4 bytes of a ClientHello: begins with '\x16\x03\x01\x00'";
    assert_eq!(entry["reason"], reason);
    connections.expect_none();
    proxy.stop();
}

/// An end in the middle is no header either.
#[test]
fn half_a_header() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], TRUST);
    let client = send(&proxy, b"PROXY TCP4 192.0.2.7");
    finish_sending(&client);
    assert_eq!(seen(&client), Seen::Reset);
    let entry = proxy.expect_ended("bad-proxy-header");
    let reason = "the client closed after 20 bytes of a PROXY header: begins with \
                  'PROXY TCP4 192.0.2.7'";
    assert_eq!(entry["reason"], reason);
    connections.expect_none();
    proxy.stop();
}
