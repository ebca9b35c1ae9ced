//! Request bodies: where they end, and what their bytes are worth.

use super::super::MAX_FRAMING_BYTES;
use super::*;

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn counted(length: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

fn expecting(version: &str, expectation: &str, framing: &str) -> String {
    format!("POST / HTTP/{version}\r\nHost: a\r\n{framing}\r\nExpect: {expectation}\r\n\r\n")
}

#[test]
fn the_answer_comes_when_the_body_is_complete() {
    let mut peer = Peer::new();
    assert_eq!(peer.send(counted("3")), Action::Begin, "nothing of the body yet");
    assert_eq!(peer.send("1"), Action::Continue, "a body's bytes are progress");
    assert_eq!(peer.send("2"), Action::Continue);
    peer.has_seen("");
    assert_eq!(peer.send(format!("3{GET}")), Action::Continue);
    peer.has_seen(ANSWER.repeat(2));
}

#[test]
fn lengths_are_decimal_numbers_of_64_bits() {
    for none in ["0", "000", "00000000000000000000000000"] {
        expect(counted(none), ANSWER, Action::Continue);
    }
    expect(format!("{}12345{GET}", counted("0005")), &ANSWER.repeat(2), Action::Continue);
    let mut peer = Peer::new();
    assert_eq!(peer.send(counted("18446744073709551615")), Action::Begin);
    assert_eq!(peer.send(GET), Action::Continue);
    peer.has_seen("");
}

#[test]
fn a_length_counts_in_every_method_and_version() {
    let hidden = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len());
    expect(hidden, ANSWER, Action::Continue);
    expect("PUT / HTTP/1.0\r\nContent-Length: 2\r\n\r\n12", ANSWER_CLOSE, Action::Close);
}

#[test]
fn chunks_are_read_to_the_empty_one() {
    let bodies = [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\n12345\r\n0\r\n\r\n",
        "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "0000000000000002\r\n\r\n\r\n0\r\n\r\n",
        "1;name=value;q=\"a b;\u{e9}\"\r\nx\r\n0;last\r\n\r\n",
        "1 \t;spaced\r\nx\r\n0\r\n\r\n",
        "0\r\nA: b\r\nContent-Length: 99\r\nempty:\r\n\r\n",
    ];
    for body in bodies {
        expect(format!("{CHUNKED}{body}{GET}"), &ANSWER.repeat(2), Action::Continue);
    }
}

#[test]
fn a_chunk_may_be_as_large_as_64_bits_say() {
    let mut peer = Peer::after([CHUNKED.as_bytes()]);
    assert_eq!(peer.send("FFFFFFFFFFFFFFFF\r\n"), Action::Continue);
    assert_eq!(peer.send("0\r\n\r\n"), Action::Continue);
    peer.has_seen("");
}

#[test]
fn chunked_is_recognised_in_any_case() {
    let request = CHUNKED.replace("chunked", " CHUNKED\t");
    expect(format!("{request}0\r\n\r\n"), ANSWER, Action::Continue);
}

#[test]
fn extensions_have_a_limit_over_the_whole_body() {
    let line = format!("1;{}\r\nx\r\n", "e".repeat(999));
    let lines = usize::from(MAX_FRAMING_BYTES) / 1000;
    let within = format!("{CHUNKED}{}0\r\n\r\n", line.repeat(lines));
    expect(within, ANSWER, Action::Continue);
    let beyond = format!("{CHUNKED}{}0\r\n\r\n", line.repeat(lines + 1));
    expect(beyond, &refusal("400 Bad Request"), Action::Linger);
}

#[test]
fn trailers_have_a_limit() {
    let most = usize::from(MAX_FRAMING_BYTES);
    let trailer = |bytes: usize| {
        format!("{CHUNKED}0\r\n{}\r\n\r\n", "t:".to_owned() + &"v".repeat(bytes - 2))
    };
    expect(trailer(most), ANSWER, Action::Continue);
    let refused = refusal("431 Request Header Fields Too Large");
    expect(trailer(most + 1), &refused, Action::Linger);
}

#[test]
fn a_peer_that_waits_is_told_to_go_on() {
    for framing in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
        for expectation in ["100-continue", "100-Continue", " ,100-CONTINUE"] {
            let mut peer = Peer::new();
            assert_eq!(peer.send(expecting("1.1", expectation, framing)), Action::Begin);
            peer.has_seen(GO_ON);
        }
    }
    let mut peer = Peer::after([expecting("1.1", "100-continue", "Content-Length: 3").as_bytes()]);
    assert_eq!(peer.send("123"), Action::Continue);
    peer.has_seen(format!("{GO_ON}{ANSWER}"));
}

#[test]
fn a_peer_that_does_not_wait_is_not_told() {
    let head = expecting("1.1", "100-continue", "Content-Length: 3");
    let mut peer = Peer::new();
    assert_eq!(peer.send(format!("{head}1")), Action::Begin);
    assert_eq!(peer.send("23"), Action::Continue);
    peer.has_seen(ANSWER);
    expect(expecting("1.1", "100-continue", "Content-Length: 0"), ANSWER, Action::Continue);
    expect(expecting("1.1", "100-continue", "X: y"), ANSWER, Action::Continue);
    expect(expecting("1.0", "100-continue", "Content-Length: 3"), "", Action::Begin);
    expect(expecting("1.0", "gold", "X: y"), ANSWER_CLOSE, Action::Close);
}
