//! Pieces on their way to a peer.

use std::fs::File;
use std::sync::Arc;

use super::*;
use crate::shared::SharedBytes;

struct Bench {
    pieces: Pieces,
    pool: BufferPool,
    output: Output,
}

impl Bench {
    fn new() -> Self {
        let pool = BufferPool::new(4, 4096).unwrap();
        Self { pieces: Pieces::new(), pool, output: Output::default() }
    }

    fn input(&mut self, bytes: &[u8], in_flight: bool) {
        let mut buffer = self.pool.take().unwrap();
        self.pool.write(&mut buffer, 0, bytes);
        let part = (buffer, 0..bytes.len());
        self.pieces.push_input(&mut self.output, &mut self.pool, in_flight, part);
    }

    fn push_static(&mut self, bytes: &'static [u8], in_flight: bool) {
        self.pieces.push_static(&mut self.output, &mut self.pool, in_flight, bytes);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfBuffers> {
        self.pieces.write(&mut self.output, &mut self.pool, false, bytes)
    }

    /// Queues a shared piece that nobody else has, of bytes that count from 0.
    fn shared(&mut self, bytes: usize) -> std::sync::Weak<Box<[u8]>> {
        let block = SharedBytes::new((0..bytes).map(|index| index as u8).collect());
        let part = block.first(bytes);
        self.pieces.push_shared(&mut self.output, &mut self.pool, false, part);
        block.watch()
    }

    fn sent(&mut self, bytes: usize) {
        self.pieces.sent(&mut self.output, &mut self.pool, bytes);
    }

    fn fronts(&mut self) -> Vec<usize> {
        let mut lens = Vec::new();
        while !self.output.is_empty() {
            let len = self.pieces.front(&self.output, &self.pool, usize::MAX >> 1).0.len();
            lens.push(len);
            self.sent(len);
        }
        assert_eq!((self.output.bytes, self.pool.free()), (0, 4));
        lens
    }
}

#[test]
fn small_input_joins_what_waits_but_never_what_is_in_flight() {
    let mut bench = Bench::new();
    bench.input(&[1; 100], false);
    bench.input(&[2; 100], true);
    bench.input(&[3; 100], true);
    assert_eq!(bench.pool.free(), 2);
    assert_eq!(bench.fronts(), [100, 200]);
}

/// As the answers to pipelined requests are, each of which is the same few bytes.
#[test]
fn small_pieces_of_all_kinds_become_one() {
    let mut bench = Bench::new();
    for _ in 0..16 {
        bench.push_static(b"+OK\r\n", false);
    }
    assert!(bench.output.is_single());
    bench.write(b"written").unwrap();
    bench.shared(20);
    bench.input(b"input", false);
    bench.push_static(b"+OK\r\n", false);
    let counted: Vec<u8> = (0..20).collect();
    let (before, end) = (b"+OK\r\n".repeat(16), &b"input+OK\r\n"[..]);
    let taken = bench.pieces.take_bytes(&mut bench.output, &mut bench.pool);
    assert_eq!(taken, [&before, &b"written"[..], &counted, end].concat());
    assert_eq!(bench.pool.free(), 4);
    // One alone is sent from where it is, and so is what is in flight, or has no buffer to spare.
    bench.push_static(b"+OK\r\n", false);
    bench.push_static(b"+OK\r\n", true);
    assert_eq!(bench.pool.free(), 4);
    assert_eq!(bench.fronts(), [5, 5]);
    let held: Vec<_> = (0..2).map(|_| bench.pool.take().unwrap()).collect();
    bench.push_static(b"+OK\r\n", false);
    bench.push_static(b"+OK\r\n", false);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.fronts(), [5, 5]);
}

#[test]
fn large_input_keeps_its_buffer() {
    let mut bench = Bench::new();
    bench.input(&[1; 10], false);
    bench.input(&[2; COALESCE_BYTES + 1], false);
    assert_eq!(bench.fronts(), [10, COALESCE_BYTES + 1]);
}

#[test]
fn writes_fill_buffers_and_run_out_of_them() {
    let mut bench = Bench::new();
    bench.write(&[1; 4000]).unwrap();
    bench.write(&[2; 5000]).unwrap();
    assert_eq!(bench.output.bytes, 9000);
    assert_eq!(bench.fronts(), [4096, 4096, 808]);
    assert_eq!(bench.write(&[3; 5 * 4096]), Err(OutOfBuffers));
    bench.pieces.clear(&mut bench.output, &mut bench.pool, false);
    assert_eq!(bench.fronts(), [0; 0]);
}

#[test]
fn a_long_piece_leaves_in_parts() {
    let mut bench = Bench::new();
    bench.push_static(&[7; 100], false);
    let (bytes, whole) = bench.pieces.front(&bench.output, &bench.pool, 60);
    assert_eq!((bytes.len(), whole), (60, false));
    bench.sent(60);
    let (bytes, whole) = bench.pieces.front(&bench.output, &bench.pool, 60);
    assert_eq!((bytes.len(), whole), (40, true));
    assert!(bench.output.is_single());
}

#[test]
fn a_shared_piece_is_kept_until_all_of_it_is_sent_or_cleared() {
    let mut bench = Bench::new();
    for clears in [false, true] {
        let watch = bench.shared(COALESCE_BYTES + 1);
        bench.sent(50);
        let (bytes, whole) = bench.pieces.front(&bench.output, &bench.pool, 30);
        let Bytes::Shared(part) = bytes else { panic!("not shared: {bytes:?}") };
        assert!(!whole && part.iter().copied().eq(50..80));
        drop(part);
        assert!(watch.upgrade().is_some());
        match clears {
            true => bench.pieces.clear(&mut bench.output, &mut bench.pool, false),
            false => bench.sent(COALESCE_BYTES + 1 - 50),
        }
        assert!(bench.output.is_empty() && watch.upgrade().is_none());
    }
}

#[test]
fn small_shared_pieces_are_copied_as_long_as_half_of_the_buffers_are_left() {
    let mut bench = Bench::new();
    let held: Vec<_> = (0..2).map(|_| bench.pool.take().unwrap()).collect();
    assert!(bench.shared(100).upgrade().is_some(), "copied into the last half");
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert!(bench.shared(100).upgrade().is_none(), "not copied");
    assert!(bench.shared(COALESCE_BYTES).upgrade().is_none(), "not copied behind it");
    assert!(bench.shared(COALESCE_BYTES).upgrade().is_none(), "not copied into another");
    assert_eq!(bench.pool.free(), 2);
    // The first one, too, once something could be put behind it.
    assert_eq!(bench.fronts(), [100 + 100 + COALESCE_BYTES, COALESCE_BYTES]);
}

#[test]
fn all_that_waits_can_be_taken_out_and_queued_without_a_buffer() {
    let mut bench = Bench::new();
    bench.input(&[1; 3000], false);
    bench.push_static(&[2; 10], false);
    let shared = bench.shared(COALESCE_BYTES + 1);
    bench.write(&[4; 5000]).unwrap();
    bench.sent(2999);
    let taken = bench.pieces.take_bytes(&mut bench.output, &mut bench.pool);
    let counted: Vec<u8> = (0..=COALESCE_BYTES).map(|index| index as u8).collect();
    assert_eq!(taken, [&[1][..], &[2; 10], &counted, &[4; 5000]].concat());
    assert!(bench.output.is_empty() && shared.upgrade().is_none());
    assert_eq!((bench.output.bytes, bench.pool.free()), (0, 4));
    assert!(bench.pieces.take_bytes(&mut bench.output, &mut bench.pool).is_empty());

    let held: Vec<_> = (0..4).map(|_| bench.pool.take().unwrap()).collect();
    bench.pieces.push_owned(&mut bench.output, taken.clone());
    bench.pieces.push_owned(&mut bench.output, Vec::new());
    assert_eq!(bench.output.bytes, taken.len());
    let (Bytes::Shared(part), false) = bench.pieces.front(&bench.output, &bench.pool, 4000) else {
        panic!("not whole, and not shared");
    };
    assert_eq!(part[..], taken[..4000]);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.fronts(), [taken.len()]);
}

#[test]
fn clearing_keeps_what_is_in_flight() {
    let mut bench = Bench::new();
    bench.input(&[1; 3000], false);
    bench.input(&[2; 3000], true);
    bench.push_static(b"x", true);
    bench.pieces.clear(&mut bench.output, &mut bench.pool, true);
    assert!(bench.output.is_single());
    assert_eq!(bench.pool.free(), 3);
    bench.pieces.clear(&mut bench.output, &mut bench.pool, false);
    assert_eq!(bench.pool.free(), 4);
}

#[test]
fn what_nobody_has_asked_for_needs_no_buffer() {
    let mut bench = Bench::new();
    let mut taken: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.pool.recycle(taken.pop().unwrap());
    let Bench { pieces, pool, output } = &mut bench;
    pieces.write_unasked(output, pool, false, &[7; 4096 + 5]);
    pieces.write_unasked(output, pool, false, b"more");
    // The last half of the buffers is for others.
    assert_eq!((bench.output.bytes, bench.pool.free()), (4096 + 9, 1));
    taken.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.fronts(), [4096 + 5, 4]);
    bench.pieces.write_unasked(&mut bench.output, &mut bench.pool, false, b"x");
    assert_eq!(bench.pool.free(), 3, "there is one to spare");
    bench.sent(1);
}

/// A file on whatever has the temporary folder; `None`, with a line on stderr, where that cannot say what is in memory.
fn file_on_disk(bytes: &[u8]) -> Option<Arc<File>> {
    let path = std::env::temp_dir().join(format!("output-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = sys::read_cached(file.as_fd(), 0, &mut vec![0; bytes.len()]);
    if read.is_err() {
        eprintln!("SKIPPED: {} knows no RWF_NOWAIT: {read:?}", std::env::temp_dir().display());
    }
    read.is_ok().then(|| Arc::new(file))
}

#[test]
fn a_small_part_of_a_file_that_is_in_memory_is_copied() {
    let content: Vec<u8> = (0..8192_u32).map(|index| (index / 7) as u8).collect();
    let Some(file) = file_on_disk(&content) else { return };
    let queue = |bench: &mut Bench, range: Range<u64>, in_flight| {
        let part = FilePart::new(Arc::clone(&file), range);
        bench.pieces.push_file(&mut bench.output, &mut bench.pool, in_flight, part);
    };
    // Behind the head, in its buffer, as long as there is room.
    let mut bench = Bench::new();
    bench.write(b"head").unwrap();
    queue(&mut bench, 100..4192, false);
    let unsent = bench.pieces.take_bytes(&mut bench.output, &mut bench.pool);
    assert!(unsent == [b"head", &content[100..4192]].concat());
    // In a buffer of its own where the head has gone already, or leaves too little.
    for in_flight in [true, false] {
        let mut bench = Bench::new();
        bench.write(b"head").unwrap();
        queue(&mut bench, if in_flight { 0..10 } else { 0..4093 }, in_flight);
        assert_eq!(bench.fronts(), [4, if in_flight { 10 } else { 4093 }]);
    }
    // Not what is larger than a buffer, nor what the file does not have, nor into the last half of the buffers.
    let mut bench = Bench::new();
    let taken = [(); 2].map(|()| bench.pool.take().unwrap());
    queue(&mut bench, 0..10, false);
    taken.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    queue(&mut bench, 0..4097, false);
    queue(&mut bench, 8190..8193, false);
    let waiting: Vec<_> = bench.pieces.waiting(&bench.output).collect();
    assert!(matches!(waiting[..], [Piece::File(_), Piece::File(_), Piece::File(_)]), "{waiting:?}");
    assert_eq!(bench.fronts(), [10, 4097, 3]);
}
