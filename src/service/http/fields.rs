//! What the header fields of a request say about its extent and about the connection.

use super::body::Body;
use super::response::{Persistence, Refusal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
}

/// The fields that matter here, gathered one by one.
#[derive(Debug, Default)]
pub(super) struct Fields {
    host: bool,
    content_length: Option<u64>,
    transfer_codings: TransferCodings,
    close: bool,
    keep_alive: bool,
    continue_expected: bool,
    other_expected: bool,
}

impl Fields {
    /// Takes one field. The length is compared first: it tells most other fields apart.
    pub(super) fn note(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.note_host(value)?,
            6 if name.eq_ignore_ascii_case("expect") => self.note_expect(value),
            10 if name.eq_ignore_ascii_case("connection") => self.note_connection(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.note_content_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.note_codings(value),
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112, 3.2: one, and a valid one. Whether there must be one depends on the version.
    fn note_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let repeated = std::mem::replace(&mut self.host, true);
        if repeated || !value.iter().all(|byte| is_host_byte(*byte)) {
            return Err(Refusal::BadRequest);
        }
        Ok(())
    }

    fn note_expect(&mut self, value: &[u8]) {
        for expectation in elements(value).filter(|element| !element.is_empty()) {
            match expectation.eq_ignore_ascii_case(b"100-continue") {
                true => self.continue_expected = true,
                false => self.other_expected = true,
            }
        }
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112, 6.3, lets a recipient mend a length that is repeated without a difference. It is
    /// refused: who repeats it is broken or wants two readers to disagree.
    fn note_content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let length = decimal(value).ok_or(Refusal::BadRequest)?;
        match self.content_length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Refusal::BadRequest),
        }
    }

    fn note_codings(&mut self, value: &[u8]) {
        for coding in elements(value) {
            self.transfer_codings = self.transfer_codings.then(coding);
        }
    }

    /// What follows the head (RFC 9112, 6.3).
    pub(super) fn body(&self, version: Version) -> Result<Option<Body>, Refusal> {
        if version == Version::Http11 && !self.host {
            return Err(Refusal::BadRequest);
        }
        match (self.transfer_codings, self.content_length) {
            (TransferCodings::None, None | Some(0)) => Ok(None),
            (TransferCodings::None, Some(length)) => Ok(Some(Body::of_length(length))),
            // Both lengths at once, or a coding that an HTTP/1.0 peer cannot have meant.
            (_, Some(_)) => Err(Refusal::BadRequest),
            _ if version == Version::Http10 => Err(Refusal::BadRequest),
            (TransferCodings::Chunked, None) => Ok(Some(Body::chunked())),
            (TransferCodings::Unknown, None) => Err(Refusal::NotImplemented),
            (TransferCodings::Malformed, None) => Err(Refusal::BadRequest),
        }
    }

    /// Whether the peer waits for `100 Continue`. HTTP/1.0 has no expectations.
    pub(super) fn expects_continue(&self, version: Version) -> Result<bool, Refusal> {
        match version {
            Version::Http10 => Ok(false),
            Version::Http11 if self.other_expected => Err(Refusal::ExpectationFailed),
            Version::Http11 => Ok(self.continue_expected),
        }
    }

    /// What becomes of the connection after the answer (RFC 9112, 9.3).
    pub(super) fn persistence(&self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::KeepAlive,
            Version::Http10 if self.keep_alive => Persistence::KeepAliveStated,
            Version::Http10 => Persistence::Close,
        }
    }
}

/// The transfer codings of a request, all its `Transfer-Encoding` fields read as one list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TransferCodings {
    #[default]
    None,
    /// `chunked` and nothing else.
    Chunked,
    /// A coding that we do not know is in front: 501 (RFC 9112, 6.1).
    Unknown,
    /// Something follows `chunked`, or an element is empty: 400 (RFC 9112, 6.3).
    Malformed,
}

impl TransferCodings {
    fn then(self, coding: &[u8]) -> Self {
        match self {
            Self::Chunked | Self::Malformed => Self::Malformed,
            _ if coding.is_empty() => Self::Malformed,
            Self::None if coding.eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            Self::None | Self::Unknown => Self::Unknown,
        }
    }
}

/// The elements of a comma-separated list, empty ones too.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// One or more digits and nothing else, if the number fits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The characters of `uri-host [ ":" port ]` (RFC 3986, 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}
