//! Bugs planted one at a time: the simulator has to find each.

use super::*;
use crate::planted::{Bug, plant};

/// Seeds within which each bug has to be found.
const SEEDS: u64 = 300;

const BUGS: [Bug; 17] = [
    Bug::AcceptNotRearmed,
    Bug::LastAcceptDropped,
    Bug::RejectedLeaked,
    Bug::NoPause,
    Bug::WakeLost,
    Bug::BellLost,
    Bug::CancelDropped,
    Bug::CloseBeforeJoin,
    Bug::ClosedTwice,
    Bug::SpinWithoutBuffers,
    Bug::BufferFreedInFlight,
    Bug::TwoSends,
    Bug::BufferLeaked,
    Bug::NoDeadlines,
    Bug::LimitExceeded,
    Bug::SpinAfterDrain,
    Bug::StarvedForgotten,
];

#[test]
fn every_planted_bug_is_found() {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk);
    let mut missed = Vec::new();
    for bug in BUGS {
        let found =
            plant(bug, || (1..=SEEDS).find_map(|seed| Some((seed, simulation.run(seed).err()?))));
        match found {
            Some((seed, broken)) => println!("{bug:?} | {seed} | {}", broken.what),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
