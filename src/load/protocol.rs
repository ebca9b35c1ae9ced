//! What is sent, and whether what comes back is right.

use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::{Answer, Broken, Complete};
use super::outcome::Fault;
use super::plan::{ExpectBody, HttpPlan, Mode, Plan};
use super::request::{Order, Request};

#[cfg(test)]
mod tests;

/// Bytes of which every payload is a part. Different operations send different parts, so that an
/// answer to another connection's request is a wrong answer.
const PATTERN_BYTES: usize = 1 << 16;

/// The operations of a thread have the numbers from its index times this one on.
pub(super) const NUMBERS_OF_A_THREAD: u64 = 1 << 32;

/// A size that no answer has told yet.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// The requests of a run. Made once; its bytes live as long as the process, as sends demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    kind: Kind,
    pattern: &'static [u8],
    request_bytes: usize,
    response_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Nothing is sent; any byte or the end is the answer.
    Any,
    /// The request comes back.
    Echo,
    /// So many bytes come back, whatever they are.
    Sized,
    Http(&'static Http),
}

/// The HTTP of a run, shared by its threads.
#[derive(Debug)]
struct Http {
    plan: HttpPlan,
    seed: u64,
    /// Of the first right answer to each request, where that is what the others are held to.
    sizes: Vec<AtomicU64>,
}

impl Protocol {
    pub(super) fn new(plan: &Plan) -> Self {
        let response_bytes = plan.response_bytes.unwrap_or(plan.request_bytes);
        let kind = match (&plan.http, plan.mode) {
            (Some(http), _) => Kind::Http(Box::leak(Box::new(Http::new(http, plan.seed)))),
            (None, Mode::Accept) => Kind::Any,
            (None, _) if response_bytes == plan.request_bytes => Kind::Echo,
            (None, _) => Kind::Sized,
        };
        let pattern = match kind {
            Kind::Any | Kind::Http(_) => &[],
            Kind::Echo | Kind::Sized => &*Vec::leak(pattern(plan.seed, plan.request_bytes)),
        };
        Self { kind, pattern, request_bytes: plan.request_bytes, response_bytes }
    }

    /// The request of the `number`-th operation, which may be the last one of its connection; empty
    /// where nothing is sent.
    pub(super) fn request(&self, number: u64, is_last: bool) -> &'static [u8] {
        match self.kind {
            Kind::Any => &[],
            Kind::Http(http) => http.request(number).1.bytes(is_last),
            Kind::Echo | Kind::Sized => {
                let start = (number.wrapping_mul(61) as usize) % PATTERN_BYTES;
                &self.pattern[start..start + self.request_bytes]
            }
        }
    }

    /// Whether a request that may have reached the server may be sent again.
    pub(super) fn may_resend(&self, number: u64) -> bool {
        match self.kind {
            Kind::Http(http) => http.request(number).1.is_idempotent(),
            Kind::Any | Kind::Echo | Kind::Sized => false,
        }
    }

    /// What bytes are that nobody asked for.
    pub(super) fn unasked(&self) -> Fault {
        if matches!(self.kind, Kind::Http(_)) { Fault::UnaskedAnswer } else { Fault::WrongBytes }
    }

    /// The answer to the `number`-th operation, of which nothing has come.
    pub(super) fn reply(&self, number: u64) -> Reply {
        match self.kind {
            Kind::Http(http) => Reply::Http(Answer::new(http.request(number).1.is_head())),
            Kind::Any | Kind::Echo | Kind::Sized => Reply::Plain { received: 0 },
        }
    }
}

impl Http {
    fn new(plan: &HttpPlan, seed: u64) -> Self {
        let sizes = plan.requests.iter().map(|_| AtomicU64::new(UNKNOWN_SIZE)).collect();
        Self { plan: plan.clone(), seed, sizes }
    }

    /// The request of the `number`-th operation and its place in the plan.
    fn request(&self, number: u64) -> (usize, &Request) {
        let requests = &self.plan.requests;
        let index = match self.plan.order {
            _ if requests.len() == 1 => 0,
            Order::InTurn => ((number % NUMBERS_OF_A_THREAD) % requests.len() as u64) as usize,
            Order::Random => {
                fastrand::Rng::with_seed(self.seed ^ number.rotate_left(32)).usize(..requests.len())
            }
        };
        (index, &requests[index])
    }

    fn judge(&self, number: u64, answer: &Complete) -> Result<(), Fault> {
        if !self.plan.expect_status.contains(answer.status) {
            return Err(Fault::WrongStatus);
        }
        let expected = match self.plan.expect_body {
            ExpectBody::Any => return Ok(()),
            ExpectBody::Bytes(bytes) => bytes,
            ExpectBody::LikeTheFirst => {
                let size = &self.sizes[self.request(number).0];
                let (own, relaxed) = (answer.body_bytes, Ordering::Relaxed);
                size.compare_exchange(UNKNOWN_SIZE, own, relaxed, relaxed)
                    .map_or_else(|first| first, |_| own)
            }
        };
        if answer.body_bytes == expected { Ok(()) } else { Err(Fault::WrongSize) }
    }
}

fn pattern(seed: u64, request_bytes: usize) -> Vec<u8> {
    let mut source = fastrand::Rng::with_seed(seed);
    let once: Vec<u8> = (0..PATTERN_BYTES).map(|_| source.u8(..)).collect();
    once.iter().copied().cycle().take(PATTERN_BYTES + request_bytes).collect()
}

/// An answer on its way.
#[derive(Debug)]
pub(super) enum Reply {
    /// Bytes without a form.
    Plain {
        /// How many have come.
        received: usize,
    },
    /// An HTTP answer.
    Http(Answer),
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    /// Whether it is right.
    pub(super) verdict: Result<(), Fault>,
    /// The connection may be used again.
    pub(super) keeps: bool,
    /// Status and bytes of the body, of an HTTP answer.
    pub(super) http: Option<(u16, u64)>,
}

impl Whole {
    /// One that is right, of a protocol without a status.
    pub(super) const PLAIN: Self = Self { verdict: Ok(()), keeps: true, http: None };
}

impl Reply {
    /// Whether a byte of it has come; an interim answer of HTTP is not yet it.
    pub(super) fn has_begun(&self) -> bool {
        match self {
            Self::Plain { received } => *received > 0,
            Self::Http(answer) => answer.has_begun(),
        }
    }

    /// Takes what has come. Returns how many of the bytes belong to it, and the answer once it is
    /// whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(
        &mut self,
        protocol: &Protocol,
        number: u64,
        bytes: &[u8],
    ) -> Result<(usize, Option<Whole>), Fault> {
        match (self, protocol.kind) {
            (Self::Http(answer), Kind::Http(http)) => {
                let taken = answer.take(bytes).map_err(fault)?;
                Ok((taken.bytes, taken.complete.map(|complete| http.whole(number, &complete))))
            }
            (Self::Http(_), _) => unreachable!("replies are made by their protocol"),
            (Self::Plain { received }, kind) => {
                let start = *received;
                *received += bytes.len();
                let expected = match kind {
                    Kind::Any | Kind::Http(_) => return Ok((bytes.len(), Some(Whole::PLAIN))),
                    Kind::Sized => protocol.response_bytes,
                    Kind::Echo => {
                        let right = protocol.request(number, false).get(start..*received);
                        right.filter(|right| *right == bytes).ok_or(Fault::WrongBytes)?;
                        protocol.request_bytes
                    }
                };
                if *received > expected {
                    return Err(Fault::WrongBytes);
                }
                Ok((bytes.len(), (*received == expected).then_some(Whole::PLAIN)))
            }
        }
    }

    /// The server's FIN.
    ///
    /// # Errors
    /// The answer is not complete with it.
    pub(super) fn end(&mut self, protocol: &Protocol, number: u64) -> Result<Whole, Fault> {
        match (self, protocol.kind) {
            (Self::Http(answer), Kind::Http(http)) => {
                let complete = answer.end().map_err(fault)?;
                Ok(http.whole(number, &complete))
            }
            _ => Err(Fault::EarlyEnd),
        }
    }
}

impl Http {
    fn whole(&self, number: u64, answer: &Complete) -> Whole {
        Whole {
            verdict: self.judge(number, answer),
            keeps: answer.keeps,
            http: Some((answer.status, answer.body_bytes)),
        }
    }
}

/// A broken answer as a fault of its operation.
fn fault(broken: Broken) -> Fault {
    match broken {
        Broken::Truncated => Fault::EarlyEnd,
        other => Fault::Http(other),
    }
}
