//! The end of an acceptor: close, abandon, done.

use super::*;

#[test]
fn closing_cancels_and_is_done_after_the_last_completion() {
    let mut bench = Bench::new(Setup { listeners: 2, ..Setup::default() });
    bench.turn();
    bench.close();
    assert_eq!(bench.turn(), [Asked::Cancel(0), Asked::Cancel(1)]);
    assert!(!bench.is_done());
    bench.error(1, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    assert!(!bench.is_done());
    let late = bench.connection(0, false);
    assert!(!bench.is_done(), "the last one is not placed yet");
    assert_eq!(bench.turn(), []);
    assert!(bench.is_done());
    assert_eq!(bench.descriptors(), [late]);
    assert!(!bench.acceptor.wants_wake());
}

/// A unix socket that was shut down so.
#[test]
fn an_empty_queue_during_a_drain_is_no_broken_listener() {
    let mut bench = Bench::new(Setup::default());
    bench.turn();
    bench.drain();
    bench.error(0, Errno::EINVAL);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.count(Counter::AcceptBroken), 0);
    assert!(!bench.acceptor.wants_wake(), "nothing is left to do");
    bench.close();
    assert_eq!(bench.turn(), []);
    assert!(bench.is_done());
}

#[test]
fn an_acceptor_that_was_never_armed_is_done_when_it_is_closed() {
    let mut bench = Bench::new(Setup::default());
    assert!(!bench.is_done());
    bench.close();
    assert_eq!(bench.turn(), []);
    assert!(bench.is_done());
}

#[test]
fn closing_ends_singles_with_one_cancel() {
    let mut bench = Bench::new(Setup { limit: 3, ..Setup::default() });
    bench.turn();
    bench.close();
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    for _ in 0..3 {
        assert!(!bench.is_done());
        bench.error(0, Errno::ECANCELED);
        assert_eq!(bench.turn(), []);
    }
    assert!(bench.is_done());
}

#[test]
fn what_is_held_is_still_placed_after_closing() {
    let mut bench = Bench::new(Setup { capacity: 1, ..Setup::default() });
    bench.turn();
    bench.connections(0, 2);
    bench.close();
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.wants_wake() && !bench.is_done());
    assert_eq!(bench.descriptors().len(), 1);
    assert_eq!(bench.turn(), []);
    assert!(bench.is_done());
    assert_eq!(bench.descriptors().len(), 1);
}

#[test]
fn abandoning_drops_what_is_held_and_waits_only_for_completions() {
    let mut bench = Bench::new(Setup { capacity: 1, ..Setup::default() });
    bench.turn();
    bench.connections(0, 3);
    bench.turn();
    bench.acceptor.abandon();
    assert!(bench.acceptor.held() == 0 && !bench.is_done());
    assert_eq!(bench.turn(), []);
    bench.error(0, Errno::ECANCELED);
    assert!(bench.is_done());
    assert_eq!((bench.descriptors().len(), bench.connection_limit.open()), (1, 1));
}

#[test]
fn a_closed_acceptor_has_no_turn_to_wait_for() {
    let mut bench = Bench::armed();
    bench.error(0, Errno::EMFILE);
    bench.close();
    assert_eq!(bench.turn(), []);
    assert!(bench.is_done());
    assert_eq!(bench.acceptor.next_turn(), None, "its thread would spin once that has passed");
}
