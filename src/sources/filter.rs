//! From banned networks to a program that the kernel runs for each SYN: those who come from there meet silence.
//!
//! ```text
//!   what is no SYN passes
//!   IPv4: the source's address          IPv6: its bytes 0 to 3, and where these are not enough, 4 to 7
//!              |                                   |
//!              at least ... ?                      (the same)
//!             /              \
//!        at least ... ?    at least ... ?
//!         /     \            /     \
//!       up to 16 addresses or ranges, one after another: drop, or pass
//! ```
//!
//! A program has at most [`FILTER_STEPS_MAX`] instructions. An address takes little more than one of them, a range of
//! addresses little more than two, an IPv6 /64 seven if it is alone in its /32. So some 3,300 IPv4 addresses fit, or 582 such /64s.

use super::network::Network;
use super::ranges::Ranges;
use crate::sys::{Comparison, FILTER_STEPS_MAX, FilterStep, ONLY_SYNS, PacketAt};

/// Where an IPv4 header has the source.
const SOURCE_V4: PacketAt = PacketAt::Network(12);
/// Where an IPv6 header has the first half of the source's network, and the second.
const SOURCE_V6: [PacketAt; 2] = [PacketAt::Network(8), PacketAt::Network(12)];
/// The first byte of both headers has the version in its upper half.
const VERSION: PacketAt = PacketAt::Network(0);
const VERSION_SHIFT: u32 = 4;
/// Where the second half is kept.
const SECOND_HALF: u32 = 0;

/// Most of what is compared one after another. All of it is within reach of a conditional jump, which passes over 255
/// instructions at most.
const GROUP: usize = 16;

/// A program, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What the kernel runs.
    pub program: Vec<FilterStep>,
    /// How many networks are in it: the first ones.
    pub taken: usize,
}

/// Compiles as many of these networks as fit, from the first on.
pub fn compile(networks: &[Network]) -> Filter {
    let fitting = |count: usize| {
        let program = program(&Ranges::of(&networks[..count]));
        (program.len() <= FILTER_STEPS_MAX).then_some(Filter { program, taken: count })
    };
    if let Some(whole) = fitting(networks.len()) {
        return whole;
    }
    // A few more networks may make it shorter, where they join what is there: what is found fits, that is enough.
    let (mut best, mut low, mut high) = (fitting(0), 0, networks.len());
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        match fitting(middle) {
            Some(filter) => (best, low) = (Some(filter), middle),
            None => high = middle,
        }
    }
    best.unwrap_or(Filter { program: Vec::new(), taken: 0 })
}

/// A range of values, and what is to be done with them.
#[derive(Debug, Clone)]
struct Entry {
    first: u32,
    last: u32,
    then: Then,
}

#[derive(Debug, Clone)]
enum Then {
    Drop,
    /// Only if the second half of the source is in one of these.
    Second(Vec<Entry>),
}

fn program(banned: &Ranges) -> Vec<FilterStep> {
    let v4: Vec<Entry> = banned.v4.iter().map(|&(first, last)| Entry::drop(first, last)).collect();
    let v4 = [vec![FilterStep::LoadWord(SOURCE_V4)], tree(&v4)].concat();
    let [first, second] = SOURCE_V6.map(FilterStep::LoadWord);
    let v6 =
        [vec![second, FilterStep::Keep(SECOND_HALF), first], tree(&halves(&banned.v6))].concat();
    let mut program = ONLY_SYNS.to_vec();
    program.push(FilterStep::LoadByte(VERSION));
    program.push(FilterStep::ShiftRight(VERSION_SHIFT));
    program.push(branch(Comparison::Equal, 6, 0, 1));
    program.push(FilterStep::Skip(v4.len() as u32));
    [program, v4, v6].concat()
}

impl Entry {
    fn drop(first: u32, last: u32) -> Self {
        Self { first, last, then: Then::Drop }
    }
}

/// By the first half of each: those of which all second halves are meant, and those of which some are.
fn halves(ranges: &[(u64, u64)]) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for &(first, last) in ranges {
        let ((from, low), (to, high)) = (split(first), split(last));
        if from == to {
            some(&mut all, from, (low, high));
            continue;
        }
        some(&mut all, from, (low, u32::MAX));
        if to - from > 1 {
            all.push(Entry::drop(from + 1, to - 1));
        }
        some(&mut all, to, (0, high));
    }
    all
}

fn split(number: u64) -> (u32, u32) {
    ((number >> 32) as u32, number as u32)
}

/// Adds second halves to a first one, which may be the last of what is there.
fn some(all: &mut Vec<Entry>, first: u32, (low, high): (u32, u32)) {
    if (low, high) == (0, u32::MAX) {
        return all.push(Entry::drop(first, first));
    }
    let second = Entry::drop(low, high);
    match all.last_mut() {
        Some(Entry { first: known, then: Then::Second(seconds), .. }) if *known == first => {
            seconds.push(second);
        }
        _ => all.push(Entry { first, last: first, then: Then::Second(vec![second]) }),
    }
}

/// Looks a value up among entries that are sorted and disjoint, and ends the program.
fn tree(entries: &[Entry]) -> Vec<FilterStep> {
    match entries {
        [] => vec![FilterStep::Pass],
        [Entry { first, then: Then::Second(seconds), .. }] => {
            let is_first = branch(Comparison::Equal, *first, 1, 0);
            let begin = vec![is_first, FilterStep::Pass, FilterStep::Recall(SECOND_HALF)];
            [begin, tree(seconds)].concat()
        }
        group if group.len() <= GROUP && group.iter().all(Entry::is_drop) => list(group),
        entries => {
            let (below, from) = entries.split_at(entries.len() / 2);
            let at_least = from.first().map_or(0, |entry| entry.first);
            let (from, below) = (tree(from), tree(below));
            let decide = match u8::try_from(below.len()) {
                Ok(near) => vec![branch(Comparison::AtLeast, at_least, near, 0)],
                Err(_) => vec![
                    branch(Comparison::AtLeast, at_least, 0, 1),
                    FilterStep::Skip(below.len() as u32),
                ],
            };
            [decide, below, from].concat()
        }
    }
}

impl Entry {
    fn is_drop(&self) -> bool {
        matches!(self.then, Then::Drop)
    }
}

/// One after another. What is below a range and above the one before it passes.
fn list(entries: &[Entry]) -> Vec<FilterStep> {
    let mut steps = vec![FilterStep::Drop, FilterStep::Pass];
    // From the last on, so that it is known how far the end is: all of it is put the other way round.
    for Entry { first, last, .. } in entries.iter().rev() {
        let to_drop = (steps.len() - 1) as u8;
        if first == last {
            steps.push(branch(Comparison::Equal, *first, to_drop, 0));
        } else {
            steps.push(branch(Comparison::AtLeast, *first, to_drop, to_drop - 1));
            steps.push(branch(Comparison::Greater, *last, 1, 0));
        }
    }
    steps.reverse();
    steps
}

fn branch(is: Comparison, than: u32, yes: u8, no: u8) -> FilterStep {
    FilterStep::If { is, than, yes, no }
}
