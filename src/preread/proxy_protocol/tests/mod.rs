//! Against the specification, and against what HAProxy sends.

mod bytes;
mod random;
mod text;

use std::net::SocketAddr;

use super::{Endpoints, Header, Invalid, MAX_V2_BYTES, Parsed, Tlv, parse, write_v1, write_v2};
use crate::preread::testing::{Verdict, read_at_last, read_in_steps, refused_at, unhex};

/// What stands behind the header must not matter.
const PAYLOAD: &[u8] = b"PROXY TCP4\r\n\r\n\0\r\nQUIT\n";

fn read(bytes: &[u8]) -> Verdict<(Header<'_>, usize)> {
    match parse(bytes) {
        Ok(Parsed::Incomplete) => Verdict::NotYet,
        Ok(Parsed::Header { header, len }) => Verdict::Done((header, len)),
        Err(_) => Verdict::Never,
    }
}

/// The header that `bytes` are, and that nothing shorter is.
#[track_caller]
fn whole(bytes: &[u8]) -> Header<'_> {
    let Verdict::Done((header, len)) = read_at_last(bytes, read) else {
        panic!("no header: {}: {:?}", bytes.escape_ascii(), parse(bytes))
    };
    assert_eq!(len, bytes.len());
    let longer = [bytes, PAYLOAD].concat();
    assert_eq!(read_in_steps(&longer, MAX_V2_BYTES + 1, read), Verdict::Done((header, len)));
    header
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn tcp(source: &str, destination: &str) -> Endpoints<'static> {
    Endpoints::Tcp { source: address(source), destination: address(destination) }
}

fn written_v1(endpoints: Endpoints<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write_v1(&mut out, &endpoints);
    out.split_off(b"before".len())
}

fn written_v2(endpoints: Endpoints<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write_v2(&mut out, &endpoints);
    out.split_off(b"before".len())
}

/// Headers of HAProxy 2.6, each followed by `PAYLOAD\n` but for that of a health check. The clients
/// were on loopback.
#[test]
fn what_haproxy_sends() {
    let unknown = Endpoints::Unknown;
    let mapped = "[::ffff:127.0.0.1]";
    let table = [
        (
            include_str!("../../testdata/haproxy-v1-tcp4.hex"),
            tcp("127.0.0.1:38658", "127.0.0.1:48809"),
        ),
        (include_str!("../../testdata/haproxy-v1-tcp6.hex"), tcp("[::1]:32868", "[::1]:52867")),
        (
            include_str!("../../testdata/haproxy-v1-mapped.hex"),
            tcp(&format!("{mapped}:38676"), &format!("{mapped}:48809")),
        ),
        (include_str!("../../testdata/haproxy-v1-unix.hex"), unknown),
        (
            include_str!("../../testdata/haproxy-v2-tcp4.hex"),
            tcp("127.0.0.1:38690", "127.0.0.1:48809"),
        ),
        (include_str!("../../testdata/haproxy-v2-tcp6.hex"), tcp("[::1]:32898", "[::1]:52867")),
        (
            include_str!("../../testdata/haproxy-v2-mapped.hex"),
            tcp(&format!("{mapped}:33386"), &format!("{mapped}:54495")),
        ),
        (include_str!("../../testdata/haproxy-v2-unix.hex"), Endpoints::Local),
        (include_str!("../../testdata/haproxy-v2-check.hex"), Endpoints::Local),
    ];
    for (hex, expected) in table {
        let bytes = unhex(hex);
        let header = bytes.strip_suffix(b"PAYLOAD\n").unwrap_or(&bytes);
        let found = whole(header);
        assert_eq!(found.endpoints, expected);
        assert_eq!(found.tlvs.count(), 0);
    }
}

#[test]
fn what_haproxy_says_in_tlvs() {
    let bytes = unhex(include_str!("../../testdata/haproxy-v2-crc32c.hex"));
    let header = whole(bytes.strip_suffix(b"PAYLOAD\n").expect("a payload"));
    assert_eq!(header.source(), Some(address("127.0.0.1:38720")));
    let kinds: Vec<u8> = header.tlvs.map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [Tlv::CRC32C, Tlv::UNIQUE_ID]);

    let bytes = unhex(include_str!("../../testdata/haproxy-v2-ssl.hex"));
    let header = whole(bytes.strip_suffix(b"PAYLOAD\n").expect("a payload"));
    let tlvs: Vec<Tlv<'_>> = header.tlvs.collect();
    let kinds: Vec<u8> = tlvs.iter().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [Tlv::CRC32C, Tlv::ALPN, Tlv::AUTHORITY, Tlv::SSL]);
    assert_eq!(tlvs[1].value, b"http/1.1");
    assert_eq!(tlvs[2].value, b"www.example.org");
}

/// Whatever bit is wrong: HAProxy's checksum, or what the bit belongs to, gives it away.
#[test]
fn a_checksum_finds_every_wrong_bit() {
    let bytes = unhex(include_str!("../../testdata/haproxy-v2-crc32c.hex"));
    let header = bytes.strip_suffix(b"PAYLOAD\n").expect("a payload").to_vec();
    // From the end of the fixed part on; a LOCAL header is taken without a look at the rest.
    for bit in 16 * 8..header.len() * 8 {
        let mut wrong = header.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let refusal = parse(&wrong);
        // A type of another kind hides the checksum itself; that is no error that it could find.
        if bit / 8 == 16 + 12 {
            continue;
        }
        assert!(refusal.is_err(), "bit {bit}: {refusal:?}");
    }
    let mut wrong = header.clone();
    wrong[16] ^= 1;
    assert!(matches!(parse(&wrong), Err(Invalid::Checksum { .. })));
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    let table: [(&[u8], usize); 10] = [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x16\x03\x01\x02", 1),
        (b" PROXY TCP4", 1),
        (b"proxy TCP4", 1),
        (b"\0", 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PROXY\tTCP4", 6),
        (b"\r\n\r\nGET / HTTP/1.1", 5),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\n", 1),
    ];
    for (bytes, expected) in table {
        assert_eq!(refused_at(bytes, read), expected, "{}", bytes.escape_ascii());
        let error = parse(bytes).expect_err("refused");
        let Invalid::NoHeader { at, byte } = error else { panic!("{error}") };
        assert_eq!((at, byte), (expected - 1, bytes[expected - 1]));
    }
}

#[test]
fn an_error_names_the_byte_and_what_to_do() {
    let error = parse(b"GET /").expect_err("refused").to_string();
    assert_eq!(
        error,
        "no PROXY protocol header: byte 0 is 0x47; let the peer send one (send-proxy), \
         or do not require one from it"
    );
}
