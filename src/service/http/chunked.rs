//! The chunked transfer coding (RFC 9112, 7.1), read and dropped.
//!
//! It reads the framing byte by byte and takes the data in strides. There is one way to write each
//! thing: whatever else a lenient reader might make sense of is refused.

use serde::{Deserialize, Serialize};

use super::body::skip_counted;
use super::response::Refusal;

/// The most that the chunk extensions and the trailers of one body may take together.
pub const MAX_FRAMING_BYTES: u16 = 16 * 1024;

/// As many hexadecimal digits as fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Where in the coding the next byte falls.
///
/// ```text
///   Size ---------------- CR -> SizeEnd -- LF, size > 0 --> Data -> DataCr -> DataLf -> Size
///    | `- SP -> Space --.          ^  `--- LF, size = 0 --> Line
///    `--- ; ------------+-> Extension
///
///   Line -- CR -> LastLf -- LF -> the end
///    |  ^
///    v  `---------------- LF -------.
///   Name -- : -> Value -- CR -> LineEnd
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    /// Among the digits of a chunk's size, behind this many.
    Size { digits: u8 },
    /// In the white space between a chunk's size and its extensions.
    Space,
    /// In the extensions of a chunk.
    Extension,
    /// Before the LF of a size line.
    SizeEnd,
    /// In the data of a chunk.
    Data,
    /// Before the CR that follows the data.
    DataCr,
    /// Before the LF that follows the data.
    DataLf,
    /// At the beginning of a trailer field, or of the empty line behind the last.
    Line,
    /// In the name of a trailer field.
    Name,
    /// In the value of a trailer field.
    Value,
    /// Before the LF of a trailer field.
    LineEnd,
    /// Before the LF of the empty line.
    LastLf,
}

/// A reader of one chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Chunked {
    /// The size as far as it has been read, then what is left of the data.
    size: u64,
    /// What extensions and trailers may still take.
    framing_left: u16,
    place: Place,
}

impl Default for Chunked {
    fn default() -> Self {
        let place = Place::Size { digits: 0 };
        Self { size: 0, framing_left: MAX_FRAMING_BYTES, place }
    }
}

impl Chunked {
    /// Whether a reader can be here.
    pub(super) fn is_possible(&self) -> bool {
        let at_place = match self.place {
            Place::Size { digits } => digits <= MAX_SIZE_DIGITS && (digits > 0 || self.size == 0),
            Place::Data => self.size > 0,
            _ => true,
        };
        at_place && self.framing_left <= MAX_FRAMING_BYTES
    }

    /// Takes what belongs to the body from the front of `rest`; true once the body has ended.
    pub(super) fn skip(&mut self, rest: &mut &[u8]) -> Result<bool, Refusal> {
        while !rest.is_empty() {
            if self.place == Place::Data {
                if skip_counted(&mut self.size, rest) {
                    self.place = Place::DataCr;
                }
                continue;
            }
            let Some(byte) = rest.split_off_first() else { break };
            if (self.place, *byte) == (Place::LastLf, b'\n') {
                return Ok(true);
            }
            self.place = self.after(*byte)?;
            self.charge()?;
        }
        Ok(false)
    }

    /// The place behind a byte of framing.
    fn after(&mut self, byte: u8) -> Result<Place, Refusal> {
        match (self.place, byte) {
            (Place::Size { digits: 1.. }, b'\r') => Ok(Place::SizeEnd),
            (Place::Size { digits: 1.. } | Place::Space, b' ' | b'\t') => Ok(Place::Space),
            (Place::Size { digits: 1.. } | Place::Space, b';') => Ok(Place::Extension),
            (Place::Size { digits }, _) => self.add_digit(digits, byte),
            (Place::Extension, b'\r') => Ok(Place::SizeEnd),
            (Place::Extension, _) if is_text(byte) => Ok(Place::Extension),
            (Place::SizeEnd, b'\n') if self.size == 0 => Ok(Place::Line),
            (Place::SizeEnd, b'\n') => Ok(Place::Data),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::Size { digits: 0 }),
            (Place::Line, b'\r') => Ok(Place::LastLf),
            (Place::Line | Place::Name, _) if is_token(byte) => Ok(Place::Name),
            (Place::Name, b':') => Ok(Place::Value),
            (Place::Value, b'\r') => Ok(Place::LineEnd),
            (Place::Value, _) if is_text(byte) => Ok(Place::Value),
            (Place::LineEnd, b'\n') => Ok(Place::Line),
            _ => Err(Refusal::BadRequest),
        }
    }

    fn add_digit(&mut self, digits: u8, byte: u8) -> Result<Place, Refusal> {
        let digit = char::from(byte).to_digit(16).ok_or(Refusal::BadRequest)?;
        if digits == MAX_SIZE_DIGITS {
            return Err(Refusal::BadRequest);
        }
        // Nothing is left of the size before: its data have been taken.
        self.size = self.size << 4 | u64::from(digit);
        Ok(Place::Size { digits: digits + 1 })
    }

    /// Counts a byte that carries nothing, if the reader is among such bytes.
    fn charge(&mut self) -> Result<(), Refusal> {
        let refusal = match self.place {
            Place::Space | Place::Extension => Refusal::BadRequest,
            Place::Name | Place::Value => Refusal::HeadTooLarge,
            _ => return Ok(()),
        };
        self.framing_left = self.framing_left.checked_sub(1).ok_or(refusal)?;
        Ok(())
    }
}

/// A character of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Anything that may stand on a line: no control characters but the tab (RFC 9110, 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
