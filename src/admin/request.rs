//! The head of a request, which may come in pieces.

use std::borrow::Cow;
use std::net::IpAddr;

/// The longest head that is read. A browser sends some hundred bytes.
pub(super) const HEAD_MAX_BYTES: usize = 8 * 1024;

/// Most header fields.
const FIELDS_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// HEAD: without the body.
    pub(super) head_only: bool,
    pub(super) path: String,
    pub(super) query: String,
    /// Host, if it was sent.
    pub(super) host: Option<String>,
    /// Accept: all of them, with commas between.
    pub(super) accept: String,
}

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not HTTP.
    BadRequest,
    /// Another method than GET and HEAD: nothing can be changed here.
    Method,
    /// The head is too long.
    TooLong,
}

/// The bytes of a head that has not come whole.
#[derive(Debug, Default)]
pub(crate) struct PartialHead(Vec<u8>);

impl PartialHead {
    /// Takes some bytes. `None` until the head is whole.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<Request>, Refusal> {
        let room = HEAD_MAX_BYTES - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match parse(&self.0)? {
            None if self.0.len() == HEAD_MAX_BYTES => Err(Refusal::TooLong),
            parsed => Ok(parsed),
        }
    }
}

fn parse(head: &[u8]) -> Result<Option<Request>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
        Err(_) => return Err(Refusal::BadRequest),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Refusal::Method),
    };
    let target = request.path.unwrap_or_default();
    // A proxy asks with the whole address.
    let target = target
        .strip_prefix("http://")
        .map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = |name| {
        let own = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(own).map(|field| String::from_utf8_lossy(field.value))
    };
    let host = fields("host").next().map(Cow::into_owned);
    let accept = fields("accept").collect::<Vec<_>>().join(",");
    Ok(Some(Request { head_only, path: path.to_owned(), query: query.to_owned(), host, accept }))
}

impl Request {
    /// Whether it names this endpoint by an address, by localhost, or not at all. A web page whose name was made to lead
    /// here (DNS rebinding) names it by that name.
    pub(super) fn names_an_address(&self) -> bool {
        let Some(host) = &self.host else { return true };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    }

    /// The value of a parameter of the query, as it stands there.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read in pieces of `size` bytes.
    fn read(text: &str, size: usize) -> Result<Option<Request>, Refusal> {
        let mut head = PartialHead::default();
        for piece in text.as_bytes().chunks(size) {
            if let Some(request) = head.read(piece)? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_request_is_the_same_however_it_comes() {
        let text = "GET /connections?sort=age&limit=5 HTTP/1.1\r\nHost: a\r\n\r\n";
        for size in [1, 7, text.len()] {
            let request = read(text, size).unwrap().unwrap();
            assert_eq!((request.path.as_str(), request.head_only), ("/connections", false));
            assert_eq!(request.parameter("limit"), Some("5"));
            assert_eq!((request.parameter("sort"), request.parameter("x")), (Some("age"), None));
        }
        assert_eq!(read(&text[..text.len() - 1], 9), Ok(None));
        let head = "HEAD http://a:1/metrics HTTP/1.0\r\nAccept: a;q=1, b\r\nACCEPT: c\r\n\r\n";
        let head = read(head, 100).unwrap().unwrap();
        assert_eq!(head.accept, "a;q=1, b,c");
        assert_eq!((head.path.as_str(), head.head_only), ("/metrics", true));
    }

    #[test]
    fn a_name_that_leads_here_is_told_from_an_address() {
        let names = |host: &str| {
            let text = format!("GET / HTTP/1.1\r\nhOST: {host}\r\n\r\n");
            read(&text, 100).unwrap().unwrap().names_an_address()
        };
        for host in
            ["127.0.0.1", "127.0.0.1:9100", "[::1]:9100", "[::1]", "localhost:9100", "LocalHost"]
        {
            assert!(names(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9100", "127.0.0.1.evil.example", "localhost.evil", ""]
        {
            assert!(!names(host), "{host}");
        }
        assert!(read("GET / HTTP/1.0\r\n\r\n", 100).unwrap().unwrap().names_an_address());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(read("POST / HTTP/1.1\r\n\r\n", 100), Err(Refusal::Method));
        assert_eq!(read("\u{16}\u{3}\u{1}\u{2}garbage\r\n\r\n", 100), Err(Refusal::BadRequest));
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(HEAD_MAX_BYTES));
        assert_eq!(read(&long, 1000), Err(Refusal::TooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(read(&many, 1000), Err(Refusal::TooLong));
    }
}
