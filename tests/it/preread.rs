//! The PROXY header in front of services other than the proxy.

use std::io::{ErrorKind, Read, Write};

use crate::client::{connect, expect_echo, expect_end, finish_sending};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};

const TRUST: [&str; 2] = ["--proxy-protocol-in", "127.0.0.0/8"];
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.8 1111 2222\r\n";

fn start(arguments: &[&str]) -> Server {
    Server::start(&[arguments, &TRUST].concat())
}

#[test]
fn an_echo_gets_what_comes_behind_the_header() {
    let server = start(&["echo"]);
    for pieces in [vec![HEADER], HEADER.chunks(7).collect()] {
        let mut client = connect(server.address());
        for piece in pieces {
            client.write_all(piece).expect("it is open");
        }
        expect_echo(&client, b"payload");
        finish_sending(&client);
        expect_end(client);
    }
    server.stop();
}

#[test]
fn an_http_request_in_the_same_segment_is_answered() {
    let server = start(&["http"]);
    let mut client = connect(server.address());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(&[HEADER, request].concat()).expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello\n"), "{answer}");
    server.stop();
}

#[test]
fn without_a_header_the_connection_ends_and_the_log_says_why() {
    let server = start(&["http"]);
    let mut client = connect(server.address());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    let mut answer = Vec::new();
    let end = client.read_to_end(&mut answer).expect_err("it is reset");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert_eq!(answer, b"");
    let line = "is reset, bad-proxy-header: not a PROXY header: begins with 'GET / HTTP/1.1";
    eventually(SOON, "the log says so", || server.stderr().contains(line));
    server.stop();
}

#[test]
fn a_list_of_connections_has_the_client_that_the_header_names() {
    let folder = Folder::new();
    let control = format!("unix:{}", folder.file("control"));
    let server = start(&["echo", "--control", &control]);
    let waiting = connect(server.address());
    let mut client = connect(server.address());
    client.write_all(HEADER).expect("it is open");
    expect_echo(&client, b"payload");
    let list = Launch::from_file(&["ctl", "--control", &control, "connections"], 0).run();
    assert!(list.stdout.contains("192.0.2.7:1111"), "{}", list.stdout);
    assert!(list.stdout.contains("preread"), "{}", list.stdout);
    drop((client, waiting));
    server.stop();
}
