//! Clients that keep a connection busy with as little as they can: requests that come slowly, answers that are taken
//! slowly.
//!
//! Nothing here is paid for by a byte. Where a request began is noted once, and its session counts what has come of
//! it. What a peer takes is noted only of those that owe something when they are looked at: a send that is through tells
//! nothing of that, since the kernel's buffer may hold megabytes, so each look asks the kernel how much of it is left.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Worker;
use super::connection::{Connection, Stage};
use crate::config::{RequestLimits, TIMEOUT_MAX};
use crate::connection::suspended::TakingRecord;
use crate::connection::{LoopContext, Millis};
use crate::ring::Key;
use crate::service::{CloseReason, Pending, Service};
use crate::sys;

/// What a peer has taken of what is being sent to it.
#[derive(Debug)]
struct Taking {
    /// The first look that found something not taken, of which not all has been taken since.
    since: Millis,
    /// From then to the last look.
    taken: u64,
    /// Given to the kernel since the last look.
    sent: u64,
    /// What the kernel had not got rid of at the last look.
    queued: u32,
    /// The same with what waited here: all that was still to be taken.
    owed: u64,
}

/// By slot; nothing as long as all are quick to take.
#[derive(Debug, Default)]
pub(super) struct Takings(HashMap<u32, Taking>);

/// How much larger than what is in it the map may be.
const SPARE: usize = 8;

impl Takings {
    /// A send is through.
    #[inline]
    pub(super) fn sent(&mut self, key: Key, bytes: usize) {
        if !self.0.is_empty()
            && let Some(taking) = self.0.get_mut(&key.slot)
        {
            taking.sent += bytes as u64;
        }
    }

    /// Whether it had not taken all when it was looked at last.
    #[inline]
    pub(super) fn forget(&mut self, key: Key) -> bool {
        if self.0.is_empty() || self.0.remove(&key.slot).is_none() {
            return false;
        }
        if self.0.len() < self.0.capacity() / SPARE {
            self.0.shrink_to(2 * self.0.len());
        }
        true
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it goes along with a connection that leaves its thread.
    pub(super) fn suspend(&mut self, key: Key, now: Millis) -> Option<TakingRecord> {
        let taking = self.0.get(&key.slot)?;
        let record = TakingRecord { since: now.age(taking.since), taken: taking.taken };
        self.forget(key);
        Some(record)
    }

    /// Goes on with what another thread has noted.
    pub(super) fn resume(
        &mut self,
        key: Key,
        (record, now): (TakingRecord, Millis),
        (queued, waiting): (u32, usize),
    ) {
        let TakingRecord { since, taken } = record;
        let since = now.before(since);
        self.0.insert(key.slot, Taking { taken, ..Taking::new(since, (queued, waiting)) });
    }
}

impl Taking {
    /// One of which the kernel has some, and some waits here.
    fn new(since: Millis, (queued, waiting): (u32, usize)) -> Self {
        Self { since, taken: 0, sent: 0, queued, owed: u64::from(queued) + waiting as u64 }
    }

    /// Notes what is still to be taken; whether anything was since the last look that no send has told of. Who has taken
    /// all that was to be taken then owes nothing of it any more: what there is now is measured anew.
    fn look(&mut self, now: Millis, (queued, waiting): (u32, usize)) -> bool {
        let given = u64::from(self.queued) + self.sent;
        let taken = given.saturating_sub(queued.into());
        let is_untold = self.sent == 0 && taken > 0;
        let next = Self::new(now, (queued, waiting));
        *self = match taken >= self.owed {
            true => next,
            false => Self { since: self.since, taken: self.taken + taken, ..next },
        };
        is_untold
    }
}

impl<S: Service> Worker<S> {
    /// Notes what a peer has taken since the last look, if there is something for it. To take something puts the write
    /// stall off, and the idle deadline.
    pub(super) fn note_taken(&mut self, key: Key, now: Millis) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let version = self.versions.get(connection.version);
        if version.settings.timeouts.requests.min_rate.is_none() {
            return;
        }
        let waiting = connection.stream.output.bytes;
        // Otherwise the kernel had nothing left at an earlier look.
        let may_owe = waiting > 0
            || self.takings.0.contains_key(&key.slot)
            || now.since(connection.progress) < 2 * version.look_interval;
        if !may_owe {
            return;
        }
        let socket = connection.stream.socket.as_ref();
        // One that went along with the last bytes cannot be asked: to it the write stall applies, and no rate.
        let Some(rest) = socket.map(|socket| (queued(socket), waiting)) else {
            self.takings.forget(key);
            return;
        };
        match self.takings.0.get_mut(&key.slot) {
            None if rest == (0, 0) => {}
            Some(taking) => {
                if taking.look(now, rest) {
                    connection.progress = now;
                }
                if rest == (0, 0) {
                    self.takings.forget(key);
                }
            }
            None => {
                self.takings.0.insert(key.slot, Taking::new(now, rest));
            }
        }
    }

    /// How long a client may still be slow with what is under way, and what it means when that is over.
    pub(super) fn patience(&self, key: Key, now: Millis) -> Option<(Millis, CloseReason)> {
        let connection = self.table.get(key)?;
        let settings = &self.versions.get(connection.version).settings;
        let limits = &settings.timeouts.requests;
        let taking = self.takings.0.get(&key.slot).and_then(|taking| {
            let left = left(limits.allowance(taking.taken)?, (taking.since, now));
            Some((left, CloseReason::SlowRead))
        });
        let request = match connection.stream.sending {
            true => None,
            false => request_patience(connection, (&*settings.service, limits), now),
        };
        let (left, reason) = taking.into_iter().chain(request).min_by_key(|(left, _)| *left)?;
        Some((now.after(left.min(TIMEOUT_MAX)), reason))
    }

    /// A request has taken too long: its session may say so, then the connection ends.
    pub(super) fn overdue(&mut self, key: Key, reason: CloseReason, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let session = connection.session.as_mut().expect("an open connection has a session");
        let version = self.versions.get(connection.version);
        let (service, outbox) = (&*version.settings.service, &mut self.outbox);
        let again = cx.millis.after(version.look_interval);
        let called = catch_unwind(AssertUnwindSafe(|| {
            service.overdue(session, &mut version.local(&self.mail), outbox);
            outbox.check(0);
        }));
        if called.is_err() {
            self.outbox.clear();
            return self.panicked(key, cx);
        }
        let says_nothing = self.outbox.is_empty();
        if self.queue_answer(key, None, cx).is_err() || says_nothing {
            return self.terminate(key, reason, cx);
        }
        let Some(connection) = self.table.get_mut(key) else { return };
        connection.stage = Stage::Flushing { linger: !connection.stream.ended };
        connection.reason = reason;
        self.deadlines.insert(key.slot, again);
        self.advance(key, cx);
    }
}

/// The same of a request of which something is still to come.
fn request_patience<S: Service>(
    connection: &Connection<S::Session>,
    (service, limits): (&S, &RequestLimits),
    now: Millis,
) -> Option<(Duration, CloseReason)> {
    limits.shortest()?;
    let session = connection.session.as_ref().filter(|_| connection.stage.is_open())?;
    // A session that cannot be asked has the other deadlines.
    let pending = catch_unwind(AssertUnwindSafe(|| service.pending(session))).ok()?;
    let (allowance, reason) = match pending {
        Pending::Nothing => return None,
        Pending::Head => (limits.header_timeout?, CloseReason::HeaderTimeout),
        Pending::Body { bytes } => (limits.allowance(bytes)?, CloseReason::SlowBody),
    };
    Some((left(allowance, (connection.begun, now)), reason))
}

/// What the kernel has not got rid of. Where it cannot be asked, what was given to it has to do.
pub(super) fn queued(socket: &OwnedFd) -> u32 {
    sys::send_queue(socket.as_fd()).unwrap_or(0)
}

fn left(allowance: Duration, (since, now): (Millis, Millis)) -> Duration {
    allowance.saturating_sub(now.age(since))
}
