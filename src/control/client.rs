//! One who is connected to the control socket: a line comes, an answer goes, and never more than one at a time.
//!
//! ```text
//!   asking --a line--> answered at once --> taking --all of it is taken--> asking
//!      |                    |                 ^
//!      |                    +--> waiting -----+ (a job has ended)
//!      +--> over: the end, a line that is too long, too late, or another client needs the place
//! ```

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest request, in bytes; a backend's name has at most some 300.
pub const LINE_MAX_BYTES: usize = 64 * 1024;

/// How long a client may be without a whole request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to read an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one read; a client that sends more comes again after the others.
const READ_BYTES: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Waiting,
    Taking,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u64,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    stage: Stage,
    /// When the stage began.
    since: Instant,
    /// Its answer is the last one.
    ends: bool,
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line that is too long.
    TooLong,
}

impl Client {
    pub(super) fn new(number: u64, stream: UnixStream, now: Instant) -> Self {
        Self {
            number,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            stage: Stage::Asking,
            since: now,
            ends: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What follows is no request.
    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether it has not got the answer to what it has asked.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Taking)
    }

    /// Whether bytes of it are wanted.
    pub(super) fn wants_to_read(&self) -> bool {
        self.stage == Stage::Asking
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.stage == Stage::Taking
    }

    /// Since when it has been without a request, if it is.
    pub(super) fn asking_since(&self) -> Option<Instant> {
        (self.stage == Stage::Asking).then_some(self.since)
    }

    /// When its time is up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asking => Some(self.since + REQUEST_TIMEOUT),
            Stage::Taking => Some(self.since + ANSWER_TIMEOUT),
            Stage::Waiting | Stage::Over => None,
        }
    }

    pub(super) fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// The next request, if a whole one has come; reads once.
    pub(super) fn next(&mut self) -> Option<Wish> {
        if self.stage != Stage::Asking {
            return None;
        }
        if let Some(wish) = self.take_line() {
            return Some(wish);
        }
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.input.is_empty() => self.end(),
            // The end of its last line is missing; the request may be whole.
            Ok(0) => self.input.push(b'\n'),
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if is_for_now(error.kind()) => {}
            Err(_) => self.end(),
        }
        self.take_line()
    }

    /// Whether a whole request has come already, so that nothing needs to be waited for.
    pub(super) fn has_line(&self) -> bool {
        self.stage == Stage::Asking && self.input.contains(&b'\n')
    }

    fn take_line(&mut self) -> Option<Wish> {
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            return (self.input.len() > LINE_MAX_BYTES).then_some(Wish::TooLong);
        };
        if end > LINE_MAX_BYTES {
            return Some(Wish::TooLong);
        }
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        Some(Wish::Line(line))
    }

    /// Its request is being done elsewhere.
    pub(super) fn wait(&mut self, now: Instant) {
        (self.stage, self.since) = (Stage::Waiting, now);
    }

    /// The next answer is the last.
    pub(super) fn end_with_answer(&mut self) {
        self.ends = true;
        self.input = Vec::new();
    }

    /// What it is told.
    pub(super) fn answer(&mut self, line: String, now: Instant) {
        (self.stage, self.since) = (Stage::Taking, now);
        (self.output, self.sent) = (line.into_bytes(), 0);
        self.write(now);
    }

    /// Sends what it takes.
    pub(super) fn write(&mut self, now: Instant) {
        while self.stage == Stage::Taking {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.end(),
            }
            if self.sent == self.output.len() && self.stage == Stage::Taking {
                self.output = Vec::new();
                (self.stage, self.since) = (Stage::Asking, now);
                if self.ends {
                    self.end();
                }
            }
        }
    }
}

fn is_for_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
