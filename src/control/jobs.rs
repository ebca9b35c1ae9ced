//! What may take long is done on a thread of its own, one after another: so neither signals nor those who only look
//! wait for it.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::server::Handle;

/// Jobs that wait for the one that is being done.
pub const JOBS_MAX: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread. Clones lead to the same one.
#[derive(Clone)]
pub struct Jobs(SyncSender<Job>);

/// So many wait that there is no room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Jobs {
    /// Starts the thread, which ends with the last of these.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(handle: &Handle) -> io::Result<Self> {
        let (sender, jobs): (SyncSender<Job>, Receiver<Job>) = sync_channel(JOBS_MAX);
        handle.spawn("changes", move || jobs.iter().for_each(|job| job()))?;
        Ok(Self(sender))
    }

    /// Has it done when its turn comes.
    ///
    /// # Errors
    /// So many wait that there is no room; it is not done.
    pub fn push(&self, job: impl FnOnce() + Send + 'static) -> Result<(), TooMany> {
        match self.0.try_send(Box::new(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(TooMany),
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jobs").finish_non_exhaustive()
    }
}
