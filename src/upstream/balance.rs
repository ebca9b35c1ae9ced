//! How an endpoint is chosen: functions of weight, load and client, without a clock and without locks.
//!
//! Weights are fixed-point ([`WEIGHT_UNIT`]), because a slow start gives fractions of them. Load is
//! compared as (open + 1) / weight, what it would be with the new connection: with open / weight an
//! idle endpoint would come first whatever its weight, and a slow start would not slow anything.

use std::net::IpAddr;

use fastrand::Rng;
use twox_hash::XxHash3_64;

use crate::config::upstream::Balance;

/// What a weight of 1 counts.
pub(super) const WEIGHT_UNIT: u64 = 1024;

/// An endpoint that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place among all endpoints, chosen or not.
    pub(super) index: usize,
    /// In [`WEIGHT_UNIT`]s, not zero.
    pub(super) weight: u64,
    /// Connections that are open or being opened.
    pub(super) open: u64,
    /// The hash of its address.
    pub(super) seed: u64,
}

impl Candidate {
    /// True if it would have less to carry than the other, each with one connection more.
    fn is_lighter_than(&self, other: &Self) -> bool {
        let cross = |open: u64, weight: u64| u128::from(open + 1) * u128::from(weight);
        cross(self.open, other.weight) < cross(other.open, self.weight)
    }
}

/// A policy and its memory.
#[derive(Debug)]
pub(super) struct Chooser {
    balance: Balance,
    /// Where the search for the lightest begins, so that ties rotate.
    next: usize,
    /// What each endpoint has saved up in the round robin, by its place.
    credits: Vec<i64>,
    rng: Rng,
}

impl Chooser {
    pub(super) fn new(balance: Balance, seed: u64) -> Self {
        Self { balance, next: 0, credits: Vec::new(), rng: Rng::with_seed(seed) }
    }

    /// The endpoints have changed: `old_places[n]` is where the n-th was before, if it was.
    pub(super) fn rearrange(&mut self, old_places: impl Iterator<Item = Option<usize>>) {
        let credit =
            |place: Option<usize>| place.and_then(|place| self.credits.get(place).copied());
        self.credits = old_places.map(|place| credit(place).unwrap_or(0)).collect();
    }

    /// The position of the chosen one in `candidates`. A client without an IP address (a unix socket)
    /// has no hash; it goes to the lightest.
    ///
    /// # Panics
    /// When there is no candidate.
    pub(super) fn choose(&mut self, candidates: &[Candidate], source: Option<IpAddr>) -> usize {
        match (self.balance, source) {
            (Balance::RoundRobin, _) => round_robin(candidates, &mut self.credits),
            (Balance::Random, _) => two_choices(candidates, &mut self.rng),
            (Balance::SourceHash, Some(source)) => rendezvous(candidates, source),
            (Balance::LeastConnections, _) | (Balance::SourceHash, None) => {
                let position = lightest(candidates, self.next);
                self.next = candidates[position].index + 1;
                position
            }
        }
    }
}

/// Least connections. Of equal ones, the first from place `next` on.
pub(super) fn lightest(candidates: &[Candidate], next: usize) -> usize {
    let start = candidates.iter().position(|candidate| candidate.index >= next).unwrap_or(0);
    let count = candidates.len();
    let mut best = start;
    for position in (1..count).map(|offset| (start + offset) % count) {
        if candidates[position].is_lighter_than(&candidates[best]) {
            best = position;
        }
    }
    best
}

/// Smooth weighted round robin: each saves up its weight, the richest pays for all. So a weight of 3
/// beside 1 gives a a b a, not a a a b.
pub(super) fn round_robin(candidates: &[Candidate], credits: &mut [i64]) -> usize {
    let mut total = 0;
    let mut best = 0;
    for (position, candidate) in candidates.iter().enumerate() {
        let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX);
        credits[candidate.index] += weight;
        total += weight;
        if credits[candidate.index] > credits[candidates[best].index] {
            best = position;
        }
    }
    credits[candidates[best].index] -= total;
    best
}

/// The lighter of two that are drawn by weight.
pub(super) fn two_choices(candidates: &[Candidate], rng: &mut Rng) -> usize {
    let first = draw(candidates, None, rng);
    if candidates.len() == 1 {
        return first;
    }
    let second = draw(candidates, Some(first), rng);
    if candidates[second].is_lighter_than(&candidates[first]) { second } else { first }
}

/// One by weight, but not the one at `except`.
fn draw(candidates: &[Candidate], except: Option<usize>, rng: &mut Rng) -> usize {
    let others = || candidates.iter().enumerate().filter(|(at, _)| Some(*at) != except);
    let total: u64 = others().map(|(_, candidate)| candidate.weight).sum();
    let mut left = rng.u64(..total);
    for (position, candidate) in others() {
        if left < candidate.weight {
            return position;
        }
        left -= candidate.weight;
    }
    unreachable!("what is left is below the sum of the weights")
}

/// Weighted rendezvous hashing (highest random weight): each endpoint draws a number for the client
/// from its own address and the client's, so when one leaves only its own clients move.
pub(super) fn rendezvous(candidates: &[Candidate], source: IpAddr) -> usize {
    let source = source_bytes(source);
    let score = |candidate: &Candidate| {
        let hash = XxHash3_64::oneshot_with_seed(candidate.seed, &source);
        // The 53 bits that a float has, never 0 and never 1.
        let drawn = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -(candidate.weight as f64) / drawn.ln()
    };
    let mut best = (0, f64::NEG_INFINITY);
    for (position, candidate) in candidates.iter().enumerate() {
        let score = score(candidate);
        if score > best.1 {
            best = (position, score);
        }
    }
    best.0
}

/// The same for an IPv4 address and its IPv4-mapped form, which a dual-stack listener reports.
fn source_bytes(source: IpAddr) -> [u8; 16] {
    match source {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The hash of an endpoint's address, the same on every machine.
pub(super) fn seed(address: &str) -> u64 {
    XxHash3_64::oneshot(address.as_bytes())
}
