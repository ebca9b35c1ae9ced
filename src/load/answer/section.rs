//! The lines of a head or of trailers, kept until they have ended. However slowly they drip in, the
//! work is linear: they are worth a look when the empty line has come or they have doubled.

use super::HEAD_LIMIT_BYTES;

#[derive(Debug, Default)]
pub(super) struct Section {
    bytes: Vec<u8>,
    /// How many bytes there were at the last look.
    seen_bytes: usize,
    line: Line,
    /// Whether a line that is not empty has begun: empty ones before it end nothing.
    has_text: bool,
    ended: bool,
}

/// What the line that is coming in consists of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Line {
    #[default]
    Nothing,
    CarriageReturn,
    Text,
}

impl Section {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes bytes up to the empty line. How many. A look finds out if they are too many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|&byte| self.ends_with(byte));
        self.ended = end.is_some();
        let count = end.map_or(bytes.len(), |last| last + 1);
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    /// Whether the byte is the end of the empty line. Lines may end without a carriage return.
    fn ends_with(&mut self, byte: u8) -> bool {
        let before = self.line;
        self.line = match (before, byte) {
            (_, b'\n') => Line::Nothing,
            (Line::Nothing, b'\r') => Line::CarriageReturn,
            _ => Line::Text,
        };
        self.has_text |= self.line == Line::Text;
        byte == b'\n' && before != Line::Text && self.has_text
    }

    /// Whether they are worth a look, which is taken then.
    pub(super) fn look(&mut self) -> bool {
        let full = self.bytes.len() >= HEAD_LIMIT_BYTES;
        let due = self.ended || full || self.bytes.len() >= 2 * self.seen_bytes;
        if due {
            self.seen_bytes = self.bytes.len();
        }
        due
    }
}
