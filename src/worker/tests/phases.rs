//! Drain, stop, and what is known of a connection.

use std::net::{TcpListener, TcpStream};

use super::*;
use crate::connection::PLACES_MAX;

#[test]
fn a_drain_asks_every_open_session_once() {
    let mut bench = Bench::new(Script {
        draining: |outbox| {
            outbox.write(b"bye");
            Action::Close
        },
        ..Script::default()
    });
    let (idle, busy) = (bench.connect(), bench.connect());
    bench.input(busy, false, b"a");
    let asked = bench.drain();
    assert_eq!(asked, [(idle, Send(b"bye".to_vec()))]);
    assert_eq!(bench.sent(idle, 3), [shut(Shutdown::Both)]);
    assert_eq!(bench.end(idle), [Close]);
    assert_eq!(bench.sent(busy, 1), [Send(b"bye".to_vec())]);
    assert_eq!(bench.sent(busy, 3), [shut(Shutdown::Both)]);
    assert_eq!(bench.end(busy), [Close]);
    assert_eq!(bench.told(), [0, 1].map(|session| (session, CloseReason::ServiceClosed)));
    bench.nothing_left();
}

#[test]
fn a_drain_leaves_a_session_that_is_not_done() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.input(key, false, b"a")[0], Send(b"a".to_vec()));
}

#[test]
fn a_drain_asks_a_bounded_number_of_sessions_in_one_turn() {
    let mut bench = Bench::new(Script { draining: |_| Action::Close, ..Script::default() });
    let count = PLACES_MAX as usize * 2 + 1;
    let mut keys: Vec<Key> = (0..count).map(|_| bench.connect()).collect();
    let closed = |asked: Vec<(Key, Asked)>| asked.into_iter().map(|(key, _)| key);
    let mut told: Vec<Key> = closed(bench.drain()).collect();
    assert!((1..=PLACES_MAX as usize).contains(&told.len()), "{told:?}");
    assert_eq!(bench.next_tick(), Some(Duration::ZERO));
    // One that comes meanwhile has a slot behind the others.
    keys.push(bench.connect());
    while bench.next_tick() == Some(Duration::ZERO) {
        let some: Vec<Key> = closed(bench.tick()).collect();
        assert!(some.len() <= PLACES_MAX as usize, "{some:?}");
        told.extend(some);
    }
    told.sort_by_key(|key| key.slot);
    assert_eq!(told, keys);
}

/// A frontend's drain does not hold up that of the server, nor takes longer.
#[test]
fn the_drain_of_a_server_is_over_in_its_own_time() {
    let mut bench = Bench::new(Script { draining: |_| Action::Close, ..Script::default() });
    for _ in 0..4 {
        bench.connect();
    }
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    bench.act(|worker, cx| worker.drain(Some(FrontendId(0)), hour, cx));
    bench.act(|worker, cx| worker.drain(None, second, cx));
    let ended: usize = (0..4).map(|_| bench.pass(250).len()).sum();
    assert_eq!(ended, 4);
}

/// As many as are due, and those that say something are told at once.
#[test]
fn a_drain_that_is_spread_asks_one_session_after_the_other() {
    let mut bench = Bench::new(Script {
        draining: |_| Action::Close,
        data: |input, _| if input.is_draining() { Action::Close } else { Action::Continue },
        ..Script::default()
    });
    let keys: Vec<Key> = (0..4).map(|_| bench.connect()).collect();
    let spread = Duration::from_millis(400);
    assert_eq!(bench.act(|worker, cx| worker.drain(None, spread, cx)), []);
    assert_eq!(bench.next_tick(), Some(spread / 4));
    assert_eq!(bench.input(keys[3], false, b"a"), [Close]);
    for key in [0, 2, 1].map(|place| &keys[place]) {
        let closed: Vec<Key> = bench.pass(100).into_iter().map(|(key, _)| key).collect();
        assert_eq!(closed, [*key]);
    }
    assert_eq!(bench.pass(100), []);
    keys[..3].iter().for_each(|key| assert_eq!(bench.end(*key), [Close]));
    bench.nothing_left();
}

#[test]
fn input_says_whether_the_server_drains() {
    let mut bench = Bench::new(Script {
        data: |input, _| if input.is_draining() { Action::Close } else { Action::Continue },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [many(BUDGET_BYTES)]);
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.input(key, false, b"b"), [Close]);
    let (_, asked) = bench.connect_with(b"c");
    assert_eq!(asked, [Close], "one that comes later is told as well");
}

#[test]
fn a_drain_does_not_ask_a_session_that_is_over() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            Action::Close
        },
        draining: |_| panic!("the session is over"),
        ..Script::default()
    });
    let (key, _) = bench.connect_with(b"a");
    assert_eq!(bench.drain(), []);
    bench.sent(key, 1);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_stop_ends_every_connection_whatever_it_does() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            if input.bytes() == b"." { Action::Close } else { Action::Continue }
        },
        ..Script::default()
    });
    let [idle, sending, last] = [(); 3].map(|()| bench.connect());
    bench.input(sending, false, b"a");
    bench.input(last, false, b".");
    let asked = bench.act(Worker::stop);
    let idle_is_shut = (idle, shut(Shutdown::Both));
    let sends_are_cancelled = [sending, last].map(|key| (key, CancelSend));
    assert_eq!(asked[0], idle_is_shut);
    assert_eq!(asked[1], (sending, CancelReceive));
    assert_eq!(asked[2..], sends_are_cancelled);
    assert_eq!(bench.act(Worker::stop), [], "a second stop changes nothing");
    assert_eq!(bench.end(idle), [Close]);
    assert_eq!(bench.receive_fails(sending, Errno::ECANCELED), []);
    assert_eq!(bench.send_fails(sending, Errno::ECANCELED), [Asked::Reset]);
    assert_eq!(bench.send_fails(last, Errno::ECANCELED), []);
    assert!(bench.told().iter().all(|(_, reason)| *reason == CloseReason::Stopped));
    assert_eq!((bench.told().len(), bench.count(Counter::ClosedByStop)), (3, 3));
    bench.nothing_left();
}

#[test]
fn closed_connections_are_reported_once() {
    let mut bench = Bench::new(Script::default());
    let keys: Vec<_> = (0..3).map(|_| bench.connect()).collect();
    assert_eq!((bench.worker.open(), bench.worker.take_closed()), (3, 0));
    bench.end(keys[0]);
    bench.end(keys[1]);
    assert_eq!((bench.worker.open(), bench.worker.take_closed()), (1, 2));
    assert_eq!(bench.worker.take_closed(), 0);
    assert_eq!((bench.count(Counter::Opened), bench.count(Counter::ClosedByPeer)), (3, 2));
}

#[test]
fn a_session_learns_its_listener_and_its_peer() {
    let mut bench = Bench::new(Script {
        open: |connection| {
            let expected = if connection.listener() == 0 { None } else { Some(true) };
            assert_eq!(connection.peer().map(|peer| peer.ip().is_loopback()), expected);
        },
        ..Script::default()
    });
    bench.connect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let asked = bench.adopt_socket(listener.accept().unwrap().0.into());
    assert!(matches!(asked[..], [(_, ONCE)]), "{asked:?}");
    assert_eq!(bench.count(Counter::ClosedByPanic), 0);
}
