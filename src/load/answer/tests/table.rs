//! A row for each rule of RFC 9112 and each kind of answer that was seen.

use super::*;

struct Row {
    method_is_head: bool,
    answer: &'static [u8],
    expected: Result<Complete, Broken>,
    /// The FIN ends it.
    until_end: bool,
}

fn row(answer: &'static [u8], expected: Result<Complete, Broken>) -> Row {
    Row { method_is_head: false, answer, expected, until_end: false }
}

/// Complete, and the connection may be used again.
fn kept(answer: &'static [u8], status: u16, body_bytes: u64) -> Row {
    row(answer, Ok(Complete { status, body_bytes, keeps: true, interim: 0 }))
}

/// Complete, and the connection may not.
fn last(answer: &'static [u8], status: u16, body_bytes: u64) -> Row {
    row(answer, Ok(Complete { status, body_bytes, keeps: false, interim: 0 }))
}

/// Ends with the FIN.
fn until_end(answer: &'static [u8], body_bytes: u64) -> Row {
    Row { until_end: true, ..last(answer, 200, body_bytes) }
}

fn bad(answer: &'static [u8], broken: Broken) -> Row {
    row(answer, Err(broken))
}

impl Row {
    fn of_head(self) -> Self {
        Self { method_is_head: true, ..self }
    }

    fn behind(mut self, interim: u32) -> Self {
        self.expected.as_mut().expect("it is a complete one").interim = interim;
        self
    }
}

fn without_body() -> Vec<Row> {
    vec![
        kept(b"HTTP/1.1 204 No Content\r\n\r\n", 204, 0),
        kept(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, 0),
        kept(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, 0),
        kept(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304, 0),
        kept(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", 304, 0),
        kept(b"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n", 304, 0),
        last(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", 304, 0),
        last(b"HTTP/1.0 204 No Content\r\n\r\n", 204, 0),
        kept(b"HTTP/1.1 200 OK\r\n\r\n", 200, 0).of_head(),
        kept(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200, 0).of_head(),
        kept(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, 0).of_head(),
        kept(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1, 2\r\n\r\n", 404, 0).of_head(),
        last(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n", 200, 0).of_head(),
        // Others have one, also where nobody would expect it.
        kept(b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nab", 205, 2),
        kept(b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nab", 302, 2),
        kept(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, 0),
    ]
}

fn interim() -> Vec<Row> {
    vec![
        kept(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 200, 1)
            .behind(1),
        kept(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
              HTTP/1.1 204 No Content\r\n\r\n",
            204,
            0,
        )
        .behind(2),
        kept(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200, 0).of_head().behind(1),
        // Its fields say nothing about the final one.
        kept(
            b"HTTP/1.1 199 x\r\nContent-Length: 7\r\nConnection: close\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            1,
        )
        .behind(1),
        bad(b"HTTP/1.1 100 Continue\r\n\r\n", Broken::Truncated),
        bad(b"HTTP/1.1 100 Continue\r\n\r\ngarbage", Broken::NotHttp),
        bad(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Broken::SwitchedProtocol),
        bad(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Broken::SwitchedProtocol).of_head(),
        // No class has them; who reads the status judges.
        kept(b"HTTP/1.1 099 x\r\nContent-Length: 1\r\n\r\na", 99, 1),
        kept(b"HTTP/1.1 999 x\r\nContent-Length: 1\r\n\r\na", 999, 1),
    ]
}

macro_rules! chunked {
    ($body:literal) => {
        concat!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes()
    };
}

fn chunks() -> Vec<Row> {
    vec![
        kept(chunked!("0\r\n\r\n"), 200, 0),
        kept(chunked!("6\r\nhello\n\r\n0\r\n\r\n"), 200, 6),
        kept(chunked!("1\r\na\r\n00B\r\n0123456789a\r\n000\r\n\r\n"), 200, 12),
        kept(chunked!("a;b\r\n0123456789\r\n0;c=d;e=\"f,\\\"\"\r\n\r\n"), 200, 10),
        kept(chunked!("1 ; a = b\t\r\na\r\n2  \r\nbc\r\n0\t\r\n\r\n"), 200, 3),
        kept(chunked!("1;\r\na\r\n0;\u{e9}\r\n\r\n"), 200, 1),
        kept(chunked!("4\r\n\r\n0\n\r\n0\r\n\r\n"), 200, 4),
        kept(chunked!("1\r\na\r\n0\r\nDigest: x\r\n\r\n"), 200, 1),
        kept(chunked!("0\r\nA: b\r\nC:\r\n d\r\nE : f\n\n"), 200, 0),
        kept(chunked!("0\r\nContent-Length: x\r\nConnection: close\r\n\r\n"), 200, 0),
        bad(chunked!("\r\n"), Broken::BadChunk),
        bad(chunked!("g\r\n"), Broken::BadChunk),
        bad(chunked!("-1\r\na\r\n"), Broken::BadChunk),
        bad(chunked!("+1\r\na\r\n"), Broken::BadChunk),
        bad(chunked!("0x1\r\na\r\n"), Broken::BadChunk),
        bad(chunked!(" 1\r\na\r\n"), Broken::BadChunk),
        bad(chunked!(";a\r\n\r\n"), Broken::BadChunk),
        bad(chunked!("1 1\r\na\r\n"), Broken::BadChunk),
        bad(chunked!("1\na\r\n"), Broken::BadChunk),
        bad(chunked!("1;a\nb\r\n"), Broken::BadChunk),
        bad(chunked!("1;a\0\r\n"), Broken::BadChunk),
        bad(chunked!("1\rb"), Broken::BadChunk),
        bad(chunked!("1\r\na\n"), Broken::BadChunk),
        bad(chunked!("1\r\nab\r\n"), Broken::BadChunk),
        bad(chunked!("1\r\na\rb"), Broken::BadChunk),
        bad(chunked!("1\r\na0\r\n\r\n"), Broken::BadChunk),
        bad(chunked!("0\r\n\n"), Broken::BadChunk),
        bad(chunked!("0\r\n\rA"), Broken::BadChunk),
        bad(chunked!("0\r\n\0"), Broken::BadChunk),
        bad(chunked!("0\r\nno colon\r\n\r\n"), Broken::BadChunk),
        bad(chunked!("0\r\n folded: first\r\n\r\n"), Broken::BadChunk),
        bad(chunked!("10000000000000000\r\n"), Broken::BadChunk),
        bad(chunked!("ffffffffffffffff\r\na"), Broken::Truncated),
        bad(chunked!("5\r\nabc"), Broken::Truncated),
        bad(chunked!("0\r\n"), Broken::Truncated),
        bad(chunked!("0\r\nA: b\r\n"), Broken::Truncated),
        // What is wrong with the part of a trailer is found at the end.
        bad(chunked!("0\r\nA: b\r\nno colon"), Broken::BadChunk),
    ]
}

macro_rules! coded {
    ($fields:literal) => {
        concat!("HTTP/1.1 200 OK\r\n", $fields, "\r\n\r\n1\r\na\r\n0\r\n\r\n").as_bytes()
    };
}

/// Behind each head there are eleven bytes: one of a chunked body, or all of one until the end.
fn codings() -> Vec<Row> {
    vec![
        kept(coded!("transfer-encoding:CHUNKED"), 200, 1),
        kept(coded!("Transfer-Encoding: gzip, chunked"), 200, 1),
        kept(coded!("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), 200, 1),
        kept(coded!("Transfer-Encoding: gzip,\r\n\tchunked"), 200, 1),
        kept(coded!("Transfer-Encoding: ,, chunked ,\t,"), 200, 1),
        kept(coded!("Transfer-Encoding: a;b=\", x\", chunked"), 200, 1),
        until_end(coded!("Transfer-Encoding: gzip"), 11),
        until_end(coded!("Transfer-Encoding: chunked, gzip"), 11),
        until_end(coded!("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip"), 11),
        until_end(coded!("Transfer-Encoding: identity"), 11),
        until_end(coded!("Transfer-Encoding: xchunked"), 11),
        until_end(coded!("Transfer-Encoding: chunked x"), 11),
        until_end(coded!("Transfer-Encoding: a;b=\", chunked\""), 11),
        until_end(coded!("Transfer-Encoding:"), 11),
        until_end(coded!("Transfer-Encoding:\r\nContent-Length: 3"), 11),
        until_end(coded!("Transfer-Encoding: gzip\r\nContent-Length: 3"), 11),
        bad(coded!("Transfer-Encoding: chunked;a=b"), Broken::BadLength),
        bad(coded!("Transfer-Encoding: chunked ; a=b"), Broken::BadLength),
        // Both fields: chunked wins, and the connection is not to be trusted.
        last(coded!("Transfer-Encoding: chunked\r\nContent-Length: 3"), 200, 1),
        last(coded!("Content-Length: 3\r\nTransfer-Encoding: chunked"), 200, 1),
        last(coded!("Content-Length: x, y\r\nTransfer-Encoding: chunked"), 200, 1),
        last(coded!("Transfer-Encoding: chunked\r\nConnection: close"), 200, 1),
        last(
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n\
              1\r\na\r\n0\r\n\r\n",
            200,
            1,
        ),
        last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 200, 0)
            .of_head(),
    ]
}

macro_rules! fields {
    ($fields:literal) => {
        concat!("HTTP/1.1 200 OK\r\n", $fields, "\r\n\r\nhello").as_bytes()
    };
}

fn lengths() -> Vec<Row> {
    vec![
        kept(fields!("Content-Length: 5"), 200, 5),
        kept(fields!("CONTENT-LENGTH:5\t "), 200, 5),
        kept(fields!("Content-Length: 5, 5"), 200, 5),
        kept(fields!("Content-Length: 5\r\ncontent-length: 5"), 200, 5),
        kept(fields!("Content-Length: 5, 5 ,5\r\nA: b\r\nContent-Length: 005"), 200, 5),
        kept(fields!("Content-Length: 00000000000000000000000000000000005"), 200, 5),
        kept(fields!("Content-Length:\r\n 5"), 200, 5),
        kept(fields!("Content-Length: 5,\r\n\t5"), 200, 5),
        kept(fields!("Content-Length : 5"), 200, 5),
        bad(fields!("Content-Length: 5, 6"), Broken::BadLength),
        bad(fields!("Content-Length: 5\r\nContent-Length: 6"), Broken::BadLength),
        bad(fields!("Content-Length: x\r\nContent-Length: 5"), Broken::BadLength),
        bad(fields!("Content-Length: 5\r\nContent-Length: 6, 5"), Broken::BadLength),
        bad(fields!("Content-Length: -5"), Broken::BadLength),
        bad(fields!("Content-Length: +5"), Broken::BadLength),
        bad(fields!("Content-Length: 0x5"), Broken::BadLength),
        bad(fields!("Content-Length: 5.0"), Broken::BadLength),
        bad(fields!("Content-Length: 5 5"), Broken::BadLength),
        bad(fields!("Content-Length: 5\r\n 5"), Broken::BadLength),
        bad(fields!("Content-Length: \u{665}"), Broken::BadLength),
        bad(fields!("Content-Length:"), Broken::BadLength),
        bad(fields!("Content-Length: 5,"), Broken::BadLength),
        bad(fields!("Content-Length: ,5"), Broken::BadLength),
        bad(fields!("Content-Length: 18446744073709551616"), Broken::BadLength),
        bad(fields!("Content-Length: 18446744073709551615"), Broken::Truncated),
        bad(fields!("Content-Length: 6"), Broken::Truncated),
        until_end(fields!("A: b"), 5),
        until_end(b"HTTP/1.1 200 OK\r\n\r\n", 0),
        until_end(fields!("Connection: keep-alive"), 5),
        until_end(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", 5),
        until_end(fields!("Content_Length: 1\r\nX-Content-Length: 2"), 5),
    ]
}

macro_rules! old {
    ($fields:literal) => {
        concat!("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", $fields, "\r\n").as_bytes()
    };
}

macro_rules! new {
    ($fields:literal) => {
        concat!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", $fields, "\r\n").as_bytes()
    };
}

fn connections() -> Vec<Row> {
    vec![
        kept(new!(""), 200, 0),
        kept(new!("Connection: keep-alive\r\n"), 200, 0),
        kept(new!("Connection: Upgrade, closed, x-close\r\n"), 200, 0),
        kept(new!("Connection: \"close\"\r\n"), 200, 0),
        kept(new!("Proxy-Connection: close\r\n"), 200, 0),
        kept(new!("Keep-Alive: timeout=5, max=1\r\nConnection:\r\n"), 200, 0),
        last(new!("Connection: close\r\n"), 200, 0),
        last(new!("connection:CLOSE\r\n"), 200, 0),
        last(new!("Connection: keep-alive, Close\r\n"), 200, 0),
        last(new!("Connection: x,,\tclose\t,y\r\n"), 200, 0),
        last(new!("Connection: x,\r\n close\r\n"), 200, 0),
        last(new!("Connection: close\r\nConnection: keep-alive\r\n"), 200, 0),
        last(new!("Connection: keep-alive\r\nConnection: close\r\n"), 200, 0),
        last(old!(""), 200, 0),
        last(old!("Connection: close\r\n"), 200, 0),
        last(old!("Proxy-Connection: keep-alive\r\n"), 200, 0),
        last(old!("Keep-Alive: timeout=5\r\n"), 200, 0),
        last(old!("Connection: keep-alive, close\r\n"), 200, 0),
        kept(old!("Connection: keep-alive\r\n"), 200, 0),
        kept(old!("Connection: x\r\nCONNECTION: y , Keep-Alive\r\n"), 200, 0),
    ]
}

fn heads() -> Vec<Row> {
    vec![
        kept(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, 0),
        kept(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, 0),
        kept(b"HTTP/1.1 200 d\xe9j\xe0 vu\r\nA: \xff\xfe\r\nContent-Length: 0\r\n\r\n", 200, 0),
        kept(b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", 200, 1),
        kept(b"HTTP/1.1 200 OK\r\nContent-Length: 1\n\r\na", 200, 1),
        kept(b"\r\n\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 200, 1),
        kept(b"HTTP/1.1 200 OK\r\nA: b\r\n  c\r\n \r\nContent-Length: 0\r\n\r\n", 200, 0),
        kept(b"HTTP/1.1 200 OK\r\nA:\r\nB: \r\nContent-Length: 0\r\n\r\n", 200, 0),
        bad(b"", Broken::Truncated),
        bad(b"\r\n\r\n", Broken::Truncated),
        bad(b"H", Broken::Truncated),
        bad(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Broken::Truncated),
        bad(b"garbage\r\n\r\n", Broken::NotHttp),
        bad(b"hello\n", Broken::NotHttp),
        bad(b"\x15\x03\x01\0\x02\x02\x16", Broken::NotHttp),
        bad(b"\0\0\x12\x04\0\0\0\0\0", Broken::NotHttp),
        bad(b"SSH-2.0-OpenSSH\r\n", Broken::NotHttp),
        bad(b"ICY 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/2 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/2.0 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/0.9 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.2 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.10 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"http/1.1 200 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 20 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 2000 OK\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 O\0K\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\nA\xe9: b\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Broken::NotHttp),
        bad(b"HTTP/1.1 200 OK\r\nA: b\r\nno colon", Broken::NotHttp),
    ]
}

fn rows() -> Vec<Row> {
    let parts = [without_body(), interim(), chunks(), codings(), lengths(), connections(), heads()];
    parts.into_iter().flatten().collect()
}

#[test]
fn each_answer_ends_where_the_rfc_says() {
    for Row { method_is_head, answer, expected, .. } in rows() {
        let text = answer.escape_ascii();
        let (result, bytes) = read(method_is_head, [answer]);
        assert_eq!(result, expected, "{text}");
        if expected.is_ok() {
            assert_eq!(bytes, answer.len(), "{text}");
        }
    }
}

#[test]
fn it_does_not_matter_how_an_answer_is_cut() {
    for Row { method_is_head, answer, expected, .. } in rows() {
        let text = answer.escape_ascii();
        for cut in 0..=answer.len() {
            let (first, second) = answer.split_at(cut);
            let (result, _) = read(method_is_head, [first, second]);
            assert_eq!(result, expected, "cut at {cut}: {text}");
        }
        let (result, _) = read(method_is_head, answer.chunks(1));
        assert_eq!(result, expected, "byte by byte: {text}");
    }
}

#[test]
fn bytes_behind_the_answer_are_not_taken() {
    for Row { method_is_head, answer, expected, until_end } in rows() {
        if expected.is_err() || until_end {
            continue;
        }
        let text = answer.escape_ascii();
        let both = [answer, b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        for cut in 0..both.len() {
            let (first, second) = both.split_at(cut);
            let read = read(method_is_head, [first, second]);
            assert_eq!(read, (expected, answer.len()), "cut at {cut}: {text}");
        }
    }
}

#[test]
fn a_part_of_an_answer_is_truncated() {
    for Row { method_is_head, answer, expected, until_end } in rows() {
        for len in 0..answer.len() {
            let part = &answer[..len];
            let (result, _) = read(method_is_head, [part]);
            let text = part.escape_ascii();
            match result {
                Err(Broken::Truncated) => {}
                // With less of the body.
                Ok(complete) => assert!(until_end && !complete.keeps, "{text}"),
                // No more and no less than what is wrong with the whole.
                Err(broken) => assert_eq!(Err(broken), expected, "{text}"),
            }
        }
    }
}
