//! The parked protocol of `src/dispatch/parked.rs`, the file itself, under loom.
//!
//! A relaxed counter stands in for the channel: it promises less than a channel does, so what holds
//! here holds there. A wake is a token. Where a sleeper would wait it takes a token, if there is one,
//! and goes on; if not it stops, and once all wakers have ended it is asked whether a token came
//! later or there was nothing to wake it for.

mod sync {
    pub(crate) use loom::sync::atomic::{Ordering, fence};

    /// Stores by exchange. Loom orders a plain store behind what its thread knows of, but not behind
    /// an exchange of another thread that came before it, so it would let a third thread read the
    /// older of the two afterwards, which no memory does.
    #[derive(Debug)]
    pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, ordering: Ordering) -> bool {
            self.0.load(ordering)
        }

        pub(crate) fn store(&self, value: bool, ordering: Ordering) {
            self.0.swap(value, ordering);
        }

        pub(crate) fn swap(&self, value: bool, ordering: Ordering) -> bool {
            self.0.swap(value, ordering)
        }
    }
}

#[allow(dead_code, unreachable_pub)]
#[path = "../src/dispatch/parked.rs"]
mod parked;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, JoinHandle};
use parked::Parked;

/// How often loom may take the processor away from a thread that could go on: bugs of this kind need
/// two, and every interleaving would take minutes.
const PREEMPTIONS: usize = 3;

/// What a sleeper and its wakers share.
#[derive(Default)]
struct Shared {
    parked: Parked,
    /// Work that was ever brought.
    brought: AtomicUsize,
    /// Wakes that were sent and not seen.
    wakes: AtomicUsize,
}

impl Shared {
    /// A waker: brings work, then wakes the sleeper if it has to. True if that cost a wake.
    fn bring(&self) -> bool {
        self.brought.fetch_add(1, Ordering::Relaxed);
        let wakes = self.parked.take_parked();
        if wakes {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
        wakes
    }

    /// A sleeper: announces, looks once more, and waits if there is nothing new, until it has seen
    /// `expected` or would sleep for good. Returns what it has seen and how often it announced.
    fn run_until_asleep(&self, expected: usize) -> (usize, usize) {
        let mut announced = 0;
        let mut seen = self.brought.load(Ordering::Relaxed);
        while seen < expected {
            self.parked.announce();
            announced += 1;
            let now = self.brought.load(Ordering::Relaxed);
            if now == seen && self.wakes.swap(0, Ordering::Relaxed) == 0 {
                break;
            }
            self.parked.resume();
            seen = now;
        }
        (seen, announced)
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// A thread that brings work so many times; returns the wakes that this has cost.
fn waker(shared: &Arc<Shared>, times: usize) -> JoinHandle<usize> {
    let shared = Arc::clone(shared);
    thread::spawn(move || (0..times).filter(|_| shared.bring()).count())
}

/// A worker whose inbox two acceptors push into, so often each.
fn no_hand_off_is_slept_through(times: usize) {
    check(move || {
        let shared = Arc::new(Shared::default());
        let acceptors = [waker(&shared, times), waker(&shared, times)];
        let (seen, announced) = shared.run_until_asleep(2 * times);
        let sent: usize = acceptors.into_iter().map(|thread| thread.join().unwrap()).sum();
        let token = shared.wakes.load(Ordering::Relaxed) > 0;
        assert!(seen == 2 * times || token, "asleep after {seen}, with work and no wake");
        assert!(sent <= announced, "{sent} wakes for {announced} sleeps");
    });
}

#[test]
fn a_worker_sleeps_through_no_hand_off() {
    no_hand_off_is_slept_through(1);
}

#[test]
fn a_worker_sleeps_through_no_hand_off_of_several() {
    no_hand_off_is_slept_through(2);
}

/// The acceptor's bell: it has announced because there was no headroom; two workers release a place
/// each, and it takes another turn before it waits.
#[test]
fn an_acceptor_at_the_limit_sleeps_through_no_release() {
    check(|| {
        let connection_limit = Arc::new(Shared::default());
        let workers = [waker(&connection_limit, 1), waker(&connection_limit, 1)];
        connection_limit.parked.announce();
        let waits = connection_limit.brought.load(Ordering::Relaxed) == 0;
        let bells: usize = workers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(bells <= 1, "one announcement was answered by {bells} bells");
        assert!(bells == 1 || !waits, "it waits for a place that is there");
    });
}

/// A thread that is at work costs nobody a wake, however much is brought.
#[test]
fn who_is_awake_is_not_woken() {
    check(|| {
        let shared = Arc::new(Shared::default());
        shared.parked.announce();
        shared.parked.resume();
        let others = [waker(&shared, 2), waker(&shared, 2)];
        assert_eq!(others.map(|thread| thread.join().unwrap()), [0, 0]);
    });
}

#[test]
fn of_several_wakers_one_wakes() {
    check(|| {
        let shared = Arc::new(Shared::default());
        shared.parked.announce();
        let others = [waker(&shared, 2), waker(&shared, 1)];
        let sent: usize = others.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sent, 1);
    });
}
