//! From a client to a backend: choose, open, connect, and if that fails another one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Stage};
use crate::connection::LoopContext;
use crate::metrics::Counter;
use crate::ring::{Descriptor, Key, Operation};
use crate::sys::{self, Errno};
use crate::upstream::{ConnectFailure, NoBackend};

/// How often pairs that wait for room look for it while nothing of this thread has closed: other
/// threads' connections count too.
pub(super) const ROOM_INTERVAL: Duration = Duration::from_millis(10);

impl Proxy {
    /// Chooses a backend and begins to connect to it.
    pub(super) fn choose(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let detail = pair.detail.as_ref();
        let source = detail.and_then(|detail| detail.client).map(|client| client.ip());
        let trouble = detail.and_then(|detail| detail.trouble.as_ref());
        let tried = trouble.map_or(&[][..], |trouble| &trouble.tried);
        let views = &mut self.versions.get_mut(pair.version).views;
        match views[usize::from(pair.route)].pick_at(cx.now, source, tried) {
            Ok(lease) => {
                let domain = lease.address().domain();
                pair.lease = Some(lease);
                pair.stage = Stage::Opening;
                pair.dialing = true;
                cx.operations.push(End::Backend.key(key), Operation::Open { domain });
            }
            Err(NoBackend::AllFull) => {
                if !std::mem::replace(&mut pair.queued, true) {
                    self.metrics.count(Counter::BackendQueued);
                }
                self.wait(key, cx);
            }
            Err(NoBackend::AllOut | NoBackend::NoneLeft) => {
                let ended = if pair.failures > 0 { pair.ended } else { Ended::NoBackend };
                self.fail(key, ended, cx);
            }
        }
    }

    /// Puts a pair in line until a backend has room or a descriptor comes free. How long it waits
    /// counts from its last progress, so trying in vain does not prolong it.
    fn wait(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let version = self.versions.get_mut(pair.version);
        if version.waiting >= version.settings.queue {
            return self.fail(key, Ended::QueueFull, cx);
        }
        version.waiting += 1;
        if self.waiting.is_empty() {
            // What closed before it began to wait made no room for it.
            self.room = false;
            self.next_look = cx.now + ROOM_INTERVAL;
        }
        pair.lease = None;
        pair.stage = Stage::Waiting;
        self.waiting.push_back(key);
    }

    /// Lets those that wait for room try again, first come, first served.
    pub(super) fn serve_queue(&mut self, cx: &mut LoopContext<'_>) {
        if self.waiting.is_empty() || !(self.room || cx.now >= self.next_look) {
            return;
        }
        self.room = false;
        self.next_look = cx.now + ROOM_INTERVAL;
        for key in std::mem::take(&mut self.waiting) {
            let Some(pair) = self.table.get_mut(key) else { continue };
            if pair.stage == Stage::Waiting {
                pair.stage = Stage::Choosing;
                self.versions.get_mut(pair.version).waiting -= 1;
                self.choose(key, cx);
            }
        }
    }

    /// A socket is there, or not.
    pub(super) fn opened(
        &mut self,
        key: Key,
        result: Result<OwnedFd, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.dialing = false;
        let joining = pair.stage == Stage::Joining;
        match result {
            Ok(socket) => {
                let id = Descriptor::of(&socket);
                if self.versions.get(pair.version).settings.nodelay {
                    // Fails for unix sockets, which need none.
                    let _ = sys::set_nodelay(socket.as_fd());
                }
                pair.side(End::Backend).stream.socket = Some(socket);
                if joining {
                    return self.join(key, cx);
                }
                let Some(lease) = &pair.lease else { return };
                let address = Box::new(lease.address().clone());
                if pair.failures > 0 {
                    self.metrics.count(Counter::ConnectRetries);
                    pair.count_retry();
                }
                pair.attempts += 1;
                pair.stage = Stage::Connecting;
                pair.dialing = true;
                pair.progress = now;
                let connect = Operation::Connect { socket: id, address };
                cx.operations.push(End::Backend.key(key), connect);
            }
            Err(_) if joining => self.join(key, cx),
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                self.lacks_socket(key, errno, cx);
            }
            Err(errno) => {
                pair.attempts += 1;
                self.connect_failed(key, errno, cx);
            }
        }
    }

    /// This machine has no socket for it: it waits until there is one. However often it tries, it is counted
    /// and told once.
    fn lacks_socket(&mut self, key: Key, errno: Errno, cx: &mut LoopContext<'_>) {
        let waiting = self.waiting.len();
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.trouble().errno = Some(errno);
        if !std::mem::replace(&mut pair.lacked_socket, true) {
            self.metrics.count(Counter::BackendNoDescriptor);
            if let Some(lease) = &pair.lease {
                lease.lacked_socket(cx.now, errno, waiting);
            }
        }
        self.wait(key, cx);
    }

    /// The backend has answered, or not.
    pub(super) fn connected(
        &mut self,
        key: Key,
        result: Result<(), Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.dialing = false;
        if pair.stage == Stage::Joining {
            return self.join(key, cx);
        }
        match result {
            Ok(()) => {
                pair.stage = Stage::Forwarding;
                pair.progress = cx.millis;
                if let Some(detail) = &mut pair.detail {
                    detail.times.connected = Some(cx.now);
                }
                if let Some(lease) = &mut pair.lease {
                    lease.connected();
                }
                self.touch(key);
            }
            Err(errno) => self.connect_failed(key, errno, cx),
        }
    }

    /// Tries another backend, if that is allowed. No byte has been sent to this one.
    pub(super) fn connect_failed(&mut self, key: Key, errno: Errno, cx: &mut LoopContext<'_>) {
        self.metrics.count(Counter::ConnectFailures);
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        let errno = match errno {
            // The proxy cancels a connect only when it has taken too long.
            Errno::ECANCELED => Errno::ETIMEDOUT,
            _ => errno,
        };
        pair.ended = match ConnectFailure::of(errno) {
            ConnectFailure::TimedOut => Ended::ConnectTimeout,
            _ => Ended::ConnectFailed,
        };
        if let Some(lease) = pair.lease.take() {
            lease.connect_failed_at(cx.now, errno);
            let trouble = pair.trouble();
            trouble.tried.push(lease.endpoint().id());
            trouble.backend = Some(Arc::clone(lease.endpoint()));
        }
        pair.trouble().errno = Some(errno);
        if let Some(socket) = pair.side(End::Backend).stream.socket.take() {
            cx.operations.push(Key::fixed(0), Operation::Close { socket });
        }
        pair.failures += 1;
        pair.progress = now;
        let retries = self.versions.get(pair.version).settings.retries;
        if pair.failures > retries {
            let ended = pair.ended;
            self.fail(key, ended, cx);
        } else {
            pair.stage = Stage::Choosing;
            self.choose(key, cx);
        }
    }
}
