//! The access logs of a server: each file has one writer, however many frontends log there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::StartError;
use crate::access_log::{AccessLog, LogSink, OpenError};
use crate::config::{AccessLogConfig, LogTarget};
use crate::metrics::Block;
use crate::process::Alarm;

/// Open logs by what they were configured with. Clones are the same logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessLogs(Arc<Mutex<Content>>, Alarm);

#[derive(Debug, Default)]
struct Content {
    logs: HashMap<AccessLogConfig, (LogSink, AccessLog)>,
    /// Nobody begins to log there any more.
    closing: Vec<AccessLog>,
    /// What is counted of them, of those that are closed as well.
    blocks: Vec<Arc<Block>>,
}

impl AccessLogs {
    /// The sink of this log, which is opened if it is not open. The second is whether that was so.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) fn open(&self, config: &AccessLogConfig) -> Result<LogSink, StartError> {
        if let Some((sink, _)) = self.content().logs.get(config) {
            return Ok(sink.clone());
        }
        let (sink, log) = AccessLog::open(config)?;
        Ok(self.insert(config.clone(), sink, log))
    }

    /// The same for one whose file may have been renamed: an open one goes on to the file that has the name now.
    ///
    /// # Errors
    /// Why it cannot be opened; one that is open goes on where it was.
    pub(super) fn open_again(&self, config: &AccessLogConfig) -> Result<(), StartError> {
        let open = self.content().logs.get(config).map(|(sink, _)| sink.clone());
        match (open, &config.target) {
            (Some(sink), target @ LogTarget::File(_)) => Ok(sink.reopen(target)?),
            _ => self.open(config).map(drop),
        }
    }

    /// Logs there that has been opened already.
    pub(super) fn insert(&self, config: AccessLogConfig, sink: LogSink, log: AccessLog) -> LogSink {
        let mut content = self.content();
        let alarm = self.1.clone();
        sink.alarm().connect(move |thread| alarm.raise(thread.to_owned()));
        content.blocks.extend(sink.metrics().iter().cloned());
        content.logs.insert(config, (sink.clone(), log));
        sink
    }

    /// Closes the logs that are not among these, each once the last connection that logs there has ended.
    pub(super) fn keep<'a>(&self, used: impl Iterator<Item = &'a AccessLogConfig>) {
        let used: HashSet<&AccessLogConfig> = used.collect();
        let mut content = self.content();
        let Content { logs, closing, .. } = &mut *content;
        let unused: Vec<_> = logs.keys().filter(|log| !used.contains(log)).cloned().collect();
        closing.extend(unused.iter().filter_map(|log| logs.remove(log)).map(|(_, log)| log));
    }

    /// Opens all files again, for logs that have been rotated. Returns how many.
    ///
    /// # Errors
    /// What is wrong with each that cannot be opened; it goes on where it was.
    pub(super) fn reopen(&self) -> (usize, Vec<OpenError>) {
        let content = self.content();
        let files = content.logs.iter().filter(|(log, _)| matches!(log.target, LogTarget::File(_)));
        let files: Vec<_> =
            files.map(|(log, (sink, _))| (log.target.clone(), sink.clone())).collect();
        drop(content);
        let (opened, failed): (Vec<_>, Vec<_>) =
            files.iter().map(|(target, sink)| sink.reopen(target)).partition(Result::is_ok);
        (opened.len(), failed.into_iter().filter_map(Result::err).collect())
    }

    /// Tells what is wrong with a log, or that all is well again. To be called every second or so.
    pub(super) fn look(&self) {
        let mut content = self.content();
        content.logs.values_mut().for_each(|(_, log)| log.look());
        content.closing.iter_mut().for_each(AccessLog::look);
        let closed: Vec<_> = content.closing.extract_if(.., |log| log.is_over()).collect();
        drop(content);
        for log in closed {
            log.finish(Duration::ZERO);
        }
    }

    /// What is counted of them.
    pub(super) fn blocks(&self) -> Vec<Arc<Block>> {
        self.content().blocks.clone()
    }

    /// Raised by a thread of these that panics.
    pub(super) fn alarm(&self) -> &Alarm {
        &self.1
    }

    /// Gives the entries that were put this long to be written, and counts those that were not. To be called
    /// when no more are put.
    pub(super) fn finish(&self, limit: Duration) {
        let (logs, closing) = {
            let mut content = self.content();
            (std::mem::take(&mut content.logs), std::mem::take(&mut content.closing))
        };
        for log in closing {
            log.finish(limit);
        }
        for (_, (sink, log)) in logs {
            // Its thread ends when the last sink is gone.
            drop(sink);
            log.finish(limit);
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Whoever panicked with it has left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
