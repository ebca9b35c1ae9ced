//! Which host a TLS client wants: the server name (SNI) in its ClientHello, read without taking part
//! in the handshake. The bytes are forwarded as they came.
//!
//! From RFC 8446 (TLS 1.3; the layout is that of every version since SSL 3.0), 5246 and 6066, 3:
//!
//! - A ClientHello may be split over records and these over segments. The name is told only when
//!   all of it is there, because a second server name may stand at its end. What is wrong is told at
//!   the first byte that shows it.
//! - All of it, record headers included, has at most [`MAX_BYTES`].
//! - Extensions that mean nothing here are skipped: GREASE (RFC 8701), and `encrypted_client_hello`,
//!   whose outer hello carries the public name of the provider. Routing goes by that name.
//! - More than one `server_name` extension, or more than one host name in it, is refused: two
//!   programs could see two different names. Names of other types are skipped.
//! - An IP literal is not allowed as a name, yet clients send it. It counts as no name, as in other
//!   TLS servers. Anything else that is no [`HostName`] is refused.
//! - A hello of SSL 2.0, even one that offers newer versions, cannot carry a name and is not TLS here.
//!
//! What stands behind the ClientHello is not looked at.
//!
//! ```
//! use uring_acceptor::preread::client_hello::{self, NotHello, Peeked};
//!
//! assert_eq!(client_hello::peek(&[0x16, 3, 1]), Ok(Peeked::Incomplete));
//! assert_eq!(client_hello::peek(b"GET /"), Err(NotHello::NotTls { at: 0, byte: b'G' }));
//! ```

mod reader;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use thiserror::Error;

use super::{HostName, InvalidName};
use reader::{Reader, Stop, Vector};

/// Most bytes that a ClientHello may take up on the wire, record headers included. Those of browsers
/// have about 2 KiB with post-quantum keys; a single record ends at 16 KiB.
pub const MAX_BYTES: usize = 16 * 1024;

const CLIENT_HELLO: u8 = 1;
const RANDOM_BYTES: usize = 32;
const MAX_SESSION_ID_BYTES: usize = 32;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "held for one decision; a box would allocate")]
pub enum Peeked {
    /// The beginning of a ClientHello, less than [`MAX_BYTES`].
    Incomplete,
    /// A whole one, for this host.
    Name(HostName),
    /// A whole one that names no host.
    NoName,
}

/// Why the bytes are not the beginning of a ClientHello, whatever may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotHello {
    /// Not a record of a TLS handshake.
    #[error(
        "not TLS: byte {at} is {byte:#04x} where a handshake record has another; \
         route by name only where clients speak TLS first"
    )]
    NotTls {
        /// Where, counted from 0.
        at: usize,
        /// What is there.
        byte: u8,
    },
    /// A handshake that begins with something else.
    #[error("TLS: the first handshake message is of type {0}, a ClientHello has 1")]
    Message(u8),
    /// A record without bytes, or with more than 16 KiB of them.
    #[error("TLS: a record of {0} bytes; 1 to 16384 are allowed")]
    Record(usize),
    /// More than [`MAX_BYTES`].
    #[error("TLS: the ClientHello takes at least {0} bytes; the most is {MAX_BYTES}")]
    TooLong(usize),
    /// A field whose length does not fit into what holds it.
    #[error("TLS: the {field} of the ClientHello does not fit at byte {at}")]
    Field {
        /// Which.
        field: &'static str,
        /// Where the reader was on the wire, counted from 0.
        at: usize,
    },
    /// Two extensions or two names where one is allowed.
    #[error("TLS: the ClientHello names more than one host")]
    TwoNames,
    /// The name of the host is none.
    #[error("TLS: {0}")]
    Name(#[from] InvalidName),
}

/// Looks for the name in the first bytes of a connection. `bytes` are all that have come so far.
///
/// Cheap to call again when more have come: the work grows with the number of records and of
/// extensions, not with the bytes in them.
///
/// # Errors
/// The bytes cannot become a ClientHello that may be forwarded by its name.
pub fn peek(bytes: &[u8]) -> Result<Peeked, NotHello> {
    let mut reader = Reader::new(&bytes[..bytes.len().min(MAX_BYTES)]);
    match client_hello(&mut reader) {
        Ok(Some(name)) => Ok(Peeked::Name(name)),
        Ok(None) => Ok(Peeked::NoName),
        Err(Stop::Short { at_least }) if at_least > MAX_BYTES => Err(NotHello::TooLong(at_least)),
        Err(Stop::Short { .. }) => Ok(Peeked::Incomplete),
        Err(Stop::Not(reason)) => Err(reason),
    }
}

/// The message, from its type to its last extension.
fn client_hello(reader: &mut Reader<'_>) -> Result<Option<HostName>, Stop> {
    let kind = reader.byte()?;
    if kind != CLIENT_HELLO {
        return Err(NotHello::Message(kind).into());
    }
    let mut hello = reader.message()?;
    let (major, at) = (hello.byte(reader, "version")?, reader.at() - 1);
    if major != reader::MAJOR_VERSION {
        return Err(NotHello::NotTls { at, byte: major }.into());
    }
    hello.skip(reader, 1 + RANDOM_BYTES, "random")?;
    let session_id = hello.short_vector(reader, "session id")?;
    let session_id = session_id.within(reader, 0..=MAX_SESSION_ID_BYTES, "session id")?;
    session_id.skip_all(reader)?;
    let suites = hello.long_vector(reader, "cipher suites")?;
    suites.within(reader, 2..=usize::MAX, "cipher suites")?.skip_all(reader)?;
    let methods = hello.short_vector(reader, "compression methods")?;
    methods.within(reader, 1..=usize::MAX, "compression methods")?.skip_all(reader)?;
    // Before TLS 1.2 the message may end here.
    if hello.is_empty() {
        return Ok(None);
    }
    let extensions = hello.long_vector(reader, "extensions")?;
    hello.end(reader, "extensions")?;
    extensions_name(reader, extensions)
}

fn extensions_name(
    reader: &mut Reader<'_>,
    mut extensions: Vector,
) -> Result<Option<HostName>, Stop> {
    let (mut seen, mut name) = (false, None);
    while !extensions.is_empty() {
        let kind = extensions.number(reader, "extension")?;
        let data = extensions.long_vector(reader, "extension")?;
        if kind != SERVER_NAME {
            data.skip_all(reader)?;
            continue;
        }
        if seen {
            return Err(NotHello::TwoNames.into());
        }
        seen = true;
        name = server_name(reader, data)?;
    }
    Ok(name)
}

/// The extension: one list of names, each of a type.
fn server_name(reader: &mut Reader<'_>, mut data: Vector) -> Result<Option<HostName>, Stop> {
    let list = data.long_vector(reader, "server name")?;
    data.end(reader, "server name")?;
    let mut list = list.within(reader, 1..=usize::MAX, "server name")?;
    let (mut seen, mut name) = (false, None);
    while !list.is_empty() {
        let kind = list.byte(reader, "server name")?;
        let text = list.long_vector(reader, "server name")?;
        if kind != HOST_NAME {
            text.skip_all(reader)?;
            continue;
        }
        if seen {
            return Err(NotHello::TwoNames.into());
        }
        seen = true;
        name = host_name(reader, text)?;
    }
    Ok(name)
}

/// None if it is an IP literal.
fn host_name(reader: &mut Reader<'_>, text: Vector) -> Result<Option<HostName>, Stop> {
    // One more than a name has, for a final dot.
    let mut buffer = [0; super::MAX_NAME_BYTES + 1];
    if text.len() > buffer.len() {
        return Err(NotHello::Name(InvalidName::TooLong(text.len())).into());
    }
    let name = &mut buffer[..text.len()];
    text.copy_to(reader, name)?;
    if str::from_utf8(name).is_ok_and(|text| text.parse::<IpAddr>().is_ok()) {
        return Ok(None);
    }
    Ok(Some(HostName::new(name).map_err(NotHello::Name)?))
}
