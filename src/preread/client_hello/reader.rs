//! Handshake bytes out of records, and the vectors in them, by their announced lengths.

use std::ops::RangeInclusive;

use super::NotHello;

/// The type of a record that carries handshake messages.
const HANDSHAKE: u8 = 0x16;

/// SSL 3.0 and all versions of TLS. What the minor version of a record says has no meaning.
pub(super) const MAJOR_VERSION: u8 = 3;

const RECORD_HEAD_BYTES: usize = 5;
const MAX_RECORD_BYTES: usize = 1 << 14;

/// Why reading ended before the message did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The rest has not come. The message takes at least so many bytes on the wire.
    Short {
        at_least: usize,
    },
    Not(NotHello),
}

impl From<NotHello> for Stop {
    fn from(reason: NotHello) -> Self {
        Self::Not(reason)
    }
}

/// Reads handshake bytes and leaves out the headers of the records they come in.
pub(super) struct Reader<'a> {
    wire: &'a [u8],
    /// The next byte on the wire.
    at: usize,
    /// Bytes of the current record that are still to be read.
    record_left: usize,
    /// Bytes of the message that are still to be read, as far as is known.
    message_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(wire: &'a [u8]) -> Self {
        Self { wire, at: 0, record_left: 0, message_left: 1 }
    }

    /// Where the reader is on the wire.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        if self.record_left == 0 {
            self.open_record()?;
        }
        let Some(&byte) = self.wire.get(self.at) else { return Err(self.short()) };
        self.advance(1);
        Ok(byte)
    }

    /// The length that stands behind the type of a message, and a vector of that length.
    pub(super) fn message(&mut self) -> Result<Vector, Stop> {
        self.message_left = 3;
        let len = [self.byte()?, self.byte()?, self.byte()?];
        let left = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        self.message_left = left;
        Ok(Vector { left })
    }

    fn skip(&mut self, mut count: usize) -> Result<(), Stop> {
        while count > 0 {
            if self.record_left == 0 {
                self.open_record()?;
            }
            let there = self.wire.len() - self.at;
            let step = count.min(self.record_left).min(there);
            if step == 0 {
                return Err(self.short());
            }
            self.advance(step);
            count -= step;
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        self.record_left -= count;
        self.message_left = self.message_left.saturating_sub(count);
    }

    /// Reads the header of a record, judging each byte of it that has come.
    fn open_record(&mut self) -> Result<(), Stop> {
        let head = &self.wire[self.at..];
        for (at, should) in [(0, HANDSHAKE), (1, MAJOR_VERSION)] {
            match head.get(at) {
                Some(&byte) if byte != should => {
                    return Err(NotHello::NotTls { at: self.at + at, byte }.into());
                }
                _ => {}
            }
        }
        let Some(&[_, _, _, high, low]) = head.first_chunk::<RECORD_HEAD_BYTES>() else {
            return Err(self.short());
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !(1..=MAX_RECORD_BYTES).contains(&len) {
            return Err(NotHello::Record(len).into());
        }
        self.at += RECORD_HEAD_BYTES;
        self.record_left = len;
        Ok(())
    }

    /// The message goes on with what is missing, and with a record header if none is open.
    fn short(&self) -> Stop {
        let heads = if self.record_left < self.message_left { RECORD_HEAD_BYTES } else { 0 };
        Stop::Short { at_least: self.at + self.message_left.max(1) + heads }
    }

    fn misfit(&self, field: &'static str) -> Stop {
        NotHello::Field { field, at: self.at }.into()
    }
}

/// A stretch of handshake bytes whose length was announced. Whatever is read from it, or announced
/// within it, must fit into what is left, and that is judged before the bytes have come.
#[derive(Debug)]
#[must_use = "what is not read must be skipped"]
pub(super) struct Vector {
    left: usize,
}

impl Vector {
    pub(super) fn len(&self) -> usize {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn byte(
        &mut self,
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<u8, Stop> {
        self.claim(reader, 1, field)?;
        reader.byte()
    }

    /// Two bytes.
    pub(super) fn number(
        &mut self,
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<u16, Stop> {
        self.claim(reader, 2, field)?;
        Ok(u16::from_be_bytes([reader.byte()?, reader.byte()?]))
    }

    pub(super) fn skip(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        field: &'static str,
    ) -> Result<(), Stop> {
        self.claim(reader, count, field)?;
        reader.skip(count)
    }

    /// A vector with a length of one byte in front.
    pub(super) fn short_vector(
        &mut self,
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<Self, Stop> {
        let left = usize::from(self.byte(reader, field)?);
        self.claim(reader, left, field)?;
        Ok(Self { left })
    }

    /// A vector with a length of two bytes in front.
    pub(super) fn long_vector(
        &mut self,
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<Self, Stop> {
        let left = usize::from(self.number(reader, field)?);
        self.claim(reader, left, field)?;
        Ok(Self { left })
    }

    /// Itself, if its length is allowed.
    pub(super) fn within(
        self,
        reader: &Reader<'_>,
        allowed: RangeInclusive<usize>,
        field: &'static str,
    ) -> Result<Self, Stop> {
        if allowed.contains(&self.left) { Ok(self) } else { Err(reader.misfit(field)) }
    }

    pub(super) fn skip_all(self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        reader.skip(self.left)
    }

    /// Reads all of it into `to`, which has its length.
    pub(super) fn copy_to(self, reader: &mut Reader<'_>, to: &mut [u8]) -> Result<(), Stop> {
        assert_eq!(to.len(), self.left, "a vector is read whole");
        for byte in to {
            *byte = reader.byte()?;
        }
        Ok(())
    }

    /// Nothing may be left over behind `field`.
    pub(super) fn end(&self, reader: &Reader<'_>, field: &'static str) -> Result<(), Stop> {
        if self.is_empty() { Ok(()) } else { Err(reader.misfit(field)) }
    }

    fn claim(
        &mut self,
        reader: &Reader<'_>,
        count: usize,
        field: &'static str,
    ) -> Result<(), Stop> {
        self.left = self.left.checked_sub(count).ok_or_else(|| reader.misfit(field))?;
        Ok(())
    }
}
