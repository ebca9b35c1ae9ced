//! Anonymous memory from mmap(2): page-aligned, zeroed, resident only where it was touched.

use std::io;
use std::ptr::{self, NonNull};

/// A private anonymous mapping. Unmapped when dropped.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing in it is bound to a thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps at least `bytes` bytes. Nothing is reserved or resident until it is written to.
    ///
    /// # Errors
    /// EINVAL for zero bytes; ENOMEM when the address space or the map count is exhausted: mmap(2).
    pub fn map(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that
        // exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap(2) never maps page zero unasked");
        Ok(Self { start, bytes })
    }

    /// First byte, aligned to a page.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes that were asked for.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Never true: an empty mapping is refused.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: start and bytes are those of the mapping, which nobody else unmaps.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Bytes of a page: what the kernel maps and charges in.
pub fn page_bytes() -> u64 {
    /// If sysconf(3) did not know, which it does.
    const USUAL: u64 = 4096;
    // SAFETY: takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_writable_and_page_aligned() {
        let memory = Memory::map(10_000).unwrap();
        assert_eq!(memory.start().as_ptr() as usize % 4096, 0);
        // SAFETY: the last byte lies within the mapping, which nothing else uses.
        unsafe {
            let last = memory.start().add(9_999);
            assert_eq!(last.read(), 0);
            last.write(7);
            assert_eq!(last.read(), 7);
        }
    }

    #[test]
    fn an_empty_mapping_is_refused() {
        assert_eq!(Memory::map(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
