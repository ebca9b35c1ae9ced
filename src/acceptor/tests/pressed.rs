//! Connections that wait too long: who is looked at, shed, served first, or makes room.

use super::*;
use crate::config::{OverloadAction, OverloadConfig};

/// A bench whose listeners do this when they are overloaded: with a target of 5 ms, and an interval of 100 ms.
fn bench(action: OverloadAction, setup: Setup) -> Bench {
    let bench = Bench::new(setup);
    for pressure in &bench.pressures {
        pressure.follow(&OverloadConfig { action, ..OverloadConfig::default() });
    }
    bench
}

/// The worker takes over what has come, all of which has waited so long. Returns how many there are, how many of them
/// are served newest first, and how many are shed.
fn adopt(bench: &Bench, wait: u64) -> (usize, usize, usize) {
    let (mut adopted, mut newest, mut shed) = (0, 0, 0);
    let wait = Duration::from_millis(wait);
    for accepted in bench.dispatched() {
        adopted += 1;
        newest += usize::from(accepted.pressed.newest_first.is_some());
        shed += usize::from(accepted.pressed.shed.is_some_and(|shed| shed.takes(wait)));
        if let Some(look) = accepted.pressed.look {
            look.adopted(wait, Duration::ZERO);
        }
    }
    bench.inboxes[0].closed(adopted);
    bench.connection_limit.release(adopted);
    (adopted, newest, shed)
}

/// Ten connections every 10 ms for so long, all with this wait. Returns how many there are, newest first, shed.
fn load(bench: &mut Bench, millis: u64, wait: u64) -> (usize, usize, usize) {
    let (mut adopted, mut newest, mut shed) = (0, 0, 0);
    for _ in 0..millis / 10 {
        bench.connections(0, 10);
        bench.turn();
        let some = adopt(bench, wait);
        (adopted, newest, shed) = (adopted + some.0, newest + some.1, shed + some.2);
        bench.pass(10);
    }
    (adopted, newest, shed)
}

fn overloaded(action: OverloadAction) -> Bench {
    let mut bench = bench(action, Setup::default());
    bench.turn();
    load(&mut bench, 200, 50);
    assert!(bench.pressures[0].since().is_some());
    bench
}

#[test]
fn a_calm_queue_is_looked_at_now_and_then_and_nobody_is_held_up() {
    let mut bench = bench(OverloadAction::Shed, Setup::default());
    bench.turn();
    let mut looks = 0;
    for _ in 0..1_000 {
        bench.connections(0, 5);
        bench.turn();
        let came = bench.dispatched();
        bench.inboxes[0].closed(came.len());
        bench.connection_limit.release(came.len());
        for look in came.into_iter().filter_map(|accepted| accepted.pressed.look) {
            looks += 1;
            look.adopted(Duration::ZERO, Duration::ZERO);
        }
        bench.pass(1);
    }
    assert!((39..=41).contains(&looks), "{looks} looks in a second");
    assert_eq!((bench.count(Counter::Dispatched), bench.pressures[0].shed()), (5_000, 0));
}

#[test]
fn it_is_told_that_it_is_overloaded_and_that_it_is_no_more() {
    let mut bench = overloaded(OverloadAction::Hold);
    assert_eq!(load(&mut bench, 100, 50), (100, 0, 0), "to hold is to do nothing");
    assert_eq!(bench.pressures[0].begun(), 1);
    load(&mut bench, 20, 0);
    assert_eq!(bench.pressures[0].since(), None);
    assert_eq!(bench.acceptor.next_watch(), None);
}

#[test]
fn it_ends_when_nobody_comes_and_its_thread_wakes_for_that() {
    let mut bench = overloaded(OverloadAction::Hold);
    bench.turn();
    let end = bench.acceptor.next_watch().unwrap();
    assert!(end > bench.now && end <= bench.now + Duration::from_millis(101));
    bench.now = end;
    assert_eq!(bench.turn(), []);
    assert_eq!((bench.pressures[0].since(), bench.acceptor.next_watch()), (None, None));
}

#[test]
fn who_waits_too_long_in_an_overload_is_shed_until_nobody_does() {
    let mut bench = overloaded(OverloadAction::Shed);
    let before = bench.pressures[0].shed();
    // All but the last of each ten.
    assert_eq!(load(&mut bench, 100, 50), (100, 0, 90));
    assert_eq!(bench.pressures[0].shed() - before, 90);
    // Short waits are what shedding brings about.
    assert_eq!(load(&mut bench, 50, 4), (50, 0, 0));
    assert!(bench.pressures[0].since().is_some());
    assert_eq!(load(&mut bench, 10, 5), (10, 0, 9));
    load(&mut bench, 120, 4);
    assert_eq!(bench.pressures[0].since(), None, "nobody has waited too long for an interval");
    assert_eq!(load(&mut bench, 50, 50), (50, 0, 0), "it has not stood for an interval");
    assert_eq!(bench.pressures[0].begun(), 1);
}

/// What a worker has not taken over has waited at least since it was accepted.
#[test]
fn a_worker_that_takes_nothing_over_is_no_secret() {
    let mut bench = bench(OverloadAction::Hold, Setup::default());
    bench.turn();
    bench.connection(0, true);
    for at in (0..120).step_by(10) {
        bench.turn();
        let expected = at > 100;
        assert_eq!(bench.pressures[0].since().is_some(), expected, "at {at}");
        bench.pass(10);
    }
    // One that is closed before it was taken over tells nothing, and another is looked at.
    drop(bench.dispatched());
    bench.pass(500);
    bench.turn();
    assert_eq!(bench.pressures[0].since(), None);
    bench.connection(0, true);
    bench.turn();
    assert!(bench.dispatched()[0].pressed.look.is_some());
}

#[test]
fn the_newest_is_served_first_once_it_is_overloaded() {
    let mut bench = overloaded(OverloadAction::Lifo);
    let all = bench.connections(0, 4);
    bench.turn();
    let served = bench.descriptors();
    assert_eq!(served, all.into_iter().rev().collect::<Vec<_>>());
    bench.inboxes[0].closed(4);
    bench.connection_limit.release(4);
    bench.pass(10);
    load(&mut bench, 30, 0);
    let all = bench.connections(0, 4);
    bench.turn();
    assert_eq!(bench.descriptors(), all, "in the order of arrival again");
}

#[test]
fn the_newest_of_those_that_are_held_is_served_first() {
    for of_frontend in [false, true] {
        let mut bench = overloaded(OverloadAction::Lifo);
        match of_frontend {
            true => bench.frontend_limits[0].set_limit(bench.frontend_limits[0].open() + 1),
            false => bench.connection_limit.set_limit(1),
        }
        let all = bench.connections(0, 4);
        let mut served = Vec::new();
        for _ in 0..4 {
            bench.turn();
            served.extend(bench.descriptors());
            bench.inboxes[0].closed(1);
            bench.connection_limit.release(1);
            bench.frontend_limits[0].release(1);
        }
        assert_eq!(served, all.into_iter().rev().collect::<Vec<_>>(), "{of_frontend}");
        assert_eq!(bench.acceptor.held(), 0);
    }
}

/// Says for so long that somebody waits, or nobody does; returns how many were asked to make room.
fn wait_at_the_limit(bench: &mut Bench, millis: u64, waits: bool) -> usize {
    let mut asked = 0;
    for _ in 0..millis {
        bench.turn();
        for key in bench.acceptor.take_full() {
            let mut operations = Operations::default();
            bench.acceptor.is_waited_for((key, waits), bench.now, &mut operations);
        }
        asked += std::iter::from_fn(|| bench.inboxes[0].take_eviction()).count();
        bench.pass(1);
    }
    asked
}

fn full(action: OverloadAction) -> Bench {
    let mut bench = bench(action, Setup::default());
    bench.frontend_limits[0].set_limit(1);
    bench.turn();
    bench.connection(0, false);
    bench.turn();
    bench
}

#[test]
fn idle_connections_make_room_where_there_is_no_place_and_somebody_waits() {
    let mut bench = full(OverloadAction::Evict);
    assert_eq!(wait_at_the_limit(&mut bench, 1_000, false), 0, "nobody waits");
    assert_eq!(wait_at_the_limit(&mut bench, 100, true), 0, "not for long enough");
    assert_eq!(wait_at_the_limit(&mut bench, 60, true), 1);
    // By the law: after 100 ms, 71, 58 ...
    let more = wait_at_the_limit(&mut bench, 300, true);
    assert!((4..=6).contains(&more), "{more}");
    bench.frontend_limits[0].release(1);
    assert_eq!(wait_at_the_limit(&mut bench, 1_000, true), 0, "there is a place");
}

#[test]
fn nobody_makes_room_unless_that_is_what_is_done() {
    for action in [OverloadAction::Hold, OverloadAction::Shed, OverloadAction::Lifo] {
        let mut bench = full(action);
        assert_eq!(wait_at_the_limit(&mut bench, 1_000, true), 0, "{action:?}");
    }
    // Nor where there is room, however long they wait.
    let mut bench = overloaded(OverloadAction::Evict);
    assert_eq!(load(&mut bench, 300, 50), (300, 0, 0));
    assert!(bench.inboxes[0].take_eviction().is_none() && bench.acceptor.take_full().is_empty());
}

/// Each acceptor sees its own queue: one that is calm does not end what the other has found.
#[test]
fn listeners_have_a_state_each() {
    let setup = Setup { listeners: 2, ..Setup::default() };
    let mut bench = bench(OverloadAction::Shed, setup);
    bench.turn();
    for _ in 0..30 {
        bench.connection(0, true);
        bench.turn();
        adopt(&bench, 50);
        bench.connection(1, true);
        bench.turn();
        adopt(&bench, 0);
        bench.pass(10);
    }
    assert!(bench.pressures[0].since().is_some() && bench.pressures[1].since().is_none());
    assert_eq!(bench.pressures[1].shed(), 0);
    bench.close();
    for slot in 0..2 {
        bench.acceptor.remove(Key::fixed(slot));
    }
    assert_eq!(bench.pressures[0].since(), None, "a listener that has gone is not overloaded");
}

#[test]
fn a_reload_changes_what_is_done() {
    let mut bench = overloaded(OverloadAction::Hold);
    let follow = |bench: &Bench, action| {
        bench.pressures[0].follow(&OverloadConfig { action, ..OverloadConfig::default() });
    };
    follow(&bench, OverloadAction::Shed);
    let (_, _, shed) = load(&mut bench, 300, 50);
    assert!(shed > 0);
    follow(&bench, OverloadAction::Lifo);
    assert_eq!(load(&mut bench, 100, 50), (100, 100, 0));
    follow(&bench, OverloadAction::Hold);
    assert_eq!(load(&mut bench, 100, 50), (100, 0, 0));
}
