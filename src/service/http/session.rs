//! Where a connection is in its exchange of requests and answers.

use std::cell::RefCell;

use super::body::Body;
use super::head::{PartialHead, Request};
use super::response::{Refusal, Reply};
use crate::service::Pending;

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
/// Two words. What is needed only in the middle of a request lies apart, in a box that goes from one
/// session of a thread to another: once warm, a request allocates nothing.
#[derive(Debug, Default)]
pub struct Session {
    unfinished: Option<Box<Unfinished>>,
    /// From the first request that was answered.
    served: bool,
}

/// A request of which something is still to come.
#[derive(Debug)]
pub(super) enum Unfinished {
    Head(PartialHead),
    Body {
        body: Body,
        reply: Reply,
        /// Bytes of it that have come.
        taken: u64,
    },
}

/// Boxes that one thread keeps for the next request. More than that are freed.
const SPARE_MAX: usize = 256;

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes are kept")]
    static SPARE: RefCell<Vec<Box<Unfinished>>> = const { RefCell::new(Vec::new()) };
}

impl Unfinished {
    fn boxed(self) -> Box<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let Some(mut spare) = spare.ok().flatten() else { return Box::new(self) };
        *spare = self;
        spare
    }

    /// Frees what a head has held.
    fn keep(mut self: Box<Self>) {
        *self = Self::Head(PartialHead::default());
        // There are none any more when a thread ends.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(self);
            }
        });
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
    /// One that has come so far.
    pub(super) fn new(served: bool, unfinished: Option<Unfinished>) -> Self {
        Self { unfinished: unfinished.map(Unfinished::boxed), served }
    }

    /// What a request lacks that has come in part, and whether one has been answered.
    pub(super) fn parts(&self) -> (bool, Option<&Unfinished>) {
        (self.served, self.unfinished.as_deref())
    }

    /// Takes from the front of `rest` up to the end of a head, the end of a body, or all of it.
    pub(super) fn step(&mut self, rest: &mut &[u8]) -> Result<Step, Refusal> {
        let step = match self.unfinished.as_deref_mut() {
            None => {
                let mut partial = PartialHead::default();
                match partial.read(rest)? {
                    Some(request) => self.begin(request, rest),
                    None => self.wait_for(Unfinished::Head(partial)),
                }
            }
            Some(Unfinished::Head(partial)) => match partial.read(rest)? {
                Some(request) => self.begin(request, rest),
                None => Step::Waiting,
            },
            Some(Unfinished::Body { body, reply, taken }) => {
                let before = rest.len();
                let whole = body.skip(rest)?;
                *taken += (before - rest.len()) as u64;
                if whole { Step::Complete(*reply) } else { Step::BodyBytes }
            }
        };
        if matches!(step, Step::Complete(_)) {
            self.served = true;
            self.unfinished.take().into_iter().for_each(Unfinished::keep);
        }
        Ok(step)
    }

    /// A head is complete; `rest` is what came behind it.
    fn begin(&mut self, request: Request, rest: &[u8]) -> Step {
        let Some(body) = request.body else {
            return Step::Complete(request.reply);
        };
        // A peer whose body is on its way already does not wait (RFC 9110, 10.1.1).
        let waits = request.expects_continue && rest.is_empty();
        let step = self.wait_for(Unfinished::Body { body, reply: request.reply, taken: 0 });
        if waits { Step::ContinueExpected } else { step }
    }

    fn wait_for(&mut self, unfinished: Unfinished) -> Step {
        match &mut self.unfinished {
            Some(place) => **place = unfinished,
            place => *place = Some(unfinished.boxed()),
        }
        Step::Waiting
    }

    /// Whether the peer has had an answer and has not begun to ask again.
    pub(super) fn is_between_requests(&self) -> bool {
        self.served && self.is_blank()
    }

    /// Whether no byte of a request has come that is not answered, empty lines aside.
    pub(super) fn is_blank(&self) -> bool {
        match self.unfinished.as_deref() {
            None => true,
            Some(Unfinished::Head(partial)) => partial.is_blank(),
            Some(Unfinished::Body { .. }) => false,
        }
    }

    /// What is still to come of a request.
    pub(super) fn pending(&self) -> Pending {
        match self.unfinished.as_deref() {
            _ if self.is_blank() => Pending::Nothing,
            Some(Unfinished::Body { taken, .. }) => Pending::Body { bytes: *taken },
            Some(Unfinished::Head(_)) | None => Pending::Head,
        }
    }

    /// Bytes of a head that are held.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        match self.unfinished.as_deref() {
            Some(Unfinished::Head(partial)) => partial.held_bytes(),
            None | Some(Unfinished::Body { .. }) => 0,
        }
    }
}

/// A connection that ends in the middle of a request gives back what it had for it.
impl Drop for Session {
    fn drop(&mut self) {
        self.unfinished.take().into_iter().for_each(Unfinished::keep);
    }
}
