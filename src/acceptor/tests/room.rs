//! Full inboxes: the acceptor holds, accepts nothing, and goes on when there is room.

use super::*;

fn full() -> (Bench, Vec<Descriptor>) {
    let mut bench = Bench::new(Setup { capacity: 2, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    let all = bench.connections(0, 5);
    (bench, all)
}

#[test]
fn full_inboxes_stop_the_accepting() {
    let (mut bench, _) = full();
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.held() > 0 && bench.acceptor.wants_wake());
    assert_eq!(bench.connection_limit.open(), 2, "what is held is not admitted");
    assert_eq!(bench.acceptor.next_turn(), None);
}

#[test]
fn what_is_held_is_placed_in_order_when_the_inbox_was_emptied() {
    let (mut bench, all) = full();
    bench.turn();
    bench.error(0, Errno::ECANCELED);
    let mut placed = bench.descriptors();
    assert_eq!(bench.turn(), [], "two of three were placed");
    assert!(bench.acceptor.wants_wake());
    placed.extend(bench.descriptors());
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    assert!(bench.acceptor.held() == 0 && !bench.acceptor.wants_wake());
    placed.extend(bench.descriptors());
    assert_eq!(placed, all);
    assert_eq!((bench.count(Counter::Accepted), bench.count(Counter::Dispatched)), (5, 5));
}

#[test]
fn a_full_inbox_passes_on_to_the_next_worker() {
    let mut bench = Bench::new(Setup { workers: 2, capacity: 2, ..Setup::default() });
    bench.turn();
    bench.connections(0, 4);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.held() == 0);
    bench.connection(0, true);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    assert!(bench.inboxes[1].take().is_some());
    bench.turn();
    assert!(bench.acceptor.held() == 0);
}

#[test]
fn a_parked_worker_is_woken_once_for_a_batch() {
    let mut bench = Bench::armed();
    assert!(bench.inboxes[0].park());
    bench.connections(0, 3);
    assert_eq!(bench.turn(), [Asked::Wake]);
    bench.connection(0, true);
    assert_eq!(bench.turn(), []);
}

/// What a thread does before it waits: announce, take one more turn, wait.
#[test]
fn a_place_released_before_the_announcement_is_seen_in_the_turn_after_it() {
    let mut bench = Bench::new(Setup { limit: 1, ..Setup::default() });
    bench.turn();
    bench.connection(0, false);
    assert_eq!(bench.turn(), []);
    drop(bench.dispatched());
    bench.connection_limit.release(1);
    assert!(bench.acceptor.wants_wake(), "it has not looked since");
    assert_eq!(bench.turn(), [Asked::Single(0)]);
}
