//! What a client says before its stream: a PROXY header, a ClientHello, both, or what is neither.
//!
//! ```text
//!            header    hello     stream               header of
//!   client  |-------|----------|--------- ...         the proxy      hello     stream
//!                                            backend |-----------|----------|--------- ...
//!                                                     `------ prefix ------'
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;

use super::wire::{self, Ends};
use crate::config::ProxyProtocolVersion;
use crate::preread::routes::{Route, Routes};
use crate::ring::simulated::Network;

/// Whose headers are believed. Clients are here and next door, at a few addresses each.
const TRUSTED: &str = "127.1.0.0/16";
const NAMES: [&str; 2] = ["a.example.org", "*.example.net"];
/// What clients ask for, and which upstream is right if there are two routes.
const ASKED: [(Option<&str>, usize); 8] = [
    (Some("a.example.org"), 1),
    (Some("A.Example.ORG"), 1),
    (Some("b.a.example.org"), 0),
    (Some("x.example.net"), 2),
    (Some("y.z.example.net"), 2),
    (Some("example.net"), 0),
    (Some("nowhere.example"), 0),
    (None, 0),
];

/// What one client says first, and what has to become of it.
#[derive(Debug, Default)]
pub(super) struct Preamble {
    /// From where it connects; `None` is from an unknown place.
    pub(super) from: Option<SocketAddr>,
    bytes: Vec<u8>,
    said: usize,
    /// So many bytes at a time, with a pause behind them.
    piece: (usize, Duration),
    /// How many bytes of it are read before a backend is chosen.
    read: usize,
    /// Whether it says no more, although more has to come.
    pub(super) stops: bool,
    /// What its backend hears first. `None` if nobody may hear anything of this client.
    pub(super) prefix: Option<Vec<u8>>,
    /// To which upstream it has to be led.
    pub(super) upstream: usize,
    /// Whom the proxy has to take it for.
    pub(super) source: Option<SocketAddr>,
}

impl Preamble {
    /// What comes next: all that is left, or a part of it.
    pub(super) fn next(&self) -> &[u8] {
        let left = &self.bytes[self.said..];
        &left[..left.len().min(self.piece.0)]
    }

    /// Whether nothing would be left behind [`next`](Self::next), and the stream begins.
    pub(super) fn is_last(&self) -> bool {
        self.said + self.next().len() == self.bytes.len()
    }

    /// Whether it has said all that is read before a backend is chosen.
    pub(super) fn is_read(&self) -> bool {
        self.said >= self.read
    }

    /// Whether a backend may have been chosen for it.
    pub(super) fn may_be_joined(&self) -> bool {
        self.prefix.is_some() && self.is_read()
    }

    pub(super) fn is_through(&self) -> bool {
        self.said == self.bytes.len()
    }

    /// So many bytes of it and of the stream have been sent. Returns how many of them are the
    /// stream's, and the pause that follows, if more of it is to come.
    pub(super) fn sent(&mut self, bytes: usize) -> (usize, Option<Duration>) {
        let own = bytes.min(self.bytes.len() - self.said);
        self.said += own;
        (bytes - own, (!self.is_through()).then_some(self.piece.1))
    }
}

/// What the preambles of a run are like.
#[derive(Debug)]
pub(super) struct Preambles {
    /// Whether clients have addresses.
    addressed: bool,
    /// Whether those that are trusted begin with a PROXY header.
    headers: bool,
    /// Names with an upstream of their own.
    pub(super) routes: usize,
    /// Whether no client is as it should be.
    all_bad: bool,
    rng: Rng,
}

/// The beginning of a preamble, or what stands there instead.
struct Header {
    bytes: Vec<u8>,
    /// Whether it is taken off.
    is_header: bool,
    is_bad: bool,
    ends: Option<Ends>,
}

impl Preambles {
    /// Nobody says anything first.
    pub(super) fn none() -> Self {
        let rng = Rng::with_seed(0);
        Self { addressed: false, headers: false, routes: 0, all_bad: false, rng }
    }

    pub(super) fn draw(rng: &mut Rng) -> Self {
        let headers = rng.bool();
        Self {
            addressed: headers || rng.bool(),
            headers,
            routes: if rng.bool() { rng.usize(1..=2) } else { 0 },
            all_bad: headers && rng.u8(0..16) == 0,
            rng: Rng::with_seed(rng.u64(..)),
        }
    }

    /// Whether something is read before a backend is chosen.
    pub(super) fn are_read(&self) -> bool {
        self.headers || self.routes > 0
    }

    pub(super) fn trusted(&self) -> Vec<IpNet> {
        self.headers.then(|| TRUSTED.parse().expect("it is a network")).into_iter().collect()
    }

    pub(super) fn routes(&self) -> Option<Routes<u16>> {
        let route = |(index, name): (usize, &&str)| Route {
            pattern: name.parse().expect("it is a name"),
            target: index as u16 + 1,
        };
        let routes = NAMES[..self.routes].iter().enumerate().map(route);
        (self.routes > 0).then(|| Routes::new(routes, Some(0)).expect("the names differ"))
    }

    /// What a client of this port says first. `send` is the header that backends are sent.
    pub(super) fn of(
        &mut self,
        number: u32,
        port: u16,
        send: Option<ProxyProtocolVersion>,
    ) -> Preamble {
        let trusted = self.headers && (self.all_bad || self.rng.u8(0..4) > 0);
        let network = if trusted { 1 } else { 2 };
        let host = self.rng.u8(1..=4);
        let peer = SocketAddr::from(([127, network, 0, host], 2000 + number as u16));
        let from = self.addressed.then_some(peer);
        let header = self.header(number, trusted);
        let (hello, upstream) = self.hello(number, &header);
        let mut bytes = [header.bytes.as_slice(), &hello].concat();
        let read = read_bytes(&header, &hello);
        let cuts = read > 0 && !header.is_bad && self.rng.u8(0..8) == 0;
        let cut = cuts.then(|| self.rng.usize(0..read));
        let source = header.ends.map(|(source, _)| source).or(from);
        let near = || Network::near_address(port);
        let ends = source.map(|source| (source, header.ends.map_or_else(near, |(_, to)| to)));
        let passed = if header.is_header { &hello } else { &bytes };
        let prefix = (!header.is_bad && cut.is_none()).then(|| [told(send, ends), passed.clone()]);
        let prefix = prefix.map(|parts| parts.concat());
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let piece = self.piece();
        let stops = cut.is_some();
        Preamble { from, bytes, said: 0, piece, read, stops, prefix, upstream, source }
    }

    fn header(&mut self, number: u32, trusted: bool) -> Header {
        let none = Header { bytes: Vec::new(), is_header: false, is_bad: false, ends: None };
        let rng = &mut self.rng;
        let is_bad = trusted && (self.all_bad || rng.u8(0..6) == 0);
        if is_bad {
            return Header { bytes: garbage(rng), is_header: true, is_bad, ends: None };
        }
        if !self.headers || (!trusted && rng.bool()) {
            return none;
        }
        let (host, port) = (rng.u8(1..=4), 1000 + number as u16);
        let v4 = (([192, 0, 2, host], port).into(), ([198, 51, 100, 1], 443).into());
        let address = |host: u8| [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)];
        let v6 = ((address(host), port).into(), (address(77), 443).into());
        let ends = if rng.bool() { v4 } else { v6 };
        let (bytes, said) = match rng.u8(0..8) {
            0..=2 => (wire::v1(Some(ends)), Some(ends)),
            3 | 4 => (wire::v2(wire::PROXY, Some(ends), &[]), Some(ends)),
            5 => (wire::v2(wire::PROXY, Some(ends), &wire::tlvs(rng)), Some(ends)),
            6 => (wire::v2(wire::LOCAL, Some(ends), &[]), None),
            _ => (wire::v1(None), None),
        };
        Header { bytes, is_header: trusted, ends: said.filter(|_| trusted), ..none }
    }

    /// What names the upstream, and which it is.
    fn hello(&mut self, number: u32, header: &Header) -> (Vec<u8>, usize) {
        if self.routes == 0 || self.rng.u8(0..8) == 0 {
            let text = if self.routes == 0 { &b""[..] } else { b"GET / HTTP/1.1\r\n" };
            return (text.to_vec(), 0);
        }
        let (name, upstream) = ASKED[self.rng.usize(0..ASKED.len())];
        let hello = wire::hello(number, name, &mut self.rng);
        // What stands behind a header that nobody looks for is no hello.
        let is_first = header.is_header || header.bytes.is_empty();
        let prefixes = is_first && upstream <= self.routes;
        (hello, if prefixes { upstream } else { 0 })
    }

    fn piece(&mut self) -> (usize, Duration) {
        let rng = &mut self.rng;
        match rng.u8(0..4) {
            0 | 1 => (usize::MAX, Duration::ZERO),
            2 => (rng.usize(8..80), Duration::from_micros(rng.u64(0..500))),
            _ => (rng.usize(1..6), Duration::from_micros(rng.u64(500..20_000))),
        }
    }
}

/// How much of a preamble is read before a backend is chosen, if it is as it should be.
fn read_bytes(header: &Header, hello: &[u8]) -> usize {
    let is_first = header.is_header || header.bytes.is_empty();
    let own = if header.is_header { header.bytes.len() } else { 0 };
    own + if is_first && hello.first() == Some(&22) { hello.len() } else { 0 }
}

/// What is neither a header nor the beginning of one.
fn garbage(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..6) {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        1 => b"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n".to_vec(),
        2 => [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        // Another version.
        3 => wire::v2(0x11, None, &[]),
        // A statement longer than what holds it.
        4 => {
            let ends = (([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 2).into());
            wire::v2(wire::PROXY, Some(ends), &[4, 1, 0])
        }
        // The stream at once.
        _ => Vec::new(),
    }
}

/// The header that backends are sent.
fn told(send: Option<ProxyProtocolVersion>, ends: Option<Ends>) -> Vec<u8> {
    match send {
        None => Vec::new(),
        Some(ProxyProtocolVersion::V1) => wire::v1(ends),
        Some(ProxyProtocolVersion::V2) => wire::v2(wire::PROXY, ends, &[]),
    }
}
