//! What the service promises, from RFC 9110 and RFC 9112, seen from the peer's end.

mod bodies;
mod persistence;
mod refusals;
mod segments;
mod suspended;

use std::sync::OnceLock;

use super::{Http, Session};
use crate::service::{Action, Input, Outbox, Responder};

const BODY: &str = "hello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
const ANSWER_STATED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
     Connection: keep-alive\r\n\r\nhello";
const ANSWER_CLOSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
     Connection: close\r\n\r\nhello";
const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// One service for all tests: what it prepares is never freed.
fn http() -> &'static Http {
    static HTTP: OnceLock<Http> = OnceLock::new();
    HTTP.get_or_init(|| Http::new(BODY.as_bytes()))
}

/// A peer, what it has seen, and what the service wants done with it.
struct Peer {
    session: Session,
    draining: bool,
    seen: Vec<u8>,
    action: Action,
}

impl Peer {
    fn new() -> Self {
        Self {
            session: Session::default(),
            draining: false,
            seen: Vec::new(),
            action: Action::Await,
        }
    }

    /// A peer that has sent all of `segments`, or as many as were wanted.
    fn after<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut peer = Self::new();
        for segment in segments {
            if !segment.is_empty() && !peer.has_ended() {
                let _ = peer.send(segment);
            }
        }
        peer
    }

    /// Sends one segment; what comes back is in `seen`.
    fn send(&mut self, segment: impl AsRef<[u8]>) -> Action {
        let segment = segment.as_ref();
        let input = Input::new(segment).draining(self.draining);
        let mut outbox = Outbox::default();
        self.action = http().data(&mut self.session, &input, &mut outbox);
        self.seen.extend(outbox.render(segment));
        self.action
    }

    fn has_ended(&self) -> bool {
        matches!(self.action, Action::Close | Action::Linger | Action::Abort)
    }

    #[track_caller]
    fn has_seen(&self, expected: impl AsRef<str>) {
        assert_eq!(String::from_utf8_lossy(&self.seen), expected.as_ref());
    }
}

/// Sends `request` in one segment and wants exactly `answer` and `action` for it.
#[track_caller]
fn expect(request: impl AsRef<[u8]>, answer: &str, action: Action) {
    let peer = Peer::after([request.as_ref()]);
    peer.has_seen(answer);
    assert_eq!(peer.action, action);
}

/// A refusal with this status line.
fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
