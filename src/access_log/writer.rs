//! The thread that writes, and what it and the workers count.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::entry::write_line;
use super::sink::Put;
use crate::config::LogFormat;
use crate::log::{Lines, Unwritten};
use crate::metrics::{Block, Counter};
use crate::sys::Errno;

/// How long entries are gathered once there is one: those who put the others need not wake anybody.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes that are written at once, and somewhat more.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// What workers and the two threads know of the entries.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Put into the queue.
    put: AtomicU64,
    /// Written to their last byte.
    written: AtomicU64,
    /// Lost since the queue was full.
    pub(super) full: AtomicU64,
    /// Lost since they could not be written.
    pub(super) refused: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// When the write began that is under way.
    pub(super) writing_since: Option<Instant>,
    /// Why the last write failed, if it did.
    pub(super) errno: Option<Errno>,
    /// Why the last that failed did.
    pub(super) refused_with: Option<Errno>,
    /// Where the next whole line goes, once the file has been opened again.
    pub(super) reopened: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writing_since, errno, refused_with, reopened: _ } = self;
        let mut shown = formatter.debug_struct("State");
        shown.field("writing_since", writing_since).field("errno", errno);
        shown.field("refused_with", refused_with).finish_non_exhaustive()
    }
}

impl Flow {
    /// An entry is about to be put. To be called before, so that none is written before it is counted.
    pub(super) fn put(&self) {
        self.put.fetch_add(1, Ordering::Relaxed);
    }

    /// There was no room for it.
    pub(super) fn full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
        self.put.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.full.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }

    /// Entries that were put, and neither written nor refused.
    pub(super) fn pending(&self) -> u64 {
        let over = self.written.load(Ordering::Acquire) + self.refused.load(Ordering::Acquire);
        self.put.load(Ordering::Relaxed).saturating_sub(over)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread that writes has.
pub(super) struct Writer {
    pub(super) form: LogFormat,
    pub(super) lines: Lines<Counted>,
    pub(super) metrics: Arc<Block>,
    pub(super) flow: Arc<Flow>,
}

/// Counts the lines whose last byte is written, also while a write that is longer waits.
pub(super) struct Counted {
    pub(super) to: Box<dyn Write + Send>,
    pub(super) flow: Arc<Flow>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        let lines = bytes[..count].iter().filter(|byte| **byte == b'\n').count();
        self.flow.written.fetch_add(lines as u64, Ordering::Release);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Writer {
    /// Writes entries until the last sink is gone; flushes when there is a pause.
    pub(super) fn run(mut self, entries: &Receiver<Put>) {
        while let Ok(first) = entries.recv() {
            // Otherwise each entry would wake this thread.
            thread::sleep(GATHER);
            self.follow_file();
            self.add(&first);
            for entry in entries.try_iter() {
                self.add(&entry);
                if self.lines.pending().len() >= BATCH_BYTES {
                    self.flush();
                }
            }
            self.flush();
        }
        // The rest of an entry that was written in part: nobody waits for room for it any more.
        if !self.lines.pending().is_empty() {
            self.lose(1);
        }
    }

    /// Goes over to the file that has been opened again, between two lines.
    fn follow_file(&mut self) {
        if self.lines.pending().is_empty()
            && let Some(to) = self.flow.state().reopened.take()
        {
            self.lines.target().to = to;
        }
    }

    fn add(&mut self, (frontend, entry): &Put) {
        // A vector takes everything.
        let _ = write_line(self.lines.pending(), self.form, (frontend, entry));
    }

    fn flush(&mut self) {
        self.flow.state().writing_since = Some(Instant::now());
        let unwritten = self.lines.flush().err();
        // Whoever looks sees the losses with their cause.
        let flow = Arc::clone(&self.flow);
        let mut state = flow.state();
        state.writing_since = None;
        state.errno = unwritten.as_ref().map(|unwritten| Errno::of(&unwritten.error));
        state.refused_with = state.errno.or(state.refused_with);
        // The rest of an entry that was written in part is kept.
        self.lose(unwritten.map_or(0, |Unwritten { lines, .. }| lines));
    }

    fn lose(&mut self, lines: u64) {
        self.metrics.add(Counter::LogDropped, lines);
        self.flow.refused.fetch_add(lines, Ordering::Release);
    }
}
