//! max-connections: exact, with the excess in the kernel's queue.

use super::*;

/// Takes what was dispatched and closes so many of them.
fn close(bench: &Bench, count: usize) {
    assert!((0..count).all(|_| bench.inboxes[0].take().is_some()));
    bench.inboxes[0].closed(count);
    bench.connection_limit.release(count);
}

/// Turns until nothing more is asked for; the completions of a cancel come at once.
fn settle(bench: &mut Bench) -> Vec<Asked> {
    let mut in_flight = 0;
    let mut all = Vec::new();
    loop {
        let asked = bench.turn();
        if asked.is_empty() {
            return all;
        }
        for one in &asked {
            match one {
                Asked::Cancel(slot) => {
                    (0..std::mem::take(&mut in_flight)).for_each(|_| {
                        bench.error(*slot, Errno::ECANCELED);
                    });
                }
                Asked::Many(_) | Asked::Single(_) => in_flight += 1,
                Asked::Wake | Asked::Reset | Asked::Close => {}
            }
        }
        all.extend(asked);
    }
}

#[test]
fn near_the_limit_the_multishot_gives_way_to_as_many_singles_as_there_are_places() {
    let mut bench = Bench::new(Setup { limit: 8, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    bench.connections(0, 3);
    assert_eq!(bench.turn(), [], "five places are more than a queue of four");
    bench.connection(0, true);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    assert_eq!(bench.turn(), [], "nothing is armed before the last completion");
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), singles(0, 4));
    assert_eq!(bench.count(Counter::AcceptCancels), 1);
    // What the cancel brought is no error of anything.
    let errors = [Counter::AcceptUnknown, Counter::AcceptPauses, Counter::AcceptInterrupted];
    assert!(errors.iter().all(|counter| bench.count(*counter) == 0));
}

#[test]
fn a_connection_that_a_cancel_did_not_stop_is_served() {
    for last in [true, false] {
        let mut bench = Bench::new(Setup { limit: 5, ..Setup::default() });
        assert_eq!(bench.turn(), [Asked::Many(0)]);
        let first = bench.connection(0, true);
        assert_eq!(bench.turn(), [Asked::Cancel(0)]);
        let late = bench.connection(0, !last);
        let rearmed = bench.turn();
        assert_eq!(rearmed, if last { singles(0, 3) } else { vec![] });
        assert_eq!(bench.descriptors(), [first, late]);
    }
}

#[test]
fn the_last_place_is_filled_and_then_nothing_is_armed() {
    let mut bench = Bench::new(Setup { limit: 2, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 2));
    bench.connection(0, false);
    assert_eq!(bench.turn(), [], "one place, one accept in flight");
    bench.connection(0, false);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.wants_wake() && bench.acceptor.held() == 0);
    assert_eq!((bench.connection_limit.open(), bench.connection_limit.headroom()), (2, 0));
    close(&bench, 1);
    assert_eq!(bench.turn(), singles(0, 1));
    assert!(!bench.acceptor.wants_wake());
}

#[test]
fn what_comes_beyond_the_limit_is_held_and_placed_in_order() {
    let mut bench = Bench::new(Setup { limit: 5, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    let all = bench.connections(0, 9);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.held() > 0 && bench.acceptor.wants_wake());
    assert_eq!(bench.connection_limit.open(), 5);
    let mut placed = bench.descriptors();
    for _ in 0..4 {
        bench.inboxes[0].closed(1);
        bench.connection_limit.release(1);
        assert_eq!(bench.turn(), []);
        assert_eq!(bench.connection_limit.open(), 5);
        placed.extend(bench.descriptors());
    }
    assert_eq!(placed, all);
    assert!(bench.acceptor.held() == 0);
}

#[test]
fn the_way_back_to_multishot_has_hysteresis() {
    let (backlog, limit) = (16, 40);
    let mut bench = Bench::new(Setup { backlog, limit, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    bench.connections(0, limit - backlog);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), singles(0, backlog));
    close(&bench, 1);
    assert_eq!(bench.turn(), singles(0, 1), "one place more is no reason to change");
    close(&bench, 1);
    assert_eq!(bench.turn(), singles(0, 1));
    close(&bench, 10);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    (0..backlog + 2).for_each(|_| bench.error(0, Errno::ECANCELED));
    assert_eq!(bench.turn(), [Asked::Many(0)]);
}

#[test]
fn several_listeners_share_the_headroom() {
    let mut bench = Bench::new(Setup { listeners: 3, backlog: 100, limit: 9, ..Setup::default() });
    let asked = bench.turn();
    assert_eq!(asked, [singles(0, 3), singles(1, 3), singles(2, 3)].concat());
}

#[test]
fn the_last_place_is_open_to_every_listener_and_goes_to_one() {
    let mut bench = Bench::new(Setup { listeners: 2, limit: 1, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Single(0), Asked::Single(1)]);
    let (first, second) = (bench.connection(1, false), bench.connection(0, false));
    assert_eq!(bench.turn(), []);
    assert_eq!((bench.connection_limit.open(), bench.acceptor.held() > 0), (1, true));
    assert_eq!(bench.descriptors(), [first]);
    bench.inboxes[0].closed(1);
    bench.connection_limit.release(1);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.descriptors(), [second]);
}

#[test]
fn a_full_server_leaves_no_accept_in_flight() {
    let mut bench = Bench::new(Setup { listeners: 2, limit: 2, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Single(0), Asked::Single(1)]);
    bench.connection(0, false);
    assert_eq!(bench.turn(), [Asked::Single(0)]);
    bench.connection(0, false);
    assert_eq!(bench.turn(), [Asked::Cancel(1)]);
    bench.error(1, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
}

#[test]
fn from_empty_to_full_and_back_ends_where_it_began() {
    let mut bench = Bench::new(Setup { limit: 20, ..Setup::default() });
    assert_eq!(settle(&mut bench), [Asked::Many(0)]);
    bench.connections(0, 20);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    close(&bench, 20);
    assert_eq!(settle(&mut bench), [Asked::Many(0)]);
    assert_eq!((bench.connection_limit.open(), bench.connection_limit.headroom()), (0, 20));
}
