//! Pieces on their way to a peer.

use std::fs::File;
use std::sync::Arc;

use super::*;
use crate::connection::SEND_LIMIT_BYTES;
use crate::ring::GATHERED_MAX;
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

    fn input(&mut self, bytes: &[u8]) {
        let mut buffer = self.pool.take().unwrap();
        self.pool.write(&mut buffer, 0, bytes);
        let part = (buffer, 0..bytes.len());
        self.pieces.push_input(&mut self.output, &mut self.pool, part);
    }

    fn push_static(&mut self, bytes: &'static [u8]) {
        self.pieces.push_static(&mut self.output, &mut self.pool, bytes);
    }

    /// Lends what waits to the kernel: how long each part of the send is, and whether that is all.
    fn begin(&mut self) -> (Vec<usize>, bool) {
        let Leaving { bytes, is_all, .. } =
            self.pieces.begin_send(&self.output, &self.pool, SEND_LIMIT_BYTES);
        let lens = match &bytes {
            Bytes::Gathered(parts) => parts.iter().map(Bytes::len).collect(),
            alone => vec![alone.len()],
        };
        assert_eq!(self.pieces.lent(&self.output, SEND_LIMIT_BYTES), bytes.len());
        (lens, is_all)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfBuffers> {
        self.pieces.write(&mut self.output, &mut self.pool, bytes)
    }

    /// Queues a shared piece that nobody else has, of bytes that count from 0.
    fn shared(&mut self, bytes: usize) -> std::sync::Weak<Box<[u8]>> {
        let block = SharedBytes::new((0..bytes).map(|index| index as u8).collect());
        let part = block.first(bytes);
        self.pieces.push_shared(&mut self.output, &mut self.pool, part);
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
    bench.input(&[1; 100]);
    bench.begin();
    bench.input(&[2; 100]);
    bench.input(&[3; 100]);
    assert_eq!(bench.pool.free(), 2);
    assert_eq!(bench.fronts(), [100, 200]);
}

/// As the answers to pipelined requests are, each of which is the same few bytes.
#[test]
fn small_pieces_of_all_kinds_become_one() {
    let mut bench = Bench::new();
    for _ in 0..16 {
        bench.push_static(b"+OK\r\n");
    }
    assert_eq!(bench.pieces.waiting(&bench.output).count(), 1);
    bench.write(b"written").unwrap();
    bench.shared(20);
    bench.input(b"input");
    bench.push_static(b"+OK\r\n");
    let counted: Vec<u8> = (0..20).collect();
    let (before, end) = (b"+OK\r\n".repeat(16), &b"input+OK\r\n"[..]);
    let taken = bench.pieces.take_bytes(&mut bench.output, &mut bench.pool);
    assert_eq!(taken, [&before, &b"written"[..], &counted, end].concat());
    assert_eq!(bench.pool.free(), 4);
    // One alone is sent from where it is, and so is what is in flight, or has no buffer to spare.
    bench.push_static(b"+OK\r\n");
    bench.begin();
    bench.push_static(b"+OK\r\n");
    assert_eq!(bench.pool.free(), 4);
    assert_eq!(bench.fronts(), [5, 5]);
    let held: Vec<_> = (0..2).map(|_| bench.pool.take().unwrap()).collect();
    bench.push_static(b"+OK\r\n");
    bench.push_static(b"+OK\r\n");
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.fronts(), [5, 5]);
}

#[test]
fn large_input_keeps_its_buffer() {
    let mut bench = Bench::new();
    bench.input(&[1; 10]);
    bench.input(&[2; COALESCE_BYTES + 1]);
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
    bench.pieces.clear(&mut bench.output, &mut bench.pool);
    assert_eq!(bench.fronts(), [0; 0]);
}

#[test]
fn a_long_piece_leaves_in_parts() {
    let mut bench = Bench::new();
    bench.push_static(&[7; 100]);
    let (bytes, whole) = bench.pieces.front(&bench.output, &bench.pool, 60);
    assert_eq!((bytes.len(), whole), (60, false));
    bench.sent(60);
    let (bytes, whole) = bench.pieces.front(&bench.output, &bench.pool, 60);
    assert_eq!((bytes.len(), whole), (40, true));
    assert_eq!(bench.pieces.waiting(&bench.output).count(), 1);
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
            true => bench.pieces.clear(&mut bench.output, &mut bench.pool),
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
    bench.input(&[1; 3000]);
    bench.push_static(&[2; 10]);
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
    for lent in [1, 2] {
        let mut bench = Bench::new();
        bench.input(&[1; 3000]);
        if lent == 1 {
            bench.begin();
        }
        bench.input(&[2; 3000]);
        if lent == 2 {
            assert_eq!(bench.begin(), (vec![3000, 3000], true));
        }
        bench.push_static(b"x");
        bench.pieces.clear(&mut bench.output, &mut bench.pool);
        assert_eq!(bench.pool.free(), 4 - lent);
        bench.push_static(b"behind it");
        bench.pieces.sent(&mut bench.output, &mut bench.pool, 0);
        bench.pieces.clear(&mut bench.output, &mut bench.pool);
        assert!(bench.output.is_empty());
        assert_eq!(bench.pool.free(), 4);
    }
}

/// Static, shared, received and written: what lies in memory leaves together, in its order.
#[test]
fn large_pieces_of_all_kinds_leave_together() {
    static LARGE: [u8; 3000] = [1; 3000];
    let mut bench = Bench::new();
    bench.push_static(&LARGE);
    bench.shared(5000);
    bench.input(&[3; 2500]);
    bench.write(&[4; 4000]).unwrap();
    // What is written goes into the room behind the input first.
    assert_eq!(bench.begin(), (vec![3000, 5000, 4096, 2404], true));
    // Nothing is put behind the last, which the kernel has; and a part of them goes.
    bench.push_static(b"behind them");
    assert_eq!(bench.pieces.lent(&bench.output, SEND_LIMIT_BYTES), 14_500);
    bench.sent(3000 + 5000 + 100);
    assert_eq!(bench.begin(), (vec![3996, 2404, 11], true));
    bench.sent(3996 + 2404 + 11);
    assert!(bench.output.is_empty());
    assert_eq!((bench.output.bytes, bench.pool.free()), (0, 4));
}

#[test]
fn one_send_has_a_limit_of_bytes_and_of_pieces() {
    static LARGE: [u8; SEND_LIMIT_BYTES + 1] = [1; SEND_LIMIT_BYTES + 1];
    let mut bench = Bench::new();
    bench.push_static(&LARGE[..SEND_LIMIT_BYTES - 3000]);
    bench.push_static(&LARGE[..3000]);
    bench.push_static(&LARGE);
    assert_eq!(bench.begin(), (vec![SEND_LIMIT_BYTES - 3000, 3000], false));
    bench.sent(SEND_LIMIT_BYTES);
    assert_eq!(bench.begin(), (vec![SEND_LIMIT_BYTES], false), "a part of one goes alone");
    bench.sent(SEND_LIMIT_BYTES);
    assert_eq!(bench.begin(), (vec![1], true));
    bench.sent(1);
    for _ in 0..=GATHERED_MAX {
        bench.push_static(&LARGE[..2100]);
    }
    assert_eq!(bench.begin(), (vec![2100; GATHERED_MAX], false));
    bench.sent(0);
    assert_eq!(bench.begin().0.len(), GATHERED_MAX, "nothing has gone");
    bench.sent(2100 * GATHERED_MAX);
    assert_eq!(bench.begin(), (vec![2100], true));
}

/// What is in a file goes by itself, and what stands before it does not wait for it.
#[test]
fn a_file_is_not_gathered() {
    let mut bench = Bench::new();
    let file = Arc::new(sys::testing::file_of(&[7; 5000]));
    bench.push_static(b"head");
    let part = FilePart::new(file, 0..5000);
    bench.pieces.push_file(&mut bench.output, &mut bench.pool, part);
    bench.push_static(b"tail");
    for (lens, is_all) in [(4, false), (5000, false), (4, true)] {
        assert_eq!(bench.begin(), (vec![lens], is_all));
        bench.sent(lens);
    }
}

#[test]
fn what_nobody_has_asked_for_needs_no_buffer() {
    let mut bench = Bench::new();
    let mut taken: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.pool.recycle(taken.pop().unwrap());
    let Bench { pieces, pool, output } = &mut bench;
    pieces.write_unasked(output, pool, &[7; 4096 + 5]);
    pieces.write_unasked(output, pool, b"more");
    // The last half of the buffers is for others.
    assert_eq!((bench.output.bytes, bench.pool.free()), (4096 + 9, 1));
    taken.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.fronts(), [4096 + 5, 4]);
    bench.pieces.write_unasked(&mut bench.output, &mut bench.pool, b"x");
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
    let queue = |bench: &mut Bench, range: Range<u64>| {
        let part = FilePart::new(Arc::clone(&file), range);
        bench.pieces.push_file(&mut bench.output, &mut bench.pool, part);
    };
    // Behind the head, in its buffer, as long as there is room.
    let mut bench = Bench::new();
    bench.write(b"head").unwrap();
    queue(&mut bench, 100..4192);
    let unsent = bench.pieces.take_bytes(&mut bench.output, &mut bench.pool);
    assert!(unsent == [b"head", &content[100..4192]].concat());
    // In a buffer of its own where the head has gone already, or leaves too little.
    for in_flight in [true, false] {
        let mut bench = Bench::new();
        bench.write(b"head").unwrap();
        if in_flight {
            bench.begin();
        }
        queue(&mut bench, if in_flight { 0..10 } else { 0..4093 });
        assert_eq!(bench.fronts(), [4, if in_flight { 10 } else { 4093 }]);
    }
    // Not what is larger than a buffer, nor what the file does not have, nor into the last half of the buffers.
    let mut bench = Bench::new();
    let taken = [(); 2].map(|()| bench.pool.take().unwrap());
    queue(&mut bench, 0..10);
    taken.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    queue(&mut bench, 0..4097);
    queue(&mut bench, 8190..8193);
    let waiting: Vec<_> = bench.pieces.waiting(&bench.output).collect();
    assert!(matches!(waiting[..], [Piece::File(_), Piece::File(_), Piece::File(_)]), "{waiting:?}");
    assert_eq!(bench.fronts(), [10, 4097, 3]);
}
