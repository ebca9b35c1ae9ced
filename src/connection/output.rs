//! What waits to be sent to a peer, as a queue of pieces.

mod sends;

use std::ops::Range;
use std::os::fd::AsFd;

use crate::ring::{Buffer, BufferPool, Bytes, PipeEnds};
use crate::shared::{FilePart, SharedBytes, SharedPart};
use crate::sys;
pub(crate) use sends::Leaving;

/// No piece.
const NONE: u32 = u32::MAX;

/// Pieces of up to this many bytes are copied behind what already waits rather than being sent by themselves: a send
/// costs far more than the copy, and small pieces cannot hold many buffers.
const COALESCE_BYTES: usize = 2048;

/// Most bytes of one send from a file. It ends when the peer has been given what it has room for, so it is no wait.
const FILE_SEND_LIMIT_BYTES: usize = 2 * 1024 * 1024;

/// One piece of output.
#[derive(Debug)]
pub(super) enum Piece {
    Static(&'static [u8]),
    Shared(SharedPart),
    File(FilePart),
    Buffer { buffer: Buffer, range: Range<usize> },
    Pipe { pipe: PipeEnds, len: usize },
}

impl Piece {
    /// At most `limit` bytes of it if it is in memory, and whether that is all of it.
    fn first(&self, pool: &BufferPool, limit: usize) -> (Bytes, bool) {
        match self {
            Self::Static(bytes) => {
                let bytes = *bytes;
                (Bytes::Static(&bytes[..bytes.len().min(limit)]), bytes.len() <= limit)
            }
            Self::Shared(part) => (Bytes::Shared(part.first(limit)), part.len() <= limit),
            Self::File(part) => (
                Bytes::File(Box::new(part.first(FILE_SEND_LIMIT_BYTES))),
                part.len() <= FILE_SEND_LIMIT_BYTES,
            ),
            Self::Buffer { buffer, range } => {
                let end = range.end.min(range.start + limit);
                (Bytes::Pool(pool.range(buffer, range.start..end)), end == range.end)
            }
            Self::Pipe { pipe, len } => (Bytes::Pipe { pipe: *pipe, len: *len as u32 }, true),
        }
    }
}

#[derive(Debug)]
struct Node {
    /// `None` while the node is free.
    piece: Option<Piece>,
    /// The piece behind this one, or the next free node.
    next: u32,
    /// Whether the kernel has it: nothing of it may change.
    in_flight: bool,
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
}

/// The pieces of all connections of a worker. Grows to the most that ever waited at once.
#[derive(Debug)]
pub(crate) struct Pieces {
    nodes: Vec<Node>,
    free: u32,
    /// How many of them are parts of files.
    pub(super) files: usize,
}

/// No buffer is left to copy an answer into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfBuffers;

impl Pieces {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: NONE, files: 0 }
    }

    /// Queues bytes that live as long as the process.
    pub(crate) fn push_static(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        bytes: &'static [u8],
    ) {
        if !self.join(output, pool, bytes) {
            self.push(output, Piece::Static(bytes), bytes.len());
        }
    }

    /// Queues a part of shared bytes. A small one is copied, since a copy costs less than to keep count
    /// of it until it is sent; but not into the last half of the buffers, which is for input.
    pub(crate) fn push_shared(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        part: SharedPart,
    ) {
        let bytes = part.len();
        if self.join(output, pool, &part) {
            return;
        }
        if bytes <= COALESCE_BYTES.min(pool.buffer_bytes())
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
        (buffer, range): (Buffer, Range<usize>),
    ) {
        let bytes = range.len();
        if bytes <= COALESCE_BYTES
            && let Some((last, end)) = self.tail(output, pool, bytes)
        {
            pool.copy(&buffer, range, last, *end);
            *end += bytes;
            output.bytes += bytes;
            pool.recycle(buffer);
        } else {
            self.push(output, Piece::Buffer { buffer, range }, bytes);
        }
    }

    /// Queues part of a file. A small one that is in memory is copied, which costs less than to have a thread send it;
    /// but not into the last half of the buffers, which is for input.
    pub(crate) fn push_file(&mut self, output: &mut Output, pool: &mut BufferPool, part: FilePart) {
        if part.len() <= pool.buffer_bytes()
            && pool.available() > pool.count() / 2
            && self.copy_file(output, pool, &part)
        {
            return;
        }
        let bytes = part.len();
        self.files += 1;
        self.push(output, Piece::File(part), bytes);
    }

    /// Copies part of a file behind what waits, or into a buffer of its own. False if not all of it is in memory.
    fn copy_file(&mut self, output: &mut Output, pool: &mut BufferPool, part: &FilePart) -> bool {
        let bytes = part.len();
        let read = |pool: &mut BufferPool, buffer: &mut Buffer, start: usize| {
            let room = pool.bytes_mut(buffer, start..start + bytes);
            sys::read_cached(part.as_fd(), part.offset(), room) == Ok(bytes)
        };
        if let Some((last, end)) = self.tail(output, pool, bytes) {
            if read(pool, last, *end) {
                *end += bytes;
                output.bytes += bytes;
                return true;
            }
            return false;
        }
        let Some(mut buffer) = pool.take() else { return false };
        if read(pool, &mut buffer, 0) {
            self.push(output, Piece::Buffer { buffer, range: 0..bytes }, bytes);
            return true;
        }
        pool.recycle(buffer);
        false
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
        mut bytes: &[u8],
    ) -> Result<(), OutOfBuffers> {
        if let Some((last, end)) = self.tail(output, pool, 1) {
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

    /// The same for what no input has asked for, so that no want of buffers has held it up: the last half of them is for
    /// others, and what finds none is kept in memory of its own.
    pub(crate) fn write_unasked(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        bytes: &[u8],
    ) {
        let before = output.bytes;
        let is_scarce = pool.available() <= pool.count() / 2;
        if is_scarce || self.write(output, pool, bytes).is_err() {
            let rest = SharedBytes::new(bytes[output.bytes - before..].to_vec());
            self.push_part(output, rest.first(rest.len()));
        }
    }

    /// Queues a copy of part of a receive buffer that is needed again.
    pub(crate) fn copy_input(
        &mut self,
        output: &mut Output,
        pool: &mut BufferPool,
        (buffer, range): (&Buffer, Range<usize>),
    ) -> Result<(), OutOfBuffers> {
        let bytes = range.len();
        if bytes <= COALESCE_BYTES
            && let Some((last, end)) = self.tail(output, pool, bytes)
        {
            pool.copy(buffer, range, last, *end);
            *end += bytes;
            output.bytes += bytes;
            return Ok(());
        }
        let mut copy = pool.take().ok_or(OutOfBuffers)?;
        pool.copy(buffer, range, &mut copy, 0);
        self.push(output, Piece::Buffer { buffer: copy, range: 0..bytes }, bytes);
        Ok(())
    }

    /// Copies a small piece behind what waits, if there is room. False if not.
    fn join(&mut self, output: &mut Output, pool: &mut BufferPool, bytes: &[u8]) -> bool {
        if bytes.len() > COALESCE_BYTES {
            return false;
        }
        let Some((last, end)) = self.tail(output, pool, bytes.len()) else {
            return false;
        };
        pool.write(last, *end, bytes);
        *end += bytes.len();
        output.bytes += bytes.len();
        true
    }

    /// The first piece, at most `limit` bytes of it if it is in memory, and whether that is all of it.
    pub(crate) fn front(&self, output: &Output, pool: &BufferPool, limit: usize) -> (Bytes, bool) {
        let node = &self.nodes[output.first as usize];
        node.piece.as_ref().expect("a queued node has a piece").first(pool, limit)
    }

    /// The last piece's buffer and the end of its bytes, if `room` more bytes may be put there. A small piece that has
    /// no buffer is copied into one for that; but not into the last half of the buffers, which is for input.
    fn tail(
        &mut self,
        output: &Output,
        pool: &mut BufferPool,
        room: usize,
    ) -> Option<(&mut Buffer, &mut usize)> {
        let last = self.nodes.get_mut(output.last as usize).filter(|node| !node.in_flight)?;
        let last = last.piece.as_mut()?;
        let small = match last {
            Piece::Static(bytes) => &**bytes,
            Piece::Shared(part) => part,
            Piece::File(_) | Piece::Buffer { .. } | Piece::Pipe { .. } => &[],
        };
        let bytes = small.len();
        if (1..=COALESCE_BYTES).contains(&bytes)
            && bytes + room <= pool.buffer_bytes()
            && pool.available() > pool.count() / 2
            && let Some(mut buffer) = pool.take()
        {
            pool.write(&mut buffer, 0, small);
            *last = Piece::Buffer { buffer, range: 0..bytes };
        }
        match last {
            Piece::Buffer { buffer, range } if range.end + room <= pool.buffer_bytes() => {
                Some((buffer, &mut range.end))
            }
            _ => None,
        }
    }

    /// What waits, in order.
    pub(super) fn waiting(&self, output: &Output) -> impl Iterator<Item = &Piece> {
        let node = |index: u32| self.nodes.get(index as usize);
        let nodes = std::iter::successors(node(output.first), move |it| node(it.next));
        nodes.filter_map(|node| node.piece.as_ref())
    }

    pub(super) fn push_part(&mut self, output: &mut Output, part: SharedPart) {
        let bytes = part.len();
        self.push(output, Piece::Shared(part), bytes);
    }

    fn push(&mut self, output: &mut Output, piece: Piece, bytes: usize) {
        let node = Node { piece: Some(piece), next: NONE, in_flight: false };
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
        match node.piece.take() {
            Some(Piece::Buffer { buffer, .. }) => pool.recycle(buffer),
            Some(Piece::File(_)) => self.files -= 1,
            _ => {}
        }
        output.first = std::mem::replace(&mut node.next, self.free);
        self.free = index;
        if output.first == NONE {
            output.last = NONE;
        }
    }
}

#[cfg(test)]
mod tests;
