//! What is refused, with which status, and that no segmentation changes it.

use super::super::{MAX_EMPTY_LINES, MAX_FIELDS, MAX_HEAD_BYTES};
use super::*;

const BAD: &str = "400 Bad Request";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
const UNKNOWN_CODING: &str = "501 Not Implemented";
const OTHER_VERSION: &str = "505 HTTP Version Not Supported";

/// Wants `request` refused, however it comes.
#[track_caller]
fn refused(request: impl AsRef<[u8]>, status: &str) {
    let request = request.as_ref();
    let check = |peer: Peer| {
        let shown = String::from_utf8_lossy(&request[..request.len().min(300)]);
        assert_eq!(String::from_utf8_lossy(&peer.seen), refusal(status), "for {shown:?}");
        assert_eq!(peer.action, Action::Linger, "for {shown:?}");
    };
    check(Peer::after([request]));
    check(Peer::after(request.chunks(1)));
    for cut in 1..request.len().min(300) {
        check(Peer::after(<[_; 2]>::from(request.split_at(cut))));
    }
}

fn with_fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n")
}

#[test]
fn what_is_not_http_is_refused() {
    let garbage: [&[u8]; 13] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/x\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.x\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    ];
    for request in garbage {
        refused(request, BAD);
    }
}

#[test]
fn other_versions_are_refused() {
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", OTHER_VERSION);
    for version in ["2", "2.0", "3.0", "0.9", "1.2", "1.9"] {
        refused(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"), OTHER_VERSION);
    }
}

#[test]
fn the_host_is_given_once() {
    refused("GET / HTTP/1.1\r\n\r\n", BAD);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD);
    refused("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", BAD);
    refused("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", BAD);
    for host in ["a b", "a/b", "u@a", "a?b", "a#b", "\"a\"", "a\\b", "\u{e9}"] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), BAD);
    }
    for host in ["", "a.example:8080", "[::1]:80", "%41_b"] {
        expect(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), ANSWER, Action::Continue);
    }
}

#[test]
fn doubtful_lengths_are_refused() {
    let lengths = [
        "",
        "+1",
        "-1",
        "1 1",
        "1\t1",
        "1,1",
        "1, 1",
        "1,",
        "0x1",
        "a",
        "1.0",
        "1e1",
        "\u{661}",
        "18446744073709551616",
        "99999999999999999999999",
        "\"1\"",
        "1;1",
    ];
    for length in lengths {
        refused(with_fields(&format!("Content-Length: {length}")), BAD);
    }
    refused(with_fields("Content-Length: 5\r\nContent-Length: 5"), BAD);
    refused(with_fields("Content-Length: 5\r\ncontent-length: 6"), BAD);
    refused(with_fields("Content-Length: 0\r\nContent-Length: 0"), BAD);
}

#[test]
fn two_framings_at_once_are_refused() {
    refused(with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5"), BAD);
    refused(with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked"), BAD);
    refused(with_fields("Content-Length: 0\r\nTransfer-Encoding: chunked"), BAD);
    refused(with_fields("Content-Length: 5\r\nTransfer-Encoding: gzip"), BAD);
    for coding in ["chunked", "gzip", "identity"] {
        refused(format!("POST / HTTP/1.0\r\nTransfer-Encoding: {coding}\r\n\r\n"), BAD);
    }
}

#[test]
fn transfer_codings_other_than_chunked_are_refused() {
    for list in ["gzip", "identity", "gzip, chunked", "xchunked", "chunked;q=1", "\"chunked\""] {
        refused(with_fields(&format!("Transfer-Encoding: {list}")), UNKNOWN_CODING);
    }
    for list in
        ["chunked, chunked", "chunked, gzip", "chunked,", ",chunked", "", "chunked, identity"]
    {
        refused(with_fields(&format!("Transfer-Encoding: {list}")), BAD);
    }
    let twice = |first: &str, second: &str| {
        with_fields(&format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}"))
    };
    refused(twice("chunked", "chunked"), BAD);
    refused(twice("chunked", "identity"), BAD);
    refused(twice("gzip", "chunked"), UNKNOWN_CODING);
}

#[test]
fn doubtful_chunks_are_refused() {
    let bodies: [&[u8]; 36] = [
        b"\r\n",
        b";\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b"x\r\n",
        b"5x\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5 5\r\n",
        b"5\t\r\n",
        b"g\r\n",
        b"5\n",
        b"5\r\r\n",
        b"5\rX",
        b"5;a\n",
        b"5;a\rb",
        b"5;\x00\r\n",
        b"00000000000000000\r\n",
        b"10000000000000000\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"1\r\nx0\r\n",
        b"1\r\nx\n0\r\n",
        b"1\r\nx\r0\r\n",
        b"1\r\nx\rX0\r\n\r\n",
        b"1\r\nxx\r\n",
        b"1\r\nx\r\n\r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\n\rX",
        b"0\r\n a: b\r\n",
        b"0\r\na: b\r\n c\r\n",
        b"0\r\na : b\r\n",
        b"0\r\na\r\n",
        b"0\r\n: b\r\n",
        b"0\r\na: b\n",
    ];
    for body in bodies {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused([head, body].concat(), BAD);
    }
}

#[test]
fn folded_and_spaced_fields_are_refused() {
    refused(with_fields("A: b\r\n c"), BAD);
    refused(with_fields("A: b\r\n\tc"), BAD);
    refused(with_fields("A:\r\n c"), BAD);
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD);
    refused(with_fields("A : b"), BAD);
    refused(with_fields("Content-Length : 5"), BAD);
    refused(with_fields("Transfer-Encoding\t: chunked"), BAD);
    refused(with_fields(": b"), BAD);
}

#[test]
fn bare_line_feeds_are_refused() {
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD);
    refused("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD);
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", BAD);
    refused("GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", BAD);
    refused("GET / HTTP/1.1\r\nHost: a\n\r\n", BAD);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", BAD);
    refused("GET / HTTP/1.0\n\n", BAD);
    refused(with_fields("A:\nB: c"), BAD);
}

#[test]
fn control_characters_in_values_are_refused() {
    for control in ["\0", "\r", "\x01", "\x0B", "\x0C", "\x1B", "\x7F"] {
        refused(with_fields(&format!("A: b{control}c")), BAD);
        refused(with_fields(&format!("A: {control}")), BAD);
    }
    refused(with_fields("Transfer-Encoding: \x0Bchunked"), BAD);
    let text = "GET / HTTP/1.1\r\nHost: a\r\nA: b\tc \u{e9}\r\n\r\n";
    expect(text, ANSWER, Action::Continue);
}

#[test]
fn other_expectations_are_refused() {
    for expectation in ["200-ok", "100-continue, gold", "100-continued"] {
        refused(with_fields(&format!("Expect: {expectation}")), "417 Expectation Failed");
    }
    refused(with_fields("Expect: 100-continue\r\nExpect: gold"), "417 Expectation Failed");
}

#[test]
fn a_head_has_a_limit_of_bytes() {
    let head = |bytes: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "v".repeat(bytes - frame))
    };
    let largest = head(MAX_HEAD_BYTES);
    expect(format!("{largest}{GET}"), &ANSWER.repeat(2), Action::Continue);
    Peer::after(largest.as_bytes().chunks(1)).has_seen(ANSWER);
    refused(head(MAX_HEAD_BYTES + 1), TOO_LARGE);
    refused("G".repeat(MAX_HEAD_BYTES), TOO_LARGE);
    refused(format!("GET /{}", "a".repeat(4 * MAX_HEAD_BYTES)), TOO_LARGE);
}

#[test]
fn nothing_behind_the_limit_is_judged() {
    let mut head = format!("GET /{}", "a".repeat(MAX_HEAD_BYTES));
    refused(&head, TOO_LARGE);
    head.push('\0');
    refused(&head, TOO_LARGE);
    head.insert(9, '\0');
    refused(&head, BAD);
}

#[test]
fn a_head_has_a_limit_of_fields() {
    let head = |fields: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(fields - 1))
    };
    expect(head(MAX_FIELDS), ANSWER, Action::Continue);
    refused(head(MAX_FIELDS + 1), TOO_LARGE);
}

#[test]
fn empty_lines_in_front_are_skipped_up_to_a_limit() {
    let most = "\r\n".repeat(MAX_EMPTY_LINES);
    let requests = format!("{most}{GET}{most}{GET}");
    expect(&requests, &ANSWER.repeat(2), Action::Continue);
    Peer::after(requests.as_bytes().chunks(1)).has_seen(ANSWER.repeat(2));
    expect(&most, "", Action::Await);
    refused(format!("{most}\r\n{GET}"), BAD);
    refused(format!("\r{GET}"), BAD);
}
