//! Version 2: sixteen fixed bytes, the addresses, TLVs.
//!
//! ```text
//!  0            12      13        14   16                    16 + addresses        16 + length
//!  | signature  | 2 cmd | fam tra | length | addresses         | type len value ...  |
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Endpoints, Header, Invalid, MAX_V2_BYTES, Parsed, Tlvs, expect_signature};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
pub(super) const FIXED_BYTES: usize = 16;

/// A name in `sockaddr_un`.
pub(super) const UNIX_NAME_BYTES: usize = 108;

/// Version in the upper, command in the lower half.
pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;

/// What the 14th byte says: the family in its upper, the transport in its lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Unspecified = 0x00,
    Tcp4 = 0x11,
    Tcp6 = 0x21,
    UnixStream = 0x31,
}

impl Transport {
    fn new(byte: u8) -> Result<Self, Invalid> {
        let known = [Self::Unspecified, Self::Tcp4, Self::Tcp6, Self::UnixStream];
        let found = known.into_iter().find(|&transport| transport as u8 == byte);
        found.ok_or(Invalid::Transport(byte))
    }

    pub(super) fn address_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Tcp4 => 2 * (4 + 2),
            Self::Tcp6 => 2 * (16 + 2),
            Self::UnixStream => 2 * UNIX_NAME_BYTES,
        }
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Invalid> {
    expect_signature(bytes, SIGNATURE)?;
    let Some(&command) = bytes.get(12) else { return Ok(Parsed::Incomplete) };
    if ![LOCAL, PROXY].contains(&command) {
        return Err(Invalid::Command(command));
    }
    let Some(&transport) = bytes.get(13) else { return Ok(Parsed::Incomplete) };
    // The family of a LOCAL header is to be ignored, whatever it is.
    let transport = match command {
        LOCAL => Transport::Unspecified,
        _ => Transport::new(transport)?,
    };
    let Some(&[high, low]) = bytes[14..].first_chunk() else { return Ok(Parsed::Incomplete) };
    let len = FIXED_BYTES + check_len(u16::from_be_bytes([high, low]), transport)?;
    let block = &bytes[FIXED_BYTES..len.min(bytes.len())];
    let tlvs_from = FIXED_BYTES + transport.address_bytes();
    if transport != Transport::Unspecified {
        // Also of a header that is not whole yet: a TLV that cannot fit is refused at once.
        Tlvs::check(bytes, tlvs_from, len)?;
    }
    if bytes.len() < len {
        return Ok(Parsed::Incomplete);
    }
    let header = match transport {
        Transport::Unspecified => Header { endpoints: without(command), tlvs: Tlvs::default() },
        _ => {
            let tlvs = Tlvs::new(&bytes[tlvs_from..len]);
            tlvs.verify_checksum(&bytes[..len])?;
            Header { endpoints: endpoints(transport, block), tlvs }
        }
    };
    Ok(Parsed::Header { header, len })
}

/// The stated length, if it has room for the addresses and is within the limit.
fn check_len(len: u16, transport: Transport) -> Result<usize, Invalid> {
    let len = usize::from(len);
    let addresses = transport.address_bytes();
    if len < addresses {
        return Err(Invalid::AddressesCut { len, addresses });
    }
    if FIXED_BYTES + len > MAX_V2_BYTES {
        return Err(Invalid::TooLong(FIXED_BYTES + len));
    }
    Ok(len)
}

/// What a header without addresses says.
fn without(command: u8) -> Endpoints<'static> {
    if command == LOCAL { Endpoints::Local } else { Endpoints::Unknown }
}

/// The addresses from the start of a block that has room for them.
fn endpoints(transport: Transport, block: &[u8]) -> Endpoints<'_> {
    match transport {
        Transport::Unspecified => Endpoints::Unknown,
        Transport::Tcp4 => tcp::<4, Ipv4Addr>(block),
        Transport::Tcp6 => tcp::<16, Ipv6Addr>(block),
        Transport::UnixStream => {
            let (source, rest) = block.split_at(UNIX_NAME_BYTES);
            let destination = &rest[..UNIX_NAME_BYTES];
            Endpoints::Unix { source: unix_name(source), destination: unix_name(destination) }
        }
    }
}

/// Both addresses of N bytes, then both ports.
fn tcp<const N: usize, A>(block: &[u8]) -> Endpoints<'static>
where
    A: From<[u8; N]>,
    (A, u16): Into<SocketAddr>,
{
    let address = |at: usize| -> [u8; N] { *block[at..].first_chunk().expect("checked room") };
    let port = |at: usize| u16::from_be_bytes(*block[at..].first_chunk().expect("checked room"));
    let source = (A::from(address(0)), port(2 * N)).into();
    let destination = (A::from(address(N)), port(2 * N + 2)).into();
    Endpoints::Tcp { source, destination }
}

/// A path ends at its first zero. An abstract name begins with one, and the length that would end
/// it is not transported, so the padding is taken off.
fn unix_name(field: &[u8]) -> &[u8] {
    let is_zero = |&byte: &u8| byte == 0;
    let len = match field.first() {
        Some(0) => field.iter().rposition(|byte| !is_zero(byte)).map_or(0, |last| last + 1),
        _ => field.iter().position(is_zero).unwrap_or(field.len()),
    };
    &field[..len]
}
