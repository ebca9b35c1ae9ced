//! Where an HTTP/1 answer ends, whether its connection may be used again, and what is wrong with it.
//! RFC 9112 section 6.3 decides. Pure: bytes in, decisions out. It shares nothing with the server
//! in `service`, so that a bug cannot cancel out.
//!
//! ```text
//!          +-- interim (1xx) --+
//!          v                   |
//!   new > Head ----------------+---> Length ------------------------------> Complete
//!          |                   +---> Chunked ---> Trailers ---------------> Complete
//!          | 204, 304, HEAD    |        +-- no trailers ------------------> Complete
//!          v                   +---> UntilEnd -- the server's FIN --------> Complete
//!       Complete
//! ```

mod chunked;
mod head;
mod section;
#[cfg(test)]
mod tests;

use chunked::{Chunked, Next};
use head::{Body, Head};
use section::Section;

/// Most bytes of one head, or of the trailers.
pub const HEAD_LIMIT_BYTES: usize = 256 * 1024;
/// Most fields of one head, or of the trailers.
pub const FIELDS_LIMIT: usize = 1024;
/// Most bytes of the line with the size of a chunk, extensions included.
pub const CHUNK_LINE_LIMIT_BYTES: usize = 16 * 1024;
/// Most interim answers before the final one.
pub const INTERIM_LIMIT: u32 = 1024;

/// In front of trailers it makes a head of them, so that they are read like one: line folding and
/// an array of fields that nobody fills first, which `httparse` has for heads only.
const TRAILERS_AS_HEAD: &[u8] = b"HTTP/1.1 200\r\n";

/// One answer on its way. Once it is complete or broken it is not used again.
///
/// The answer to a CONNECT is not known here: what follows a 2xx to that is no body.
#[derive(Debug)]
pub struct Answer {
    state: State,
    /// The beginning of a head or of trailers; nothing as long as heads come in one piece.
    section: Section,
    body_bytes: u64,
    interim: u32,
    status: u16,
    method_is_head: bool,
    keeps: bool,
}

/// The connections of a run each have one.
const _: () = assert!(size_of::<Answer>() <= 96);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A head: of an interim answer or of the final one.
    Head,
    /// So many bytes are missing.
    Length(u64),
    Chunked(Chunked),
    /// Behind the last chunk, when there are any.
    Trailers,
    /// The server's FIN ends it.
    UntilEnd,
    Complete,
}

/// What `take` has done with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How many were of this answer. Fewer than there were only if it is complete.
    pub bytes: usize,
    /// Set if the answer ends with them.
    pub complete: Option<Complete>,
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Three digits, as they came: 000 to 999, and not 1xx.
    pub status: u16,
    /// Bytes of the body; of a chunked one the data only.
    pub body_bytes: u64,
    /// Whether the connection may be used for another request (RFC 9112 section 9.3).
    pub keeps: bool,
    /// Interim answers (1xx) that came before it.
    pub interim: u32,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Broken {
    /// A head that is none of HTTP/1.0 or HTTP/1.1.
    #[error("not the head of an HTTP/1 answer")]
    NotHttp,
    /// A head, or trailers, beyond `HEAD_LIMIT_BYTES` or `FIELDS_LIMIT`; or more interim answers
    /// than `INTERIM_LIMIT`.
    #[error("the head of the answer is larger than the limits allow")]
    HeadTooLarge,
    /// The fields do not say where it ends: a Content-Length that is no number, or two that differ;
    /// a chunked coding with parameters, of which none exists.
    #[error("Content-Length or Transfer-Encoding does not say where the answer ends")]
    BadLength,
    /// A size, a line end, an extension or a trailer of a chunked body that is none.
    #[error("the chunked body of the answer is malformed")]
    BadChunk,
    /// 101: what follows is not HTTP/1.
    #[error("the server switched to another protocol (101)")]
    SwitchedProtocol,
    /// The connection ended before the answer did.
    #[error("the connection ended before the answer did")]
    Truncated,
}

impl Broken {
    /// For tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotHttp => "not-http",
            Self::HeadTooLarge => "head-too-large",
            Self::BadLength => "bad-length",
            Self::BadChunk => "bad-chunk",
            Self::SwitchedProtocol => "switched-protocol",
            Self::Truncated => "truncated",
        }
    }
}

impl Answer {
    /// Nothing of it has come. An answer to HEAD has no body, whatever its fields say.
    pub fn new(method_is_head: bool) -> Self {
        Self {
            state: State::Head,
            section: Section::default(),
            body_bytes: 0,
            interim: 0,
            status: 0,
            method_is_head,
            keeps: false,
        }
    }

    /// Takes what has come. Interim answers (1xx) are passed over. Stops at the end of the answer:
    /// bytes behind it are not taken.
    ///
    /// # Errors
    /// What is wrong with it. It is the same however the bytes were cut, but a head that came in
    /// pieces may be found out later.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Broken> {
        debug_assert_ne!(self.state, State::Complete, "a complete answer takes no more bytes");
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.advance(&bytes[taken..])?;
            if self.state == State::Complete {
                return Ok(Taken { bytes: taken, complete: Some(self.complete()) });
            }
        }
        Ok(Taken { bytes: taken, complete: None })
    }

    /// The server's FIN: complete where the end of the connection ends the answer.
    ///
    /// # Errors
    /// `Truncated` if anything is missing, also if nothing has come; or what is wrong with the part
    /// of a head that has.
    pub fn end(&mut self) -> Result<Complete, Broken> {
        debug_assert_ne!(self.state, State::Complete, "a complete answer does not end again");
        match self.state {
            State::UntilEnd => {
                self.state = State::Complete;
                return Ok(self.complete());
            }
            State::Head => _ = head::parse(self.section.bytes())?,
            State::Trailers => _ = trailers(self.section.bytes())?,
            State::Length(_) | State::Chunked(_) | State::Complete => {}
        }
        Err(Broken::Truncated)
    }

    /// Whether a byte has come of the final answer, or of a head that may be its. Behind an interim
    /// answer none has.
    pub fn has_begun(&self) -> bool {
        self.state != State::Head || !self.section.bytes().is_empty()
    }

    fn complete(&self) -> Complete {
        let Self { status, body_bytes, keeps, interim, .. } = *self;
        Complete { status, body_bytes, keeps, interim }
    }

    /// One step. How many bytes it took: none only if the state has changed.
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match self.state {
            State::Head => self.take_head(bytes),
            State::Length(left) => Ok(self.take_length(left, bytes.len())),
            State::Chunked(chunked) => self.take_chunked(chunked, bytes),
            State::Trailers => self.take_trailers(bytes),
            State::UntilEnd => Ok(self.count(bytes.len())),
            State::Complete => Ok(0),
        }
    }

    fn count(&mut self, body_bytes: usize) -> usize {
        self.body_bytes += body_bytes as u64;
        body_bytes
    }

    fn take_length(&mut self, left: u64, available: usize) -> usize {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(available);
        self.state = State::after_length(left - count as u64);
        self.count(count)
    }

    fn take_chunked(&mut self, mut chunked: Chunked, bytes: &[u8]) -> Result<usize, Broken> {
        let step = chunked.take(bytes)?;
        self.count(step.data_bytes);
        self.state = match step.next {
            Next::More => State::Chunked(chunked),
            Next::Complete => State::Complete,
            Next::Trailers => {
                self.section.take(TRAILERS_AS_HEAD);
                State::Trailers
            }
        };
        Ok(step.bytes)
    }

    fn take_trailers(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let taken = self.section.take(bytes);
        if self.section.look() && trailers(self.section.bytes())? {
            self.state = State::Complete;
        }
        Ok(taken)
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        // Without a copy, if it comes in one piece.
        if self.section.bytes().is_empty() {
            return match head::parse(bytes)? {
                Some(head) => self.follow(&head).map(|()| head.bytes),
                None => {
                    let taken = self.section.take(bytes);
                    self.section.look();
                    Ok(taken)
                }
            };
        }
        let taken = self.section.take(bytes);
        if self.section.look()
            && let Some(head) = head::parse(self.section.bytes())?
        {
            self.section = Section::default();
            self.follow(&head)?;
        }
        Ok(taken)
    }

    /// What comes behind this head.
    fn follow(&mut self, head: &Head) -> Result<(), Broken> {
        match head.status {
            101 => return Err(Broken::SwitchedProtocol),
            100..200 if self.interim == INTERIM_LIMIT => return Err(Broken::HeadTooLarge),
            100..200 => {
                self.interim += 1;
                return Ok(());
            }
            status => self.status = status,
        }
        self.keeps = head.keeps();
        self.state = match head.body(self.method_is_head)? {
            Body::Length(length) => State::after_length(length),
            Body::Chunked => State::Chunked(Chunked::default()),
            Body::UntilEnd => {
                self.keeps = false;
                State::UntilEnd
            }
        };
        Ok(())
    }
}

impl State {
    /// With so many bytes of the body missing.
    fn after_length(left: u64) -> Self {
        if left == 0 { Self::Complete } else { Self::Length(left) }
    }
}

/// Whether the trailers have ended.
fn trailers(as_head: &[u8]) -> Result<bool, Broken> {
    match head::parse(as_head) {
        Ok(head) => Ok(head.is_some()),
        Err(Broken::NotHttp) => Err(Broken::BadChunk),
        Err(broken) => Err(broken),
    }
}
