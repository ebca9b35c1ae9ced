//! The ring of provided buffers: where the kernel takes the buffer that a receive fills.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::super::pool::BufferPool;
use super::entry::BUFFER_GROUP;
use crate::sys::Memory;

/// A window of the pool that the kernel may take from. The rest of the pool stays with us, free, so
/// that a small load runs through few buffers.
#[derive(Debug)]
pub(super) struct ProvidedBuffers {
    entries: Memory,
    mask: u16,
    /// Most buffers with the kernel at a time.
    window: usize,
    tail: u16,
}

impl ProvidedBuffers {
    /// Registers an empty ring for up to `window` buffers.
    ///
    /// # Errors
    /// Those of mmap(2) and io_uring_register(2).
    pub(super) fn register(submitter: &Submitter<'_>, window: usize) -> std::io::Result<Self> {
        let slots = u16::try_from(window.next_power_of_two()).expect("the window is a constant");
        let entries = Memory::map(usize::from(slots) * size_of::<BufRingEntry>())?;
        let address = entries.start().as_ptr() as u64;
        // SAFETY: the mapping holds `slots` entries, is aligned to a page, and lives as long as the
        // ring: `Uring` drops the ring first, and leaks this memory if anything is still in flight.
        unsafe { submitter.register_buf_ring_with_flags(address, slots, BUFFER_GROUP, 0)? };
        Ok(Self { entries, mask: slots - 1, window, tail: 0 })
    }

    /// Fills the window up from the free buffers of the pool.
    pub(super) fn lend(&mut self, pool: &mut BufferPool) {
        let before = self.tail;
        while pool.lent() < self.window
            && let Some((id, address)) = pool.lend()
        {
            self.write_entry(id, address, pool.buffer_bytes());
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            self.publish();
        }
    }

    fn write_entry(&mut self, id: u16, address: *mut u8, bytes: usize) {
        let slot = usize::from(self.tail & self.mask);
        // SAFETY: slot <= mask, so the entry lies within the mapping; the kernel reads it only once
        // the tail has moved past it. Field by field: the ring's tail shares the last bytes of
        // entry 0, so a whole entry must never be written.
        let entry = unsafe { &mut *self.entries.start().cast::<BufRingEntry>().as_ptr().add(slot) };
        entry.set_addr(address as u64);
        entry.set_len(bytes as u32);
        entry.set_bid(id);
    }

    fn publish(&self) {
        let base = self.entries.start().cast::<BufRingEntry>().as_ptr();
        // SAFETY: base is the first entry of the mapping, in which the kernel reads the tail with
        // acquire semantics; it is aligned and nobody accesses it except through this atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
