//! A chunked body (RFC 9112 section 7.1) up to its trailers. Line ends are strict: where a lone line
//! feed counts as one, two readers may see different bodies.

use super::{Broken, CHUNK_LINE_LIMIT_BYTES};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunked {
    place: Place,
    /// Bytes of the line with the size so far.
    line_bytes: u16,
    /// The size as far as it has come, then what is missing of the data.
    left: u64,
}

const _: () = assert!(CHUNK_LINE_LIMIT_BYTES <= u16::MAX as usize);

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The first digit of a size.
    #[default]
    Size,
    /// More digits, or what ends them.
    Digits,
    /// White space behind a size: some servers pad it, and the grammar has it before extensions.
    Padding,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// Behind the line of the last chunk: trailers, or the empty line.
    Last,
    LastLineFeed,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How many bytes were taken, and how many of these were data.
    pub(super) bytes: usize,
    pub(super) data_bytes: usize,
    pub(super) next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More of the chunks.
    More,
    /// The first byte of a trailer, which was not taken.
    Trailers,
    /// Nothing: the empty line has come.
    Complete,
}

impl Chunked {
    /// Takes what belongs to the chunks.
    ///
    /// # Errors
    /// `BadChunk`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let mut step = Step { bytes: 0, data_bytes: 0, next: Next::More };
        while let Some(&byte) = bytes.get(step.bytes) {
            if self.place == Place::Data {
                let available = bytes.len() - step.bytes;
                let count = self.take_data(available);
                step.bytes += count;
                step.data_bytes += count;
                continue;
            }
            match (self.place, byte) {
                (Place::Last, b'\r') => self.place = Place::LastLineFeed,
                // Not the beginning of a name: an empty line without a carriage return.
                (Place::Last, b'\n') => return Err(Broken::BadChunk),
                (Place::Last, _) => return Ok(Step { next: Next::Trailers, ..step }),
                (Place::LastLineFeed, b'\n') => {
                    return Ok(Step { bytes: step.bytes + 1, next: Next::Complete, ..step });
                }
                _ => self.place = self.after(byte).ok_or(Broken::BadChunk)?,
            }
            step.bytes += 1;
        }
        Ok(step)
    }

    fn take_data(&mut self, available: usize) -> usize {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
        self.left -= count as u64;
        if self.left == 0 {
            self.place = Place::DataReturn;
        }
        count
    }

    /// The place behind this byte of the framing. `None` if it cannot stand here.
    fn after(&mut self, byte: u8) -> Option<Place> {
        match self.place {
            Place::Size => self.digit(byte),
            Place::Digits if byte.is_ascii_hexdigit() => self.digit(byte),
            Place::Digits | Place::Padding => self.behind_size(byte),
            Place::Extension => self.extension(byte),
            Place::SizeLineFeed => (byte == b'\n').then(|| self.behind_line()),
            Place::DataReturn => (byte == b'\r').then_some(Place::DataLineFeed),
            Place::DataLineFeed => (byte == b'\n').then(|| {
                *self = Self::default();
                Place::Size
            }),
            Place::Data | Place::Last | Place::LastLineFeed => None,
        }
    }

    fn digit(&mut self, byte: u8) -> Option<Place> {
        let digit = char::from(byte).to_digit(16)?;
        self.left = self.left.checked_mul(16)? + u64::from(digit);
        self.in_line(Place::Digits)
    }

    fn behind_size(&mut self, byte: u8) -> Option<Place> {
        match byte {
            b'\r' => Some(Place::SizeLineFeed),
            b';' => self.in_line(Place::Extension),
            b' ' | b'\t' => self.in_line(Place::Padding),
            _ => None,
        }
    }

    /// Any text: what it says is nobody's business here.
    fn extension(&mut self, byte: u8) -> Option<Place> {
        match byte {
            b'\r' => Some(Place::SizeLineFeed),
            b'\t' => self.in_line(Place::Extension),
            _ if byte.is_ascii_control() => None,
            _ => self.in_line(Place::Extension),
        }
    }

    fn in_line(&mut self, place: Place) -> Option<Place> {
        self.line_bytes += 1;
        (usize::from(self.line_bytes) <= CHUNK_LINE_LIMIT_BYTES).then_some(place)
    }

    fn behind_line(&self) -> Place {
        if self.left == 0 { Place::Last } else { Place::Data }
    }
}
