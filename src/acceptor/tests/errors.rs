//! The errors of accept(2), one by one.

use super::*;

const RETRY: [Errno; 12] = [
    Errno::ECONNABORTED,
    Errno::EINTR,
    Errno::EPERM,
    Errno::EPROTO,
    Errno::ENETDOWN,
    Errno::ENOPROTOOPT,
    Errno::EHOSTDOWN,
    Errno::ENONET,
    Errno::EHOSTUNREACH,
    Errno::ENETUNREACH,
    Errno::ETIMEDOUT,
    Errno::ECONNRESET,
];
const PAUSE: [Errno; 6] =
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EAGAIN, Errno(9999)];
const STOP: [Errno; 5] =
    [Errno::EBADF, Errno::EINVAL, Errno::ENOTSOCK, Errno::EOPNOTSUPP, Errno::EFAULT];

#[test]
fn an_error_of_the_new_connection_rearms_in_the_same_turn() {
    for errno in RETRY {
        let mut bench = Bench::armed();
        bench.error(0, errno);
        assert_eq!(bench.turn(), [Asked::Many(0)], "{errno}");
        assert!(!bench.acceptor.wants_wake(), "{errno}");
        assert_eq!(bench.acceptor.next_turn(), None, "{errno}");
    }
}

#[test]
fn an_error_with_more_behind_it_arms_nothing() {
    let mut bench = Bench::armed();
    bench.complete(0, true, Err(Errno::ECONNABORTED));
    assert_eq!(bench.turn(), []);
}

#[test]
fn a_shortage_arms_nothing_until_the_back_off_has_passed() {
    for errno in PAUSE {
        let mut bench = Bench::armed();
        bench.error(0, errno);
        assert_eq!(bench.turn(), [], "{errno}");
        assert_eq!(bench.acceptor.next_turn(), Some(bench.now + Duration::from_millis(10)));
        assert!(bench.acceptor.wants_wake(), "{errno}");
        bench.pass(9);
        assert_eq!(bench.turn(), [], "{errno}");
        bench.pass(1);
        assert_eq!(bench.turn(), [Asked::Many(0)], "{errno}");
        assert_eq!(bench.acceptor.next_turn(), None, "{errno}");
        assert_eq!(bench.count(Counter::AcceptPauses), 1, "{errno}");
    }
}

#[test]
fn a_closed_connection_ends_a_pause_at_once() {
    let mut bench = Bench::armed();
    bench.connection(0, true);
    bench.turn();
    bench.error(0, Errno::EMFILE);
    assert_eq!(bench.turn(), []);
    bench.connection_limit.release(1);
    assert_eq!(bench.turn(), [Asked::Many(0)]);
}

/// The pauses that `count` errors in a row cost, in milliseconds.
fn pauses(bench: &mut Bench, count: usize) -> Vec<u128> {
    let mut pauses = Vec::new();
    for _ in 0..count {
        bench.error(0, Errno::EMFILE);
        bench.turn();
        let pause = bench.acceptor.next_turn().expect("it rests") - bench.now;
        pauses.push(pause.as_millis());
        bench.now += pause;
        assert_eq!(bench.turn(), [Asked::Many(0)]);
    }
    pauses
}

#[test]
fn the_back_off_doubles_up_to_half_a_second_and_a_success_resets_it() {
    let mut bench = Bench::armed();
    assert_eq!(pauses(&mut bench, 8), [10, 20, 40, 80, 160, 320, 500, 500]);
    bench.connection(0, true);
    assert_eq!(pauses(&mut bench, 2), [10, 20]);
}

#[test]
fn one_shortage_that_several_accepts_meet_is_one_pause() {
    let mut bench = Bench::new(Setup { limit: 4, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 4));
    (0..4).for_each(|_| bench.error(0, Errno::EMFILE));
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.acceptor.next_turn(), Some(bench.now + Duration::from_millis(10)));
    assert_eq!(bench.count(Counter::AcceptPauses), 1);
    assert_eq!(bench.count(Counter::AcceptProcessDescriptors), 4);
}

#[test]
fn a_pause_takes_back_the_other_accepts() {
    let mut bench = Bench::new(Setup { limit: 3, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 3));
    bench.error(0, Errno::EMFILE);
    assert_eq!(bench.turn(), [Asked::Cancel(0)]);
    bench.error(0, Errno::ECANCELED);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.turn(), []);
    bench.pass(10);
    assert_eq!(bench.turn(), singles(0, 1));
}

#[test]
fn after_a_pause_one_accept_looks_whether_the_shortage_is_over() {
    let mut bench = Bench::new(Setup { limit: 4, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 4));
    (0..4).for_each(|_| bench.error(0, Errno::EMFILE));
    assert_eq!(bench.turn(), []);
    bench.pass(10);
    assert_eq!(bench.turn(), singles(0, 1));
    bench.error(0, Errno::EMFILE);
    bench.pass(20);
    assert_eq!(bench.turn(), singles(0, 1));
    bench.complete(0, false, Ok(null()));
    assert_eq!(bench.turn(), singles(0, 3));
}

#[test]
fn a_broken_listener_stays_broken() {
    for errno in STOP {
        let mut bench = Bench::armed();
        bench.error(0, errno);
        assert_eq!(bench.turn(), [], "{errno}");
        bench.connection_limit.release(0);
        bench.pass(3_600_000);
        assert_eq!(bench.turn(), [], "{errno}");
        assert!(bench.acceptor.is_over(Key::fixed(0)) && !bench.is_done(), "{errno}");
        assert_eq!(bench.acceptor.take_broken(), [(Key::fixed(0), errno)], "told once");
        assert_eq!(bench.acceptor.take_broken(), [], "told once");
        assert!(!bench.acceptor.wants_wake() && bench.acceptor.next_turn().is_none(), "{errno}");
        assert_eq!(bench.count(Counter::AcceptBroken), 1, "{errno}");
    }
}

#[test]
fn a_shortage_does_not_mend_a_broken_listener() {
    let mut bench = Bench::new(Setup { limit: 2, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 2));
    bench.error(0, Errno::EBADF);
    bench.error(0, Errno::EMFILE);
    bench.pass(3_600_000);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.is_over(Key::fixed(0)));
}

#[test]
fn several_accepts_that_break_are_one_listener() {
    let mut bench = Bench::new(Setup { limit: 2, ..Setup::default() });
    assert_eq!(bench.turn(), singles(0, 2));
    (0..2).for_each(|_| bench.error(0, Errno::EBADF));
    assert_eq!(bench.acceptor.take_broken(), [(Key::fixed(0), Errno::EBADF)]);
}

#[test]
fn a_listener_that_breaks_leaves_the_others_alone() {
    let mut bench = Bench::new(Setup { listeners: 2, ..Setup::default() });
    assert_eq!(bench.turn(), [Asked::Many(0), Asked::Many(1)]);
    bench.error(0, Errno::EINVAL);
    assert_eq!(bench.turn(), []);
    assert!(bench.acceptor.is_over(Key::fixed(0)) && !bench.acceptor.is_over(Key::fixed(1)));
    bench.error(1, Errno::ECONNABORTED);
    assert_eq!(bench.turn(), [Asked::Many(1)]);
    bench.error(1, Errno::EINVAL);
    assert_eq!(bench.acceptor.take_broken(), [0, 1].map(|slot| (Key::fixed(slot), Errno::EINVAL)));
}

#[test]
fn a_connection_without_more_is_served_and_the_accept_is_rearmed() {
    let mut bench = Bench::armed();
    let connection = bench.connection(0, false);
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    let dispatched = bench.dispatched();
    assert_eq!(Descriptor::of(&dispatched[0].socket), connection);
    let listener = ListenerId { frontend: FrontendId(0), index: 0 };
    assert_eq!((dispatched[0].listener, dispatched[0].accepted_at), (listener, bench.now));
    assert_eq!((bench.count(Counter::Accepted), bench.count(Counter::Dispatched)), (1, 1));
}

#[test]
fn what_is_not_ours_is_counted_and_closed() {
    let mut bench = Bench::armed();
    for key in [Key::fixed(1), Key::fixed(u32::MAX)] {
        let event = Event::Accepted(Ok(null()));
        bench.acceptor.complete(Completion { key, more: false, event }, bench.now);
    }
    let event = Event::Sent(Ok(1));
    bench.acceptor.complete(Completion { key: Key::fixed(0), more: false, event }, bench.now);
    assert_eq!(bench.turn(), []);
    assert_eq!((bench.count(Counter::Stale), bench.descriptors().len()), (3, 0));
}
