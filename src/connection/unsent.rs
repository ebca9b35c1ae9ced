//! What waits for a peer as plain bytes: taken out of a thread's pieces, and put back into those of another one.

use super::{Output, Pieces};
use crate::ring::{BufferPool, Bytes};
use crate::shared::SharedBytes;

/// More than any piece has.
const ALL: usize = usize::MAX >> 1;

impl Pieces {
    /// How many bytes of what waits are in a pipe, if the first piece is there.
    pub(crate) fn in_pipe(&self, output: &Output, pool: &BufferPool) -> Option<usize> {
        match self.front_of(output, pool)? {
            Bytes::Pipe { len, .. } => Some(len as usize),
            Bytes::Static(_) | Bytes::Shared(_) | Bytes::Pool(_) => None,
        }
    }

    /// Takes out all that waits, none of which is in flight.
    ///
    /// # Panics
    /// If something of it is in a pipe.
    pub(crate) fn take_bytes(&mut self, output: &mut Output, pool: &mut BufferPool) -> Vec<u8> {
        let mut taken = Vec::with_capacity(output.bytes);
        while let Some(front) = self.front_of(output, pool) {
            match &front {
                Bytes::Static(bytes) => taken.extend_from_slice(bytes),
                Bytes::Shared(part) => taken.extend_from_slice(part),
                Bytes::Pool(range) => taken.extend_from_slice(&pool.range_bytes(*range)),
                Bytes::Pipe { .. } => panic!("a pipe is read by whoever has it"),
            }
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
    use super::*;

    #[test]
    fn bytes_come_back_in_order_from_wherever_they_were() {
        let mut pool = BufferPool::new(4, 4096).unwrap();
        let (mut pieces, mut output) = (Pieces::new(), Output::default());
        pieces.push_static(&mut output, &mut pool, false, b"static ");
        let mut buffer = pool.take().unwrap();
        pool.write(&mut buffer, 0, b"...buffer ");
        pieces.push_input(&mut output, &mut pool, true, (buffer, 3..10));
        pieces.push_owned(&mut output, [b'o'; 5000].to_vec());
        pieces.push_owned(&mut output, Vec::new());
        pieces.sent(&mut output, &mut pool, 2);
        let taken = pieces.take_bytes(&mut output, &mut pool);
        let expected = [b"atic buffer ".as_slice(), &[b'o'; 5000]].concat();
        assert!(taken == expected, "{taken:?}");
        assert_eq!((output.is_empty(), output.bytes, pool.free()), (true, 0, 4));
        assert!(pieces.take_bytes(&mut output, &mut pool).is_empty());
    }
}
