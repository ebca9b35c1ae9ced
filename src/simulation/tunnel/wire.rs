//! PROXY headers and ClientHellos, made by hand: from the specifications, not by the code under test.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

/// Source and destination.
pub(super) type Ends = (SocketAddr, SocketAddr);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The command of a header of version 2 about a connection of the proxy itself, or a client's.
pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;

/// A line of version 1.
pub(super) fn v1(ends: Option<Ends>) -> Vec<u8> {
    let Some((source, destination)) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

/// A header of version 2.
pub(super) fn v2(command: u8, ends: Option<Ends>, tlvs: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut transport = 0x00;
    if let Some((source, destination)) = ends {
        transport = if source.is_ipv4() { 0x11 } else { 0x21 };
        for end in [source, destination] {
            match end.ip() {
                IpAddr::V4(address) => block.extend(address.octets()),
                IpAddr::V6(address) => block.extend(address.octets()),
            }
        }
        block.extend([source, destination].into_iter().flat_map(|end| end.port().to_be_bytes()));
    }
    block.extend(tlvs);
    [SIGNATURE, &[command, transport], &length(block.len()), &block].concat()
}

/// Statements behind the addresses, in all less than 1000 bytes.
pub(super) fn tlvs(rng: &mut Rng) -> Vec<u8> {
    // NOOP, AUTHORITY, UNIQUE_ID and one of those that anybody may use.
    let kinds = [0x04, 0x02, 0x05, 0xe0];
    let mut tlvs = Vec::new();
    for _ in 0..rng.usize(1..=3) {
        let value = vec![rng.u8(..); [0, 9, 300][rng.usize(0..3)]];
        tlvs.push(kinds[rng.usize(0..4)]);
        tlvs.extend(length(value.len()));
        tlvs.extend(value);
    }
    tlvs
}

/// A ClientHello of TLS, in one record or in several. `number` makes it another for each client.
pub(super) fn hello(number: u32, name: Option<&str>, rng: &mut Rng) -> Vec<u8> {
    let random = [&number.to_be_bytes()[..], &[7; 28]].concat();
    let session = vec![5; [0, 32][rng.usize(0..2)]];
    let suites = [0, 4, 0x13, 1, 0x13, 2];
    let mut extensions = Vec::new();
    // What nobody knows (GREASE), then an ALPN of "h2".
    if rng.bool() {
        extensions.extend([0x0a, 0x0a, 0, 1, 0, 0, 0x10, 0, 5, 0, 3, 2, b'h', b'2']);
    }
    if let Some(name) = name {
        let entry = [&[0][..], &length(name.len()), name.as_bytes()].concat();
        let list = [&length(entry.len())[..], &entry].concat();
        extensions.extend([&[0, 0][..], &length(list.len()), &list].concat());
    }
    let padding = [0, 0, 200][rng.usize(0..3)];
    extensions.extend([&[0, 21][..], &length(padding), &vec![0; padding]].concat());
    let mut body = [&[3, 3][..], &random, &[session.len() as u8], &session, &suites].concat();
    body.extend([&[1, 0][..], &length(extensions.len()), &extensions].concat());
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    let record_bytes = [usize::MAX, 100, 31][rng.usize(0..3)];
    let record = |part: &[u8]| [&[22, 3, 1][..], &length(part.len()), part].concat();
    message.chunks(record_bytes).flat_map(record).collect()
}

fn length(bytes: usize) -> [u8; 2] {
    (bytes as u16).to_be_bytes()
}
