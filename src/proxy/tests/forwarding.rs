//! Bytes both ways.

use super::*;
use crate::connection::FEED_INTERVAL;

#[test]
fn what_came_while_connecting_goes_first() {
    let mut bench = Bench::new();
    let (key, address) = bench.dial();
    assert_eq!(address, "127.0.0.1:1");
    assert_eq!(bench.last_input(key, Client, b"early"), [(Client, many(BUDGET_BYTES - 5))]);
    let asked = bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, Send(b"early".to_vec())), (Backend, all())]);
}

#[test]
fn bytes_go_both_ways_from_the_buffers_they_came_in() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let asked = bench.last_input(key, Client, b"question");
    assert_eq!(asked, [(Client, many(BUDGET_BYTES - 8)), (Backend, Send(b"question".to_vec()))]);
    assert_eq!(bench.sent(key, Backend, 8), []);
    assert_eq!(bench.input(key, Backend, b"answer"), [(Client, Send(b"answer".to_vec()))]);
    assert_eq!(bench.sent(key, Client, 6), []);
    assert_eq!(bench.pool.free(), BUFFERS);
    assert_eq!(bench.count(Counter::ReceivedBytes), 14);
    assert_eq!(bench.count(Counter::SentBytes), 14);
}

#[test]
fn one_send_is_in_flight_per_end_and_small_pieces_join() {
    let mut bench = Bench::new();
    let key = bench.pair();
    assert_eq!(bench.input(key, Backend, b"a"), [(Client, Send(b"a".to_vec()))]);
    assert_eq!(bench.input(key, Backend, b"b"), []);
    assert_eq!(bench.input(key, Backend, b"c"), []);
    assert_eq!(bench.sent(key, Client, 1), [(Client, Send(b"bc".to_vec()))]);
}

#[test]
fn an_end_that_does_not_read_stops_the_other_from_being_read() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let large = [1; 4000];
    assert_eq!(bench.input(key, Backend, &large), [(Client, Send(large.to_vec()))]);
    assert_eq!(bench.input(key, Backend, &large), []);
    // The credit is used up.
    assert_eq!(bench.last_input(key, Backend, &large), []);
    // Room for 6000 of the 10,000 bytes is no room yet: 8000 wait.
    assert_eq!(
        bench.sent(key, Client, 4000),
        [(Client, Send(large.to_vec())), (Backend, many(BUDGET_BYTES - 8000))]
    );
    // The client is read all the same.
    let asked = bench.last_input(key, Client, b"x");
    assert_eq!(asked, [(Client, many(BUDGET_BYTES - 1)), (Backend, Send(b"x".to_vec()))]);
}

#[test]
fn without_credit_every_receive_is_single() {
    let settings = ProxySettings { upstreams: vec![upstream(|_| {})], ..settings() };
    let limits = ThreadLimits { receive_credit: false, ..LIMITS };
    let mut bench = Bench::on_thread(settings, limits, NO_PIPES);
    let (key, _) = bench.dial();
    assert_eq!(bench.on(key, Backend, Event::Connected(Ok(()))), [(Backend, ONCE)]);
    let asked = bench.last_input(key, Client, b"x");
    assert_eq!(asked, [(Client, ONCE), (Backend, Send(b"x".to_vec()))]);
}

#[test]
fn a_receive_without_a_buffer_waits_for_one() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    assert_eq!(bench.receive_fails(key, Client, Errno::ENOBUFS), []);
    assert_eq!(bench.count(Counter::Starved), 1);
    assert_eq!(bench.pass(1), []);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.pass(1), [(Client, ONCE)]);
}

#[test]
fn a_starved_end_does_not_wait_for_one_that_has_nothing_to_say() {
    let mut bench = Bench::new();
    let (one, other) = (bench.pair(), bench.pair());
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(one, Client, Errno::ENOBUFS);
    bench.receive_fails(other, Client, Errno::ENOBUFS);
    let buffer = held.into_iter().next().expect("the pool is not empty");
    bench.pool.recycle(buffer);
    // There is one buffer, so the first of them is asked.
    assert_eq!(bench.pass(1), [(Client, ONCE)]);
    assert_eq!(bench.starved.next(), Some(FEED_INTERVAL));
    assert_eq!(bench.pass(5), [(Client, ONCE)]);
}
