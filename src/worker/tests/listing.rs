//! What whoever asks for a list is told of sessions.

use std::net::{TcpListener, TcpStream};

use super::*;
use crate::connection::Listed;

/// A socket of TCP that was just accepted, and its peer.
fn accepted() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), peer)
}

fn listed(bench: &Bench, key: Key) -> Listed {
    bench.worker.listed(key.slot, bench.millis()).unwrap()
}

#[test]
fn waits_are_known_of_those_that_came_while_somebody_looked() {
    let mut bench = Bench::new(Script::default());
    let mut peers = Vec::new();
    let mut connect = |bench: &mut Bench| {
        let (socket, peer) = accepted();
        peers.push(peer);
        let asked = bench.adopt_socket(socket);
        let [(key, ONCE)] = asked[..] else { panic!("{asked:?} is no single receive") };
        key
    };
    let before = connect(&mut bench);
    bench.notes_waits = true;
    let while_looking = connect(&mut bench);
    bench.notes_waits = false;
    let after = connect(&mut bench);
    let known = [before, while_looking, after].map(|key| listed(&bench, key).waited.is_some());
    assert_eq!(known, [false, true, false]);
    // The next one in its slot is another connection.
    assert_eq!(bench.end(while_looking), [Close]);
    let next = connect(&mut bench);
    assert_eq!((next.slot, listed(&bench, next).waited), (while_looking.slot, None));
}

#[test]
fn what_is_no_tcp_has_no_wait() {
    let mut bench = Bench::new(Script::default());
    bench.notes_waits = true;
    let key = bench.connect();
    assert_eq!(listed(&bench, key).waited, None);
}

#[test]
fn a_peer_stalls_while_it_takes_nothing_of_what_is_sent() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"echo");
    bench.pass(700);
    assert_eq!(listed(&bench, key).stalled, Some(Duration::from_millis(700)));
    // It goes on talking, which is no progress of what is sent to it.
    bench.input(key, true, b"more");
    bench.pass(200);
    assert_eq!(listed(&bench, key).stalled, Some(Duration::from_millis(900)));
    bench.sent(key, 2);
    assert_eq!(listed(&bench, key).stalled, Some(Duration::ZERO), "the rest is being sent");
    bench.sent(key, 2);
    bench.sent(key, 4);
    assert_eq!(listed(&bench, key).stalled, None);
}
