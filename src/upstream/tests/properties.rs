//! What must hold for whatever upstream.

use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::balance::{Candidate, WEIGHT_UNIT, lightest, rendezvous, seed};

fn candidates(weights: &[u64]) -> Vec<Candidate> {
    let candidate = |(index, &weight): (usize, &u64)| Candidate {
        index,
        weight: weight * WEIGHT_UNIT,
        open: 0,
        seed: seed(&format!("10.0.{}.{}:80", index / 256, index % 256)),
    };
    weights.iter().enumerate().map(candidate).collect()
}

fn weights() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(1..=256_u64, 2..20)
}

fn sources(first: u64, count: u64) -> impl Iterator<Item = IpAddr> {
    (0..count).map(move |n| Ipv6Addr::from((u128::from(first) << 64) + u128::from(n)).into())
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn source_hash_moves_only_the_clients_of_the_one_that_leaves(
        weights in weights(), gone in any::<prop::sample::Index>(), first in any::<u64>(),
    ) {
        let all = candidates(&weights);
        let gone = gone.index(all.len());
        let left: Vec<_> = all.iter().filter(|one| one.index != gone).copied().collect();
        for source in sources(first, 100) {
            let before = all[rendezvous(&all, source)].index;
            let after = left[rendezvous(&left, source)].index;
            prop_assert!(before == gone || before == after);
        }
    }

    #[test]
    fn source_hash_moves_about_one_in_n(count in 2..20_usize, first in any::<u64>()) {
        let all = candidates(&vec![1; count]);
        let clients = 2000;
        let moved = sources(first, clients).filter(|one| rendezvous(&all, *one) == 0).count();
        // Six standard deviations of a binomial.
        let expected = clients as f64 / count as f64;
        let off = (moved as f64 - expected).abs();
        prop_assert!(off < 6.0 * expected.sqrt(), "{moved} of {clients} with {count}");
    }

    /// In connections per unit of weight, whatever the weights and however many connections.
    #[test]
    fn without_closes_least_connections_stay_within_one(
        weights in weights(), connections in 1..600_usize,
    ) {
        let mut all = candidates(&weights);
        let mut next = 0;
        for _ in 0..connections {
            let chosen = lightest(&all, next);
            all[chosen].open += 1;
            next = all[chosen].index + 1;
            let loads = all.iter().map(|one| (one.open * WEIGHT_UNIT) as f64 / one.weight as f64);
            let (least, most) = loads.fold((f64::MAX, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
            prop_assert!(most - least <= 1.0 + f64::EPSILON * most, "{all:?}");
        }
    }
}
