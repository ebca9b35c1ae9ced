//! The statements behind the addresses of version 2: type, length, value.

use super::{Invalid, crc32c};

const HEAD_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// What it is about.
    pub kind: u8,
    /// As it came. Nothing about it has been checked but its length.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// The protocol that was agreed on in the TLS handshake.
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, in TLS the SNI.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// A name of the connection across proxies.
    pub const UNIQUE_ID: u8 = 0x05;
    /// About TLS between the client and the proxy in front, with TLVs of its own.
    pub const SSL: u8 = 0x20;
    /// The name of a network namespace.
    pub const NETNS: u8 = 0x30;
}

/// The statements of a header, in their order. All of them are whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// The statements in `bytes`, which have been checked.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Walks over the statements from `at` on, in a header of `len` bytes of which perhaps only the
    /// beginning is there: none may reach over its end, and nothing may be left there.
    pub(super) fn check(bytes: &[u8], mut at: usize, len: usize) -> Result<(), Invalid> {
        let mut checksum_seen = false;
        while at < len.min(bytes.len()) {
            let kind = bytes[at];
            let wrong = Invalid::Tlv { at, kind };
            if at + HEAD_BYTES > len {
                return Err(wrong);
            }
            let Some(&[high, low]) = bytes[at + 1..].first_chunk() else { break };
            let value_len = usize::from(u16::from_be_bytes([high, low]));
            let is_checksum = kind == Tlv::CRC32C;
            if is_checksum && (checksum_seen || value_len != CHECKSUM_BYTES) {
                return Err(wrong);
            }
            checksum_seen |= is_checksum;
            at += HEAD_BYTES + value_len;
            if at > len {
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// Compares the checksum, if there is one, with that of `header`, at whose end the statements
    /// stand.
    pub(super) fn verify_checksum(self, header: &[u8]) -> Result<(), Invalid> {
        let mut tlvs = self;
        let Some(found) = tlvs.find(|tlv| tlv.kind == Tlv::CRC32C) else { return Ok(()) };
        let stated = u32::from_be_bytes(found.value.try_into().expect("its length was checked"));
        let end = header.len() - tlvs.rest.len();
        let parts = [&header[..end - CHECKSUM_BYTES], &[0; CHECKSUM_BYTES], &header[end..]];
        let actual = crc32c::checksum(&parts);
        if stated == actual { Ok(()) } else { Err(Invalid::Checksum { stated, actual }) }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk::<HEAD_BYTES>()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Tlv { kind, value })
    }
}
