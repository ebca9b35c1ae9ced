//! Tables for each policy.

use std::net::IpAddr;

use super::super::balance::{
    Candidate, WEIGHT_UNIT, lightest, rendezvous, round_robin, seed, two_choices,
};
use fastrand::Rng;

/// Candidates from weights and open connections.
fn candidates(table: &[(u64, u64)]) -> Vec<Candidate> {
    let candidate = |(index, &(weight, open)): (usize, &(u64, u64))| Candidate {
        index,
        weight: weight * WEIGHT_UNIT,
        open,
        seed: seed(&format!("10.0.0.{index}:80")),
    };
    table.iter().enumerate().map(candidate).collect()
}

#[test]
fn least_connections_counts_by_weight_and_with_the_new_one() {
    type Row<'a> = (&'a [(u64, u64)], usize, usize);
    let table: [Row<'_>; 7] = [
        (&[(1, 3), (1, 2), (1, 4)], 0, 1),
        (&[(1, 1), (2, 2)], 0, 1),
        (&[(1, 0), (4, 2)], 0, 1),
        (&[(1, 0), (4, 3)], 0, 0),
        (&[(1, 0), (4, 3)], 1, 1),
        (&[(256, 255), (1, 0)], 1, 1),
        (&[(1, 5)], 7, 0),
    ];
    for (given, next, expected) in table {
        assert_eq!(lightest(&candidates(given), next), expected, "{given:?} from {next}");
    }
}

#[test]
fn ties_of_least_connections_rotate_over_those_that_are_left() {
    let mut all = candidates(&[(1, 0); 4]);
    all.remove(1);
    let mut next = 0;
    let mut chosen = Vec::new();
    for _ in 0..4 {
        let index = all[lightest(&all, next)].index;
        chosen.push(index);
        next = index + 1;
    }
    assert_eq!(chosen, [0, 2, 3, 0]);
}

fn round(weights: &[(u64, u64)], count: usize) -> String {
    let all = candidates(weights);
    let mut credits = vec![0; weights.len()];
    let name = |position: usize| char::from(b'a' + u8::try_from(all[position].index).unwrap());
    (0..count).map(|_| name(round_robin(&all, &mut credits))).collect()
}

#[test]
fn round_robin_takes_turns_and_spreads_heavy_weights() {
    assert_eq!(round(&[(1, 9), (1, 0), (1, 5)], 6), "abcabc");
    assert_eq!(round(&[(5, 0), (1, 0), (1, 0)], 7), "aabacaa");
    assert_eq!(round(&[(3, 0)], 3), "aaa");
}

#[test]
fn round_robin_gives_each_exactly_its_weight_in_each_round() {
    let weights = [(7, 0), (3, 0), (1, 0), (2, 0)];
    let turns = round(&weights, 13 * 5);
    for (name, (weight, _)) in "abcd".chars().zip(weights) {
        assert_eq!(turns.matches(name).count() as u64, weight * 5, "{name}");
    }
}

#[test]
fn two_choices_never_take_the_heaviest_of_two() {
    let mut rng = Rng::with_seed(1);
    let two = candidates(&[(1, 5), (1, 4)]);
    assert!((0..100).all(|_| two_choices(&two, &mut rng) == 1));
    let one = candidates(&[(3, 5)]);
    assert_eq!(two_choices(&one, &mut rng), 0);
}

fn most_loaded(choices: fn(&[Candidate], &mut Rng) -> usize, rng: &mut Rng) -> u64 {
    let mut all = candidates(&[(1, 0); 100]);
    for _ in 0..10_000 {
        let chosen = choices(&all, rng);
        all[chosen].open += 1;
    }
    all.iter().map(|candidate| candidate.open).max().unwrap()
}

/// 100 connections each on average. One choice is off by about 2.5 standard deviations of 10, two
/// by a handful (Mitzenmacher: log log n / log 2).
#[test]
fn two_choices_beat_one() {
    for seed in 0..5 {
        let mut rng = Rng::with_seed(seed);
        let one = most_loaded(|all, rng| rng.usize(..all.len()), &mut rng);
        let two = most_loaded(two_choices, &mut rng);
        assert!(one >= 115, "one choice: {one}");
        assert!(two <= 105, "two choices: {two}");
    }
}

#[test]
fn two_choices_honour_weights() {
    let mut all = candidates(&[(4, 0), (2, 0), (1, 0), (1, 0)]);
    let mut rng = Rng::with_seed(7);
    for _ in 0..8000 {
        let chosen = two_choices(&all, &mut rng);
        all[chosen].open += 1;
    }
    for (candidate, share) in all.iter().zip([4000, 2000, 1000, 1000]) {
        assert!(candidate.open.abs_diff(share) < share / 20, "{all:?}");
    }
}

fn source(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from(0x0a01_0000 + number).into()
}

#[test]
fn source_hash_honours_weights() {
    let all = candidates(&[(4, 0), (2, 0), (1, 0), (1, 0)]);
    let mut clients = [0_u64; 4];
    (0..8000).for_each(|number| clients[rendezvous(&all, source(number))] += 1);
    for (clients_of_one, share) in clients.iter().zip([4000_u64, 2000, 1000, 1000]) {
        assert!(clients_of_one.abs_diff(share) < share / 10, "{clients:?}");
    }
}

#[test]
fn source_hash_looks_at_neither_load_nor_order_nor_mapping() {
    let all = candidates(&[(1, 0), (1, 9), (1, 2), (1, 0), (1, 0)]);
    let mut other: Vec<_> = all.iter().map(|one| Candidate { open: 7, ..*one }).collect();
    other.reverse();
    for number in 0..200 {
        let IpAddr::V4(address) = source(number) else { unreachable!() };
        let mapped = IpAddr::V6(address.to_ipv6_mapped());
        let chosen = all[rendezvous(&all, source(number))].index;
        assert_eq!(other[rendezvous(&other, mapped)].index, chosen);
    }
}

/// Written down once, and computed again with the C library xxhash: another run, machine or version
/// must not move anybody.
#[test]
fn source_hash_is_the_same_for_ever() {
    let all = candidates(&[(1, 0); 8]);
    let chosen: Vec<_> = (0..16).map(|number| rendezvous(&all, source(number))).collect();
    assert_eq!(chosen, [5, 4, 5, 4, 0, 1, 5, 7, 0, 4, 1, 2, 7, 0, 2, 2]);
}
