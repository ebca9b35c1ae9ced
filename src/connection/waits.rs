//! How long connections waited in the accept queue: those that came while somebody looked at it.
//!
//! The kernel tells only until the first byte is sent on a connection, so it has to be asked at once; and asking is a
//! system call, so nobody is asked while nobody looks.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::LoopContext;
use crate::ring::Key;
use crate::sys;

/// In milliseconds, by slot.
#[derive(Debug, Default)]
pub(crate) struct Waits(HashMap<u32, u32>);

impl Waits {
    /// How long a new connection waited, if somebody looks. Nothing for one that is not TCP.
    pub(crate) fn ask(socket: BorrowedFd<'_>, cx: &LoopContext<'_>) -> Option<Duration> {
        if !cx.notes_waits {
            return None;
        }
        sys::tcp_accept_wait(socket).ok()
    }

    pub(crate) fn note(&mut self, key: Key, wait: Option<Duration>) {
        if let Some(wait) = wait {
            self.0.insert(key.slot, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Duration> {
        self.0.get(&key.slot).map(|wait| Duration::from_millis((*wait).into()))
    }

    /// The connection has gone. Its memory goes with the last one that was noted.
    pub(crate) fn forget(&mut self, key: Key) {
        if !self.0.is_empty() && self.0.remove(&key.slot).is_some() && self.0.is_empty() {
            self.0 = HashMap::new();
        }
    }
}
