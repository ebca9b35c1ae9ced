//! One connection of the generator.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::outcome::{Fault, Phase};
use super::protocol::Reply;
use super::recorder::Times;

/// Where a connection is.
///
/// ```text
///   Opening --> Connecting --> Exchanging <--> Idle
///                    |              |           |
///                    |              v           |     the server's FIN, or nothing in flight
///                    +---------> Ending <-------+-------------------------------------------> gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No socket yet.
    Opening,
    /// The handshake is under way; the request may be queued behind it.
    Connecting,
    /// A request is out, its answer is not complete.
    Exchanging,
    /// Kept open for the next exchange.
    Idle,
    /// Waits for the server's FIN, or for what is in flight to end.
    Ending,
}

/// One connection and the operation that runs on it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: Option<OwnedFd>,
    pub(super) stage: Stage,
    /// What is in flight.
    pub(super) opening: bool,
    pub(super) connecting: bool,
    pub(super) sending: bool,
    pub(super) receiving: bool,
    /// Number of the operation: which part of the pattern is sent.
    pub(super) number: u64,
    pub(super) times: Times,
    pub(super) reply: Reply,
    /// Exchanges that are still to be done on this connection after this one.
    pub(super) exchanges_left: u32,
    /// Whether the running operation has been recorded, as success or failure.
    pub(super) recorded: bool,
    /// Whether the end came before the word that the handshake is complete.
    pub(super) ended_early: bool,
    /// Whether our FIN has been sent.
    pub(super) finished: bool,
}

impl Session {
    pub(super) fn new(number: u64, planned: Instant, now: Instant, exchanges: u32) -> Self {
        Self {
            socket: None,
            stage: Stage::Opening,
            opening: true,
            connecting: false,
            sending: false,
            receiving: false,
            number,
            times: times(planned, now),
            reply: Reply::default(),
            exchanges_left: exchanges.saturating_sub(1),
            recorded: false,
            ended_early: false,
            finished: false,
        }
    }

    /// Begins another operation on an open connection.
    pub(super) fn renew(&mut self, number: u64, planned: Instant, now: Instant) {
        self.stage = Stage::Exchanging;
        self.number = number;
        self.times = times(planned, now);
        self.reply = Reply::default();
        self.exchanges_left = self.exchanges_left.saturating_sub(1);
        self.recorded = false;
    }

    pub(super) fn in_flight(&self) -> bool {
        self.opening || self.connecting || self.sending || self.receiving
    }

    /// The phase in which a fault would be now.
    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Opening | Stage::Connecting => Phase::Connect,
            Stage::Exchanging | Stage::Idle if self.sending => Phase::Send,
            Stage::Exchanging | Stage::Idle => Phase::Receive,
            Stage::Ending => Phase::Close,
        }
    }
}

fn times(planned: Instant, now: Instant) -> Times {
    Times { planned, started: now, connected: None, first_byte: None, answered: None }
}

/// What goes wrong with bytes is found when they are verified.
pub(super) fn phase_of(fault: Fault, phase: Phase) -> Phase {
    match fault {
        Fault::WrongBytes | Fault::WrongStatus => Phase::Verify,
        Fault::Errno(_) | Fault::TimedOut | Fault::EarlyEnd => phase,
    }
}
