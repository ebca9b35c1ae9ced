//! What waits for a peer as plain bytes: taken out of a thread's pieces, and put back into those of another one.

use super::Output;
use super::output::{Piece, Pieces};
use crate::ring::{BufferPool, Bytes};
use crate::shared::SharedBytes;

/// More than any piece has.
const ALL: usize = usize::MAX >> 1;

impl Pieces {
    /// How many bytes of what waits are in a pipe, if the first piece is there.
    pub(crate) fn in_pipe(&self, output: &Output, pool: &BufferPool) -> Option<usize> {
        match self.front_of(output, pool)? {
            Bytes::Pipe { len, .. } => Some(len as usize),
            _ => None,
        }
    }

    /// How many bytes of what waits take memory: all but those of files.
    #[inline]
    pub(crate) fn in_memory(&self, output: &Output) -> usize {
        if self.files == 0 { output.bytes } else { output.bytes - self.in_files(output) }
    }

    /// How many bytes of what waits are in files.
    pub(crate) fn in_files(&self, output: &Output) -> usize {
        let file_bytes = |piece: &Piece| match piece {
            Piece::File(part) => part.len(),
            _ => 0,
        };
        if self.files == 0 { 0 } else { self.waiting(output).map(file_bytes).sum() }
    }

    /// Whether part of a file is the first of what waits.
    pub(crate) fn begins_with_file(&self, output: &Output) -> bool {
        matches!(self.waiting(output).next(), Some(Piece::File(_)))
    }

    /// Whether the second of what waits is part of a file.
    #[inline]
    pub(crate) fn is_before_file(&self, output: &Output) -> bool {
        self.files > 0 && matches!(self.waiting(output).nth(1), Some(Piece::File(_)))
    }

    /// Takes out all that waits, none of which is in flight.
    ///
    /// # Panics
    /// If something of it is in a pipe or in a file.
    pub(crate) fn take_bytes(&mut self, output: &mut Output, pool: &mut BufferPool) -> Vec<u8> {
        let mut taken = Vec::with_capacity(output.bytes);
        while let Some(front) = self.front_of(output, pool) {
            assert!(!matches!(front, Bytes::File(_)), "{front:?} is not in memory");
            taken.extend_from_slice(&front.copied(pool));
            self.sent(output, pool, front.len());
        }
        taken
    }

    /// Queues bytes of whoever asks. Takes no buffer, so it works when there are none.
    pub(crate) fn push_owned(&mut self, output: &mut Output, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let bytes = SharedBytes::new(bytes);
            self.push_part(output, bytes.first(bytes.len()));
        }
    }

    fn front_of(&self, output: &Output, pool: &BufferPool) -> Option<Bytes> {
        (!output.is_empty()).then(|| self.front(output, pool, ALL).0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shared::FilePart;
    use crate::sys::testing::file_of;

    #[test]
    fn bytes_come_back_in_order_from_wherever_they_were() {
        let mut pool = BufferPool::new(4, 4096).unwrap();
        let (mut pieces, mut output) = (Pieces::new(), Output::default());
        pieces.push_static(&mut output, &mut pool, b"static ");
        let mut buffer = pool.take().unwrap();
        pool.write(&mut buffer, 0, b"...buffer ");
        pieces.push_input(&mut output, &mut pool, (buffer, 3..10));
        pieces.push_owned(&mut output, [b'o'; 5000].to_vec());
        pieces.push_owned(&mut output, Vec::new());
        pieces.sent(&mut output, &mut pool, 2);
        let taken = pieces.take_bytes(&mut output, &mut pool);
        let expected = [b"atic buffer ".as_slice(), &[b'o'; 5000]].concat();
        assert!(taken == expected, "{taken:?}");
        assert_eq!((output.is_empty(), output.bytes, pool.free()), (true, 0, 4));
        assert!(pieces.take_bytes(&mut output, &mut pool).is_empty());
    }

    #[test]
    fn parts_of_files_take_no_memory() {
        let mut pool = BufferPool::new(4, 4096).unwrap();
        let (mut pieces, mut output) = (Pieces::new(), Output::default());
        pieces.push_static(&mut output, &mut pool, b"head");
        let file = Arc::new(file_of(&[b'f'; 6000]));
        pieces.push_file(&mut output, &mut pool, FilePart::new(file, 10..5010));
        pieces.push_static(&mut output, &mut pool, b"tail");
        assert_eq!((output.bytes, pieces.in_memory(&output)), (5008, 8));
        pieces.sent(&mut output, &mut pool, 4);
        let Bytes::File(part) = pieces.front(&output, &pool, 1).0 else { panic!("no file") };
        assert_eq!((part.offset(), part.len()), (10, 5000));
        pieces.sent(&mut output, &mut pool, 4995);
        assert_eq!((output.bytes, pieces.in_files(&output)), (9, 5));
        pieces.sent(&mut output, &mut pool, 5);
        assert_eq!((pieces.in_memory(&output), pieces.in_files(&output)), (4, 0));
        assert_eq!(pieces.take_bytes(&mut output, &mut pool), b"tail");
    }
}
