//! Version 2: the specification, 2.2.

use super::*;

const SIGNATURE: [u8; 12] =
    [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

const V4: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB];

/// A header with a length that is right.
fn header(command: u8, transport: u8, block: &[u8]) -> Vec<u8> {
    let len = (block.len() as u16).to_be_bytes();
    [&SIGNATURE, [command, transport].as_slice(), &len, block].concat()
}

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    header(0x21, 0x11, &[&V4, tlvs].concat())
}

fn unix_block(source: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 216];
    block[..source.len()].copy_from_slice(source);
    block[108..108 + destination.len()].copy_from_slice(destination);
    block
}

#[test]
fn headers_that_are_valid() {
    let v6: Vec<u8> = (1..=36).collect();
    let v6_endpoints = tcp(
        "[102:304:506:708:90a:b0c:d0e:f10]:8482",
        "[1112:1314:1516:1718:191a:1b1c:1d1e:1f20]:8996",
    );
    let v4_endpoints = tcp("192.168.0.1:56324", "192.168.0.11:443");
    let junk = [0xFF; 50];
    let table = [
        (header(0x21, 0x11, &V4), v4_endpoints),
        (header(0x21, 0x21, &v6), v6_endpoints),
        (header(0x21, 0x00, &[]), Endpoints::Unknown),
        (header(0x20, 0x00, &[]), Endpoints::Local),
        // With no family, or as LOCAL, the block is skipped, whatever it is.
        (header(0x21, 0x00, &junk), Endpoints::Unknown),
        (header(0x20, 0x00, &junk), Endpoints::Local),
        (header(0x20, 0x11, &V4), Endpoints::Local),
        (header(0x20, 0x11, &[]), Endpoints::Local),
        (header(0x20, 0x12, &V4), Endpoints::Local),
        (header(0x20, 0xFF, &junk), Endpoints::Local),
    ];
    for (bytes, expected) in table {
        let found = whole(&bytes);
        assert_eq!(found.endpoints, expected);
        assert_eq!(found.tlvs.count(), 0);
    }
}

#[test]
fn unix_names() {
    let full = [b'/'; 108];
    let table: [(&[u8], &[u8], &[u8]); 5] = [
        (b"/run/client", b"/run/server", b"/run/client"),
        (b"", b"/run/server", b""),
        (&full, b"/run/server", &full),
        (b"\0abstract\0name", b"/run/server", b"\0abstract\0name"),
        (b"/run/client\0left over", b"/run/server", b"/run/client"),
    ];
    for (source, destination, expected) in table {
        let bytes = header(0x21, 0x31, &unix_block(source, destination));
        let endpoints = whole(&bytes).endpoints;
        assert_eq!(endpoints, Endpoints::Unix { source: expected, destination });
        assert_eq!((whole(&bytes).source(), whole(&bytes).destination()), (None, None));
    }
}

/// The last column is how many bytes it takes to refuse it.
#[test]
fn headers_that_are_not() {
    let v6 = [0; 36];
    let table = [
        (header(0x22, 0x11, &V4), Invalid::Command(0x22), 13),
        (header(0x11, 0x11, &V4), Invalid::Command(0x11), 13),
        (header(0x31, 0x11, &V4), Invalid::Command(0x31), 13),
        (header(0x01, 0x11, &V4), Invalid::Command(0x01), 13),
        // Datagrams.
        (header(0x21, 0x12, &V4), Invalid::Transport(0x12), 14),
        (header(0x21, 0x22, &v6), Invalid::Transport(0x22), 14),
        (header(0x21, 0x32, &[0; 216]), Invalid::Transport(0x32), 14),
        // What the specification does not have.
        (header(0x21, 0x01, &V4), Invalid::Transport(0x01), 14),
        (header(0x21, 0x10, &V4), Invalid::Transport(0x10), 14),
        (header(0x21, 0x13, &V4), Invalid::Transport(0x13), 14),
        (header(0x21, 0x41, &V4), Invalid::Transport(0x41), 14),
        (header(0x21, 0xFF, &V4), Invalid::Transport(0xFF), 14),
        // No room.
        (header(0x21, 0x11, &[0; 11]), Invalid::AddressesCut { len: 11, addresses: 12 }, 16),
        (header(0x21, 0x21, &[0; 35]), Invalid::AddressesCut { len: 35, addresses: 36 }, 16),
        (header(0x21, 0x31, &[0; 215]), Invalid::AddressesCut { len: 215, addresses: 216 }, 16),
        (header(0x21, 0x11, &[]), Invalid::AddressesCut { len: 0, addresses: 12 }, 16),
        // Too much.
        (header(0x20, 0x00, &[0; 4081]), Invalid::TooLong(4097), 16),
        (header(0x21, 0x11, &[0; 0xFFFF]), Invalid::TooLong(0xFFFF + 16), 16),
    ];
    for (bytes, expected, len) in table {
        assert_eq!(parse(&bytes), Err(expected));
        assert_eq!(refused_at(&bytes, read), len, "{expected}");
    }
}

#[test]
fn the_longest_header_is_taken() {
    let bytes = header(0x20, 0x00, &[0; MAX_V2_BYTES - 16]);
    assert_eq!(whole(&bytes).endpoints, Endpoints::Local);
    let mut padding = vec![Tlv::NOOP, 0x0F, 0xE1];
    padding.resize(MAX_V2_BYTES - 16 - V4.len(), 7);
    let bytes = with_tlvs(&padding);
    assert_eq!((bytes.len(), whole(&bytes).tlvs.count()), (MAX_V2_BYTES, 1));
}

#[test]
fn tlvs_come_in_their_order() {
    let bytes = with_tlvs(&[0x04, 0, 0, 0x02, 0, 3, b'a', b'.', b'b', 0xEA, 0, 1, 9, 0x04, 0, 0]);
    let tlvs: Vec<Tlv<'_>> = whole(&bytes).tlvs.collect();
    let expected: [(u8, &[u8]); 4] = [(0x04, b""), (0x02, b"a.b"), (0xEA, &[9]), (0x04, b"")];
    assert_eq!(tlvs, expected.map(|(kind, value)| Tlv { kind, value }));
}

/// The last column is how many bytes behind the addresses it takes to refuse it.
#[test]
fn tlvs_that_do_not_fit() {
    let table: [(&[u8], usize, usize); 9] = [
        (&[0x04], 28, 1),
        (&[0x04, 0], 28, 1),
        (&[0x04, 0, 1], 28, 3),
        (&[0x04, 0xFF, 0xFF, 1, 2, 3], 28, 3),
        (&[0x04, 0, 1, 7, 0x05], 32, 5),
        (&[0x04, 0, 1, 7, 0x05, 0, 9, 1, 2], 32, 7),
        // A checksum has four bytes, and there is one at most.
        (&[0x03, 0, 3, 1, 2, 3], 28, 3),
        (&[0x03, 0, 5, 1, 2, 3, 4, 5], 28, 3),
        (&[0x03, 0, 4, 0, 0, 0, 0, 0x03, 0, 4, 0, 0, 0, 0], 35, 10),
    ];
    for (tlvs, at, until) in table {
        let bytes = with_tlvs(tlvs);
        let kind = bytes[at];
        assert_eq!(parse(&bytes), Err(Invalid::Tlv { at, kind }), "{tlvs:?}");
        assert_eq!(refused_at(&bytes, read), 28 + until, "{tlvs:?}");
    }
}

#[test]
fn written_headers() {
    let mapped = "[::ffff:192.168.0.1]:56324";
    let mut mixed = vec![0; 36];
    mixed[10..16].copy_from_slice(&[0xFF, 0xFF, 192, 168, 0, 1]);
    mixed[31] = 1;
    mixed[32..].copy_from_slice(&[0xDC, 0x04, 0x01, 0xBB]);
    let unix = Endpoints::Unix { source: b"", destination: b"/run/server" };
    let unix_long = Endpoints::Unix { source: &[b'x'; 109], destination: b"/run/server" };
    let table = [
        (tcp("192.168.0.1:56324", "192.168.0.11:443"), header(0x21, 0x11, &V4)),
        (tcp(mapped, "[::ffff:192.168.0.11]:443"), header(0x21, 0x11, &V4)),
        (tcp("192.168.0.1:56324", "[::1]:443"), header(0x21, 0x21, &mixed)),
        (tcp(mapped, "[::1]:443"), header(0x21, 0x21, &mixed)),
        (unix, header(0x21, 0x31, &unix_block(b"", b"/run/server"))),
        (unix_long, header(0x21, 0x00, &[])),
        (Endpoints::Unknown, header(0x21, 0x00, &[])),
        (Endpoints::Local, header(0x20, 0x00, &[])),
    ];
    for (endpoints, expected) in table {
        assert_eq!(written_v2(endpoints), expected, "{endpoints:?}");
    }
}
