//! What the ring adds to each operation: the tag, and a buffer that the kernel fills and gets back.

use std::hint::black_box;
use std::io::Write;
use std::os::unix::net::UnixStream;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use uring_acceptor::ring::Sizes;
use uring_acceptor::ring::uring::Uring;
use uring_acceptor::ring::{
    Completion, Descriptor, Event, Generation, Key, Kind, Operation, Operations, Received, Ring,
    Shots, Tag, Wait,
};

const BUFFERS: usize = 64;
const BYTES: [u8; 64] = [7; 64];

fn tags(criterion: &mut Criterion) {
    let key = Key { slot: 12_345, generation: Generation::FIRST.next() };
    let tag = Tag::new(Kind::Receive, key);
    let bits = tag.pack();
    criterion.bench_function("tag: pack", |bencher| bencher.iter(|| black_box(tag).pack()));
    criterion.bench_function("tag: unpack", |bencher| {
        bencher.iter(|| Tag::unpack(black_box(bits)));
    });
    assert_eq!(Tag::unpack(bits), tag);
}

/// A ring and the two ends of a connection: bytes go in at one, the ring receives at the other.
struct Bench {
    ring: Uring,
    operations: Operations,
    completions: Vec<Completion>,
    near: UnixStream,
    far: UnixStream,
}

impl Bench {
    /// Puts bytes into the connection.
    fn fill(&mut self) {
        self.far.write_all(&BYTES).expect("there is room");
    }

    /// One receive: the kernel takes a buffer and brings it; it goes back, and with the next turn
    /// to the kernel.
    fn receive(&mut self) {
        let socket = Descriptor::of(&self.near);
        let operation = Operation::Receive { socket, shots: Shots::Once };
        self.operations.push(Key::fixed(0), operation);
        while self.completions.is_empty() {
            let (operations, completions) = (&mut self.operations, &mut self.completions);
            self.ring.enter(operations, completions, Wait::Forever).expect("the ring works");
        }
        for completion in self.completions.drain(..) {
            let Event::Received(Ok(Received::Bytes { buffer, len })) = completion.event else {
                panic!("not received: {completion:?}");
            };
            assert_eq!(len, BYTES.len());
            self.ring.buffers().recycle(buffer);
        }
    }
}

fn provided_buffers(criterion: &mut Criterion) {
    let sizes = Sizes {
        submission_entries: 8,
        completion_entries: 8,
        buffers: BUFFERS,
        buffer_bytes: BYTES.len(),
    };
    let ring = match Uring::new(&sizes) {
        Err(refusal) => return eprintln!("SKIPPED: {refusal}"),
        Ok(ring) => ring,
    };
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let (operations, completions) = (Operations::default(), Vec::new());
    let mut bench = Bench { ring, operations, completions, near, far };
    let mut group = criterion.benchmark_group("ring");
    group.bench_function("enter with nothing to do", |bencher| {
        bencher.iter(|| {
            let (operations, completions) = (&mut bench.operations, &mut bench.completions);
            bench.ring.enter(operations, completions, Wait::No).expect("the ring works");
        });
    });
    let bench = std::cell::RefCell::new(bench);
    group.bench_function("receive 64 bytes and provide the buffer again", |bencher| {
        let fill = || bench.borrow_mut().fill();
        bencher.iter_batched(fill, |()| bench.borrow_mut().receive(), BatchSize::PerIteration);
    });
    group.finish();
    assert_eq!(bench.borrow_mut().ring.buffers().available(), BUFFERS, "a buffer was lost");
}

criterion_group!(benches, tags, provided_buffers);
criterion_main!(benches);
