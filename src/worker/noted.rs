//! What the access log says of a session that has ended, and what has to be noted for that while it lasts.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use super::Worker;
use crate::access_log::{EndedBy, Entry, LogSink, Served};
use crate::connection::suspended::SessionLog;
use crate::connection::{LoopContext, VersionId, accept_wait};
use crate::metrics::Counter;
use crate::ring::Key;
use crate::service::{CloseReason, Service};
use crate::sys;

/// What is noted of one connection.
#[derive(Debug)]
pub(super) struct Noted {
    /// As the kernel says.
    client: Option<SocketAddr>,
    queued: Option<Duration>,
    accepted: Instant,
    adopted: Instant,
    first_byte: Option<Instant>,
    received: u64,
    sent: u64,
    /// What was wrong with its PROXY header.
    reason: Option<String>,
}

impl Noted {
    /// In the accept queue.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.queued
    }

    /// As it goes along with a connection that leaves its thread.
    pub(super) fn suspended(self, now: Instant) -> SessionLog {
        let since = |moment| now.saturating_duration_since(moment);
        SessionLog {
            client: self.client,
            queued: self.queued,
            accepted: since(self.accepted),
            adopted: since(self.adopted),
            first_byte: self.first_byte.map(since),
            received: self.received,
            sent: self.sent,
        }
    }

    /// As it was when the connection left another thread.
    pub(super) fn resumed(log: SessionLog, now: Instant) -> Self {
        // The clock of a machine may have begun later, by the reckoning of a record that is wrong.
        let before = |since| now.checked_sub(since).unwrap_or(now);
        Self {
            client: log.client,
            queued: log.queued,
            accepted: before(log.accepted),
            adopted: before(log.adopted),
            first_byte: log.first_byte.map(before),
            received: log.received,
            sent: log.sent,
            reason: None,
        }
    }
}

/// By slot; nothing as long as no frontend has an access log.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Option<Noted>>);

impl Notes {
    pub(super) fn insert(&mut self, key: Key, noted: Noted) {
        let place = key.slot as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some(noted);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Noted> {
        self.0.get_mut(key.slot as usize)?.take()
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Noted> {
        self.0.get_mut(key.slot as usize)?.as_mut()
    }

    /// In the accept queue.
    pub(super) fn waited(&self, key: Key) -> Option<Duration> {
        self.0.get(key.slot as usize)?.as_ref()?.queued
    }

    pub(super) fn received(&mut self, key: Key, bytes: usize, now: Instant) {
        if let Some(noted) = self.get_mut(key) {
            noted.first_byte.get_or_insert(now);
            noted.received += bytes as u64;
        }
    }

    pub(super) fn sent(&mut self, key: Key, bytes: usize) {
        if let Some(noted) = self.get_mut(key) {
            noted.sent += bytes as u64;
        }
    }

    pub(super) fn refused(&mut self, key: Key, reason: String) {
        if let Some(noted) = self.get_mut(key) {
            noted.reason = Some(reason);
        }
    }
}

impl<S: Service> Worker<S> {
    /// What is known of a new connection, if it is going to be logged.
    pub(super) fn note(
        &self,
        socket: &OwnedFd,
        (version, accepted): (VersionId, Instant),
        cx: &LoopContext<'_>,
    ) -> Option<Noted> {
        self.log_of(version)?;
        Some(Noted {
            client: sys::peer_address(socket.as_fd()).ok().flatten(),
            queued: accept_wait(socket.as_fd(), accepted),
            accepted,
            adopted: cx.now,
            first_byte: None,
            received: 0,
            sent: 0,
            reason: None,
        })
    }

    /// Logs a connection that has ended. `told` is who its PROXY header says that it is.
    pub(super) fn log(
        &self,
        noted: Option<Noted>,
        (version, reason, told): (VersionId, CloseReason, Option<SocketAddr>),
        cx: &LoopContext<'_>,
    ) {
        let (Some(noted), Some(sink)) = (noted, self.log_of(version)) else { return };
        let entry = Entry {
            at: SystemTime::now(),
            client: told.or(noted.client),
            queued: noted.queued,
            dispatch: Some(noted.adopted.saturating_duration_since(noted.accepted)),
            first_byte: noted.first_byte.map(|at| at.saturating_duration_since(noted.adopted)),
            total: Some(cx.now.saturating_duration_since(noted.accepted)),
            from_client: noted.received,
            ended_by: by(reason),
            ended: reason.word(),
            reason: noted.reason,
            served: Served::Here { to_client: noted.sent },
        };
        if !sink.put(entry) {
            self.metrics.count(Counter::LogDropped);
        }
    }

    fn log_of(&self, version: VersionId) -> Option<&LogSink> {
        self.versions.get(version).settings.log.as_ref()
    }
}

/// Whose doing it was.
fn by(reason: CloseReason) -> EndedBy {
    match reason {
        CloseReason::PeerClosed
        | CloseReason::PeerReset
        | CloseReason::BadProxyHeader
        | CloseReason::DeadOnArrival => EndedBy::Client,
        CloseReason::ServiceClosed
        | CloseReason::ServiceAborted
        | CloseReason::ServicePanicked
        | CloseReason::FileFailed
        | CloseReason::OutboxOverflow => EndedBy::Service,
        CloseReason::FirstByteTimeout
        | CloseReason::IdleTimeout
        | CloseReason::WriteStall
        | CloseReason::HeaderTimeout
        | CloseReason::SlowBody
        | CloseReason::SlowRead
        | CloseReason::Refused
        | CloseReason::Stopped
        | CloseReason::Shed
        | CloseReason::Evicted => EndedBy::Acceptor,
        CloseReason::Operator => EndedBy::Operator,
    }
}
