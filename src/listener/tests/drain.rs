//! What a client sees of a listener that stops.

use std::io::{Read, Write};

use super::*;

fn read_to_end(mut socket: Socket) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    bytes
}

/// What a client meets that begins to connect during a drain: silence where this user may attach a
/// packet filter.
fn refusal() -> io::ErrorKind {
    let listener = listen_plainly("127.0.0.1:0");
    match sys::refuse_syns(listener.as_fd()) {
        Ok(()) => io::ErrorKind::TimedOut,
        Err(_) => io::ErrorKind::ConnectionRefused,
    }
}

#[test]
fn the_queue_is_served_and_new_clients_are_not_answered_or_refused() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = listen_plainly(address);
        let mut client = connect(&listener);
        wait_for(&listener, 1);
        listener.stop_admitting().unwrap();
        let late = TcpStream::connect_timeout(&tcp_address(&listener), REFUSAL);
        assert_eq!(late.unwrap_err().kind(), refusal());
        client.write_all(b"served").unwrap();
        drop(client);
        assert_eq!(read_to_end(accept(&listener)), b"served");
    }
}

/// The client's SYN is dropped by the filter of the old listener and answered, a second later, by
/// the new one.
#[test]
fn a_client_that_comes_during_the_drain_is_served_by_the_next_listener() {
    if refusal() != io::ErrorKind::TimedOut {
        eprintln!("SKIPPED: without CAP_NET_ADMIN a client is refused during the drain");
        return;
    }
    let old = listen_plainly("127.0.0.1:0");
    let address = tcp_address(&old);
    old.stop_admitting().unwrap();
    let client = thread::spawn(move || TcpStream::connect_timeout(&address, DEADLINE));
    eventually(DEADLINE, || old.queue().unwrap().drops > Some(0));
    drop(old);
    let new = listen_plainly(&address.to_string());
    accept(&new);
    client.join().unwrap().unwrap();
}

#[test]
fn stopping_twice_is_allowed() {
    let listener = listen_plainly("127.0.0.1:0");
    listener.stop_admitting().unwrap();
    listener.stop_admitting().unwrap();
}

#[test]
fn a_dropped_listener_refuses() {
    let listener = listen_plainly("127.0.0.1:0");
    let address = tcp_address(&listener);
    drop(listener);
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
