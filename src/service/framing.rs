//! Messages out of receives: input that is split anywhere.
//!
//! A session has a [`PartialMessage`], which is empty between two messages. [`PartialMessage::feed`] shows a parser what
//! has come, always as one piece that begins with a message. A message that lies whole in one receive is parsed where
//! it lies; only the beginning of one whose end is still to come is copied, and what completes it.
//!
//! [`PartialMessage::lines`] and [`PartialMessage::frames`] are parsers for lines and for frames behind their length. One
//! of one's own, for a type, a length and a value, with the numbers 255 to end and 254 to pause:
//!
//! ```
//! use uring_acceptor::service::{Parsed, PartialMessage, TooLong};
//!
//! #[derive(Debug, PartialEq)]
//! enum Why { End, Pause }
//!
//! fn parse(bytes: &[u8], values: &mut Vec<Vec<u8>>) -> Parsed<Why> {
//!     let &[number, len, ref rest @ ..] = bytes else { return Parsed::Needs(2) };
//!     let Some(value) = rest.get(..usize::from(len)) else { return Parsed::Needs(2 + usize::from(len)) };
//!     values.push(value.to_vec());
//!     match number {
//!         255 => Parsed::Stop { handled: 2 + value.len(), with: Why::End },
//!         254 => Parsed::Stop { handled: 2 + value.len(), with: Why::Pause },
//!         _ => Parsed::Message(2 + value.len()),
//!     }
//! }
//!
//! let (mut partial, mut values) = (PartialMessage::default(), Vec::new());
//! let mut feed = |input: &[u8]| partial.feed(input, 1024, |bytes| parse(bytes, &mut values));
//! assert_eq!(feed(b"\x01\x03ab")?.messages, 0);
//! assert_eq!(feed(b"c\xFE\x01p\x02\x01x")?.stopped, Some(Why::Pause));
//! // What stands behind a stop waits until it is wanted.
//! assert_eq!(feed(b"")?.messages, 1);
//! assert_eq!(values, [&b"abc"[..], b"p", b"x"]);
//! # Ok::<(), TooLong>(())
//! ```

mod held;
mod ready;
#[cfg(test)]
mod tests;

use held::{Held, Wants};
pub use ready::LengthPrefix;

use super::Action;

/// What a parser says of bytes that begin with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Parsed<B = ()> {
    /// The first message has so many bytes, more than none, and has been handled.
    Message(usize),
    /// The message is not whole. The parser is called again when more has come.
    Partial,
    /// The message is not whole. The parser is called again when it can be shown so many bytes, counted from the
    /// beginning of the message.
    Needs(usize),
    /// The message is not whole. The parser is called again when another byte of this value has come.
    NeedsByte(u8),
    /// So many bytes have been handled, none or one message, and nothing behind them is to be looked at now. For a
    /// pause, an end, or an error.
    Stop {
        /// Bytes that are done with.
        handled: usize,
        /// What [`Fed::stopped`] says.
        with: B,
    },
}

/// A message is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {limit_bytes} bytes")]
pub struct TooLong {
    /// The limit that was given.
    pub limit_bytes: usize,
}

/// What came of the input of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Fed<B = ()> {
    /// Messages that have been handled.
    pub messages: usize,
    /// Whether the last message that began is not whole yet, and began in this call.
    pub begun: bool,
    /// What the parser stopped with. What stands behind is kept for the next call.
    pub stopped: Option<B>,
}

impl<B> Fed<B> {
    /// What the worker should be told of a session that goes on: [`Action::Begin`] if a message has begun,
    /// [`Action::Await`] if all that came belongs to one that had begun before, else [`Action::Continue`].
    pub fn action(&self) -> Action {
        match self.messages {
            _ if self.begun => Action::Begin,
            0 => Action::Await,
            _ => Action::Continue,
        }
    }
}

/// The bytes of a message that has not come whole, between two receives: one word, without memory while it is empty.
#[derive(Debug, Default)]
pub struct PartialMessage {
    held: Option<Box<Held>>,
}

impl PartialMessage {
    /// Calls `parse` with each message in what is held and `input`, in order, until it stops or what is left is
    /// no whole message. That is kept for the next call, of at most `limit_bytes`, in at most twice the memory.
    ///
    /// `parse` is shown at least one byte and at most `limit_bytes`, beginning with a message, and more than that
    /// message if more is there. What it is called with depends on how the bytes came, so what it says must not: if it
    /// has said that a beginning is not whole, it has handled nothing of it.
    ///
    /// After a stop, what was behind it is kept whatever its length, and the next call goes on there, with an empty
    /// `input` too.
    ///
    /// # Errors
    /// The first `limit_bytes` hold no whole message, or the parser needs more than that. Or `parse` has stopped in front of more
    /// than `limit_bytes` that were held before, and there is `input` to be kept behind them.
    ///
    /// # Panics
    /// If `parse` has handled more bytes than it was shown, or a message of none.
    pub fn feed<B>(
        &mut self,
        input: &[u8],
        limit_bytes: usize,
        mut parse: impl FnMut(&[u8]) -> Parsed<B>,
    ) -> Result<Fed<B>, TooLong> {
        let mut fed = Fed { messages: 0, begun: false, stopped: None };
        let mut rest = input;
        if let Some(held) = &mut self.held {
            let Some(taken) = held.go_on(input, limit_bytes, &mut parse, &mut fed)? else {
                fed.begun = fed.messages > 0 && fed.stopped.is_none();
                return Ok(fed);
            };
            rest = &input[taken..];
            self.held = None;
        }
        let mut wants = Wants::ToBeShown;
        while fed.stopped.is_none() && !rest.is_empty() {
            let shown = &rest[..rest.len().min(limit_bytes)];
            match fed.note(parse(shown), shown.len()) {
                Ok(handled) => rest = &rest[handled..],
                Err(more) => {
                    more.check(shown.len(), limit_bytes)?;
                    wants = more;
                    break;
                }
            }
        }
        fed.begun = wants != Wants::ToBeShown;
        self.held = Held::new(rest, wants, limit_bytes);
        Ok(fed)
    }

    /// What is held, from the beginning of a message on. A service that can be
    /// [suspended](super::Service::suspend) writes this down and makes the same again `from` it.
    pub fn bytes(&self) -> &[u8] {
        self.held.as_deref().map_or(&[], Held::bytes)
    }

    /// How many bytes are held.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether nothing is held: all that came has been handled.
    pub fn is_empty(&self) -> bool {
        self.held.is_none()
    }
}

/// Holds these bytes. The parser is shown them in the next call, whether there is more or not.
impl From<Vec<u8>> for PartialMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self { held: (!bytes.is_empty()).then(|| Box::new(Held::from(bytes))) }
    }
}

impl<B> Fed<B> {
    /// Notes what the parser has said of so many bytes: how many it has handled, or what it wants.
    fn note(&mut self, parsed: Parsed<B>, shown: usize) -> Result<usize, Wants> {
        let handled = match parsed {
            Parsed::Message(handled) => {
                assert!(handled > 0, "a message of no bytes");
                handled
            }
            Parsed::Stop { handled, with } => {
                self.stopped = Some(with);
                handled
            }
            Parsed::Partial => return Err(Wants::Bytes { least: shown + 1, announced: false }),
            Parsed::Needs(least) => {
                return Err(Wants::Bytes { least: least.max(shown + 1), announced: least > shown });
            }
            Parsed::NeedsByte(byte) => return Err(Wants::Byte(byte)),
        };
        assert!(handled <= shown, "{handled} of {shown} bytes were handled");
        self.messages += usize::from(handled > 0);
        Ok(handled)
    }
}
