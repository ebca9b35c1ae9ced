//! Segmentation: no way to cut a stream into receives may change what the peer sees.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::MAX_HEAD_BYTES;
use super::*;

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 16, "{} bytes", size_of::<Session>());
}

#[test]
fn a_whole_head_is_not_copied() {
    let mut peer = Peer::new();
    let _ = peer.send(GET.repeat(3));
    assert_eq!(peer.session.held_bytes(), 0);
}

#[test]
fn the_memory_of_a_partial_head_is_released() {
    let mut peer = Peer::new();
    for byte in GET.as_bytes().chunks(1) {
        assert_eq!(peer.seen.len(), 0);
        let _ = peer.send(byte);
    }
    peer.has_seen(ANSWER);
    assert_eq!(peer.session.held_bytes(), 0);

    let _ = peer.send("POST / HTTP/1.1\r\nHost: a\r\n");
    assert!(peer.session.held_bytes() > 0);
    let _ = peer.send("Content-Length: 9\r\n\r\n1");
    assert_eq!(peer.session.held_bytes(), 0, "nothing of a body is held");
}

#[test]
fn no_more_than_the_limit_is_held() {
    let mut peer = Peer::new();
    assert_eq!(peer.send("GET /"), Action::Begin);
    while matches!(peer.action, Action::Begin | Action::Await) {
        let _ = peer.send([b'a'; 1000]);
        assert!(peer.session.held_bytes() <= 2 * MAX_HEAD_BYTES);
    }
    assert_eq!(peer.action, Action::Linger);

    let mut peer = Peer::new();
    assert_eq!(peer.send("GET /"), Action::Begin);
    assert_eq!(peer.send(vec![b'a'; 8 * MAX_HEAD_BYTES]), Action::Linger);
    assert!(peer.session.held_bytes() <= 2 * MAX_HEAD_BYTES);
}

#[test]
fn a_dripped_head_is_no_progress() {
    let mut peer = Peer::new();
    let (last, bytes) = GET.as_bytes().split_last().unwrap();
    assert_eq!(peer.send("\r\n"), Action::Await, "an empty line is no request");
    assert_eq!(peer.send(&bytes[..1]), Action::Begin);
    for byte in &bytes[1..] {
        assert_eq!(peer.send([*byte]), Action::Await);
    }
    assert_eq!(peer.send([*last]), Action::Continue);
    assert_eq!(peer.send(format!("{GET}G")), Action::Begin);
    assert_eq!(peer.send("E"), Action::Await);
}

/// What keeps a dripped head from being parsed once per byte.
#[test]
fn a_piece_of_a_head_is_judged_when_its_line_ends() {
    let mut peer = Peer::new();
    assert_eq!(peer.send("GET / HTTP/1.1\r\nHo"), Action::Begin);
    assert_eq!(peer.send("st\0"), Action::Await);
    assert_eq!(peer.send(": a"), Action::Await);
    assert_eq!(peer.send("\r\n"), Action::Linger);
    peer.has_seen(refusal("400 Bad Request"));
}

#[test]
fn a_session_that_was_ended_does_not_panic() {
    for ending in ["\0", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = Peer::after([ending.as_bytes()]);
        let _ = peer.send(GET);
    }
    let mut peer = Peer::after([&b"GET /"[..], &[b'a'; 2 * MAX_HEAD_BYTES]]);
    assert_eq!(peer.send("a"), Action::Linger);
}

/// A request and what has to come back for it.
#[derive(Debug, Clone)]
struct Exchange {
    request: Vec<u8>,
    answer: String,
    closes: bool,
}

fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let data = || vec(any::<u8>(), 1..40);
    let counted = data().prop_map(|data| (format!("Content-Length: {}\r\n", data.len()), data));
    let chunk = (data(), "(;[a-z]{1,5}=[0-9]{1,5}){0,2}").prop_map(|(data, extension)| {
        let line = format!("{:X}{extension}\r\n", data.len());
        [line.as_bytes(), &data, b"\r\n"].concat()
    });
    let chunked = (vec(chunk, 0..4), "0{1,3}", "([A-Z]{1,5}:[a-z ]{0,5}\r\n){0,2}").prop_map(
        |(chunks, last, trailers)| {
            let end = format!("{last}\r\n{trailers}\r\n");
            let body = [chunks.concat(), end.into_bytes()].concat();
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        },
    );
    prop_oneof![2 => Just((String::new(), Vec::new())), 1 => counted, 1 => chunked]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = prop_oneof!["GET", "HEAD", "POST", "[A-Z]{1,8}"];
    let connection = prop_oneof![
        6 => Just(("", ANSWER, false)),
        1 => Just(("Connection: close\r\n", ANSWER_CLOSE, true)),
    ];
    let fields = "([A-Z][a-z]{0,20}-[A-Z]: [ -~]{0,20}\r\n){0,4}";
    (0..3_usize, method, "/[a-z]{0,9}", fields, connection, body()).prop_map(
        |(empty_lines, method, target, fields, (connection, answer, closes), (framing, body))| {
            let head = format!(
                "{}{method} {target} HTTP/1.1\r\n{fields}Host: a\r\n{connection}{framing}\r\n",
                "\r\n".repeat(empty_lines)
            );
            let body_end = if method == "HEAD" { BODY } else { "" };
            let answer = answer.strip_suffix(body_end).unwrap().to_owned();
            Exchange { request: [head.into_bytes(), body].concat(), answer, closes }
        },
    )
}

/// The stream and the answers up to the first exchange that ends the connection.
pub(super) fn conversation() -> impl Strategy<Value = (Vec<u8>, String)> {
    vec(exchange(), 1..6).prop_map(|exchanges| {
        let stream = exchanges.iter().flat_map(|exchange| exchange.request.clone()).collect();
        let answered = exchanges.iter().position(|exchange| exchange.closes);
        let answered = answered.map_or(exchanges.len(), |last| last + 1);
        let answers = exchanges[..answered].iter().map(|exchange| exchange.answer.as_str());
        (stream, answers.collect())
    })
}

pub(super) fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.sort_unstable();
    at.push(stream.len());
    let starts = std::iter::once(0).chain(at.iter().copied());
    starts.zip(at.iter().copied()).map(|(start, end)| &stream[start..end]).collect()
}

/// At most one refusal, at the end, followed by a lingering close.
fn is_orderly(peer: &Peer) -> bool {
    let seen = String::from_utf8_lossy(&peer.seen);
    let refusals = seen.matches("HTTP/1.1 4").count() + seen.matches("HTTP/1.1 5").count();
    match refusals {
        0 => true,
        1 => peer.action == Action::Linger && seen.ends_with("close\r\n\r\n"),
        _ => false,
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing((stream, answers) in conversation(), cuts in vec(any::<Index>(), 0..12)) {
        for segments in [vec![&stream[..]], cut(&stream, &cuts), stream.chunks(1).collect()] {
            let peer = Peer::after(segments);
            prop_assert_eq!(String::from_utf8_lossy(&peer.seen), &*answers);
            prop_assert_eq!(peer.session.held_bytes(), 0);
        }
    }

    #[test]
    fn garbage_is_refused_at_most_once(garbage in vec(any::<u8>(), 1..300), cuts in vec(any::<Index>(), 0..12)) {
        prop_assume!(!garbage.iter().all(|byte| b"\r\n".contains(byte)));
        prop_assert!(is_orderly(&Peer::after(cut(&garbage, &cuts))));
        let ended = [&garbage[..], b"\r\n\r\n"].concat();
        let peer = Peer::after([&ended[..]]);
        prop_assert!(is_orderly(&peer));
        prop_assert!(peer.has_ended(), "{:?}", String::from_utf8_lossy(&peer.seen));
    }

    /// Damage that is seen at once in a whole stream may be seen later in a cut one, never otherwise.
    #[test]
    fn damage_is_judged_alike_however_it_comes(
        (stream, _) in conversation(),
        at in any::<Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n\0 :;,0"[..])],
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = stream;
        let at = at.index(stream.len());
        stream[at] = byte;
        let whole = Peer::after([&stream[..]]);
        let parted = Peer::after(cut(&stream, &cuts));
        prop_assert!(is_orderly(&whole) && is_orderly(&parted));
        if parted.has_ended() {
            prop_assert_eq!(&whole.seen, &parted.seen);
        }
        prop_assert!(whole.seen.starts_with(&parted.seen));
    }
}
