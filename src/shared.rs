//! Bytes that several own: laid out once, or in a file, read by many threads, freed with the last who has a part.

mod file_part;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub use file_part::FilePart;

/// A block of bytes. A clone is the same block.
#[derive(Clone)]
pub struct SharedBytes(Arc<Box<[u8]>>);

/// A part of a block, which keeps all of it. What a part has shown once stays where it is, and stays
/// the same, for as long as any part or the block itself is there.
#[derive(Clone)]
pub struct SharedPart {
    block: Arc<Box<[u8]>>,
    start: u32,
    len: u32,
}

impl SharedBytes {
    /// Takes the bytes over.
    ///
    /// # Panics
    /// If there are 4 GiB or more.
    pub fn new(bytes: Vec<u8>) -> Self {
        u32::try_from(bytes.len()).expect("a block has less than 4 GiB");
        Self(Arc::new(bytes.into()))
    }

    /// The first `len` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn first(&self, len: usize) -> SharedPart {
        let block = Arc::clone(&self.0);
        assert!(len <= block.len(), "{len} of {} bytes", block.len());
        SharedPart { block, start: 0, len: len as u32 }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

impl SharedPart {
    /// No more than the first `limit` bytes.
    #[must_use]
    pub fn first(&self, limit: usize) -> Self {
        let len = u32::try_from(limit).map_or(self.len, |limit| limit.min(self.len));
        Self { len, ..self.clone() }
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn skip(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} of {} bytes", self.len);
        self.start += count as u32;
        self.len -= count as u32;
    }

    /// Takes `count` bytes more. False, and nothing changes, if it does not begin where `block` does or
    /// there is no room behind it.
    pub fn grow(&mut self, count: usize, block: &SharedBytes) -> bool {
        let grown = self.len() + count;
        let fits = std::ptr::eq(self.as_ptr(), block.as_ptr()) && grown <= block.len();
        if fits {
            self.len = grown as u32;
        }
        fits
    }
}

impl Deref for SharedPart {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.start as usize..][..self.len as usize]
    }
}

impl PartialEq for SharedPart {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedPart {}

impl fmt::Debug for SharedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPart({}..{})", self.start, self.start + self.len)
    }
}

#[cfg(test)]
impl SharedBytes {
    /// Whether the bytes are still there can be asked later.
    pub(crate) fn watch(&self) -> std::sync::Weak<Box<[u8]>> {
        Arc::downgrade(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_the_bytes_and_the_last_one_frees_them() {
        let block = SharedBytes::new(b"0123456789".to_vec());
        let watch = block.watch();
        let mut part = block.first(10).first(8);
        drop(block);
        part.skip(3);
        assert_eq!(&part[..], b"34567");
        let other = part.clone();
        drop(part);
        assert_eq!(&other.first(2)[..], b"34");
        assert!(watch.upgrade().is_some());
        drop(other);
        assert!(watch.upgrade().is_none());
    }

    #[test]
    fn a_part_grows_within_its_own_block_only() {
        let block = SharedBytes::new(b"ababab".to_vec());
        let mut part = block.first(2);
        assert!(!part.grow(2, &SharedBytes::new(b"ababab".to_vec())));
        assert!(part.grow(2, &block) && part.grow(2, &block) && !part.grow(2, &block));
        assert_eq!(&part[..], b"ababab");
        part.skip(2);
        assert!(!part.grow(1, &block), "it does not begin with the block any more");
    }

    #[test]
    fn the_last_of_several_threads_frees_the_bytes() {
        let block = SharedBytes::new(vec![7; 100]);
        let watch = block.watch();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let block = block.clone();
                std::thread::spawn(move || block.first(100))
            })
            .collect();
        drop(block);
        let parts: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(parts.iter().all(|part| part.iter().all(|byte| *byte == 7)));
        drop(parts);
        assert!(watch.upgrade().is_none());
    }

    #[test]
    #[should_panic(expected = "4 of 3 bytes")]
    fn more_than_there_is_is_refused() {
        SharedBytes::new(b"abc".to_vec()).first(4);
    }
}
