//! Random lives of connections, against a [`kernel`] that keeps the contract of the ring and holds
//! the worker to it after every step.

mod kernel;
mod moves;
mod service;

use std::sync::Arc;

use kernel::Kernel;
use moves::Threads;
use proptest::prelude::*;
use proptest::test_runner::Config;

/// What happens next, drawn from a list that proptest makes and shrinks.
struct Choices {
    left: std::vec::IntoIter<u16>,
}

impl Choices {
    /// A number below `count`; zero, which is the mildest of everything, when the list has ended.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.left.next().unwrap_or(0)) % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn have_ended(&self) -> bool {
        self.left.len() == 0
    }
}

/// One thing that may happen to a worker.
fn step(kernel: &mut Kernel, choices: &mut Choices) {
    match choices.below(40) {
        0..=29 => kernel.deliver(choices),
        30..=33 => kernel.adopt(),
        34..=36 => kernel.tick(),
        37 => kernel.pass([1, 100, 600, 1500][choices.below(4)]),
        38 => kernel.stale(choices),
        _ if choices.one_in(8) => kernel.drain(),
        _ => kernel.adopt(),
    }
}

/// How all of it ends.
fn end(kernel: &mut Kernel, ending: usize) {
    match ending {
        0 => kernel.peers_finish(),
        1 => kernel.stop(),
        _ => kernel.peers_fall_silent(),
    }
    kernel.nothing_left();
}

proptest! {
    #![proptest_config(Config { cases: 2000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_everything_ends(
        choices in proptest::collection::vec(any::<u16>(), 0..500),
    ) {
        let mut choices = Choices { left: choices.into_iter() };
        let ending = choices.below(3);
        let mut kernel = Kernel::new(&Arc::default(), &mut choices);
        while !choices.have_ended() {
            step(&mut kernel, &mut choices);
        }
        end(&mut kernel, ending);
        assert_eq!(kernel.opened(), kernel.came as u64);
    }

    #[test]
    fn wherever_connections_move_nothing_is_lost_and_everything_ends(
        choices in proptest::collection::vec(any::<u16>(), 0..800),
    ) {
        let mut choices = Choices { left: choices.into_iter() };
        let ending = choices.below(3);
        let mut threads = Threads::new(&mut choices);
        while !choices.have_ended() {
            threads.step(&mut choices);
        }
        threads.end(ending);
    }
}
