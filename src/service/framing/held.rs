//! What is held of a message, and how it becomes whole.

use std::io::BufRead;

use super::{Fed, Parsed, TooLong};

/// The least memory that is taken for a beginning, unless all of its message needs less.
pub(super) const FIRST_BYTES: usize = 64;

/// How much of the input is copied at least when nobody has said how much is needed, or what has completed a
/// beginning did not do.
const STEP_BYTES: usize = 512;

/// What has to come before the parser is called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing: it has not seen what is held.
    ToBeShown,
    /// So many bytes in all.
    Bytes { least: usize, announced: bool },
    /// A byte of this value.
    Byte(u8),
}

impl Wants {
    /// Whether what is wanted can come, behind `len` bytes.
    pub(super) fn check(self, len: usize, limit_bytes: usize) -> Result<(), TooLong> {
        let least = match self {
            Self::ToBeShown => 0,
            Self::Bytes { least, .. } => least,
            Self::Byte(_) => len + 1,
        };
        if least > limit_bytes { Err(TooLong { limit_bytes }) } else { Ok(()) }
    }

    /// The most bytes that can be needed for this message.
    fn most(self, limit_bytes: usize) -> usize {
        match self {
            Self::Bytes { least, announced: true } => least,
            _ => limit_bytes,
        }
    }
}

/// Bytes that begin with a message; never none.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How many of them have been handled.
    handled: usize,
    wants: Wants,
}

/// Not shown yet.
impl From<Vec<u8>> for Held {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, handled: 0, wants: Wants::ToBeShown }
    }
}

impl Held {
    /// Nothing for no bytes.
    pub(super) fn new(bytes: &[u8], wants: Wants, limit_bytes: usize) -> Option<Box<Self>> {
        if bytes.is_empty() {
            return None;
        }
        let mut held = Box::new(Self { bytes: Vec::new(), handled: 0, wants });
        held.append(bytes, limit_bytes);
        Some(held)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.handled..]
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    #[cfg(test)]
    pub(super) fn wants(&self) -> Wants {
        self.wants
    }

    /// Goes on with what is held and as much of `input` as has to be copied for it. If all that is held has been
    /// handled then: where in `input` to go on. Else all of `input` has been copied.
    pub(super) fn go_on<B>(
        &mut self,
        input: &[u8],
        limit_bytes: usize,
        parse: &mut impl FnMut(&[u8]) -> Parsed<B>,
        fed: &mut Fed<B>,
    ) -> Result<Option<usize>, TooLong> {
        let (mut copied, mut step) = (0, 0);
        loop {
            let (more, enough) = self.missing(&input[copied..], step, limit_bytes)?;
            self.append(more, limit_bytes);
            copied += more.len();
            if !enough {
                self.forget_handled();
                self.wants.check(self.bytes.len(), limit_bytes)?;
                return Ok(None);
            }
            let shown = &self.bytes()[..self.bytes().len().min(limit_bytes)];
            match fed.note(parse(shown), shown.len()) {
                Err(wants) => (self.wants, step) = (wants, shown.len().max(STEP_BYTES)),
                Ok(handled) => {
                    self.handled += handled;
                    self.wants = Wants::ToBeShown;
                    let left = self.bytes().len();
                    if left <= copied {
                        return Ok(Some(copied - left));
                    }
                    if fed.stopped.is_some() {
                        self.keep_behind_stop(&input[copied..], left - copied, limit_bytes)?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// What has to be copied of `rest` before the parser is called, and whether it can be called then. At least
    /// `step` bytes are copied, if they are there, so that a parser that always needs a little more is not called for each
    /// little.
    fn missing<'a>(
        &self,
        rest: &'a [u8],
        step: usize,
        limit_bytes: usize,
    ) -> Result<(&'a [u8], bool), TooLong> {
        let len = self.bytes().len();
        self.wants.check(len, limit_bytes)?;
        let reach = &rest[..rest.len().min(limit_bytes.saturating_sub(len))];
        let (needed, step) = match self.wants {
            Wants::ToBeShown => return Ok((&[], true)),
            Wants::Bytes { least, announced: true } => (Some(least.saturating_sub(len)), 0),
            Wants::Bytes { .. } => (Some(1), step.max(STEP_BYTES)),
            Wants::Byte(byte) => (end_of(byte, reach), step),
        };
        Ok(match needed {
            Some(needed) if needed <= reach.len() => {
                (&reach[..needed.max(step).min(reach.len())], true)
            }
            _ => (reach, false),
        })
    }

    /// Keeps what the parser has not been asked about, behind what was held before and is left.
    fn keep_behind_stop(
        &mut self,
        rest: &[u8],
        left: usize,
        limit_bytes: usize,
    ) -> Result<(), TooLong> {
        if left > limit_bytes && !rest.is_empty() {
            return Err(TooLong { limit_bytes });
        }
        self.append(rest, limit_bytes);
        Ok(())
    }

    /// Gives back the memory of what has been handled: it may be many messages, after a stop.
    fn forget_handled(&mut self) {
        if self.handled > 0 {
            self.bytes = self.bytes.split_off(self.handled);
            self.handled = 0;
        }
    }

    /// Memory grows with what has come, not with what has been announced.
    fn append(&mut self, more: &[u8], limit_bytes: usize) {
        if more.is_empty() {
            return;
        }
        self.forget_handled();
        let wanted = self.bytes.len() + more.len();
        if wanted > self.bytes.capacity() {
            let ample = (2 * self.bytes.capacity()).max(FIRST_BYTES);
            let room = ample.min(self.wants.most(limit_bytes)).max(wanted);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
    }
}

/// How many bytes there are up to the first of this value, and with it.
pub(super) fn end_of(byte: u8, bytes: &[u8]) -> Option<usize> {
    // The way of the standard library to memchr(3), which slices do not have.
    let end = { bytes }.skip_until(byte).ok()?;
    (bytes[..end].last() == Some(&byte)).then_some(end)
}
