//! What a head says about the end of its answer and about the connection.

use std::mem::MaybeUninit;

use httparse::{Error, Header, ParserConfig, Response, Status};

use super::{Broken, FIELDS_LIMIT, HEAD_LIMIT_BYTES};

/// A whole head, the empty line included.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: usize,
    pub(super) status: u16,
    /// Of HTTP/1.
    minor: u8,
    length: Length,
    coding: Coding,
    close: bool,
    keep_alive: bool,
}

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilEnd,
}

/// All fields Content-Length together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Absent,
    Bytes(u64),
    Bad,
}

/// The last coding of all fields Transfer-Encoding together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Absent,
    Chunked,
    /// With parameters, which do not exist (RFC 9112 section 7.1).
    BadChunked,
    /// Another one, or a field without any.
    Other,
}

/// Reads a head. `None` if its end has not come.
///
/// # Errors
/// `NotHttp`, `HeadTooLarge`.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, Broken> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_LIMIT];
    let mut response = Response::new(&mut []);
    let within = &bytes[..bytes.len().min(HEAD_LIMIT_BYTES)];
    let parsed = config().parse_response_with_uninit_headers(&mut response, within, &mut fields);
    match parsed {
        Ok(Status::Complete(head_bytes)) => Ok(Some(Head::new(&response, head_bytes))),
        Ok(Status::Partial) if within.len() < HEAD_LIMIT_BYTES => Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => Err(Broken::HeadTooLarge),
        Err(_) => Err(Broken::NotHttp),
    }
}

/// A folded line counts as spaces (RFC 9112 section 5.2), a space before the colon as none: the RFC
/// wants it removed from answers and not rejected (section 5.1).
fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_spaces_after_header_name_in_responses(true);
    config
}

impl Head {
    fn new(response: &Response<'_, '_>, bytes: usize) -> Self {
        let mut head = Self {
            bytes,
            status: response.code.unwrap_or_default(),
            minor: response.version.unwrap_or_default(),
            length: Length::Absent,
            coding: Coding::Absent,
            close: false,
            keep_alive: false,
        };
        for field in &*response.headers {
            head.note(field);
        }
        head
    }

    fn note(&mut self, field: &Header<'_>) {
        let is = |name| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            self.length = elements(field.value).fold(self.length, Length::and);
        } else if is("transfer-encoding") {
            self.coding = elements(field.value).fold(self.coding.or_other(), Coding::then);
        } else if is("connection") {
            for token in elements(field.value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }

    /// Whether the connection may be used again after the answer, unless the FIN ends that.
    ///
    /// Not where the framing is suspect (RFC 9112 section 6.1): with both fields for it, and with
    /// a transfer coding in HTTP/1.0.
    pub(super) fn keeps(&self) -> bool {
        let old = self.minor == 0;
        let suspect = self.coding != Coding::Absent && (old || self.length != Length::Absent);
        !suspect && !self.close && (!old || self.keep_alive)
    }

    /// RFC 9112 section 6.3, in its order.
    ///
    /// # Errors
    /// `BadLength`.
    pub(super) fn body(&self, method_is_head: bool) -> Result<Body, Broken> {
        if method_is_head || matches!(self.status, 204 | 304) {
            return Ok(Body::Length(0));
        }
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Ok(Body::Chunked),
            (Coding::Other, _) | (Coding::Absent, Length::Absent) => Ok(Body::UntilEnd),
            (Coding::Absent, Length::Bytes(length)) => Ok(Body::Length(length)),
            (Coding::BadChunked, _) | (Coding::Absent, Length::Bad) => Err(Broken::BadLength),
        }
    }
}

impl Length {
    /// The same number again is one number.
    fn and(self, element: &[u8]) -> Self {
        match (self, number(element)) {
            (Self::Absent, Some(bytes)) => Self::Bytes(bytes),
            (Self::Bytes(before), Some(bytes)) if before == bytes => self,
            _ => Self::Bad,
        }
    }
}

impl Coding {
    /// That there is a field, which may be empty.
    fn or_other(self) -> Self {
        if self == Self::Absent { Self::Other } else { self }
    }

    /// Empty elements of a list count for nothing (RFC 9110 section 5.6.1.2).
    fn then(self, element: &[u8]) -> Self {
        let mut parts = element.splitn(2, |&byte| byte == b';');
        let name = parts.next().unwrap_or_default();
        match trimmed(name).eq_ignore_ascii_case(b"chunked") {
            _ if element.is_empty() => self,
            false => Self::Other,
            true if parts.next().is_some() => Self::BadChunked,
            true => Self::Chunked,
        }
    }
}

/// What stands between the commas. A comma within quotes cuts as well: no name that is looked for
/// can end there.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trimmed)
}

/// Without white space around it, of which folded lines have some more.
fn trimmed(mut bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    while let [first, rest @ ..] = bytes
        && is_space(first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(last)
    {
        bytes = rest;
    }
    bytes
}

/// Digits, and nothing else. A sign is none of them.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
