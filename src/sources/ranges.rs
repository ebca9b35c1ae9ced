//! Sets of addresses, as ranges of their numbers.

use std::net::IpAddr;

use super::network::{Network, Number, Span};

/// Sorted and disjoint ranges, both ends included. IPv6 goes by /64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges {
    pub(super) v4: Vec<(u32, u32)>,
    pub(super) v6: Vec<(u64, u64)>,
}

impl Ranges {
    /// All addresses of these networks.
    pub fn of(networks: &[Network]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.span() {
                Span::V4(first, last) => v4.push((first, last)),
                Span::V6(first, last) => v6.push((first, last)),
            }
        }
        Self { v4: joined(v4), v6: joined(v6) }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match Number::of(address) {
            Number::V4(number) => is_in(&self.v4, number),
            Number::V6(number) => is_in(&self.v6, number),
        }
    }
}

/// Sorts, and joins those that overlap or touch.
fn joined<T: Copy + Ord + Next>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn is_in<T: Copy + Ord>(ranges: &[(T, T)], number: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= number);
    behind > 0 && number <= ranges[behind - 1].1
}

/// The number behind, if there is one.
trait Next: Sized {
    fn next(self) -> Option<Self>;
}

impl Next for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Next for u64 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}
