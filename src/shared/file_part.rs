//! Part of a file, which is kept open as long as the part is there.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::{fmt, io};

/// Bytes of a file, from an offset on. A clone is the same part of the same open file.
#[derive(Clone)]
pub struct FilePart {
    file: Arc<File>,
    range: Range<u64>,
}

impl FilePart {
    /// These bytes of a file. Whether it has them shows when they are read.
    pub fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, range }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Where it begins in its file, in bytes.
    pub fn offset(&self) -> u64 {
        self.range.start
    }

    /// No more than the first `limit` bytes.
    #[must_use]
    pub fn first(&self, limit: usize) -> Self {
        let end = self.range.end.min(self.range.start.saturating_add(limit as u64));
        Self { file: Arc::clone(&self.file), range: self.range.start..end }
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn skip(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} of {} bytes", self.len());
        self.range.start += count as u64;
    }

    /// Reads all of it into memory, or as much as the file has. For tests and simulations.
    ///
    /// # Errors
    /// Those of pread(2).
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len()];
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], self.range.start + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl AsFd for FilePart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The same bytes of the same open file.
impl PartialEq for FilePart {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.range == other.range
    }
}

impl Eq for FilePart {}

impl fmt::Debug for FilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilePart({:?})", self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::file_of;

    #[test]
    fn parts_of_a_file_become_smaller_from_both_ends() {
        let mut part = FilePart::new(Arc::new(file_of(b"0123456789")), 2..9);
        assert_eq!((part.len(), part.read().unwrap().as_slice()), (7, &b"2345678"[..]));
        part.skip(3);
        assert_eq!((part.offset(), part.first(2).read().unwrap().as_slice()), (5, &b"56"[..]));
        assert_eq!(part.first(100), part);
        part.skip(4);
        assert!(part.is_empty() && part.read().unwrap().is_empty());
    }

    #[test]
    fn what_a_file_does_not_have_is_not_read() {
        let file = Arc::new(file_of(b"short"));
        assert_eq!(FilePart::new(Arc::clone(&file), 3..100).read().unwrap(), b"rt");
        assert!(FilePart::new(file, 100..101).read().unwrap().is_empty());
    }
}
