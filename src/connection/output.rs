//! What waits to be sent to a peer, as a queue of pieces.

use std::ops::Range;

use crate::ring::{Buffer, BufferPool, Bytes, PipeEnds};
use crate::shared::SharedPart;

/// No piece.
const NONE: u32 = u32::MAX;

/// Input and shared bytes of up to this many bytes are copied behind what already waits rather than keeping a buffer
/// of their own, so that small pieces cannot hold many buffers and leave in few sends.
const COALESCE_BYTES: usize = 2048;

/// One piece of output.
#[derive(Debug)]
enum Piece {
    Static(&'static [u8]),
    Shared(SharedPart),
    Buffer { buffer: Buffer, range: Range<usize> },
    Pipe { pipe: PipeEnds, len: usize },
}

#[derive(Debug)]
struct Node {
    /// `None` while the node is free.
    piece: Option<Piece>,
    /// The piece behind this one, or the next free node.
    next: u32,
}

/// The output of one connection: a list in the worker's [`Pieces`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    first: u32,
    last: u32,
    /// Bytes that wait, those in flight included.
    pub(crate) bytes: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self { first: NONE, last: NONE, bytes: 0 }
    }
}

impl Output {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Whether exactly one piece waits.
    pub(crate) fn is_single(&self) -> bool {
        self.first != NONE && self.first == self.last
    }
}

/// The pieces of all connections of a worker. Grows to the most that ever waited at once.
#[derive(Debug)]
pub(crate) struct Pieces {
    nodes: Vec<Node>,
    free: u32,
}

/// No buffer is left to copy an answer into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfBuffers;

impl Pieces {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: NONE }
    }

    pub(crate) fn push_static(&mut self, output: &mut Output, bytes: &'static [u8]) {
        self.push(output, Piece::Static(bytes), bytes.len());
    }

    /// Queues a part of shared bytes. A small one is copied, since a copy costs less than to keep count
    /// of it until it is sent; but not into the last half of the buffers, which is for input.
    pub(crate) fn push_shared(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        in_flight: bool,
        part: SharedPart,
    ) {
        let bytes = part.len();
        if bytes <= COALESCE_BYTES
            && let Some((last, end)) = self.tail(output, pool, in_flight, bytes)
        {
            pool.write(last, *end, &part);
            *end += bytes;
            output.bytes += bytes;
        } else if bytes <= COALESCE_BYTES.min(pool.buffer_bytes())
            && pool.available() > pool.count() / 2
            && let Some(mut buffer) = pool.take()
        {
            pool.write(&mut buffer, 0, &part);
            self.push(output, Piece::Buffer { buffer, range: 0..bytes }, bytes);
        } else {
            self.push(output, Piece::Shared(part), bytes);
        }
    }

    /// Queues part of a receive buffer. Small parts are copied behind what waits, if the last piece
    /// has room and is not `in_flight`; then the buffer is free again.
    pub(crate) fn push_input(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        in_flight: bool,
        (buffer, range): (Buffer, Range<usize>),
    ) {
        let bytes = range.len();
        if bytes <= COALESCE_BYTES
            && let Some((last, end)) = self.tail(output, pool, in_flight, bytes)
        {
            pool.copy(&buffer, range, last, *end);
            *end += bytes;
            output.bytes += bytes;
            pool.recycle(buffer);
        } else {
            self.push(output, Piece::Buffer { buffer, range }, bytes);
        }
    }

    /// Queues what is in a pipe, all of it.
    pub(crate) fn push_pipe(&mut self, output: &mut Output, pipe: PipeEnds, len: usize) {
        self.push(output, Piece::Pipe { pipe, len }, len);
    }

    /// Copies `bytes` into buffers of the pool and queues them.
    pub(crate) fn write(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        in_flight: bool,
        mut bytes: &[u8],
    ) -> Result<(), OutOfBuffers> {
        if let Some((last, end)) = self.tail(output, pool, in_flight, 1) {
            let (fits, rest) = bytes.split_at(bytes.len().min(pool.buffer_bytes() - *end));
            pool.write(last, *end, fits);
            *end += fits.len();
            output.bytes += fits.len();
            bytes = rest;
        }
        for part in bytes.chunks(pool.buffer_bytes()) {
            let mut buffer = pool.take().ok_or(OutOfBuffers)?;
            pool.write(&mut buffer, 0, part);
            self.push(output, Piece::Buffer { buffer, range: 0..part.len() }, part.len());
        }
        Ok(())
    }

    /// Queues a copy of part of a receive buffer that is needed again.
    pub(crate) fn copy_input(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        buffer: &Buffer,
        range: Range<usize>,
    ) -> Result<(), OutOfBuffers> {
        let bytes = range.len();
        let mut copy = pool.take().ok_or(OutOfBuffers)?;
        pool.copy(buffer, range, &mut copy, 0);
        self.push(output, Piece::Buffer { buffer: copy, range: 0..bytes }, bytes);
        Ok(())
    }

    /// The first piece, at most `limit` bytes of it if it is in memory, and whether that is all of it.
    pub(crate) fn front(&self, output: &Output, pool: &BufferPool, limit: usize) -> (Bytes, bool) {
        let node = &self.nodes[output.first as usize];
        match node.piece.as_ref().expect("a queued node has a piece") {
            Piece::Static(bytes) => {
                let bytes = *bytes;
                (Bytes::Static(&bytes[..bytes.len().min(limit)]), bytes.len() <= limit)
            }
            Piece::Shared(part) => (Bytes::Shared(part.first(limit)), part.len() <= limit),
            Piece::Buffer { buffer, range } => {
                let end = range.end.min(range.start + limit);
                (Bytes::Pool(pool.range(buffer, range.start..end)), end == range.end)
            }
            Piece::Pipe { pipe, len } => (Bytes::Pipe { pipe: *pipe, len: *len as u32 }, true),
        }
    }

    /// `bytes` bytes of the first piece are with the kernel.
    pub(crate) fn sent(&mut self, output: &mut Output, pool: &mut BufferPool, bytes: usize) {
        let node = &mut self.nodes[output.first as usize];
        let left = match node.piece.as_mut().expect("a queued node has a piece") {
            Piece::Static(rest) => {
                *rest = &rest[bytes..];
                rest.len()
            }
            Piece::Shared(part) => {
                part.skip(bytes);
                part.len()
            }
            Piece::Buffer { range, .. } => {
                range.start += bytes;
                range.len()
            }
            Piece::Pipe { len, .. } => {
                *len -= bytes;
                *len
            }
        };
        output.bytes -= bytes;
        if left == 0 {
            self.pop(output, pool);
        }
    }

    /// Drops what waits, all but the first piece if that is `in_flight`.
    pub(crate) fn clear(&mut self, output: &mut Output, pool: &mut BufferPool, in_flight: bool) {
        let mut rest = *output;
        if in_flight && !output.is_empty() {
            let first = &mut self.nodes[output.first as usize];
            rest.first = std::mem::replace(&mut first.next, NONE);
            output.last = output.first;
        } else {
            *output = Output::default();
        }
        while !rest.is_empty() {
            self.pop(&mut rest, pool);
        }
    }

    /// The last piece's buffer and the end of its bytes, if `room` more bytes may be put there.
    fn tail(
        &mut self,
        output: &Output,
        pool: &BufferPool,
        in_flight: bool,
        room: usize,
    ) -> Option<(&mut Buffer, &mut usize)> {
        if in_flight && output.is_single() {
            return None;
        }
        match self.nodes.get_mut(output.last as usize)?.piece.as_mut()? {
            Piece::Buffer { buffer, range } if range.end + room <= pool.buffer_bytes() => {
                Some((buffer, &mut range.end))
            }
            _ => None,
        }
    }

    pub(super) fn push_part(&mut self, output: &mut Output, part: SharedPart) {
        let bytes = part.len();
        self.push(output, Piece::Shared(part), bytes);
    }

    fn push(&mut self, output: &mut Output, piece: Piece, bytes: usize) {
        let node = Node { piece: Some(piece), next: NONE };
        let index = self.free;
        let index = if let Some(free) = self.nodes.get_mut(index as usize) {
            self.free = std::mem::replace(free, node).next;
            index
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        match self.nodes.get_mut(output.last as usize) {
            Some(last) => last.next = index,
            None => output.first = index,
        }
        output.last = index;
        output.bytes += bytes;
    }

    fn pop(&mut self, output: &mut Output, pool: &mut BufferPool) {
        let index = output.first;
        let node = &mut self.nodes[index as usize];
        if let Some(Piece::Buffer { buffer, .. }) = node.piece.take() {
            pool.recycle(buffer);
        }
        output.first = std::mem::replace(&mut node.next, self.free);
        self.free = index;
        if output.first == NONE {
            output.last = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
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
        bench.pieces.push_static(&mut bench.output, &[7; 100]);
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
        assert_eq!(bench.fronts(), [100, 100 + COALESCE_BYTES, COALESCE_BYTES]);
    }

    #[test]
    fn all_that_waits_can_be_taken_out_and_queued_without_a_buffer() {
        let mut bench = Bench::new();
        bench.input(&[1; 3000], false);
        bench.pieces.push_static(&mut bench.output, &[2; 10]);
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
        let (Bytes::Shared(part), false) = bench.pieces.front(&bench.output, &bench.pool, 4000)
        else {
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
        bench.pieces.push_static(&mut bench.output, b"x");
        bench.pieces.clear(&mut bench.output, &mut bench.pool, true);
        assert!(bench.output.is_single());
        assert_eq!(bench.pool.free(), 3);
        bench.pieces.clear(&mut bench.output, &mut bench.pool, false);
        assert_eq!(bench.pool.free(), 4);
    }
}
