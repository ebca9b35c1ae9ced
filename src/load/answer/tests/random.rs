//! Answers whose right reading is known, since they are made from it, cut anywhere.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

use super::*;

/// Made from its parts; what it has to come to is told from the parts.
#[derive(Debug, Clone)]
struct Made {
    bytes: Vec<u8>,
    method_is_head: bool,
    complete: Complete,
    until_end: bool,
}

/// How the body is framed.
#[derive(Debug, Clone)]
enum Framing {
    /// By the status or the method, whatever these fields say.
    NoBody(&'static str),
    Length {
        repeated: usize,
    },
    /// Chunks end at these places of the body; an extension for each.
    Chunked {
        cuts: Vec<(Index, &'static str)>,
        trailers: usize,
        with_length: bool,
    },
    UntilEnd(&'static str),
}

fn framing() -> impl Strategy<Value = Framing> {
    let lies =
        ["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length:\r\n"];
    let endless = ["", "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: chunked, x\r\n"];
    let extension = select(vec!["", ";a", " ;a=\"b c\"", "  ", ";a=b;c;"]);
    let cuts = prop::collection::vec((any::<Index>(), extension), 0..5);
    prop_oneof![
        select(lies.to_vec()).prop_map(Framing::NoBody),
        (1..4_usize).prop_map(|repeated| Framing::Length { repeated }),
        (cuts, 0..4_usize, any::<bool>()).prop_map(|(cuts, trailers, with_length)| {
            Framing::Chunked { cuts, trailers, with_length }
        }),
        select(endless.to_vec()).prop_map(Framing::UntilEnd),
    ]
}

/// Fields about the connection, and whether they keep it in HTTP/1.0 and in HTTP/1.1.
const CONNECTION: &[(&str, [bool; 2])] = &[
    ("", [false, true]),
    ("Connection: close\r\n", [false, false]),
    ("Connection: keep-alive\r\n", [true, true]),
    ("connection: a, Keep-Alive\r\n", [true, true]),
    ("CONNECTION: keep-alive\r\nConnection: b,CLOSE\r\n", [false, false]),
    ("Proxy-Connection: close\r\n", [false, true]),
];

const INTERIM: &[&str] = &[
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 3\r\n\r\n",
    "HTTP/1.0 102 \nConnection: close\n\n",
];

fn chunks(body: &[u8], cuts: &[(Index, &str)], trailers: usize) -> Vec<u8> {
    let mut places: Vec<(usize, &str)> =
        cuts.iter().map(|(cut, extension)| (cut.index(body.len() + 1), *extension)).collect();
    places.push((body.len(), ";last"));
    places.sort_unstable();
    let (mut bytes, mut start) = (Vec::new(), 0);
    for (end, extension) in places {
        // A chunk without data would be the last one.
        if end > start {
            bytes.extend(format!("{:X}{extension}\r\n", end - start).bytes());
            bytes.extend_from_slice(&body[start..end]);
            bytes.extend(b"\r\n");
            start = end;
        }
    }
    bytes.extend(b"0\r\n");
    (0..trailers).for_each(|number| bytes.extend(format!("T-{number}: 0\r\n").bytes()));
    bytes.extend(b"\r\n");
    bytes
}

/// The parts that every framing has.
#[derive(Debug, Clone)]
struct Parts {
    interim: Vec<&'static str>,
    minor: usize,
    connection: (&'static str, [bool; 2]),
    body: Vec<u8>,
    status: u16,
    by_method: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        prop::collection::vec(select(INTERIM), 0..4),
        0..2_usize,
        select(CONNECTION),
        prop::collection::vec(any::<u8>(), 0..300),
        select(vec![200, 205, 302, 404, 503]),
        any::<bool>(),
    )
        .prop_map(|(interim, minor, connection, body, status, by_method)| Parts {
            interim,
            minor,
            connection,
            body,
            status,
            by_method,
        })
}

fn make(parts: &Parts, framing: &Framing) -> Made {
    let Parts { interim, minor, connection, body, by_method, .. } = parts;
    let (mut status, mut keeps) = (parts.status, connection.1[*minor]);
    let mut method_is_head = false;
    let (fields, sent, body_bytes) = match framing {
        Framing::NoBody(fields) => {
            method_is_head = *by_method;
            if !method_is_head {
                status = if status == 200 { 204 } else { 304 };
            }
            keeps &= *minor == 1 || !fields.contains("Transfer-Encoding");
            ((*fields).to_owned(), Vec::new(), 0)
        }
        Framing::Length { repeated } => {
            let field = format!("Content-Length: {0}, {0}\r\n", body.len());
            (field.repeat(*repeated), body.clone(), body.len())
        }
        Framing::Chunked { cuts, trailers, with_length } => {
            keeps &= *minor == 1 && !with_length;
            let length = if *with_length { "Content-Length: 1\r\n" } else { "" };
            let fields = format!("{length}Transfer-Encoding: x,\r\n\tChunked\r\n");
            (fields, chunks(body, cuts, *trailers), body.len())
        }
        Framing::UntilEnd(fields) => {
            keeps = false;
            ((*fields).to_owned(), body.clone(), body.len())
        }
    };
    let mut bytes = interim.concat().into_bytes();
    let connection = connection.0;
    bytes.extend(
        format!("HTTP/1.{minor} {status} d\u{e9}j\u{e0}\r\n{connection}{fields}\r\n").bytes(),
    );
    bytes.extend(sent);
    let interim = u32::try_from(interim.len()).expect("they are few");
    let complete = Complete { status, body_bytes: body_bytes as u64, keeps, interim };
    let until_end = matches!(framing, Framing::UntilEnd(_));
    Made { bytes, method_is_head, complete, until_end }
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn an_answer_is_read_as_it_was_made(
        (parts, framing) in (parts(), framing()),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let made = make(&parts, &framing);
        let mut stream = made.bytes.clone();
        if !made.until_end {
            stream.extend(b"HTTP/1.1 404 Nobody Asked\r\nContent-Length: 0\r\n\r\n");
        }
        let expected = (Ok(made.complete), made.bytes.len());
        prop_assert_eq!(read(made.method_is_head, pieces(&stream, &cuts)), expected);
        prop_assert_eq!(read(made.method_is_head, stream.chunks(1)), expected);
    }

    #[test]
    fn any_bytes_come_to_the_same_however_they_are_cut(
        junk in prop::collection::vec(any::<u8>(), 0..40),
        (parts, framing) in (parts(), framing()),
        place in any::<Index>(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let mut bytes = make(&parts, &framing).bytes;
        let place = place.index(bytes.len());
        let end = bytes.len().min(place + junk.len());
        bytes.splice(place..end, junk);
        let whole = read(false, [&bytes[..]]);
        prop_assert_eq!(read(false, pieces(&bytes, &cuts)), whole);
        prop_assert_eq!(read(false, bytes.chunks(1)), whole);
    }
}
