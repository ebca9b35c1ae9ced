//! What must hold for any bytes at all. The fuzz targets call these functions, and so does
//! `tests/seeds.rs`, with the seeds.

pub mod ban_filter;
pub mod framing;
pub mod networks;

use std::fmt::Debug;
use std::sync::LazyLock;

use uring_acceptor::config_file;
use uring_acceptor::control::{self, Request};
use uring_acceptor::load::answer::{Answer, Broken, Complete};
use uring_acceptor::preread::client_hello::{self, Peeked};
use uring_acceptor::preread::proxy_protocol::{self, Endpoints, Parsed};
use uring_acceptor::service::http::{Http, Session};
use uring_acceptor::service::{Action, Input, Outbox, Responder};

/// Most beginnings of one input that are looked at.
const STEPS: usize = 256;

/// As if the input began with the signature of version 1, or with what it is.
pub fn proxy_v1(data: &[u8]) {
    let line = [b"PROXY ", data].concat();
    proxy(&line);
    proxy(data);
}

/// As if the input began with the signature of version 2, or with what it is.
pub fn proxy_v2(data: &[u8]) {
    let header = [b"\r\n\r\n\0\r\nQUIT\n", data].concat();
    proxy(&header);
    proxy(data);
}

/// Once decided, decided; the limits hold; what is read can be written and read again.
fn proxy(bytes: &[u8]) {
    let limit = match bytes.first() {
        Some(b'P') => proxy_protocol::MAX_V1_BYTES,
        _ => proxy_protocol::MAX_V2_BYTES,
    };
    decided_once(bytes, limit, |bytes| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Incomplete) => None,
        decided => Some(decided),
    });
    if let Ok(Parsed::Header { header, len }) = proxy_protocol::parse(bytes) {
        assert!(len <= limit && len <= bytes.len());
        let tlv_bytes: usize = header.tlvs.map(|tlv| 3 + tlv.value.len()).sum();
        assert!(tlv_bytes <= len);
        written(&header.endpoints);
    }
}

fn written(endpoints: &Endpoints<'_>) {
    let (mut text, mut binary) = (Vec::new(), Vec::new());
    proxy_protocol::write_v1(&mut text, endpoints);
    proxy_protocol::write_v2(&mut binary, endpoints);
    let read = |bytes: &[u8]| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Header { header, len }) if len == bytes.len() => {
            (header.source(), header.destination())
        }
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    };
    assert_eq!(read(&text), read(&binary));
    if let Endpoints::Tcp { source, destination } = *endpoints {
        let canonical =
            |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
        let (from, to) = read(&binary);
        assert_eq!(from.map(canonical), Some(canonical(source)));
        assert_eq!(to.map(canonical), Some(canonical(destination)));
    }
}

/// Once decided, decided; the limit holds; a name is one.
pub fn client_hello(data: &[u8]) {
    decided_once(data, client_hello::MAX_BYTES, |bytes| match client_hello::peek(bytes) {
        Ok(Peeked::Incomplete) => None,
        decided => Some(decided),
    });
    if let Ok(Peeked::Name(name)) = client_hello::peek(data) {
        assert!(!name.as_str().is_empty() && name.as_str().is_ascii());
        assert_eq!(name.as_str(), name.as_str().to_ascii_lowercase());
    }
}

/// What a reader has decided for a beginning holds for all that is longer; for errors it holds that
/// it is one.
fn decided_once<'a, T, E>(
    bytes: &'a [u8],
    limit: usize,
    read: impl Fn(&'a [u8]) -> Option<Result<T, E>>,
) where
    T: Debug + PartialEq,
    E: Debug,
{
    let step = bytes.len().div_ceil(STEPS).max(1);
    let mut first: Option<Result<T, E>> = None;
    for len in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        match (&first, read(&bytes[..len])) {
            (None, None) => assert!(len < limit, "not decided with {len} bytes"),
            (None, decided) => first = decided,
            (Some(Ok(before)), Some(Ok(now))) => assert_eq!(*before, now),
            (Some(Err(_)), Some(Err(_))) => {}
            (Some(before), now) => panic!("{before:?} became {now:?} with {len} bytes"),
        }
    }
}

/// The first byte says where the rest is cut in two: the answers are those to the whole.
///
/// Two differences are meant. A head that comes in pieces is judged when a line ends, so one ends
/// here; and a client whose body has come with the head is not told to go on.
pub fn http(data: &[u8]) {
    // One for all inputs: its answers are never freed.
    static HTTP: LazyLock<Http> = LazyLock::new(|| Http::new(b"hello\n"));
    let Some((&cut, data)) = data.split_first() else { return };
    let data = [data, b"\n"].concat();
    let (first, second) = data.split_at(usize::from(cut).min(data.len()));
    assert_eq!(answers(&HTTP, &[first, second]), answers(&HTTP, &[&data]));
}

/// All answers to these receives but `100 Continue`.
fn answers(http: &Http, pieces: &[&[u8]]) -> String {
    let mut session = Session::default();
    let mut answers = String::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let mut outbox = Outbox::default();
        let action = http.data(&mut session, &Input::new(piece), &mut outbox);
        answers.push_str(&String::from_utf8(outbox.render(piece)).expect("answers are text"));
        if !matches!(action, Action::Continue | Action::Begin | Action::Await) {
            break;
        }
    }
    answers.replace("HTTP/1.1 100 Continue\r\n\r\n", "")
}

/// The first byte says whether the request was a HEAD (its lowest bit) and where the rest is cut in
/// two (the others): whole, in two and byte by byte it comes to the same, and bytes behind the answer
/// change nothing.
pub fn answer(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let method_is_head = how & 1 == 1;
    let whole = end_of_answer(method_is_head, &[data]);
    let (first, second) = data.split_at(usize::from(how >> 1).min(data.len()));
    assert_eq!(end_of_answer(method_is_head, &[first, second]), whole);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(end_of_answer(method_is_head, &bytes), whole);
    if let Ok((complete, taken)) = whole {
        assert!(taken <= data.len() && complete.body_bytes <= taken as u64);
        assert!(complete.status < 1000 && complete.status / 100 != 1);
        assert_eq!(end_of_answer(method_is_head, &[&data[..taken]]), whole);
    }
}

/// What the pieces and the FIN behind them come to, and how many bytes were of the answer.
fn end_of_answer(method_is_head: bool, pieces: &[&[u8]]) -> Result<(Complete, usize), Broken> {
    let mut answer = Answer::new(method_is_head);
    let mut bytes = 0;
    for piece in pieces {
        let taken = answer.take(piece)?;
        bytes += taken.bytes;
        if let Some(complete) = taken.complete {
            return Ok((complete, bytes));
        }
        assert_eq!(taken.bytes, piece.len());
    }
    answer.end().map(|complete| (complete, bytes))
}

/// What is taken is valid, and is written as a file that says the same. What is refused is told with places that
/// are in the text, and without what came from the environment.
pub fn configuration(data: &[u8]) {
    const SECRET: &str = "hunter2";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = |name: &str| (name.len() == 1).then(|| SECRET.to_owned());
    match config_file::load_text(text, &environment) {
        Ok(loaded) => {
            loaded.settings.config.validate().expect("it was taken");
            let written = config_file::print(&loaded.settings).expect("it came from a file");
            let again = config_file::load_text(&written, &|_| None);
            let again = again.unwrap_or_else(|errors| panic!("{written}\n{errors}"));
            assert_eq!(again.settings, loaded.settings, "{written}");
        }
        Err(errors) => {
            let told = errors.to_string();
            assert!(text.contains(SECRET) || !told.contains(SECRET), "{told}");
            assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                in_the_text(text, problem.line, problem.column);
            }
        }
    }
}

/// Behind the last character of a line, and behind the last line, is a place too.
fn in_the_text(text: &str, line: Option<usize>, column: Option<usize>) {
    let (Some(line), Some(column)) = (line, column) else { return };
    let of_text = text.split('\n').nth(line - 1).expect("the line is in the text");
    assert!((1..=of_text.chars().count() + 1).contains(&column), "{line}:{column}");
}

/// What is taken for a request is written as one that says the same. What is refused is told in words.
pub fn control(data: &[u8]) {
    match Request::parse(data) {
        Ok(request) => {
            let line = request.to_line();
            let inner = line.strip_suffix('\n').expect("it is a line");
            assert!(!inner.contains('\n'), "{line}");
            assert_eq!(Request::parse(inner.as_bytes()), Ok(request), "{line}");
        }
        Err(failure) => {
            assert!(!failure.text.is_empty());
            let line = control::to_line(&Err(failure.clone()));
            assert_eq!(control::parse_answer(line.as_bytes()), Ok(Err(failure)), "{line}");
        }
    }
}
