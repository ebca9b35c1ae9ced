//! Where threads put the entries of connections that have ended.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::entry::Entry;
use super::writer::Flow;
use super::{OpenError, target};
use crate::config::LogTarget;
use crate::metrics::Block;
use crate::process::Alarm;

/// Entries that may wait to be written.
pub(super) const ENTRIES_MAX: usize = 8192;

/// An entry, and the frontend that its connection came in through.
pub(super) type Put = (Arc<str>, Entry);

/// Where the entries of a frontend are put.
#[derive(Debug, Clone)]
pub struct LogSink {
    pub(super) entries: SyncSender<Put>,
    pub(super) frontend: Arc<str>,
    /// Raised if the thread that writes panics.
    pub(super) alarm: Alarm,
    /// What becomes of them.
    pub(super) flow: Arc<Flow>,
    /// What that thread and whoever started it count.
    pub(super) metrics: Vec<Arc<Block>>,
}

impl LogSink {
    /// The same log for the connections of this frontend.
    pub(crate) fn of(&self, frontend: &str) -> Self {
        Self { frontend: frontend.into(), ..self.clone() }
    }

    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub(crate) fn metrics(&self) -> &[Arc<Block>] {
        &self.metrics
    }

    /// Opens a file again that has been rotated: the next whole line goes there.
    ///
    /// # Errors
    /// Why it cannot be opened; then everything stays as it was.
    pub fn reopen(&self, target: &LogTarget) -> Result<(), OpenError> {
        // It may wait for a file server, and nobody else may have to.
        let opened = target::open(target)?;
        self.flow.state().reopened = Some(opened);
        Ok(())
    }

    /// Puts an entry. Never waits: false if there was no room, and the entry is lost.
    #[must_use]
    pub fn put(&self, entry: Entry) -> bool {
        self.flow.put();
        let put = (Arc::clone(&self.frontend), entry);
        let is_full = matches!(self.entries.try_send(put), Err(TrySendError::Full(_)));
        if is_full {
            self.flow.full();
        }
        !is_full
    }
}
