//! One unit of an endpoint's gauge.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::common::Common;
use super::endpoint::{Endpoint, nanos};
use super::health::FailedConnect;
use super::messages::Lack;
use crate::sys::Errno;

/// The right to have one connection to an endpoint, from before its connect to after its close. It is
/// given back when the lease is dropped.
#[derive(Debug)]
#[must_use = "dropping a lease gives the place back"]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    common: Arc<Common>,
    /// In nanoseconds since the start of the upstream: each proxied connection has a lease, and is kept small.
    picked: u64,
    /// Whether its connect has not ended.
    connecting: bool,
    /// Whether its place goes to another process with it.
    is_given: bool,
}

impl Lease {
    /// Takes a unit; `None` if the endpoint has `max` connections.
    pub(super) fn take(
        endpoint: &Arc<Endpoint>,
        common: &Arc<Common>,
        picked: Duration,
        max: Option<NonZeroUsize>,
    ) -> Option<Self> {
        endpoint.acquire(max).then(|| Self {
            endpoint: Arc::clone(endpoint),
            common: Arc::clone(common),
            picked: nanos(picked),
            connecting: true,
            is_given: false,
        })
    }

    /// Takes a unit for a connection that is open already, however many there are.
    pub(super) fn open(endpoint: &Arc<Endpoint>, common: &Arc<Common>) -> Self {
        endpoint.acquire_open();
        let (endpoint, common) = (Arc::clone(endpoint), Arc::clone(common));
        Self { endpoint, common, picked: 0, connecting: false, is_given: false }
    }

    /// Another process has the connection, and its place: nobody else here gets that.
    pub(crate) fn give_away(mut self) {
        self.is_given = true;
    }

    /// Where to connect to.
    pub fn address(&self) -> &SockAddr {
        self.endpoint.sock_addr()
    }

    /// The endpoint, for its counters and its name.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The connect has succeeded: the endpoint's failures are forgotten.
    pub fn connected(&mut self) {
        if std::mem::take(&mut self.connecting) {
            self.endpoint.connected();
        }
    }

    /// The connect has failed, now. Enough of these in a row eject the endpoint, if it is to blame:
    /// [`ConnectFailure`](super::ConnectFailure).
    pub fn connect_failed(&self, errno: Errno) {
        self.connect_failed_at(Instant::now(), errno);
    }

    /// The connect failed at `now`, on the clock of [`View::pick_at`](super::View::pick_at).
    pub fn connect_failed_at(&self, now: Instant, errno: Errno) {
        let failed = self.common.since_start(now);
        let picked = Duration::from_nanos(self.picked);
        self.endpoint.connect_failed(errno, FailedConnect { picked, failed });
    }

    /// This machine could not connect at `now`, for want of something else than a socket.
    pub(crate) fn not_connected(&self, now: Instant, lack: Lack) {
        self.endpoint.not_connected(now, lack);
    }

    /// This machine had no socket for a connect at `now`, so the connection waits, as do `waiting` others
    /// that its caller knows of.
    pub(crate) fn lacked_socket(&self, now: Instant, errno: Errno, waiting: usize) {
        self.endpoint.lacked_socket(now, errno, waiting);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.is_given {
            true => self.endpoint.give_away(self.connecting),
            false => self.endpoint.release(self.connecting),
        }
    }
}
