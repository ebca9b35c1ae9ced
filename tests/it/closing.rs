//! The end of a connection, in every order in which two sides can end it.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::client::{
    Pattern, connect, expect_alive, expect_echo, expect_end, finish_sending, reset,
};
use crate::harness::{SOON, Server, eventually};

/// Runs `client` many times beside a connection that must not notice.
#[track_caller]
fn beside_a_bystander(service: &[&str], client: impl Fn(SocketAddr)) {
    const TIMES: usize = 20;
    let server = Server::start(service);
    let address = server.address();
    let mut bystander = connect(address);
    expect_echo(&mut bystander, b"before");
    let open = server.open_files();
    for _ in 0..TIMES {
        client(address);
    }
    expect_echo(&mut bystander, b"after");
    expect_alive(address);
    eventually(SOON, "every descriptor was given back", || server.open_files() <= open);
    drop(bystander);
    server.stop();
}

#[test]
fn the_client_ends_first_and_still_gets_its_answer() {
    const BYTES: u64 = 300_000;
    beside_a_bystander(&["echo"], |address| {
        let stream = connect(address);
        let pattern = Pattern { seed: 2 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pattern.send(&stream, BYTES).expect("the server reads");
                finish_sending(&stream);
            });
            pattern.expect(&stream, BYTES);
        });
        expect_end(&stream);
    });
}

#[test]
fn data_and_fin_together() {
    beside_a_bystander(&["echo"], |address| {
        let mut stream = connect(address);
        stream.write_all(b"last words").expect("it is open");
        finish_sending(&stream);
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("a FIN, not a reset");
        assert_eq!(back, b"last words");
    });
}

#[test]
fn a_fin_without_a_byte() {
    beside_a_bystander(&["echo"], |address| {
        let stream = connect(address);
        finish_sending(&stream);
        expect_end(&stream);
    });
}

#[test]
fn a_close_without_a_byte() {
    beside_a_bystander(&["echo"], |address| drop(connect(address)));
}

#[test]
fn a_close_with_an_answer_that_nobody_has_read() {
    beside_a_bystander(&["echo"], |address| {
        let mut stream = connect(address);
        stream.write_all(&[7; 50_000]).expect("the server reads");
        stream.read_exact(&mut [0; 1]).expect("the answer has begun");
        drop(stream);
    });
}

#[test]
fn a_reset_in_the_middle() {
    beside_a_bystander(&["echo"], |address| {
        let mut stream = connect(address);
        stream.write_all(&[7; 50_000]).expect("the server reads");
        reset(stream);
    });
    beside_a_bystander(&["echo"], |address| reset(connect(address)));
}

#[test]
fn a_reset_behind_a_fin() {
    beside_a_bystander(&["echo"], |address| {
        let mut stream = connect(address);
        stream.write_all(&[7; 50_000]).expect("the server reads");
        finish_sending(&stream);
        reset(stream);
    });
}

#[test]
fn the_server_ends_first() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let server = Server::start(&["http", "--body-size", "200000"]);
    for _ in 0..20 {
        let mut stream = connect(server.address());
        stream.write_all(REQUEST).expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a FIN, not a reset");
        assert!(answer.len() > 200_000, "{} bytes came", answer.len());
    }
    server.stop();
}
