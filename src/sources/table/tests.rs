//! What the table promises, on a virtual clock.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::super::key::Prefixes;
use super::*;
use crate::config::Rate;

fn key(number: u32) -> SourceKey {
    SourceKey::of(IpAddr::V4(Ipv4Addr::from_bits(number)), Prefixes::default())
}

/// What is known of a source.
fn known(table: &Table, key: SourceKey) -> Option<Known> {
    table.all(0).find(|known| known.key == key)
}

fn at_most(open: u32) -> Limits {
    Limits { open: Some(open), ..Limits::default() }
}

fn per_second(count: u32, burst: u32) -> Spacing {
    let positive = |number| NonZeroU32::new(number).unwrap();
    let (count, burst) = (positive(count), positive(burst));
    Spacing::from(Rate { count, period: Duration::from_secs(1), burst })
}

fn at_rate(count: u32, burst: u32) -> Limits {
    Limits { spacing: Some(per_second(count, burst)), ..Limits::default() }
}

#[test]
fn each_source_has_its_own_limit() {
    let table = Table::new(1024);
    let slots: Vec<Slot> = (0..3)
        .flat_map(|source| (0..2).map(move |_| source))
        .map(|source| table.admit(key(source), at_most(2), 0).unwrap().0)
        .collect();
    for source in 0..3 {
        assert_eq!(table.admit(key(source), at_most(2), 0), Err(Over::Open));
    }
    assert_eq!(table.release(slots[0]), Some(key(0)));
    assert!(table.admit(key(0), at_most(2), 0).is_ok());
    assert_eq!(table.admit(key(1), at_most(2), 0), Err(Over::Open));
}

#[test]
fn a_rate_is_kept_to() {
    let table = Table::new(1024);
    let mut admitted = 0;
    for now_us in (0..10_000_000).step_by(5_000) {
        if let Ok((slot, _)) = table.admit(key(7), at_rate(20, 5), now_us) {
            table.release(slot);
            admitted += 1;
        }
    }
    assert_eq!(admitted, 5 + 199);
}

#[test]
fn who_is_patient_waits_for_its_turn() {
    let table = Table::new(1024);
    let limits = Limits { patience: Duration::from_millis(250), ..at_rate(10, 1) };
    let waits: Vec<_> =
        (0..4).map(|_| table.admit(key(7), limits, 0).map(|(_, wait)| wait)).collect();
    let ms = |number| Ok(Duration::from_millis(number));
    let too_early = Over::Rate(TooEarly(Duration::from_millis(300)));
    assert_eq!(waits, [ms(0), ms(100), ms(200), Err(too_early)]);
}

#[test]
fn what_comes_to_nothing_was_not_there() {
    let table = Table::new(1024);
    let limits = Limits { open: Some(1), ..at_rate(10, 1) };
    for _ in 0..3 {
        let (slot, _) = table.admit(key(7), limits, 500).unwrap();
        table.withdraw(slot, limits.spacing);
    }
    assert_eq!(known(&table, key(7)).unwrap().open, 0);
}

/// Sources that all meet in the only set that there is.
#[test]
fn a_full_set_keeps_whoever_has_connections() {
    let table = Table::new(1);
    assert_eq!(table.capacity(), WAYS);
    let held: Vec<Slot> = (0..7).map(|it| table.admit(key(it), at_most(1), 0).unwrap().0).collect();
    // One place is left: those that come and go take turns in it.
    for source in 100..200 {
        let (slot, _) = table.admit(key(source), at_most(1), 0).unwrap();
        table.release(slot);
    }
    let (last, _) = table.admit(key(7), at_most(1), 0).unwrap();
    assert_eq!(table.losses(), (0, 0));
    let (nowhere, _) = table.admit(key(8), at_most(1), 0).unwrap();
    assert_eq!((nowhere, table.losses()), (Slot::NONE, (0, 1)));
    assert_eq!(table.release(nowhere), None);
    for source in 0..8 {
        assert_eq!(table.admit(key(source), at_most(1), 0), Err(Over::Open), "{source}");
    }
    table.release(held[3]);
    table.release(last);
    assert!(table.admit(key(8), at_most(1), 0).is_ok());
}

#[test]
fn of_those_without_connections_the_one_goes_of_which_least_is_lost() {
    let table = Table::new(1);
    for source in 0..8 {
        let limits = at_rate(source + 1, 1);
        table.release(table.admit(key(source), limits, 0).unwrap().0);
    }
    // Source 7 is the fastest: its rate is whole again first.
    table.admit(key(50), at_rate(1, 1), 100_000).unwrap();
    assert!(known(&table, key(7)).is_none() && known(&table, key(6)).is_some());
    assert_eq!(table.losses(), (1, 0));
}

#[test]
fn what_is_idle_is_forgotten() {
    let table = Table::new(1024);
    table.release(table.admit(key(1), at_rate(1, 1), 0).unwrap().0);
    let (open, _) = table.admit(key(2), at_rate(1, 1), 0).unwrap();
    table.refuse(key(1));
    table.forget_idle(999_999);
    assert_eq!(table.all(0).count(), 2);
    table.forget_idle(1_000_001);
    let left: Vec<_> = table.all(1_000_001).map(|known| known.key).collect();
    assert_eq!(left, [key(2)]);
    table.release(open);
    table.forget_idle(1_000_001);
    assert_eq!(table.all(0).count(), 0);
}

/// A connection may stay open for longer than it takes the time to come round.
#[test]
fn the_time_of_a_source_with_a_connection_does_not_come_round() {
    let (table, minute_us) = (Table::new(1024), 60_000_000);
    let (open, _) = table.admit(key(1), at_rate(1, 1), 0).unwrap();
    let mut now_us = 0;
    for _ in 0..20 * 24 * 60 {
        now_us += minute_us;
        table.forget_idle(now_us);
        let ahead: Vec<_> = table.all(now_us).map(|known| known.ahead_us).collect();
        assert_eq!(ahead, [0], "after {now_us} us");
    }
    table.release(open);
}

#[test]
fn what_another_process_knew_counts() {
    let table = Table::new(1024);
    table.restore(key(1), 500_000, 0);
    assert!(table.admit(key(1), at_rate(2, 1), 499_999).is_err());
    assert!(table.admit(key(1), at_rate(2, 1), 500_000).is_ok());
}

/// Threads that come and go: nobody is above its limit at any moment, and nothing is left.
#[test]
fn it_is_exact_for_many_threads() {
    const SOURCES: u32 = 40;
    const LIMIT: u32 = 3;
    let table = Table::new(64);
    let open: Vec<_> = (0..SOURCES).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (table, open) = (&table, &open);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let mut held = Vec::new();
                for now_us in 0..30_000 {
                    let source = random.u32(0..SOURCES);
                    let of = &open[source as usize];
                    match table.admit(key(source), at_most(LIMIT), now_us) {
                        Ok((Slot::NONE, _)) => {}
                        Ok((slot, _)) => {
                            assert!(of.fetch_add(1, Ordering::SeqCst) < LIMIT, "{source}");
                            held.push((source, slot));
                        }
                        Err(_) => {}
                    }
                    if held.len() > 10 || random.bool() {
                        let Some((source, slot)) = held.pop() else { continue };
                        open[source as usize].fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(table.release(slot), Some(key(source)));
                    }
                }
                for (source, slot) in held {
                    open[source as usize].fetch_sub(1, Ordering::SeqCst);
                    table.release(slot);
                }
            });
        }
    });
    assert_eq!(table.all(0).map(|known| known.open).sum::<u32>(), 0);
}

proptest! {
    /// A plain list of sources says the same as a table with room for all of them.
    #[test]
    fn a_plain_list_agrees(
        steps in proptest::collection::vec((0..6_u32, any::<bool>(), 0..200_000_u64), 1..200),
    ) {
        let table = Table::new(4096);
        let limits = Limits { open: Some(3), ..at_rate(8, 4) };
        let mut plain: Vec<(u64, Vec<Slot>)> = vec![(0, Vec::new()); 6];
        let mut now_us = 1;
        for (source, comes, gap) in steps {
            now_us += gap;
            let (arrival, open) = &mut plain[source as usize];
            if !comes {
                if let Some(slot) = open.pop() {
                    table.release(slot);
                }
                continue;
            }
            let due = per_second(8, 4).take_us((*arrival).max(now_us), now_us);
            let wanted = open.len() < 3 && due.is_ok();
            let admitted = table.admit(key(source), limits, now_us);
            prop_assert_eq!(admitted.is_ok(), wanted, "source {} at {}", source, now_us);
            if let Ok((slot, _)) = admitted {
                open.push(slot);
                *arrival = due.unwrap_or(*arrival);
            }
        }
    }
}
