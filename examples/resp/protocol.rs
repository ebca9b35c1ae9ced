//! How commands and answers look: RESP, version 2.

use std::io::Write;

/// Most arguments of a command.
pub(super) const ARGUMENTS_MAX: usize = 16;

/// The longest command, with all that belongs to it.
pub(super) const COMMAND_BYTES: usize = 1024 * 1024;

/// A command: its name and what follows that.
pub(super) struct Command<'a> {
    arguments: [&'a [u8]; ARGUMENTS_MAX],
    len: usize,
    /// How many bytes it took, without what stands behind it.
    pub(super) bytes: usize,
}

/// What bytes that begin with a command are.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made, and not kept")]
pub(super) enum Read<'a> {
    /// A whole command. One without a name is an empty line, which means nothing.
    Command(Command<'a>),
    /// So many bytes are needed, or more.
    Needs(usize),
    /// The end of a line.
    NeedsLine,
    /// What nobody who speaks the protocol sends.
    Wrong(&'static str),
}

impl<'a> Command<'a> {
    fn none(bytes: usize) -> Self {
        Self { arguments: [&[]; ARGUMENTS_MAX], len: 0, bytes }
    }

    /// False if it has too many arguments.
    fn push(&mut self, argument: &'a [u8]) -> bool {
        let has_room = self.len < ARGUMENTS_MAX;
        if has_room {
            self.arguments[self.len] = argument;
            self.len += 1;
        }
        has_room
    }

    /// Its name, and what follows that.
    pub(super) fn words(&self) -> &[&'a [u8]] {
        &self.arguments[..self.len]
    }
}

const TOO_MANY: Read<'static> = Read::Wrong("too many arguments");

/// Reads the command that `bytes` begin with.
pub(super) fn read(bytes: &[u8]) -> Read<'_> {
    if bytes.first() == Some(&b'*') { read_array(bytes) } else { read_inline(bytes) }
}

/// A line of words, as somebody types it.
fn read_inline(bytes: &[u8]) -> Read<'_> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Read::NeedsLine };
    let mut command = Command::none(end + 1);
    let words = bytes[..end].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for word in words {
        if !command.push(word) {
            return TOO_MANY;
        }
    }
    Read::Command(command)
}

/// An array of strings, each behind its length.
fn read_array(bytes: &[u8]) -> Read<'_> {
    let (count, mut place) = match number(bytes, 1) {
        Number::Is(count, place) => (count, place),
        Number::Partial => return Read::NeedsLine,
        Number::Wrong => return Read::Wrong("invalid multibulk length"),
    };
    let mut command = Command::none(0);
    for _ in 0..count {
        match bytes.get(place) {
            Some(b'$') => {}
            Some(_) => return Read::Wrong("expected '$'"),
            None => return Read::Needs(place + 1),
        }
        let (len, start) = match number(bytes, place + 1) {
            Number::Is(len, start) => (len, start),
            Number::Partial => return Read::NeedsLine,
            Number::Wrong => return Read::Wrong("invalid bulk length"),
        };
        let end = start + len;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Read::Wrong("no line end behind a string"),
            None => return Read::Needs(end + 2),
        }
        if !command.push(&bytes[start..end]) {
            return TOO_MANY;
        }
        place = end + 2;
    }
    command.bytes = place;
    Read::Command(command)
}

enum Number {
    /// And where what stands behind its line begins.
    Is(usize, usize),
    Partial,
    Wrong,
}

/// The number on the line that begins at `place`: at most as many digits as a length needs.
fn number(bytes: &[u8], place: usize) -> Number {
    let mut value = 0;
    for (index, byte) in bytes[place..].iter().enumerate() {
        match byte {
            b'0'..=b'9' if index < 10 => value = value * 10 + usize::from(byte - b'0'),
            b'\r' if index > 0 => {
                return match bytes.get(place + index + 1) {
                    Some(b'\n') => Number::Is(value, place + index + 2),
                    Some(_) => Number::Wrong,
                    None => Number::Partial,
                };
            }
            _ => return Number::Wrong,
        }
    }
    Number::Partial
}

/// Where answers go: an outbox, or the bytes for another worker. Neither fails.
pub(super) trait Answer: Write {
    fn status(&mut self, text: &str) {
        let _ = write!(self, "+{text}\r\n");
    }

    fn error(&mut self, text: &str) {
        let _ = write!(self, "-ERR {text}\r\n");
    }

    fn integer(&mut self, value: i64) {
        let _ = write!(self, ":{value}\r\n");
    }

    fn string(&mut self, bytes: &[u8]) {
        let _ = write!(self, "${}\r\n", bytes.len());
        let _ = self.write_all(bytes);
        let _ = self.write_all(b"\r\n");
    }

    fn nothing(&mut self) {
        let _ = self.write_all(b"$-1\r\n");
    }

    fn array(&mut self, len: usize) {
        let _ = write!(self, "*{len}\r\n");
    }
}

impl<W: Write> Answer for W {}
