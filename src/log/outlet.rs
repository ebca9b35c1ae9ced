//! The way out for the lines of a program: a bounded queue, and the one thread that writes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lines::Lines;

/// Lines that may wait to be written.
pub(super) const LINES_MAX: usize = 1024;

/// How often a log that has lost lines, and has nothing else to write, is tried.
const RETRY: Duration = Duration::from_secs(1);

/// What lines are written to. A terminal may have a live line below them.
pub trait Target: Write + Send + 'static {
    /// Draws the live line anew.
    fn draw(&mut self, _live: &str) {}

    /// Takes the live line away, for good.
    fn end(&mut self) {}
}

/// Makes a line of the log, newline included, from what is to be said.
pub type Format = dyn Fn(&str) -> Vec<u8> + Send;

/// Takes lines from any thread, at once. Clones share one queue.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or nothing more will come.
    filled: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    live: Option<String>,
    /// Lines that were dropped because the queue was full, ever.
    dropped: u64,
    has_closed: bool,
    has_ended: bool,
}

struct Line {
    bytes: Vec<u8>,
    /// [`Queue::dropped`] when it was put, so that a loss is told where it was.
    dropped_before: u64,
}

/// What the thread does next.
enum Task {
    Write(Line),
    Draw(String),
    /// Nothing is to be written: tell of lines that were lost.
    Tell(u64),
    End,
}

impl Outlet {
    /// An outlet, and what its thread has to run, which returns after [`close`](Self::close). When lines
    /// were lost, `format` makes the line that tells of them, in the form of the others.
    pub fn new(target: impl Target, format: Box<Format>) -> (Self, impl FnOnce() + Send + 'static) {
        let outlet = Self(Arc::default());
        let shared = Arc::clone(&outlet.0);
        let run = move || {
            let _ended = Ended(Arc::clone(&shared));
            Writer { lines: Lines::new(target), format, refused: None, lost: 0, told: 0 }
                .run(&shared);
        };
        (outlet, run)
    }

    /// Hands over a line, newline included. False if it is lost: too many wait, or the outlet is closed.
    pub fn put(&self, bytes: Vec<u8>) -> bool {
        let mut queue = self.0.lock();
        let has_room = queue.lines.len() < LINES_MAX && !queue.has_closed && !queue.has_ended;
        if has_room {
            let dropped_before = queue.dropped;
            queue.lines.push_back(Line { bytes, dropped_before });
            self.0.filled.notify_one();
        } else {
            queue.dropped += 1;
        }
        has_room
    }

    /// Hands over a new live line. One that has not been drawn yet is forgotten.
    pub fn draw(&self, live: String) {
        self.0.lock().live = Some(live);
        self.0.filled.notify_one();
    }

    /// Takes no more and gives the lines that wait this long to be written. False if it was not enough; the
    /// thread is left to itself then.
    pub fn close(&self, limit: Duration) -> bool {
        let mut queue = self.0.lock();
        queue.has_closed = true;
        self.0.filled.notify_one();
        let waited = self.0.ended.wait_timeout_while(queue, limit, |queue| !queue.has_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do. With lines that nobody knows are lost it does not wait for long.
    fn next(&self, untold: u64, told: u64) -> Task {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                return Task::Write(line);
            }
            if queue.dropped > told {
                return Task::Tell(queue.dropped);
            }
            if queue.has_closed {
                return Task::End;
            }
            if let Some(live) = queue.live.take() {
                return Task::Draw(live);
            }
            if untold == 0 {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, timeout) =
                self.filled.wait_timeout(queue, RETRY).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() && queue.lines.is_empty() {
                return Task::Tell(queue.dropped);
            }
        }
    }
}

/// Says so when the thread ends, be it by a panic.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.ended.notify_all();
    }
}

/// What the thread knows.
struct Writer<T> {
    lines: Lines<T>,
    format: Box<Format>,
    /// What the last write came back with, since lines were told to be lost.
    refused: Option<io::Error>,
    /// Lines that are lost and not told.
    lost: u64,
    /// How many of [`Queue::dropped`] are in `lost`, or told.
    told: u64,
}

impl<T: Target> Writer<T> {
    fn run(mut self, shared: &Shared) {
        loop {
            match shared.next(self.lost, self.told) {
                Task::Write(line) => self.write(line),
                Task::Draw(live) => {
                    self.lines.target().draw(&live);
                    self.tell(self.told);
                }
                Task::Tell(dropped) => drop(self.tell(dropped)),
                Task::End => break,
            }
        }
        self.tell(self.told);
        self.lines.target().end();
    }

    fn write(&mut self, line: Line) {
        if !self.tell(line.dropped_before) || !self.put(&line.bytes) {
            self.lost += 1;
        }
    }

    /// Tells of lines that were lost, if there are any. False if that cannot be written.
    fn tell(&mut self, dropped: u64) -> bool {
        self.lost += dropped - self.told;
        self.told = dropped;
        if self.lost == 0 {
            return true;
        }
        let why = match &self.refused {
            Some(error) => error.to_string(),
            None => "it could not be written as fast as they came".to_owned(),
        };
        let lines = if self.lost == 1 { "line" } else { "lines" };
        let notice = (self.format)(&format!("{} {lines} of the log lost: {why}", self.lost));
        let told = self.put(&notice);
        if told {
            (self.lost, self.refused) = (0, None);
        }
        told
    }

    /// False if nothing of it was written. What has begun will be completed.
    fn put(&mut self, line: &[u8]) -> bool {
        self.lines.pending().extend_from_slice(line);
        match self.lines.flush() {
            Ok(()) => true,
            Err(unwritten) => {
                self.refused = Some(unwritten.error);
                unwritten.lines == 0
            }
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outlet").finish_non_exhaustive()
    }
}
