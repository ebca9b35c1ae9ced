//! What becomes of the entries of the access log: one thread writes them, and whoever has started it learns how
//! many are lost and why.
//!
//! ```text
//!   workers --put--> queue (bounded) --thread "access-log"--> write(2)
//!        full: lost           |                         refused: lost
//!                             +-- still there when the program ends: lost
//! ```
//!
//! The thread that writes may wait in write(2) for ever, when nobody reads a pipe: so it tells nothing. The one that
//! calls [`AccessLog::look`] does.

mod messages;
mod writer;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use messages::{Losses, Messages, News, Trouble, lost_in_words};
pub(super) use writer::Flow;
use writer::{Counted, Writer};

use super::log::{ENTRIES_MAX, LogSink};
use crate::config::LogFormat;
use crate::log::Lines;
use crate::metrics::{Block, Counter};
use crate::process::{Alarm, NoThread};
use crate::sys::{self, Errno};

/// The name of the thread that writes.
const THREAD: &str = "access-log";

/// A write(2) that takes longer than this is told.
const STALL: Duration = Duration::from_secs(1);

/// How often the end is looked for.
const END_POLL: Duration = Duration::from_millis(1);

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A FIFO that nobody reads: open(2) would wait for its reader.
    #[error(
        "the access log {name} cannot be opened: open(2) failed with {}; nobody reads this FIFO: start its reader \
         first",
        Errno::ENXIO
    )]
    Unread {
        /// Its path.
        name: String,
    },
    /// What open(2) says of anything else.
    #[error("the access log {name} cannot be opened: open(2) failed with {errno}{}", advice(*errno))]
    Refused {
        /// Its path.
        name: String,
        /// What came back.
        errno: Errno,
    },
    /// There is nobody to write it.
    #[error("the access log: {0}")]
    Thread(NoThread),
}

/// What to do about it, where that is known.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => "; make its directory first",
        Errno::EACCES | Errno::EPERM => {
            "; the directory, or the file that is there, must be writable for this user"
        }
        Errno::EROFS => "; the file system is mounted read-only: choose another path",
        Errno::EISDIR => "; it is a directory: give the path of a file in it",
        Errno::EMFILE | Errno::ENFILE => "; too many files are open: raise RLIMIT_NOFILE",
        Errno::ENOSPC => "; the disk is full: make room",
        _ => "",
    }
}

impl OpenError {
    /// The path, as it was configured.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unread { name } | Self::Refused { name, .. } => Some(Path::new(name)),
            Self::Thread(_) => None,
        }
    }

    /// The cause and what to do, without the path: that may be a secret.
    pub fn cause(&self) -> String {
        match self {
            Self::Unread { .. } => format!(
                "the access log cannot be opened: open(2) failed with {}; nobody reads this FIFO: start its \
                 reader first",
                Errno::ENXIO
            ),
            Self::Refused { errno, .. } => {
                let advice = advice(*errno);
                format!("the access log cannot be opened: open(2) failed with {errno}{advice}")
            }
            Self::Thread(error) => error.to_string(),
        }
    }
}

/// The thread that writes the access log, from the outside.
#[derive(Debug)]
pub struct AccessLog {
    name: String,
    thread: JoinHandle<()>,
    flow: Arc<Flow>,
    /// What this side counts: a block has one writer.
    metrics: Arc<Block>,
    messages: Messages,
}

/// A file to append to, or a FIFO that somebody reads.
fn open(path: &Path) -> Result<File, OpenError> {
    let name = path.display().to_string();
    let is_fifo = std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    let opened = match is_fifo {
        true => sys::open_fifo(path),
        false => File::options().create(true).append(true).open(path),
    };
    match opened.map_err(|error| Errno::of(&error)) {
        Ok(file) => Ok(file),
        Err(Errno::ENXIO) if is_fifo => Err(OpenError::Unread { name }),
        Err(errno) => Err(OpenError::Refused { name, errno }),
    }
}

impl AccessLog {
    /// Opens a file to append to, or a FIFO that somebody reads.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(path: &Path, form: LogFormat) -> Result<(LogSink, Self), OpenError> {
        let name = path.display().to_string();
        Self::new(form, name, Box::new(open(path)?)).map_err(OpenError::Thread)
    }

    /// Opens the file again, for a log that has been rotated: the next whole line goes there.
    ///
    /// # Errors
    /// Why it cannot be opened; then everything stays as it was.
    pub fn reopen(&self, path: &Path) -> Result<(), OpenError> {
        self.flow.state().reopened = Some(Box::new(open(path)?));
        Ok(())
    }

    /// A sink, and the thread that writes what is put there to `to`, which messages call `name`. The thread ends
    /// when the last sink is gone. `to` should not buffer: what it keeps counts as written.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn new(
        form: LogFormat,
        name: String,
        to: Box<dyn Write + Send>,
    ) -> Result<(LogSink, Self), NoThread> {
        let (entries, receiver) = sync_channel(ENTRIES_MAX);
        let (alarm, flow) = (Alarm::default(), Arc::<Flow>::default());
        let [written, own] = [(); 2].map(|()| Arc::<Block>::default());
        let lines = Lines::new(Counted { to, flow: Arc::clone(&flow) });
        let writer = Writer { form, lines, metrics: Arc::clone(&written), flow: Arc::clone(&flow) };
        let run = alarm.watch(THREAD, move || writer.run(&receiver));
        let thread = thread::Builder::new().name(THREAD.into()).spawn(run);
        let thread = thread.map_err(|error| NoThread::new(&error))?;
        let blocks = vec![written, Arc::clone(&own)];
        let sink = LogSink::over(entries, alarm, (Arc::clone(&flow), blocks));
        Ok((sink, Self { name, thread, flow, metrics: own, messages: Messages::new() }))
    }

    /// Tells what is wrong with the log, or that all is well again. To be called every second or so.
    pub fn look(&mut self) {
        self.look_at(Instant::now()).iter().for_each(|news| self.tell(news));
    }

    fn look_at(&mut self, now: Instant) -> Vec<News> {
        let state = self.flow.state();
        let waits = state.writing_since.map(|since| now.saturating_duration_since(since));
        let trouble = match (state.errno, waits) {
            (_, Some(waited)) if waited >= STALL => Some(Trouble::Waits(waited)),
            (Some(errno), _) => Some(Trouble::Refused(errno)),
            _ => None,
        };
        self.messages.look(trouble, self.flow.lost(), now)
    }

    fn tell(&self, news: &News) {
        let name = &self.name;
        match *news {
            News::Trouble(Trouble::Full) => tracing::error!(
                "the access log {name} is not written as fast as its entries come: {ENTRIES_MAX} wait, more \
                 are lost"
            ),
            News::Trouble(Trouble::Waits(waited)) => tracing::error!(
                "the access log {name} takes nothing: write(2) has waited for {:.3}s; entries wait ({}, at most \
                 {ENTRIES_MAX}), more are lost",
                waited.as_secs_f64(),
                self.flow.pending()
            ),
            News::Trouble(Trouble::Refused(errno)) => tracing::error!(
                "the access log {name} cannot be written: write(2) failed with {errno}; entries are lost"
            ),
            News::Lost(count) => {
                tracing::error!("the access log {name}: {} so far", lost_in_words(count));
            }
            News::Well(count) => {
                tracing::warn!("the access log {name} is written again; {}", lost_in_words(count));
            }
        }
    }

    /// Whether its thread has ended: nobody logs there any more, and everything is written.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Gives the entries that were put this long to be written, then counts those that were not and tells of all
    /// that are lost. Returns their number. To be called when no more are put.
    pub fn finish(self, limit: Duration) -> u64 {
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < limit {
            thread::sleep(END_POLL);
        }
        let unwritten = self.flow.pending();
        self.metrics.add(Counter::LogDropped, unwritten);
        let [full, refused] =
            [&self.flow.full, &self.flow.refused].map(|count| count.load(Ordering::Acquire));
        let errno = self.flow.state().refused_with;
        let losses = Losses { full, refused, unwritten, errno };
        if losses.all() > 0 {
            tracing::error!("the access log {} is not complete: {losses}", self.name);
        }
        losses.all()
    }
}

#[cfg(test)]
mod tests;
