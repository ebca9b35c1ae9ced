//! One connection of the generator.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::answer::Broken;
use super::idle_response::IdleResponse;
use super::outcome::{Fault, Phase};
use super::protocol::Reply;
use super::recorder::Times;
use crate::ring::{Buffer, BufferPool, Bytes};
use crate::sys::Errno;

/// Where a connection is.
///
/// ```text
///   Opening --> Connecting --> Open --> Ending --> gone
///                    |                     ^
///                    +---------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No socket yet.
    Opening,
    /// The handshake is under way; requests may be queued behind it.
    Connecting,
    /// Exchanges run on it, or it waits for the next one.
    Open,
    /// Waits for the server's FIN, or for what is in flight to end.
    Ending,
}

/// An operation on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// Number of the operation: which request it sends.
    pub(super) number: u64,
    pub(super) times: Times,
    /// Since when its timeout runs: its start, or that of its connection.
    pub(super) since: Instant,
    /// The connection ends with it.
    pub(super) is_last: bool,
}

/// A send in flight.
#[derive(Debug)]
pub(super) struct Sending {
    /// What several requests were gathered in.
    pub(super) buffer: Option<Buffer>,
    /// All that is to go out, and how much of it has.
    pub(super) bytes: Bytes,
    pub(super) sent: usize,
    /// The planned start of its first operation.
    pub(super) planned: Instant,
}

impl Sending {
    /// Some of it has gone out: the rest, unless that is nothing.
    pub(super) fn go_on(&mut self, taken: usize, buffers: &BufferPool) -> Option<Bytes> {
        self.sent += taken;
        let (sent, len) = (self.sent, self.bytes.len());
        (taken > 0 && sent < len).then(|| match (&self.bytes, &self.buffer) {
            (_, Some(buffer)) => Bytes::Pool(buffers.range(buffer, sent..len)),
            (Bytes::Static(bytes), None) => Bytes::Static(&bytes[sent..]),
            (other, None) => other.clone(),
        })
    }
}

/// One connection and the operations that run on it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: Option<OwnedFd>,
    /// Which of the targets it goes to.
    pub(super) target: usize,
    /// The planned and the actual start of the connect.
    pub(super) planned: Instant,
    pub(super) started: Instant,
    pub(super) stage: Stage,
    /// What is in flight.
    pub(super) opening: bool,
    pub(super) connecting: bool,
    pub(super) sending: Option<Sending>,
    pub(super) receiving: bool,
    /// Operations without an end, the oldest first. The first one may have its answer and wait for
    /// the server's FIN.
    pub(super) exchanges: VecDeque<Exchange>,
    /// How many of them, the last ones, have not sent their request.
    pub(super) unsent: usize,
    /// The answer to the first of them, once a byte of it has come.
    pub(super) reply: Option<Reply>,
    /// Whole answers so far.
    pub(super) answers: u64,
    /// Operations that may still begin on it; `None`: any number.
    pub(super) requests_left: Option<u32>,
    /// Whether it is among those that take further operations.
    pub(super) is_listed: bool,
    /// Whether the end came before the word that the handshake is complete.
    pub(super) ended_early: bool,
    /// Whether the server's FIN has come.
    pub(super) peer_finished: bool,
    /// Whether our FIN has been sent.
    pub(super) finished: bool,
    /// Why nothing can be sent any more. What the server sent before it closed may still come.
    pub(super) send_error: Option<Errno>,
    /// What came while no request was out, or was about to; the connection is not used again.
    pub(super) idle_response: Option<Box<IdleResponse>>,
    /// Since when nothing runs on it that was begun.
    pub(super) idle_since: Option<Instant>,
    /// When it was told that the connection, which was to be kept, ends; nothing once it is counted who
    /// ended it.
    pub(super) announced: Option<Instant>,
    /// Since when it waits to be over, and whether for the server's FIN.
    pub(super) ending_since: Option<Instant>,
    pub(super) awaits_fin: bool,
}

impl Session {
    /// Without an operation.
    pub(super) fn new(
        target: usize,
        planned: Instant,
        now: Instant,
        requests: Option<u32>,
    ) -> Self {
        Self {
            socket: None,
            target,
            planned,
            started: now,
            stage: Stage::Opening,
            opening: true,
            connecting: false,
            sending: None,
            receiving: false,
            exchanges: VecDeque::new(),
            unsent: 0,
            reply: None,
            answers: 0,
            requests_left: requests,
            is_listed: false,
            ended_early: false,
            peer_finished: false,
            finished: false,
            send_error: None,
            idle_response: None,
            idle_since: None,
            announced: None,
            ending_since: None,
            awaits_fin: false,
        }
    }

    /// Takes an operation, the last one if no other may follow.
    pub(super) fn push(&mut self, mut exchange: Exchange) {
        self.requests_left = self.requests_left.map(|left| left.saturating_sub(1));
        exchange.is_last = self.requests_left == Some(0);
        self.exchanges.push_back(exchange);
        self.unsent += 1;
    }

    /// Whether another operation may begin, with at most `pipeline` of them at a time.
    pub(super) fn has_room(&self, pipeline: usize) -> bool {
        self.stage != Stage::Ending
            && self.exchanges.len() < pipeline
            && self.requests_left != Some(0)
    }

    /// Operations whose request is out, or partly.
    pub(super) fn outstanding(&self) -> usize {
        self.exchanges.len() - self.unsent
    }

    /// Whether something may have come to it that nobody has looked at: it was idle before `now`, and no
    /// request is out.
    pub(super) fn was_idle(&self, now: Instant) -> bool {
        self.outstanding() == 0 && self.idle_since.is_some_and(|since| since < now)
    }

    /// The first operation, if its request is out and its answer has not come.
    pub(super) fn unanswered(&mut self) -> Option<&mut Exchange> {
        let is_sent = self.outstanding() > 0;
        self.exchanges.front_mut().filter(|first| is_sent && first.times.answered.is_none())
    }

    pub(super) fn in_flight(&self) -> bool {
        self.opening || self.connecting || self.sending.is_some() || self.receiving
    }

    /// The phase in which a fault would be now.
    pub(super) fn phase(&self) -> Phase {
        let is_answered =
            self.exchanges.front().is_some_and(|first| first.times.answered.is_some());
        match self.stage {
            Stage::Opening | Stage::Connecting => Phase::Connect,
            Stage::Ending => Phase::Close,
            Stage::Open if is_answered => Phase::Close,
            Stage::Open if self.sending.is_some() && self.reply.is_none() => Phase::Send,
            Stage::Open => Phase::Receive,
        }
    }
}

/// What goes wrong with bytes is found when they are verified.
pub(super) fn phase_of(fault: Fault, phase: Phase) -> Phase {
    match fault {
        Fault::WrongBytes
        | Fault::WrongStatus
        | Fault::WrongSize
        | Fault::UnaskedAnswer
        | Fault::Http(
            Broken::NotHttp | Broken::HeadTooLarge | Broken::BadLength | Broken::BadChunk,
        )
        | Fault::Http(Broken::SwitchedProtocol) => Phase::Verify,
        Fault::Http(Broken::Truncated)
        | Fault::Errno(_)
        | Fault::TimedOut
        | Fault::EarlyEnd
        | Fault::CutOff => phase,
    }
}
