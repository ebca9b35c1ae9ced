//! Writing a header, for a backend that reads one.

use std::fmt::{self, Display};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Endpoints;
use super::v2::{FIXED_BYTES, LOCAL, PROXY, SIGNATURE, Transport, UNIX_NAME_BYTES};

/// Appends a line of version 1.
///
/// If both addresses are IPv4, or IPv4-mapped as a listener on `[::]` sees them, the line says
/// `TCP4`. If one of them is, it says `TCP6` with that one mapped. Everything but TCP is `UNKNOWN`.
/// Some receivers refuse that; for health checks the specification prefers the check's own addresses
/// ([`Endpoints::Tcp`]).
pub fn write_v1(out: &mut Vec<u8>, endpoints: &Endpoints<'_>) {
    let Endpoints::Tcp { source, destination } = *endpoints else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (from, to) = (source.port(), destination.port());
    match Pair::new(source, destination) {
        Pair::V4(source, destination) => {
            append(out, format_args!("PROXY TCP4 {source} {destination} {from} {to}\r\n"));
        }
        Pair::V6(source, destination) => {
            let (source, destination) = (Hexadecimal(source), Hexadecimal(destination));
            append(out, format_args!("PROXY TCP6 {source} {destination} {from} {to}\r\n"));
        }
    }
}

/// Appends a header of version 2, without TLVs. Families as in [`write_v1`]; [`Endpoints::Local`] is
/// `LOCAL`, which every receiver takes as a health check.
///
/// A unix name longer than the 108 bytes that the kernel has for it cannot be told: the header says
/// that the endpoints are unknown.
pub fn write_v2(out: &mut Vec<u8>, endpoints: &Endpoints<'_>) {
    match *endpoints {
        Endpoints::Local => fixed(out, LOCAL, Transport::Unspecified),
        Endpoints::Unknown => fixed(out, PROXY, Transport::Unspecified),
        Endpoints::Tcp { source, destination } => write_tcp(out, source, destination),
        Endpoints::Unix { source, destination } => {
            if source.len().max(destination.len()) > UNIX_NAME_BYTES {
                return fixed(out, PROXY, Transport::Unspecified);
            }
            fixed(out, PROXY, Transport::UnixStream);
            for name in [source, destination] {
                let mut field = [0; UNIX_NAME_BYTES];
                field[..name.len()].copy_from_slice(name);
                out.extend_from_slice(&field);
            }
        }
    }
}

fn write_tcp(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    match Pair::new(source, destination) {
        Pair::V4(from, to) => {
            fixed(out, PROXY, Transport::Tcp4);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Pair::V6(from, to) => {
            fixed(out, PROXY, Transport::Tcp6);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// The first sixteen bytes.
fn fixed(out: &mut Vec<u8>, command: u8, transport: Transport) {
    let address_bytes = transport.address_bytes();
    out.reserve(FIXED_BYTES + address_bytes);
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[command, transport as u8]);
    out.extend_from_slice(&(address_bytes as u16).to_be_bytes());
}

/// Two addresses of the same family: a header has only one.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(mapped(source), mapped(destination)),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// An address as the specification has it: of hexadecimal digits only. The usual notation of an
/// IPv4-mapped one has dots.
struct Hexadecimal(Ipv6Addr);

impl Display for Hexadecimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.segments() {
            [0, 0, 0, 0, 0, 0xFFFF, high, low] => write!(formatter, "::ffff:{high:x}:{low:x}"),
            _ => self.0.fmt(formatter),
        }
    }
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}
