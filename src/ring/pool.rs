//! The buffers of one ring.
//!
//! All buffers lie in one mapping that stays for as long as the ring may touch it. A buffer has one
//! owner at a time: the kernel, which receives into it; whoever holds its [`Buffer`], which cannot be
//! copied; or the pool, as free. Free buffers are handed out last in, first out, so a lightly loaded
//! ring keeps using the same few that are warm in the cache, however large the pool is.

use std::ops::Range;

use crate::sys::Memory;

/// The right to read, write and send one buffer. Dropping it without
/// [`recycle`](BufferPool::recycle) loses the buffer for the life of the ring.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Buffer {
    id: u16,
}

/// Part of a buffer, as a send names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRange {
    id: u16,
    start: u16,
    end: u16,
}

impl PoolRange {
    /// Bytes in the range.
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// The buffers of one ring; see the module.
#[derive(Debug)]
pub struct BufferPool {
    memory: Memory,
    buffer_bytes: usize,
    count: usize,
    free: Vec<u16>,
    /// Buffers that the engine has lent to the kernel and not got back.
    lent: usize,
}

impl BufferPool {
    /// Maps `count` buffers of `buffer_bytes` bytes. Memory becomes resident as it is used.
    ///
    /// # Errors
    /// Those of mmap(2).
    ///
    /// # Panics
    /// If a buffer would not fit the 16 bits of a [`PoolRange`], or `count` those of an id.
    pub fn new(count: usize, buffer_bytes: usize) -> std::io::Result<Self> {
        assert!(buffer_bytes <= usize::from(u16::MAX), "{buffer_bytes} bytes in a buffer");
        let ids = u16::try_from(count).expect("a buffer id has 16 bits");
        let memory = Memory::map(count * buffer_bytes)?;
        Ok(Self { memory, buffer_bytes, count, free: (0..ids).rev().collect(), lent: 0 })
    }

    /// Takes a free buffer.
    pub fn take(&mut self) -> Option<Buffer> {
        self.free.pop().map(|id| Buffer { id })
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, buffer: Buffer) {
        debug_assert!(self.free.len() < self.count, "more buffers came back than there are");
        self.free.push(buffer.id);
    }

    /// Buffers that are neither with the kernel nor held by anyone.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Buffers that a receive may still be given: the free ones and those that lie with the kernel.
    pub fn available(&self) -> usize {
        self.free.len() + self.lent
    }

    /// All buffers there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of one buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// The bytes in a part of a buffer.
    ///
    /// # Panics
    /// If the range does not lie within a buffer.
    pub fn bytes(&self, buffer: &Buffer, range: Range<usize>) -> &[u8] {
        self.check(&range);
        // SAFETY: the range lies within buffer `id` of the mapping. Its holder lends the only
        // `Buffer` of that id, so the kernel does not receive into it meanwhile.
        unsafe {
            let start = self.address(buffer.id).add(range.start);
            std::slice::from_raw_parts(start, range.len())
        }
    }

    /// Copies `bytes` into a buffer from byte `start` on.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, buffer: &mut Buffer, start: usize, bytes: &[u8]) {
        self.check(&(start..start + bytes.len()));
        // SAFETY: the target lies within buffer `id`, of which the caller holds the only `Buffer`
        // exclusively, and the pool is borrowed exclusively, so `bytes` is not part of it.
        unsafe {
            let target = self.address(buffer.id).add(start);
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// Copies part of one buffer into another from byte `start` on.
    ///
    /// # Panics
    /// If either range does not lie within a buffer.
    pub fn copy(&mut self, from: &Buffer, range: Range<usize>, to: &mut Buffer, start: usize) {
        self.check(&range);
        self.check(&(start..start + range.len()));
        // SAFETY: both lie within their buffers, and two `Buffer`s never have the same id, so they
        // do not overlap.
        unsafe {
            let source = self.address(from.id).add(range.start);
            let target = self.address(to.id).add(start);
            target.copy_from_nonoverlapping(source, range.len());
        }
    }

    /// Names a part of a buffer for a send.
    ///
    /// # Panics
    /// If the range does not lie within a buffer.
    pub fn range(&self, buffer: &Buffer, range: Range<usize>) -> PoolRange {
        self.check(&range);
        PoolRange { id: buffer.id, start: range.start as u16, end: range.end as u16 }
    }

    /// Moves part of a buffer to its beginning.
    ///
    /// # Panics
    /// If the range does not lie within a buffer.
    pub fn move_to_front(&mut self, buffer: &mut Buffer, range: Range<usize>) {
        self.bytes_mut(buffer, 0..range.end).copy_within(range, 0);
    }

    /// The bytes of a part of a buffer, to receive into.
    pub(crate) fn bytes_mut(&mut self, buffer: &mut Buffer, range: Range<usize>) -> &mut [u8] {
        self.check(&range);
        // SAFETY: the range lies within buffer `id` of the mapping, which the kernel filled with
        // zeros; the caller holds the only `Buffer` of that id exclusively.
        unsafe {
            let start = self.address(buffer.id).add(range.start);
            std::slice::from_raw_parts_mut(start, range.len())
        }
    }

    /// The bytes that a send names. Only for engines that read them within a call: nobody else has
    /// the pool meanwhile.
    pub(super) fn part(&self, range: PoolRange) -> &[u8] {
        // SAFETY: the address checks the range. Its owner keeps the buffer until the completion, so
        // nothing is received into it, and writes need the pool exclusively.
        unsafe { std::slice::from_raw_parts(self.range_address(range), range.len()) }
    }

    fn check(&self, range: &Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.buffer_bytes,
            "{range:?} does not lie within a buffer of {} bytes",
            self.buffer_bytes
        );
    }

    /// The address of a range, for the kernel.
    pub(super) fn range_address(&self, range: PoolRange) -> *const u8 {
        self.check(&(usize::from(range.start)..usize::from(range.end)));
        // SAFETY: the range lies within its buffer.
        unsafe { self.address(range.id).add(usize::from(range.start)) }
    }

    /// How many buffers lie with the kernel.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// Lends a free buffer to the kernel: its id and where it begins.
    pub(super) fn lend(&mut self) -> Option<(u16, *mut u8)> {
        let Buffer { id } = self.take()?;
        self.lent += 1;
        Some((id, self.address(id)))
    }

    /// A buffer that the kernel has given back with data in it.
    pub(super) fn returned(&mut self, id: u16) -> Buffer {
        self.lent -= 1;
        assert!(
            usize::from(id) < self.count,
            "the kernel gave back buffer {id}, which does not exist"
        );
        Buffer { id }
    }

    fn address(&self, id: u16) -> *mut u8 {
        assert!(usize::from(id) < self.count, "buffer {id} belongs to another pool");
        // SAFETY: id < count, so the buffer lies within the mapping of count * buffer_bytes.
        unsafe { self.memory.start().as_ptr().add(usize::from(id) * self.buffer_bytes) }
    }
}

impl BufferPool {
    /// What a send of this part would put on the wire, for engines without a kernel and for tests.
    pub(crate) fn range_bytes(&self, range: PoolRange) -> Vec<u8> {
        self.part(range).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_taken_once_and_the_last_one_back_is_the_next_one_out() {
        let mut pool = BufferPool::new(2, 64).unwrap();
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert_ne!(first, second);
        assert_eq!(pool.take(), None);
        let id = first.id;
        pool.recycle(second);
        pool.recycle(first);
        assert_eq!(pool.free(), 2);
        assert_eq!(pool.take().unwrap().id, id);
    }

    #[test]
    fn what_is_written_is_read_and_copied() {
        let mut pool = BufferPool::new(2, 64).unwrap();
        let (mut from, mut to) = (pool.take().unwrap(), pool.take().unwrap());
        pool.write(&mut from, 60, b"abcd");
        pool.copy(&from, 61..64, &mut to, 1);
        assert_eq!(pool.bytes(&to, 0..4), b"\0bcd");
        assert_eq!(pool.range(&to, 1..4).len(), 3);
        pool.recycle(from);
        pool.recycle(to);
    }

    #[test]
    #[should_panic(expected = "does not lie within a buffer")]
    fn a_write_past_the_end_is_refused() {
        let mut pool = BufferPool::new(2, 64).unwrap();
        let mut buffer = pool.take().unwrap();
        pool.write(&mut buffer, 61, b"abcd");
    }

    #[test]
    #[should_panic(expected = "another pool")]
    fn a_buffer_of_a_larger_pool_is_refused() {
        let small = BufferPool::new(1, 64).unwrap();
        let mut large = BufferPool::new(2, 64).unwrap();
        let _first = large.take();
        let second = large.take().unwrap();
        small.bytes(&second, 0..1);
    }
}
