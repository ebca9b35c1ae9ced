//! Tables of events and what they lead to.

use std::num::NonZeroU32;

use super::super::ejections::Ejections;
use super::super::health::{Checked, FailedConnect, Passive, Verdict, ramped};
use super::*;
use crate::config::upstream::PassiveHealth;

/// `+` passes, `-` fails; the answer says after each whether it is up.
fn history(checks: &str, rise: u32, fall: u32) -> String {
    let (rise, fall) = (NonZeroU32::new(rise).unwrap(), NonZeroU32::new(fall).unwrap());
    let rules = ActiveHealth { rise, fall, ..ActiveHealth::default() };
    let mut state = Checked::Unknown;
    let step = |check: char| {
        state = state.after(check == '+', &rules);
        if state.is_up() { 'U' } else { 'D' }
    };
    checks.chars().map(step).collect()
}

#[test]
fn health_has_hysteresis() {
    let table = [
        // The first check decides alone, since nothing is known before it.
        ("-", 2, 3, "D"),
        ("+", 2, 3, "U"),
        ("+---", 2, 3, "UUUD"),
        ("+--+--+", 2, 3, "UUUUUUU"),
        ("-+-+-+", 2, 3, "DDDDDD"),
        ("-++", 2, 3, "DDU"),
        ("-++--+---", 2, 3, "DDUUUUUUD"),
        ("-+-", 1, 1, "DUD"),
    ];
    for (checks, rise, fall, expected) in table {
        assert_eq!(history(checks, rise, fall), expected, "{checks}, {rise}, {fall}");
    }
}

const S: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> FailedConnect {
    FailedConnect { picked: seconds * S, failed: seconds * S }
}

#[test]
fn ejections_double_up_to_their_maximum_and_need_one_failure_after_the_first() {
    let rules = PassiveHealth::default();
    let mut passive = Passive::default();
    let mut now = 0;
    assert_eq!(passive.failed(at(now), &rules, || true), Verdict::Stays);
    assert_eq!(passive.failed(at(now), &rules, || true), Verdict::Stays);
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(passive.failed(at(now), &rules, || true), Verdict::Ejected(expected * S));
        now += expected;
        assert_eq!(passive.until(), now * S);
    }
    for _ in 0..100 {
        assert_eq!(passive.failed(at(now), &rules, || true), Verdict::Ejected(60 * S));
        now += 60;
    }
}

#[test]
fn one_success_forgets_failures_and_growth_but_not_the_ejection_under_way() {
    let rules = PassiveHealth::default();
    let mut passive = Passive::default();
    for _ in 0..2 {
        passive.failed(at(0), &rules, || true);
    }
    passive.succeeded();
    for _ in 0..2 {
        assert_eq!(passive.failed(at(0), &rules, || true), Verdict::Stays);
    }
    assert_eq!(passive.failed(at(0), &rules, || true), Verdict::Ejected(S));
    assert_eq!(passive.failed(at(1), &rules, || true), Verdict::Ejected(2 * S));
    passive.succeeded();
    assert_eq!(passive.failures(), 0);
    assert_eq!(passive.until(), 3 * S);
    for _ in 0..2 {
        assert_eq!(passive.failed(at(3), &rules, || true), Verdict::Stays);
    }
    assert_eq!(passive.failed(at(3), &rules, || true), Verdict::Ejected(S));
}

#[test]
fn connects_from_before_the_end_of_an_ejection_are_old_news() {
    let rules = PassiveHealth::default();
    let mut passive = Passive::default();
    for _ in 0..3 {
        passive.failed(at(5), &rules, || true);
    }
    let late = FailedConnect { picked: 5 * S, failed: 30 * S };
    assert_eq!(passive.failed(late, &rules, || true), Verdict::Stays);
    assert_eq!(passive.until(), 6 * S);
}

#[test]
fn an_ejection_without_room_is_withheld_until_there_is_some() {
    let rules = PassiveHealth::default();
    let mut passive = Passive::default();
    for _ in 0..2 {
        passive.failed(at(0), &rules, || false);
    }
    assert_eq!(passive.failed(at(0), &rules, || false), Verdict::Withheld);
    assert_eq!(passive.failed(at(0), &rules, || false), Verdict::Withheld);
    assert_eq!(passive.failed(at(0), &rules, || true), Verdict::Ejected(S));
}

#[test]
fn passive_health_can_be_off() {
    let rules = PassiveHealth { failures: None, ..PassiveHealth::default() };
    let mut passive = Passive::default();
    assert!((0..50).all(|_| passive.failed(at(0), &rules, || true) == Verdict::Stays));
}

#[test]
fn how_many_may_be_out() {
    let table =
        [(1, 50, 0), (2, 50, 1), (3, 50, 1), (4, 50, 2), (1, 100, 1), (9, 0, 0), (10, 34, 3)];
    for (members, percent, expected) in table {
        let ids: Vec<_> = (0..members).map(EndpointId).collect();
        let mut ejections = Ejections::new(percent);
        ejections.set_members(&ids);
        let out = ids.iter().filter(|id| {
            let room = ejections.has_room(S);
            if room {
                ejections.eject(**id, 2 * S);
            }
            room
        });
        assert_eq!(out.count(), expected, "{members} members, {percent} %");
    }
}

#[test]
fn those_whose_time_is_over_and_those_that_left_are_not_out() {
    let ids = [1, 2, 3, 4].map(EndpointId);
    let mut ejections = Ejections::new(50);
    ejections.set_members(&ids);
    ejections.eject(ids[0], 2 * S);
    ejections.eject(ids[1], 3 * S);
    assert!(!ejections.has_room(S));
    assert!(ejections.has_room(2 * S));
    ejections.eject(ids[2], 9 * S);
    assert!(!ejections.has_room(2 * S));
    ejections.set_members(&[ids[0], ids[1], ids[3], EndpointId(5)]);
    assert!(ejections.has_room(2 * S));
}

#[test]
fn one_that_comes_back_before_its_time_is_over_is_out() {
    let ids = [1, 2].map(EndpointId);
    let mut ejections = Ejections::new(50);
    ejections.set_members(&ids);
    ejections.eject(ids[0], 5 * S);
    // It drains, and is back.
    ejections.set_members(&ids[1..]);
    ejections.set_members(&ids);
    assert!(!ejections.has_room(S));
    assert!(ejections.has_room(5 * S));
}

#[test]
fn a_slow_start_is_a_straight_line() {
    let table = [(0, 1), (1, 102), (5, 512), (9, 921), (10, 1024), (11, 1024)];
    for (age, expected) in table {
        assert_eq!(ramped(1024, age * S, 10 * S), expected, "after {age} s");
    }
    assert_eq!(ramped(1024, Duration::ZERO, Duration::ZERO), 1024, "off");
}

/// Whoever sorts a shortage of this machine as a fault of the endpoint ejects one after the other.
#[test]
fn connect_errors_by_who_is_to_blame() {
    use crate::sys::Errno;
    let table = [
        (Errno::ECONNREFUSED, ConnectFailure::Refused, true),
        (Errno::ENOENT, ConnectFailure::Refused, true),
        (Errno::ETIMEDOUT, ConnectFailure::TimedOut, true),
        (Errno::EHOSTUNREACH, ConnectFailure::Unreachable, true),
        (Errno::ENETUNREACH, ConnectFailure::Unreachable, true),
        (Errno::ECONNRESET, ConnectFailure::Reset, true),
        (Errno::EMFILE, ConnectFailure::Local, false),
        (Errno::ENFILE, ConnectFailure::Local, false),
        (Errno::EADDRNOTAVAIL, ConnectFailure::Local, false),
        (Errno::ENOBUFS, ConnectFailure::Local, false),
        (Errno::EACCES, ConnectFailure::Other, true),
        (Errno::EPERM, ConnectFailure::Other, true),
        (Errno::EPROTO, ConnectFailure::Other, true),
    ];
    for (errno, kind, blames) in table {
        assert_eq!(ConnectFailure::of(errno), kind, "{errno}");
        assert_eq!(kind.blames_endpoint(), blames, "{errno}");
    }
}

#[test]
fn the_list_of_counters_is_in_order_and_names_are_unique() {
    let mut names: Vec<_> = EndpointCounter::ALL.iter().map(|counter| counter.name()).collect();
    for (index, counter) in EndpointCounter::ALL.iter().enumerate() {
        assert_eq!(*counter as usize, index, "{counter:?}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EndpointCounter::ALL.len());
}
