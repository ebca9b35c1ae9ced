//! Where a connection is in its exchange of requests and answers.

use super::body::Body;
use super::head::{PartialHead, Request};
use super::response::{Refusal, Reply};

/// The state of one connection.
///
/// ```text
///          head complete, no body: answer
///            +--------+
///            v        |
///   open --> Head ----+---- head complete, body follows --> Body
///            ^                                               |
///            +------------- body complete: answer -----------+
/// ```
///
/// It owns memory only while a head is half received.
#[derive(Debug, Default)]
pub struct Session {
    phase: Phase,
    /// From the first request that was answered.
    served: bool,
}

#[derive(Debug)]
enum Phase {
    Head(PartialHead),
    Body(Body, Reply),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Head(PartialHead::default())
    }
}

/// What one step through the input came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A piece of a head, or a head whose body is yet to come.
    Waiting,
    /// A piece of a body.
    BodyBytes,
    /// The peer holds its body back until it is told to go on.
    ContinueExpected,
    /// A request is complete; this is how to answer it.
    Complete(Reply),
}

impl Session {
    /// Takes from the front of `rest` up to the end of a head, the end of a body, or all of it.
    pub(super) fn step(&mut self, rest: &mut &[u8]) -> Result<Step, Refusal> {
        let step = match &mut self.phase {
            Phase::Head(partial) => match partial.read(rest)? {
                None => Step::Waiting,
                Some(request) => self.begin(request, rest),
            },
            Phase::Body(body, reply) => match body.skip(rest)? {
                false => Step::BodyBytes,
                true => {
                    let answer = Step::Complete(*reply);
                    self.phase = Phase::default();
                    answer
                }
            },
        };
        self.served |= matches!(step, Step::Complete(_));
        Ok(step)
    }

    /// A head is complete; `rest` is what came behind it.
    fn begin(&mut self, request: Request, rest: &[u8]) -> Step {
        let Some(body) = request.body else {
            return Step::Complete(request.reply);
        };
        self.phase = Phase::Body(body, request.reply);
        // A peer whose body is on its way already does not wait (RFC 9110, 10.1.1).
        let waits = request.expects_continue && rest.is_empty();
        if waits { Step::ContinueExpected } else { Step::Waiting }
    }

    /// Whether the peer has had an answer and has not begun to ask again.
    pub(super) fn is_between_requests(&self) -> bool {
        self.served && matches!(&self.phase, Phase::Head(partial) if partial.is_blank())
    }

    /// Bytes held beside the session itself.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Head(partial) => partial.held_bytes(),
            Phase::Body(..) => 0,
        }
    }
}
