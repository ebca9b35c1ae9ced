//! The request head: gathered and parsed. What its fields mean is judged in `fields`.

use std::mem::MaybeUninit;

use super::body::Body;
use super::fields::{Fields, Version};
use super::response::{Refusal, Reply};

/// The longest head that is accepted, from the first byte of the request to its empty line.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header fields that are accepted in one head.
pub const MAX_FIELDS: usize = 100;

/// The most empty lines that are skipped in front of a request (RFC 9112, 2.2, asks for one).
pub const MAX_EMPTY_LINES: usize = 8;

/// A request, as far as its head tells.
#[derive(Debug)]
pub(super) struct Request {
    /// What follows the head; `None` for nothing.
    pub(super) body: Option<Body>,
    pub(super) reply: Reply,
    /// True if the peer said that it waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// The bytes of a head that has not come whole; empty between two requests.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    bytes: Vec<u8>,
}

impl PartialHead {
    /// Takes a head from the front of `rest`, or all of `rest` if the head does not end in it.
    ///
    /// A head that comes whole is parsed where it lies; only a piece of one is copied.
    pub(super) fn read(&mut self, rest: &mut &[u8]) -> Result<Option<Request>, Refusal> {
        if !self.bytes.is_empty() {
            return self.read_on(rest);
        }
        let Some((request, head_bytes)) = parse(rest)? else {
            self.bytes = std::mem::take(rest).to_vec();
            return Ok(None);
        };
        *rest = &rest[head_bytes..];
        Ok(Some(request))
    }

    /// Goes on with a head of which the beginning is held.
    ///
    /// It is parsed again only when another line has ended, and it has few lines: a head that comes
    /// byte by byte costs at most [`MAX_FIELDS`] parses or so, not [`MAX_HEAD_BYTES`] of them.
    fn read_on(&mut self, rest: &mut &[u8]) -> Result<Option<Request>, Refusal> {
        let held = self.bytes.len();
        let added = &rest[..rest.len().min(MAX_HEAD_BYTES - held)];
        self.bytes.extend_from_slice(added);
        let parsed = if added.contains(&b'\n') || self.bytes.len() == MAX_HEAD_BYTES {
            parse(&self.bytes)?
        } else {
            None
        };
        let Some((request, head_bytes)) = parsed else {
            *rest = &[];
            return Ok(None);
        };
        *rest = &rest[head_bytes - held..];
        self.bytes = Vec::new();
        Ok(Some(request))
    }

    /// One of which these bytes have come.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What has come.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether no byte of a request has come, empty lines aside.
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The request at the front of `bytes` and the length of its head; `None` if there is only a piece.
///
/// The answer depends on the bytes alone, not on how they came: whatever is wrong with a piece of a
/// head is wrong with the whole, and nothing behind the limit is looked at.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let empty_bytes = skip_empty_lines(bytes)?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed
        .parse_with_uninit_headers(&bytes[empty_bytes..], &mut fields)
        .map_err(|error| refuse(error, bytes))?;
    match status {
        httparse::Status::Complete(head_bytes) => {
            let end = empty_bytes + head_bytes;
            Ok(Some((judge(&parsed, &bytes[..end])?, end)))
        }
        httparse::Status::Partial if bytes.len() == MAX_HEAD_BYTES => Err(Refusal::HeadTooLarge),
        httparse::Status::Partial => Ok(None),
    }
}

/// How many bytes the empty lines in front of a request take.
fn skip_empty_lines(bytes: &[u8]) -> Result<usize, Refusal> {
    let lines = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count();
    let bare = bytes.get(2 * lines) == Some(&b'\n');
    if bare || lines > MAX_EMPTY_LINES {
        return Err(Refusal::BadRequest);
    }
    Ok(2 * lines)
}

fn refuse(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if names_other_version(head) => Refusal::VersionNotSupported,
        _ => Refusal::BadRequest,
    }
}

/// Whether the request line names a version of HTTP that is not ours, rather than no version at
/// all. Decided at the first byte that is not ours, so that it needs nothing behind that byte.
fn names_other_version(head: &[u8]) -> bool {
    const MAJOR: usize = 5;
    const MINOR: usize = 7;
    let version = head.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let alike = version.iter().zip(b"HTTP/1.1").take_while(|(theirs, ours)| theirs == ours).count();
    matches!(alike, MAJOR | MINOR) && version.get(alike).is_some_and(u8::is_ascii_digit)
}

fn judge(parsed: &httparse::Request<'_, '_>, head: &[u8]) -> Result<Request, Refusal> {
    if !lines_end_in_crlf(parsed, head) {
        return Err(Refusal::BadRequest);
    }
    let mut fields = Fields::default();
    for field in parsed.headers.iter() {
        fields.note(field.name, field.value)?;
    }
    let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    Ok(Request {
        body: fields.body(version)?,
        expects_continue: fields.expects_continue(version)?,
        reply: Reply {
            headers_only: parsed.method == Some("HEAD"),
            persistence: fields.persistence(version),
        },
    })
}

/// httparse takes a bare LF for the end of a line; this finds one without reading the head again:
/// every field begins behind a line's end, and the last line's is at the end of the head.
fn lines_end_in_crlf(parsed: &httparse::Request<'_, '_>, head: &[u8]) -> bool {
    let offset = |field: &httparse::Header<'_>| field.name.as_ptr().addr() - head.as_ptr().addr();
    head.ends_with(b"\r\n\r\n")
        && parsed.headers.iter().all(|field| head[..offset(field)].ends_with(b"\r\n"))
}
