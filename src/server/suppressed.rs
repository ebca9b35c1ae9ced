//! The thread that tells what a proxy's log has suppressed, when nothing else happens that would.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::Alarm;
use crate::upstream::Upstream;

/// How often it looks, so how much later than its time something may be told.
const INTERVAL: Duration = Duration::from_secs(1);

/// The name of the thread.
const THREAD: &str = "log-suppressed";

/// It only formats a line now and then.
const STACK_BYTES: usize = 256 * 1024;

/// A running thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct SuppressedReporter {
    pub(super) alarm: Alarm,
    /// Nothing is ever sent: it ends the wait when it is dropped.
    over: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SuppressedReporter {
    /// For these upstreams.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn start(upstreams: Vec<Arc<Upstream>>) -> io::Result<Self> {
        let (alarm, (over, is_over)) = (Alarm::default(), sync_channel(0));
        let run = alarm.watch(THREAD, move || tell(&upstreams, &is_over));
        let thread = thread::Builder::new().name(THREAD.into()).stack_size(STACK_BYTES);
        let thread = Some(thread.spawn(run)?);
        Ok(Self { alarm, over: Some(over), thread })
    }
}

impl Drop for SuppressedReporter {
    fn drop(&mut self) {
        drop(self.over.take());
        // One that panicked has said so.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn tell(upstreams: &[Arc<Upstream>], is_over: &Receiver<()>) {
    while is_over.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let now = Instant::now();
        upstreams.iter().for_each(|upstream| upstream.tell_suppressed(now));
    }
}
