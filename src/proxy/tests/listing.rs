//! What whoever asks for a list is told of pairs.

use std::net::{TcpListener, TcpStream};

use super::*;
use crate::connection::Listed;

fn listed(bench: &mut Bench, key: Key) -> Listed {
    let millis = bench.millis();
    bench.proxy.listed(key.slot, millis).unwrap()
}

#[test]
fn waits_are_known_of_those_that_came_while_somebody_looked() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peers = Vec::new();
    let mut known = Vec::new();
    for looks in [false, true, false] {
        bench.notes_waits = looks;
        peers.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let asked = bench.adopt_socket(listener.accept().unwrap().0.into());
        let key = asked[0].0;
        known.push(listed(&mut bench, key).waited.is_some());
    }
    assert_eq!(known, [false, true, false]);
}

#[test]
fn the_end_that_stalls_longer_counts() {
    let mut bench = Bench::new();
    let key = bench.pair();
    assert_eq!(listed(&mut bench, key).stalled, None);
    bench.input(key, Client, b"to the backend");
    bench.pass(300);
    bench.input(key, Backend, b"to the client");
    bench.pass(400);
    assert_eq!(listed(&mut bench, key).stalled, Some(Duration::from_millis(700)));
    bench.sent(key, Backend, 14);
    assert_eq!(listed(&mut bench, key).stalled, Some(Duration::from_millis(400)));
    bench.sent(key, Client, 13);
    assert_eq!(listed(&mut bench, key).stalled, None);
}
