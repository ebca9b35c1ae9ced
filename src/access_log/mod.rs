//! The access log: an entry for each connection that has ended. A worker only copies a few numbers into a bounded
//! queue; one thread writes them, and whoever has started it learns how many are lost and why.
//!
//! ```text
//!   workers --put--> queue (bounded) --thread "access-log"--> write(2)
//!        full: lost           |                         refused: lost
//!                             +-- still there when the program ends: lost
//! ```
//!
//! The thread that writes may wait in write(2) for ever, when nobody reads a pipe: so it tells nothing. The one that
//! calls [`AccessLog::look`] does.

mod entry;
mod error;
mod messages;
mod sink;
mod target;
mod writer;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use entry::{EndedBy, Entry, Forwarded, Served};
pub use error::{Cause, OpenError};
use messages::{Losses, Messages, News, Trouble, lost_in_words};
use sink::ENTRIES_MAX;
pub use sink::LogSink;
use writer::{Counted, Flow, Writer};

use crate::config::{AccessLogConfig, LogFormat, LogTarget};
use crate::log::Lines;
use crate::metrics::{Block, Counter};
use crate::process::{Alarm, NoThread};

/// The name of the thread that writes.
const THREAD: &str = "access-log";

/// A write(2) that takes longer than this is told.
const STALL: Duration = Duration::from_secs(1);

/// How often the end is looked for.
const END_POLL: Duration = Duration::from_millis(1);

/// The thread that writes the access log, from the outside.
#[derive(Debug)]
pub struct AccessLog {
    name: String,
    thread: JoinHandle<()>,
    flow: Arc<Flow>,
    /// What this side counts: a block has one writer.
    metrics: Arc<Block>,
    messages: Messages,
    /// Entries that could not be written, at the last look.
    refused: u64,
    /// What writes.
    call: &'static str,
}

impl AccessLog {
    /// Opens the log, and starts its thread.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(config: &AccessLogConfig) -> Result<(LogSink, Self), OpenError> {
        let AccessLogConfig { target, format } = config;
        let name = match target {
            LogTarget::Stdout => "on stdout".to_owned(),
            target => target.to_string(),
        };
        let call = match target {
            LogTarget::Stdout | LogTarget::File(_) => "write(2)",
            LogTarget::Journald | LogTarget::Syslog(_) | LogTarget::SyslogUdp(_) => "sendto(2)",
        };
        let made = Self::new(*format, name, target::open(target)?).map_err(OpenError::Thread);
        made.map(|(sink, log)| (sink, Self { call, ..log }))
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
        let (frontend, flow) = ("".into(), flow);
        let sink = LogSink { entries, frontend, alarm, flow: Arc::clone(&flow), metrics: blocks };
        let (messages, call) = (Messages::new(), "write(2)");
        Ok((sink, Self { name, thread, flow, metrics: own, messages, refused: 0, call }))
    }

    /// Tells what is wrong with the log, or that all is well again. To be called every second or so.
    pub fn look(&mut self) {
        self.look_at(Instant::now()).iter().for_each(|news| self.tell(news));
    }

    fn look_at(&mut self, now: Instant) -> Vec<News> {
        let state = self.flow.state();
        let waits = state.writing_since.map(|since| now.saturating_duration_since(since));
        let refused = self.flow.refused.load(Ordering::Relaxed);
        // One that fails now and then may have succeeded just now.
        let has_failed = std::mem::replace(&mut self.refused, refused) < refused;
        let failed = state.errno.or(state.refused_with.filter(|_| has_failed));
        let trouble = match (failed, waits) {
            (_, Some(waited)) if waited >= STALL => Some(Trouble::Waits(waited)),
            (Some(errno), _) => Some(Trouble::Refused(errno)),
            _ => None,
        };
        drop(state);
        self.messages.look(trouble, self.flow.lost(), now)
    }

    fn tell(&self, news: &News) {
        let Self { name, call, .. } = self;
        match *news {
            News::Trouble(Trouble::Full) => tracing::error!(
                "the access log {name} is not written as fast as its entries come: {ENTRIES_MAX} wait, more \
                 are lost"
            ),
            News::Trouble(Trouble::Waits(waited)) => tracing::error!(
                "the access log {name} takes nothing: {call} has waited for {:.3}s; entries wait ({}, at most \
                 {ENTRIES_MAX}), more are lost",
                waited.as_secs_f64(),
                self.flow.pending()
            ),
            News::Trouble(Trouble::Refused(errno)) => tracing::error!(
                "the access log {name} cannot be written: {call} failed with {errno}; entries are lost"
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
        let losses = Losses { full, refused, unwritten, errno, call: self.call };
        if losses.all() > 0 {
            tracing::error!("the access log {} is not complete: {losses}", self.name);
        }
        losses.all()
    }
}

#[cfg(test)]
mod tests;
