//! Lines, and frames behind their length.

use std::ops::ControlFlow;

use super::held::end_of;
use super::{Fed, Parsed, PartialMessage, TooLong};

/// How the length of a frame is written in front of it: the most significant byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthPrefix {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
}

impl LengthPrefix {
    /// Bytes of the prefix itself.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    /// The length of the frame behind the prefix, if the prefix is whole.
    pub(super) fn read(self, bytes: &[u8]) -> Option<usize> {
        let prefix = bytes.get(..self.bytes())?;
        Some(prefix.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }
}

impl PartialMessage {
    /// Calls `handle` with each line in what is held and `input`, without the LF or CR LF at its end. It goes on until
    /// `handle` breaks; what stands behind is kept for the next call then.
    ///
    /// `limit_bytes` is for a line with its end.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use uring_acceptor::service::PartialMessage;
    ///
    /// let (mut partial, mut lines) = (PartialMessage::default(), Vec::new());
    /// let mut feed = |input: &[u8]| {
    ///     partial.lines(input, 80, |line| {
    ///         lines.push(line.to_vec());
    ///         if line == b"QUIT" { ControlFlow::Break("bye") } else { ControlFlow::Continue(()) }
    ///     })
    /// };
    /// assert_eq!(feed(b"one\ntwo\r\nthr").unwrap().messages, 2);
    /// assert_eq!(feed(b"ee\nQUIT\n").unwrap().stopped, Some("bye"));
    /// assert!(feed(&[b'a'; 80]).is_err());
    /// assert_eq!(lines, [&b"one"[..], b"two", b"three", b"QUIT"]);
    /// ```
    ///
    /// # Errors
    /// A line is longer than `limit_bytes`.
    pub fn lines<B>(
        &mut self,
        input: &[u8],
        limit_bytes: usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<Fed<B>, TooLong> {
        self.feed(input, limit_bytes, |bytes| {
            let Some(end) = end_of(b'\n', bytes) else { return Parsed::NeedsByte(b'\n') };
            let line = &bytes[..end - 1];
            handled(end, handle(line.strip_suffix(b"\r").unwrap_or(line)))
        })
    }

    /// Calls `handle` with each frame in what is held and `input`, without the length in front of it, which does
    /// not count itself. It goes on until `handle` breaks; what stands behind is kept for the next call then.
    ///
    /// `limit_bytes` is for a frame with its prefix. A frame that announces more is refused when its prefix has come.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use uring_acceptor::service::{LengthPrefix, PartialMessage};
    ///
    /// let (mut partial, mut frames) = (PartialMessage::default(), Vec::new());
    /// let mut feed = |input: &[u8]| {
    ///     partial.frames(input, LengthPrefix::U16, 1024, |frame| {
    ///         frames.push(frame.to_vec());
    ///         ControlFlow::<()>::Continue(())
    ///     })
    /// };
    /// assert_eq!(feed(b"\0\x03one\0\0\0").unwrap().messages, 2);
    /// assert_eq!(feed(b"\x03two").unwrap().messages, 1);
    /// assert!(feed(b"\x7F\xFF").is_err());
    /// assert_eq!(frames, [&b"one"[..], b"", b"two"]);
    /// ```
    ///
    /// # Errors
    /// A frame is longer than `limit_bytes`.
    pub fn frames<B>(
        &mut self,
        input: &[u8],
        prefix: LengthPrefix,
        limit_bytes: usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<Fed<B>, TooLong> {
        self.feed(input, limit_bytes, |bytes| {
            let Some(length) = prefix.read(bytes) else { return Parsed::Needs(prefix.bytes()) };
            let end = prefix.bytes().saturating_add(length);
            let Some(frame) = bytes.get(prefix.bytes()..end) else { return Parsed::Needs(end) };
            handled(end, handle(frame))
        })
    }
}

fn handled<B>(end: usize, flow: ControlFlow<B>) -> Parsed<B> {
    match flow {
        ControlFlow::Continue(()) => Parsed::Message(end),
        ControlFlow::Break(with) => Parsed::Stop { handled: end, with },
    }
}
