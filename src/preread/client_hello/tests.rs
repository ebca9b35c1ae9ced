//! RFC 8446, 5246, 6066, and what OpenSSL sends.

use proptest::prelude::*;

use super::*;
use crate::preread::testing::{Verdict, read_at_last, read_in_steps, refused_at, unhex};

fn read(bytes: &[u8]) -> Verdict<Option<String>> {
    match peek(bytes) {
        Ok(Peeked::Incomplete) => Verdict::NotYet,
        Ok(Peeked::Name(name)) => Verdict::Done(Some(name.to_string())),
        Ok(Peeked::NoName) => Verdict::Done(None),
        Err(_) => Verdict::Never,
    }
}

/// The name in a ClientHello of which nothing may be missing.
#[track_caller]
fn name(bytes: &[u8]) -> Option<String> {
    let Verdict::Done(name) = read_at_last(bytes, read) else {
        panic!("no ClientHello: {:?}", peek(bytes))
    };
    let longer = [bytes, b"\x16\x03\x03\x00\x00 early data"].concat();
    assert_eq!(read(&longer), Verdict::Done(name.clone()), "what follows has no meaning");
    name
}

/// Behind a length of `width` bytes.
fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len().to_be_bytes();
    [&len[len.len() - width..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &vector(2, data)].concat()
}

/// An entry of a list of names.
fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind], vector(2, name).as_slice()].concat()
}

/// The server_name extension.
fn sni(entries: &[Vec<u8>]) -> Vec<u8> {
    extension(0, &vector(2, &entries.concat()))
}

fn host(name: &[u8]) -> Vec<u8> {
    sni(&[entry(0, name)])
}

/// A handshake message; the usual fields and then `tail`.
fn message(tail: &[u8]) -> Vec<u8> {
    let fields = [&[3, 3], [7; 32].as_slice(), &[0], &vector(2, &[0x13, 0x01]), &[1, 0], tail];
    [&[1], vector(3, &fields.concat()).as_slice()].concat()
}

fn with_extensions(extensions: &[Vec<u8>]) -> Vec<u8> {
    message(&vector(2, &extensions.concat()))
}

/// In records of at most `len` bytes.
fn in_records(message: &[u8], len: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[0x16, 3, 1], vector(2, piece).as_slice()].concat();
    message.chunks(len).flat_map(record).collect()
}

fn in_one(message: &[u8]) -> Vec<u8> {
    in_records(message, 1 << 14)
}

#[test]
fn what_openssl_sends() {
    let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
    let table = [
        (include_str!("../testdata/openssl-tls13.hex"), Some("www.example.org")),
        (include_str!("../testdata/openssl-tls12.hex"), Some("mixed.case.example.org")),
        (include_str!("../testdata/openssl-default.hex"), Some("a.b.c.d.example.org")),
        (include_str!("../testdata/openssl-trailing-dot.hex"), Some("www.example.org")),
        (include_str!("../testdata/openssl-long-name.hex"), Some(long.as_str())),
        // Three records.
        (include_str!("../testdata/openssl-small-fragments.hex"), Some("www.example.org")),
        (include_str!("../testdata/openssl-noservername.hex"), None),
        (include_str!("../testdata/openssl-ip.hex"), None),
    ];
    for (hex, expected) in table {
        assert_eq!(name(&unhex(hex)).as_deref(), expected);
    }
}

#[test]
fn records_may_be_of_any_size() {
    let message = with_extensions(&[host(b"www.example.org")]);
    for len in 1..=message.len() {
        assert_eq!(name(&in_records(&message, len)).as_deref(), Some("www.example.org"), "{len}");
    }
}

#[test]
fn hellos_without_a_name() {
    // SSL 3.0 and TLS 1.0 had no extensions.
    assert_eq!(name(&in_one(&message(&[]))), None);
    assert_eq!(name(&in_one(&with_extensions(&[]))), None);
    assert_eq!(name(&in_one(&with_extensions(&[extension(16, b"\0\x03\x02h2")]))), None);
    assert_eq!(name(&in_one(&with_extensions(&[sni(&[entry(1, b"another type")])]))), None);
    for ip in ["192.0.2.1", "::1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(name(&in_one(&with_extensions(&[host(ip.as_bytes())]))), None, "{ip}");
    }
}

#[test]
fn what_is_skipped() {
    let (grease, ech) = (extension(0x5A5A, b""), extension(0xFE0D, &[0; 300]));
    let (grease_last, padding) = (extension(0xBABA, &[0]), extension(21, &[0; 600]));
    let hello = with_extensions(&[grease, ech, host(b"public.example"), grease_last, padding]);
    assert_eq!(name(&in_one(&hello)).as_deref(), Some("public.example"));
    let both = sni(&[entry(0x5A, b"\xFF\0"), entry(0, b"a.example")]);
    assert_eq!(name(&in_one(&with_extensions(&[both]))).as_deref(), Some("a.example"));
}

/// The last column is how many bytes it takes to refuse it.
#[test]
fn what_is_not_tls_is_refused_at_its_first_wrong_byte() {
    let table: [(&[u8], NotHello, usize); 10] = [
        (b"GET / HTTP/1.1\r\n", NotHello::NotTls { at: 0, byte: b'G' }, 1),
        // SSL 2.0 framing: two bytes of length, the first with its top bit set, then the type.
        (b"\x80\x2E\x01\x03\x01", NotHello::NotTls { at: 0, byte: 0x80 }, 1),
        // An alert, application data.
        (b"\x15\x03\x01\x00\x02", NotHello::NotTls { at: 0, byte: 0x15 }, 1),
        (b"\x17\x03\x03\x00\x02", NotHello::NotTls { at: 0, byte: 0x17 }, 1),
        (b"\x16\x02\x00\x00\x10", NotHello::NotTls { at: 1, byte: 2 }, 2),
        (b"\x16\xFE\xFD\x00\x10", NotHello::NotTls { at: 1, byte: 0xFE }, 2),
        (b"\x16\x03\x01\x00\x00", NotHello::Record(0), 5),
        (b"\x16\x03\x01\x40\x01", NotHello::Record(16_385), 5),
        // A ServerHello.
        (b"\x16\x03\x01\x00\x30\x02", NotHello::Message(2), 6),
        (b"\x16\x03\x01\x00\x30\x01\0\0\x2C\x02", NotHello::NotTls { at: 9, byte: 2 }, 10),
    ];
    for (bytes, expected, len) in table {
        assert_eq!(peek(bytes), Err(expected));
        assert_eq!(refused_at(bytes, read), len, "{expected}");
    }
}

/// Every length must fit into what holds it, and what must not be empty is not.
#[test]
fn fields_that_do_not_fit() {
    let field = |tail: &[u8]| match peek(&in_one(tail)) {
        Err(NotHello::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let fixed = [&[3, 3], [7; 32].as_slice()].concat();
    let raw =
        |rest: &[u8]| [&[1], vector(3, &[fixed.as_slice(), rest].concat()).as_slice()].concat();
    let table: [(Vec<u8>, &str); 16] = [
        (vec![1, 0, 0, 0], "version"),
        (vec![1, 0, 0, 5, 3, 3, 7, 7, 7], "random"),
        (raw(&[]), "session id"),
        (raw(&[33; 40]), "session id"),
        (raw(&[5, 1, 2]), "session id"),
        (raw(&[0, 0]), "cipher suites"),
        (raw(&[0, 0, 0, 1, 0]), "cipher suites"),
        (raw(&[0, 0, 9, 1, 2]), "cipher suites"),
        (raw(&[0, 0, 2, 1, 2]), "compression methods"),
        (raw(&[0, 0, 2, 1, 2, 0]), "compression methods"),
        (message(&[0]), "extensions"),
        (message(&[0, 5, 0]), "extensions"),
        (message(&[0, 0, 0]), "extensions"),
        (with_extensions(&[vec![0, 16, 0, 9, 1]]), "extension"),
        (with_extensions(&[vec![0, 16, 0]]), "extension"),
        (with_extensions(&[extension(0, &[])]), "server name"),
    ];
    for (bytes, expected) in table {
        assert_eq!(field(&bytes), expected, "{bytes:?}");
    }
    let entries = [
        vec![0, 0],
        vec![0, 1, 0],
        vec![0, 3, 0, 0, 1],
        [vector(2, &entry(0, b"a")), vec![0]].concat(),
        vec![0, 9, 0, 0, 1, b'a'],
    ];
    for data in entries {
        let hello = with_extensions(&[extension(0, &data)]);
        assert_eq!(field(&hello), "server name", "{data:?}");
    }
}

#[test]
fn a_second_name_is_refused() {
    let table = [
        with_extensions(&[sni(&[entry(0, b"a.example"), entry(0, b"b.example")])]),
        with_extensions(&[sni(&[entry(0, b"a.example"), entry(0, b"a.example")])]),
        with_extensions(&[host(b"a.example"), extension(16, b""), host(b"b.example")]),
        with_extensions(&[host(b"192.0.2.1"), host(b"b.example")]),
    ];
    for hello in table {
        assert_eq!(peek(&in_one(&hello)), Err(NotHello::TwoNames));
    }
}

#[test]
fn names_that_are_none() {
    let table: [(&[u8], InvalidName); 7] = [
        (b"", InvalidName::Empty),
        (b"a..b", InvalidName::EmptyLabel),
        (b"a.example\0.b.example", InvalidName::Byte(0)),
        (b"*.example", InvalidName::Byte(b'*')),
        ("b\u{fc}cher.example".as_bytes(), InvalidName::Byte(0xC3)),
        (&[b'x'; 64], InvalidName::LabelTooLong(64)),
        (&[b'x'; 300], InvalidName::TooLong(300)),
    ];
    for (name, expected) in table {
        let hello = in_one(&with_extensions(&[host(name)]));
        assert_eq!(peek(&hello), Err(NotHello::Name(expected)), "{}", name.escape_ascii());
    }
}

#[test]
fn the_limit_counts_every_byte_on_the_wire() {
    let filled = |len: usize| {
        let without = in_one(&with_extensions(&[host(b"a.example"), extension(21, b"")])).len();
        with_extensions(&[host(b"a.example"), extension(21, &vec![0; len - without])])
    };
    assert_eq!(name(&in_one(&filled(MAX_BYTES))).as_deref(), Some("a.example"));
    // The length of the message tells at once.
    let over = in_one(&filled(MAX_BYTES + 1));
    assert_eq!(peek(&over[..9]), Err(NotHello::TooLong(MAX_BYTES + 1)));
    assert_eq!(refused_at(&over, read), 9);
    // The last byte of the message in a record of its own, whose header counts too.
    for (len, fits) in [(10, true), (9, false), (8, false), (7, false), (6, false), (5, false)] {
        let message = filled(MAX_BYTES + 5 - len);
        let split = in_records(&message, message.len() - 1);
        assert_eq!(split.len(), MAX_BYTES + 10 - len);
        if fits {
            assert_eq!(name(&split).as_deref(), Some("a.example"));
        } else {
            assert_eq!(refused_at(&split, read), 9, "{} bytes", split.len());
        }
    }
    // One byte in each record: the headers are six times as much as the message.
    let sparse = in_records(&filled(4000), 1);
    assert!(sparse.len() > MAX_BYTES);
    assert!(matches!(peek(&sparse), Err(NotHello::TooLong(_))), "{:?}", peek(&sparse));
    assert!(refused_at(&sparse, read) <= MAX_BYTES);
    assert!(peek(&sparse[..MAX_BYTES]).is_err(), "never not yet with so many bytes");
}

/// Records of a ClientHello have nothing between them.
#[test]
fn another_record_in_between_is_refused() {
    let message = with_extensions(&[host(b"a.example")]);
    let first = in_one(&message[..20]);
    let alert = [first.as_slice(), &[0x15, 3, 1, 0, 2, 1, 0]].concat();
    assert_eq!(refused_at(&alert, read), first.len() + 1);
    let empty = [first.as_slice(), &[0x16, 3, 1, 0, 0]].concat();
    assert_eq!(peek(&empty), Err(NotHello::Record(0)));
}

fn fixtures() -> [Vec<u8>; 4] {
    [
        unhex(include_str!("../testdata/openssl-tls12.hex")),
        unhex(include_str!("../testdata/openssl-tls13.hex")),
        unhex(include_str!("../testdata/openssl-small-fragments.hex")),
        in_records(&with_extensions(&[extension(21, &[0; 9]), host(b"a.b.example")]), 20),
    ]
}

proptest! {
    #[test]
    fn names_come_out_as_they_went_in(
        name in "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,20}(\\.[a-zA-Z][a-zA-Z0-9_-]{0,20}){0,8}",
        before in prop::collection::vec((1u16.., prop::collection::vec(any::<u8>(), 0..40)), 0..5),
        len in 1usize..300,
    ) {
        let mut extensions: Vec<Vec<u8>> =
            before.iter().map(|(kind, data)| extension(*kind, data)).collect();
        extensions.push(host(name.as_bytes()));
        extensions.rotate_left(before.len() / 2);
        let hello = in_records(&with_extensions(&extensions), len);
        prop_assert_eq!(super::tests::name(&hello), Some(name.to_ascii_lowercase()));
    }

    #[test]
    fn a_reader_never_changes_its_mind(
        fixture in 0..4usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = fixtures()[fixture].clone();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.extend(tail);
        read_in_steps(&bytes, MAX_BYTES, read);
    }
}
