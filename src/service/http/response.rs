//! The answers, laid out once.

use serde::{Deserialize, Serialize};

use crate::service::{Outbox, Prepared};

/// The interim answer to a peer that waits for leave to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A body of more than this lies in memory once; others are repeated with their heads.
const LARGE_BYTES: usize = Prepared::REPEATED_BYTES;

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Persistence {
    /// It stays, which goes without saying in HTTP/1.1.
    KeepAlive,
    /// It stays, which an HTTP/1.0 peer has to be told.
    KeepAliveStated,
    /// It ends, and the peer is told.
    Close,
}

/// How to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// 408: it has not come in time (RFC 9110, 15.5.9).
    RequestTimeout,
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
            Self::RequestTimeout => {
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
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
        let large = (body.len() > LARGE_BYTES).then(|| Prepared::once(body));
        let pair = |connection, layout| Pair::new(connection, (body, large.as_ref()), layout);
        Self {
            keep_alive: pair("", Prepared::new),
            keep_alive_stated: pair("Connection: keep-alive\r\n", Prepared::new),
            // Nothing follows.
            close: pair("Connection: close\r\n", |unit| Prepared::once(unit)),
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
    /// `connection` is the line that says what becomes of the connection, or nothing. A `large` body
    /// is shared by all answers.
    fn new(
        connection: &str,
        (body, large): (&[u8], Option<&Prepared>),
        layout: fn(&[u8]) -> Prepared,
    ) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{connection}\r\n",
            body.len()
        );
        let headers_only = Answer::whole(layout(head.as_bytes()));
        let whole = match large {
            Some(body) => {
                Answer { first: Prepared::once(head.as_bytes()), rest: Some(body.clone()) }
            }
            None => Answer::whole(layout(&[head.as_bytes(), body].concat())),
        };
        Self { whole, headers_only }
    }
}

/// One answer, ready to be sent from where it lies.
#[derive(Debug)]
struct Answer {
    first: Prepared,
    /// The body, if it does not lie behind its head.
    rest: Option<Prepared>,
}

impl Answer {
    fn whole(prepared: Prepared) -> Self {
        Self { first: prepared, rest: None }
    }

    fn send(&self, outbox: &mut Outbox) {
        outbox.send_prepared(&self.first);
        if let Some(body) = &self.rest {
            outbox.send_prepared(body);
        }
    }
}
