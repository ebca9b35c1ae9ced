//! How long connections waited in the accept queue: those that came while somebody looked at it.
//!
//! The kernel tells only until the first byte is sent on a connection, so it has to be asked at once; and asking is a
//! system call, so nobody is asked while nobody looks.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::LoopContext;
use crate::ring::Key;
use crate::sys;

/// In milliseconds, by slot.
#[derive(Debug, Default)]
pub(crate) struct Waits(HashMap<u32, u32>);

impl Waits {
    /// How long a new connection waited, if somebody looks.
    pub(crate) fn ask(
        (socket, accepted_at): (BorrowedFd<'_>, Instant),
        cx: &LoopContext<'_>,
    ) -> Option<Duration> {
        if !cx.notes_waits {
            return None;
        }
        accept_wait(socket, accepted_at)
    }

    pub(crate) fn note(&mut self, key: Key, wait: Option<Duration>) {
        if let Some(wait) = wait {
            self.0.insert(key.slot, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Duration> {
        self.0.get(&key.slot).map(|wait| Duration::from_millis((*wait).into()))
    }

    /// The connection has gone. Memory goes with those that were noted.
    pub(crate) fn forget(&mut self, key: Key) {
        if !self.0.is_empty()
            && self.0.remove(&key.slot).is_some()
            && self.0.len() < self.0.capacity() / SPARE
        {
            self.0.shrink_to(2 * self.0.len());
        }
    }
}

/// How much larger than what is in it the map may be.
const SPARE: usize = 8;

/// How long a connection waited to be accepted, if nothing has been sent on it yet. Nothing for one that is not TCP.
pub(crate) fn accept_wait(socket: BorrowedFd<'_>, accepted_at: Instant) -> Option<Duration> {
    let until_now = sys::tcp_accept_wait(socket).ok()?;
    // It has waited for its thread since; a turn may be long, so its beginning is not now.
    Some(until_now.saturating_sub(accepted_at.elapsed()))
}
