//! The buffers of a ring: taken, written, read, copied, given back.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uring_acceptor::ring::BufferPool;

const BUFFERS: usize = 1024;
const BUFFER_BYTES: usize = 16 * 1024;
const LENGTHS: [usize; 2] = [64, BUFFER_BYTES];

fn pool() -> BufferPool {
    BufferPool::new(BUFFERS, BUFFER_BYTES).expect("memory can be mapped")
}

fn turn_over(criterion: &mut Criterion) {
    let mut pool = pool();
    criterion.bench_function("pool: take and recycle", |bencher| {
        bencher.iter(|| {
            let buffer = black_box(pool.take()).expect("a buffer is free");
            pool.recycle(buffer);
        });
    });
    let mut held = Vec::with_capacity(BUFFERS);
    criterion.bench_function("pool: take all and recycle all", |bencher| {
        bencher.iter(|| {
            held.extend(std::iter::from_fn(|| pool.take()));
            held.drain(..).for_each(|buffer| pool.recycle(buffer));
        });
    });
}

fn contents(criterion: &mut Criterion) {
    let mut pool = pool();
    let mut group = criterion.benchmark_group("pool");
    for length in LENGTHS {
        let bytes = vec![7; length];
        group.throughput(Throughput::Bytes(length as u64));
        let mut from = pool.take().expect("a buffer is free");
        let mut to = pool.take().expect("a buffer is free");
        group.bench_function(format!("write {length} bytes"), |bencher| {
            bencher.iter(|| pool.write(&mut from, 0, black_box(&bytes)));
        });
        group.bench_function(format!("copy {length} bytes"), |bencher| {
            bencher.iter(|| pool.copy(&from, black_box(0..length), &mut to, 0));
        });
        assert_eq!(pool.bytes(&to, 0..length), bytes);
        pool.recycle(from);
        pool.recycle(to);
    }
    group.finish();
}

criterion_group!(benches, turn_over, contents);
criterion_main!(benches);
