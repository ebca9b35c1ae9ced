//! HTTP/1.0 and HTTP/1.1 with one fixed answer.
//!
//! Every method on every target gets `200 OK` and the same text. What makes this more than a canned
//! string is that it answers exactly once per request, at the moment the request is complete, and
//! that it knows where each request ends: keep-alive, pipelining, HEAD, bodies of a stated length
//! and chunked ones, `Expect: 100-continue`, all of it split over receives in any way.
//!
//! A request whose extent two programs could see differently is never guessed at. It is refused and
//! the connection ends, because the bytes behind it may be anything (RFC 9112, 11.2):
//!
//! | status | for |
//! |--:|---|
//! | 400 | what is not HTTP, a doubtful length or framing, no `Host` or more than one |
//! | 408 | what has not come whole in time, or comes too slowly |
//! | 417 | an expectation other than `100-continue` |
//! | 431 | a head of more than [`MAX_HEAD_BYTES`] or [`MAX_FIELDS`], trailers of more than [`MAX_FRAMING_BYTES`] |
//! | 501 | a transfer coding other than `chunked` |
//! | 505 | another version of HTTP |
//!
//! Three choices where the standards leave one:
//! - A line ends with CR LF. RFC 9112, 2.2, lets a recipient accept a bare LF; two programs of which
//!   only one does see two different requests, so it is refused, in heads as in chunked framing.
//! - CR, NUL and the other control characters are refused in field values, not replaced (RFC 9110, 5.5).
//! - Answers have no `Date`: a service has no clock, and an origin server without one may not send
//!   it (RFC 9110, 6.6.1).
//!
//! ```
//! use uring_acceptor::service::http::{Http, Session};
//! use uring_acceptor::service::{Action, Input, Outbox, Responder};
//!
//! let http = Http::new(b"hello\n");
//! let mut outbox = Outbox::default();
//! let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
//! let action = http.data(&mut Session::default(), &Input::new(request), &mut outbox);
//! assert_eq!(action, Action::Close);
//! assert!(outbox.render(request).ends_with(b"\r\n\r\nhello\n"));
//! ```

mod body;
mod chunked;
mod fields;
mod head;
mod response;
mod session;
mod suspended;
#[cfg(test)]
mod tests;

use super::{Action, ConnectionInfo, Input, Outbox, Pending, Responder};
pub use chunked::MAX_FRAMING_BYTES;
pub use head::{MAX_EMPTY_LINES, MAX_FIELDS, MAX_HEAD_BYTES};
use response::{CONTINUE, Refusal, Responses};
pub use session::Session;
use session::Step;

/// Answers every request with the same text.
#[derive(Debug)]
pub struct Http {
    responses: Responses,
}

impl Http {
    /// A service that answers with `body`, as `text/plain`. The body may be empty.
    ///
    /// The answers are laid out here, once, and freed when the service has been dropped and each
    /// connection that was given one has sent it or has ended.
    pub fn new(body: &[u8]) -> Self {
        Self { responses: Responses::new(body) }
    }

    /// Takes all of the input, or as much as there is before the session has to end.
    fn serve(
        &self,
        session: &mut Session,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Result<Action, Refusal> {
        let mut rest = input.bytes();
        // Stays so while all that came is a piece of a head: a peer that drips one is not alive.
        let mut action = Action::Await;
        let mut begins = false;
        while !rest.is_empty() {
            begins |= session.is_blank();
            match session.step(&mut rest)? {
                Step::Waiting => continue,
                Step::BodyBytes => {}
                Step::ContinueExpected => outbox.send_static(CONTINUE),
                Step::Complete(reply) => {
                    begins = false;
                    let reply = if input.is_draining() { reply.closing() } else { reply };
                    self.responses.send(reply, outbox);
                    if reply.closes() {
                        return Ok(end(rest));
                    }
                }
            }
            action = Action::Continue;
        }
        Ok(if begins && !session.is_blank() { Action::Begin } else { action })
    }
}

/// How to hang up after an answer. Closing over unread input would reset the connection, and the
/// reset may overtake the answer.
fn end(unread: &[u8]) -> Action {
    if unread.is_empty() { Action::Close } else { Action::Linger }
}

impl Responder for Http {
    type Session = Session;

    fn name(&self) -> &str {
        "http"
    }

    fn open(&self, _: &ConnectionInfo<'_>) -> Session {
        Session::default()
    }

    fn data(&self, session: &mut Session, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        self.serve(session, input, outbox).unwrap_or_else(|refusal| {
            outbox.send_static(refusal.response());
            Action::Linger
        })
    }

    /// A request that has not come whole by now never will.
    fn half_closed(&self, _: &mut Session, _: &mut Outbox) -> Action {
        Action::Close
    }

    /// A connection that was opened but not used yet is owed an answer: its request may be on the
    /// way, and will be answered with `Connection: close`.
    fn draining(&self, session: &mut Session, _: &mut Outbox) -> Action {
        if session.is_between_requests() { Action::Close } else { Action::Await }
    }

    fn pending(&self, session: &Session) -> Pending {
        session.pending()
    }

    /// Nothing of this request has been answered, but for a leave to go on.
    fn overdue(&self, _: &mut Session, outbox: &mut Outbox) {
        outbox.send_static(Refusal::RequestTimeout.response());
    }

    fn suspend(&self, session: &Session) -> Option<Vec<u8>> {
        suspended::write(session)
    }

    fn resume(&self, bytes: &[u8]) -> Option<Session> {
        suspended::read(bytes)
    }
}
