//! The answers, laid out once.

use crate::service::{Outbox, Prepared};

/// The interim answer to a peer that waits for leave to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It stays, which goes without saying in HTTP/1.1.
    KeepAlive,
    /// It stays, which an HTTP/1.0 peer has to be told.
    KeepAliveStated,
    /// It ends, and the peer is told.
    Close,
}

/// How to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// True for HEAD: the header of the answer without its body.
    pub(super) headers_only: bool,
    pub(super) persistence: Persistence,
}

impl Reply {
    /// The same, as the last on its connection.
    pub(super) fn closing(self) -> Self {
        Self { persistence: Persistence::Close, ..self }
    }

    /// Whether this is the last on its connection.
    pub(super) fn closes(self) -> bool {
        self.persistence == Persistence::Close
    }
}

/// Why a request is refused. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 400: not HTTP, or of a doubtful extent.
    BadRequest,
    /// 417: a condition that we do not know.
    ExpectationFailed,
    /// 431: more head, fields or trailers than we take.
    HeadTooLarge,
    /// 501: a transfer coding that we do not know.
    NotImplemented,
    /// 505: a version of HTTP that we do not know.
    VersionNotSupported,
}

impl Refusal {
    /// The whole answer. Without a body, so that it fits a HEAD request too.
    pub(super) fn response(self) -> &'static [u8] {
        match self {
            Self::BadRequest => {
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Self::ExpectationFailed => {
                b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Self::HeadTooLarge => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Self::NotImplemented => {
                b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Self::VersionNotSupported => {
                b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
        }
    }
}

/// All answers to requests that are not refused.
#[derive(Debug)]
pub(super) struct Responses {
    keep_alive: Pair,
    keep_alive_stated: Pair,
    close: Pair,
}

impl Responses {
    pub(super) fn new(body: &[u8]) -> Self {
        let body: &'static [u8] = Vec::leak(body.to_vec());
        Self {
            keep_alive: Pair::new("", body, Answer::repeated),
            keep_alive_stated: Pair::new("Connection: keep-alive\r\n", body, Answer::repeated),
            close: Pair::new("Connection: close\r\n", body, Answer::last),
        }
    }

    pub(super) fn send(&self, reply: Reply, outbox: &mut Outbox) {
        let pair = match reply.persistence {
            Persistence::KeepAlive => &self.keep_alive,
            Persistence::KeepAliveStated => &self.keep_alive_stated,
            Persistence::Close => &self.close,
        };
        let answer = if reply.headers_only { &pair.headers_only } else { &pair.whole };
        answer.send(outbox);
    }
}

/// An answer, and the same without its body.
#[derive(Debug)]
struct Pair {
    whole: Answer,
    headers_only: Answer,
}

impl Pair {
    /// `connection` is the line that says what becomes of the connection, or nothing.
    fn new(connection: &str, body: &'static [u8], layout: fn(&[u8]) -> Answer) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{connection}\r\n",
            body.len()
        );
        let whole = [head.as_bytes(), body].concat();
        let fits = whole.len() <= Prepared::REPEATED_BYTES;
        Self {
            whole: if fits { layout(&whole) } else { Answer::parted(head.as_bytes(), body) },
            headers_only: layout(head.as_bytes()),
        }
    }
}

/// One answer, ready to be sent from where it lies.
#[derive(Debug)]
enum Answer {
    /// Answers of this kind follow one another, and leave in one send.
    Repeated(Prepared),
    /// Nothing follows, so one copy does.
    Last(&'static [u8]),
    /// The body is large, and all answers share it.
    Parted { head: &'static [u8], body: &'static [u8] },
}

impl Answer {
    fn repeated(unit: &[u8]) -> Self {
        Self::Repeated(Prepared::new(unit))
    }

    fn last(unit: &[u8]) -> Self {
        Self::Last(Vec::leak(unit.to_vec()))
    }

    fn parted(head: &[u8], body: &'static [u8]) -> Self {
        Self::Parted { head: Vec::leak(head.to_vec()), body }
    }

    fn send(&self, outbox: &mut Outbox) {
        match self {
            Self::Repeated(prepared) => outbox.send_prepared(prepared),
            Self::Last(bytes) => outbox.send_static(bytes),
            Self::Parted { head, body } => {
                outbox.send_static(head);
                outbox.send_static(body);
            }
        }
    }
}
