//! The PROXY protocol, versions 1 and 2: where a connection really comes from, told in front of its
//! first byte by the proxy that forwards it.
//!
//! Specification: `doc/proxy-protocol.txt` of HAProxy (2020/03/05), called "the specification"
//! below. What it leaves to the receiver is decided here so:
//!
//! - **Both versions** are read; which one it is follows from the first byte. Whether there is a
//!   header at all is never guessed: a listener either requires one or looks for none (the
//!   specification, 2: anything else lets a client choose its address).
//! - **Bounds**: a line of version 1 has at most [`MAX_V1_BYTES`], a header of version 2 at most
//!   [`MAX_V2_BYTES`], of which its 15th and 16th byte tell.
//! - **Version 1 to the letter**: single spaces, CR LF, no leading zeros, no signs, no lone CR or LF
//!   even behind `UNKNOWN`. IPv4-mapped addresses may be written `::ffff:192.0.2.1`, as HAProxy does.
//! - **LOCAL, UNKNOWN and UNSPEC** leave the connection its own addresses. What else such a header
//!   says is skipped unread, as the specification demands: with no family, nothing tells addresses
//!   and TLVs apart.
//! - **Datagrams** are refused, as are the combinations that the specification does not list: this
//!   is a stream.
//! - **TLVs** must fill their space exactly. [`Header::tlvs`] shows them; a checksum among them must
//!   be right. They are not passed on: each is a statement of the proxy in front about its own
//!   connection, and a header that we write says only what we know.
//!
//! ```
//! use uring_acceptor::preread::proxy_protocol::{self, Endpoints, Parsed};
//!
//! let bytes = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n";
//! assert_eq!(proxy_protocol::parse(&bytes[..20]), Ok(Parsed::Incomplete));
//! let Ok(Parsed::Header { header, len }) = proxy_protocol::parse(bytes) else { unreachable!() };
//! assert_eq!(header.source(), Some("192.168.0.1:56324".parse().unwrap()));
//! assert_eq!(&bytes[len..], b"GET / HTTP/1.1\r\n");
//!
//! let mut out = Vec::new();
//! proxy_protocol::write_v1(&mut out, &header.endpoints);
//! assert_eq!(out, bytes[..len]);
//! ```

mod crc32c;
mod tlv;
mod v1;
mod v2;
mod write;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use thiserror::Error;

pub use tlv::{Tlv, Tlvs};
pub use write::{write_v1, write_v2};

/// Longest line of version 1, in bytes, with its CR LF (the specification, 2.1).
pub const MAX_V1_BYTES: usize = 107;

/// Longest header of version 2 that is read, in bytes. The specification wants it to fit into the
/// smallest segment (536 bytes), but TLS details in TLVs make it longer; nginx has the same limit.
pub const MAX_V2_BYTES: usize = 4096;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The beginning of a header, less than its limit.
    Incomplete,
    /// A whole header; what the client sent begins behind it.
    Header {
        /// What it says.
        header: Header<'a>,
        /// Its length in bytes.
        len: usize,
    },
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Both ends of the connection that is forwarded.
    pub endpoints: Endpoints<'a>,
    /// More about it, in version 2; empty if there are no addresses.
    pub tlvs: Tlvs<'a>,
}

impl Header<'_> {
    /// The address of the client, if the header says it; otherwise that of the connection counts.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.endpoints {
            Endpoints::Tcp { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The address that the client connected to, if the header says it.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.endpoints {
            Endpoints::Tcp { destination, .. } => Some(destination),
            _ => None,
        }
    }
}

/// Both ends of a forwarded connection, in a header that is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoints<'a> {
    /// The proxy connects for itself, as a health check does. The connection's own addresses count.
    Local,
    /// The proxy cannot tell. The connection's own addresses count.
    Unknown,
    /// A TCP connection.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
    /// A connection over a unix stream socket. A name is a path, or begins with a zero byte if it is
    /// an abstract one, or is empty; it has no zero bytes at its end.
    Unix {
        /// The client.
        source: &'a [u8],
        /// What it connected to.
        destination: &'a [u8],
    },
}

/// Why the bytes are not the beginning of a header, whatever may follow. The connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Neither the beginning of version 1 nor that of version 2.
    #[error(
        "no PROXY protocol header: byte {at} is {byte:#04x}; \
         let the peer send one (send-proxy), or do not require one from it"
    )]
    NoHeader {
        /// Where it differs, counted from 0.
        at: usize,
        /// What is there.
        byte: u8,
    },
    /// A field of version 1 is not to the letter.
    #[error("PROXY protocol 1: the {field}, from byte {at} on, is wrong")]
    Field {
        /// Which.
        field: &'static str,
        /// Where it begins, counted from 0.
        at: usize,
    },
    /// A line of version 1 does not end in time.
    #[error("PROXY protocol 1: no CR LF within {MAX_V1_BYTES} bytes")]
    LineTooLong,
    /// Another version than 2, or a command that is neither LOCAL nor PROXY.
    #[error("PROXY protocol 2: version and command are {0:#04x}; 0x20 and 0x21 are known")]
    Command(u8),
    /// A datagram, or a combination that the specification does not have.
    #[error(
        "PROXY protocol 2: family and transport are {0:#04x}; \
         0x00, 0x11, 0x21 and 0x31 can be forwarded"
    )]
    Transport(u8),
    /// More than [`MAX_V2_BYTES`].
    #[error("PROXY protocol 2: a header of {0} bytes; the most is {MAX_V2_BYTES}")]
    TooLong(usize),
    /// The stated length has no room for the addresses.
    #[error("PROXY protocol 2: {len} bytes follow, but the addresses alone have {addresses}")]
    AddressesCut {
        /// The stated length, in bytes.
        len: usize,
        /// What the family needs, in bytes.
        addresses: usize,
    },
    /// A TLV does not end within the header, or is a checksum of the wrong size or the second one.
    #[error("PROXY protocol 2: the TLV of type {kind:#04x} at byte {at} does not fit")]
    Tlv {
        /// Where it begins, counted from 0.
        at: usize,
        /// Its type.
        kind: u8,
    },
    /// The checksum in the header is not that of the header.
    #[error("PROXY protocol 2: the checksum says {stated:#010x}, the header has {actual:#010x}")]
    Checksum {
        /// What the header says.
        stated: u32,
        /// What it is.
        actual: u32,
    },
}

/// Reads a header from the beginning of a connection. `bytes` are all that have come so far; what
/// lies behind the header is not looked at.
///
/// # Errors
/// The bytes cannot become a header. This is said at the first byte that makes it so, or, for a
/// field of version 1, at the end of the field at the latest.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Invalid> {
    match bytes.first() {
        None => Ok(Parsed::Incomplete),
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(&byte) => Err(Invalid::NoHeader { at: 0, byte }),
    }
}

/// Whether `bytes` begin with `signature`, as far as they go.
fn expect_signature(bytes: &[u8], signature: &[u8]) -> Result<(), Invalid> {
    match bytes.iter().zip(signature).position(|(is, should)| is != should) {
        Some(at) => Err(Invalid::NoHeader { at, byte: bytes[at] }),
        None => Ok(()),
    }
}
