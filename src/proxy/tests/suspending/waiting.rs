//! Pairs in the queue.

use super::*;
use crate::connection::suspended::PairStage;

/// One backend that takes one connection, and a queue for two.
fn full() -> (Bench, Key) {
    let view = upstream(|config| {
        config.backends.truncate(1);
        config.max_connections = std::num::NonZeroUsize::new(1);
    });
    let mut bench = Bench::with(settings(), vec![view], PrereadRules::default());
    let open = bench.pair();
    (bench, open)
}

#[test]
fn those_that_wait_move_with_what_they_have_said_and_keep_their_place() {
    let ((mut bench, _), (mut other, open)) = (full(), full());
    let waits = [b"1", b"2"].map(|name| {
        let key = bench.adopt()[0].0;
        bench.pass(500);
        bench.last_input(key, Client, name);
        key
    });
    bench.pass(500);
    // More is asked for, and comes with the cancel.
    let mut moved: Vec<_> = waits
        .into_iter()
        .map(|key| {
            assert_eq!(bench.suspend(key).unwrap(), [(Client, RECEIVE)]);
            let _ = match key == waits[0] {
                true => bench.last_input(key, Client, b"!"),
                false => bench.on(key, Client, cancelled()),
            };
            bench.taken()
        })
        .collect();
    assert_eq!((bench.proxy.versions.get(bench.version).waiting, bench.leased()), (0, 1));
    assert_eq!(bench.pass(20), []);
    // There the queue is full already.
    let here = [other.adopt()[0].0, other.adopt()[0].0];
    let second = other.resume_told(moved.pop().unwrap()).0;
    let first = other.resume_told(moved.pop().unwrap()).0;
    assert_eq!(other.proxy.versions.get(other.version).waiting, 4);
    assert_eq!(
        (other.count(Counter::BackendQueued), other.count(Counter::ClosedByQueueFull)),
        (2, 0)
    );
    other.pass(20);
    assert_eq!(other.proxy.waiting, [first, second, here[0], here[1]]);
    // Who has waited longest is first, and what it said goes along.
    other.fin(open, Client);
    other.fin(open, Backend);
    assert_eq!(other.pass(10), [(Backend, Open)]);
    other.opened(first);
    let asked = other.on(first, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, Send(b"1!".to_vec())), (Backend, all())]);
    // How long the other one may wait counts from where it began.
    assert_eq!(other.pass(2100), []);
    assert_eq!(operations(other.pass(450)), [RECEIVE]);
    assert_eq!(other.proxy.table.get(second).unwrap().ended, Ended::QueueTimeout);
}

#[test]
fn who_is_on_its_way_out_of_the_queue_is_not_served_any_more() {
    let (mut bench, open) = full();
    let [leaves, stays] = [(); 2].map(|()| bench.adopt()[0].0);
    bench.suspend(leaves).unwrap();
    bench.fin(open, Client);
    bench.fin(open, Backend);
    let asked = bench.act(|_, _| {});
    assert_eq!(asked, [(stays, Backend, Open)]);
    bench.on(leaves, Client, cancelled());
    let suspended = bench.taken();
    assert_eq!(record(&suspended).stage, PairStage::Waiting);
    assert_eq!((bench.proxy.versions.get(bench.version).waiting, bench.leased()), (0, 1));
    // There is nothing that it could be counted at.
    assert!(suspended.place.lease.is_none());
}
