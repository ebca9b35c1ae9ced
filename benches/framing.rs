//! Messages out of receives.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uring_acceptor::service::{LengthPrefix, PartialMessage};

const PIPELINED: usize = 16;

/// What a split costs: the same lines in one receive, and in two with the cut in the middle of the ninth.
fn framing(criterion: &mut Criterion) {
    const LINE_BYTES: usize = 40;
    let lines = format!("{}\n", "x".repeat(LINE_BYTES - 1)).repeat(PIPELINED);
    let frames = [&[0, LINE_BYTES as u8 - 2], &[b'x'; LINE_BYTES - 2][..]].concat();
    let frames = frames.repeat(PIPELINED);
    let mut group =
        criterion.benchmark_group(format!("{PIPELINED} messages of {LINE_BYTES} bytes"));
    group.throughput(Throughput::Elements(PIPELINED as u64));
    let mut bench = |name: &str,
                     input: &[u8],
                     feed: &dyn Fn(&mut PartialMessage, &[u8]) -> usize| {
        let middle = input.len() / 2 + LINE_BYTES / 2;
        for (cut, pieces) in [
            ("in one receive", &[input][..]),
            ("in two receives", &[&input[..middle], &input[middle..]]),
        ] {
            let mut partial = PartialMessage::default();
            group.bench_function(format!("{name}, {cut}"), |bencher| {
                bencher.iter(|| {
                    let messages = pieces.iter().map(|piece| feed(&mut partial, black_box(piece)));
                    assert_eq!(messages.sum::<usize>(), PIPELINED);
                });
            });
        }
    };
    let see = |message: &[u8]| {
        black_box(message);
        ControlFlow::<()>::Continue(())
    };
    bench("lines", lines.as_bytes(), &|partial, input| {
        partial.lines(input, 4096, see).expect("a short line").messages
    });
    bench("frames", &frames, &|partial, input| {
        partial.frames(input, LengthPrefix::U16, 4096, see).expect("a short frame").messages
    });
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
