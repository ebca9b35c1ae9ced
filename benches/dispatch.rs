//! A connection on its way from an acceptor to a worker, on one thread.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use uring_acceptor::config::DispatchPolicy;
use uring_acceptor::dispatch::{
    Accepted, Dispatcher, FrontendId, Inbox, ListenerId, Parker, Pressed, inbox,
};
use uring_acceptor::ring::Sizes;
use uring_acceptor::ring::uring::Uring;
use uring_acceptor::ring::{Operations, Ring};

const CAPACITY: usize = 256;
const BATCH: usize = 32;

fn accepted(socket: OwnedFd) -> Accepted {
    let listener = ListenerId { frontend: FrontendId(0), index: 0 };
    Accepted { socket, listener, accepted_at: Instant::now(), pressed: Pressed::default() }
}

fn socket() -> OwnedFd {
    File::open("/dev/null").expect("/dev/null is there").into()
}

fn parker(ring: &Uring) -> Arc<Parker> {
    Arc::new(Parker::new(ring.address(), ring.waker()))
}

/// A dispatcher, the other ends of its inboxes, and a connection for each place of a batch.
struct Bench {
    dispatcher: Dispatcher,
    inboxes: Vec<Inbox>,
    batch: Vec<Accepted>,
    operations: Operations,
}

impl Bench {
    fn new(ring: &Uring, workers: usize, policy: DispatchPolicy) -> Self {
        let (senders, inboxes) = (0..workers).map(|_| inbox(CAPACITY, parker(ring))).unzip();
        Self {
            dispatcher: Dispatcher::new(senders, policy, None),
            inboxes,
            batch: (0..BATCH).map(|_| accepted(socket())).collect(),
            operations: Operations::default(),
        }
    }

    /// Hands the batch over, wakes who is parked, and takes it out again. Returns the wakes.
    fn round(&mut self) -> usize {
        for accepted in self.batch.drain(..) {
            self.dispatcher.dispatch(accepted).expect("there is room");
        }
        let wakes = self.dispatcher.wake(&mut self.operations);
        drop(self.operations.drain());
        for inbox in &self.inboxes {
            while let Some(accepted) = inbox.take() {
                self.batch.push(accepted);
                inbox.closed(1);
            }
        }
        wakes.sent
    }

    fn parked_round(&mut self) -> usize {
        assert!(self.inboxes.iter().all(Inbox::park), "an inbox is not empty");
        self.round()
    }
}

fn batches(criterion: &mut Criterion) {
    let sizes =
        Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };
    let ring = match Uring::new(&sizes) {
        Err(refusal) => return eprintln!("SKIPPED: {refusal}"),
        Ok(ring) => ring,
    };
    for (name, policy) in [
        ("least-connections", DispatchPolicy::LeastConnections),
        ("round-robin", DispatchPolicy::RoundRobin),
    ] {
        let mut group = criterion.benchmark_group(format!("dispatch of {BATCH}, {name}"));
        for workers in [1, 4] {
            let mut bench = Bench::new(&ring, workers, policy);
            group.bench_function(format!("{workers} workers at work"), |bencher| {
                bencher.iter(|| assert_eq!(black_box(bench.round()), 0));
            });
            group.bench_function(format!("{workers} workers parked"), |bencher| {
                bencher.iter(|| assert_eq!(black_box(bench.parked_round()), workers));
            });
            bench.inboxes.iter().for_each(Inbox::resume);
        }
        group.finish();
    }
}

/// One connection: push, perhaps a wake, pop.
fn one(criterion: &mut Criterion) {
    let sizes =
        Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };
    let ring = match Uring::new(&sizes) {
        Err(refusal) => return eprintln!("SKIPPED: {refusal}"),
        Ok(ring) => ring,
    };
    let mut bench = Bench::new(&ring, 1, DispatchPolicy::RoundRobin);
    bench.batch.truncate(1);
    let mut group = criterion.benchmark_group("inbox: push and pop of one");
    group.bench_function("without a wake", |bencher| {
        bencher.iter(|| assert_eq!(black_box(bench.round()), 0));
    });
    group.bench_function("with a wake", |bencher| {
        bencher.iter(|| assert_eq!(black_box(bench.parked_round()), 1));
    });
    group.bench_function("pop from an empty one", |bencher| {
        bencher.iter(|| assert!(black_box(bench.inboxes[0].take()).is_none()));
    });
    group.finish();
}

criterion_group!(benches, one, batches);
criterion_main!(benches);
