//! From a client to a backend: choose, open, connect, and if that fails another one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Stage};
use super::waited::Want;
use crate::connection::LoopContext;
use crate::metrics::Counter;
use crate::ring::{Descriptor, Key, Operation};
use crate::sys::{self, Errno};
use crate::upstream::{ConnectFailure, Lack, NoBackend, Origin};

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
                let origin = views[usize::from(pair.route)].origin(&lease, cx.now);
                if let Origin::Source(source) = origin {
                    pair.source = source;
                }
                let domain = lease.address().domain();
                pair.lease = Some(lease);
                pair.stage = Stage::Opening;
                match origin {
                    Origin::Source(_) => {}
                    Origin::Resting => return self.wait(key, cx),
                    Origin::Nowhere => {
                        pair.attempts += 1;
                        let none = Some(Lack::Family);
                        return self.connect_failed(key, Errno::EADDRNOTAVAIL, none, cx);
                    }
                }
                pair.dialing = true;
                pair.waited.forget(Want::Turn);
                cx.operations.push(End::Backend.key(key), Operation::Open { domain });
            }
            Err(NoBackend::AllFull) => {
                if pair.waited.note(Want::Room) {
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
        // One that has tried in vain, for those that wait, keeps its place.
        if version.waiting >= version.settings.queue && !pair.waited.keeps_place() {
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
            if pair.stage == Stage::Waiting && !self.suspension.has(key) {
                pair.stage = Stage::Choosing;
                // More than there is room for may wait, if some have come from other threads.
                pair.waited.note(Want::Turn);
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
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.dialing = false;
        let joining = pair.stage == Stage::Joining;
        match result {
            Ok(socket) => {
                if self.versions.get(pair.version).settings.nodelay {
                    // Fails for unix sockets, which need none.
                    let _ = sys::set_nodelay(socket.as_fd());
                }
                pair.side(End::Backend).stream.socket = Some(socket);
                if joining {
                    return self.join(key, cx);
                }
                self.dial(key, cx);
            }
            Err(_) if joining => self.join(key, cx),
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                self.lacks_socket(key, errno, cx);
            }
            Err(errno) => {
                pair.attempts += 1;
                self.connect_failed(key, errno, None, cx);
            }
        }
    }

    /// Connects to the backend from the source that was chosen with it.
    fn dial(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let (Some(lease), Some(socket)) = (&pair.lease, &pair.backend().stream.socket) else {
            return;
        };
        let view = &mut self.versions.get_mut(pair.version).views[usize::from(pair.route)];
        let address = Box::new(lease.address().clone());
        // It has gone in the meantime.
        let Some(from) = view.bound_to(pair.source, lease) else {
            return self.choose_again(key, cx);
        };
        let id = Descriptor::of(socket);
        let bound = match from {
            None => Ok(()),
            Some(from) => sys::bind_without_port(socket.as_fd(), from),
        };
        if !address.is_unix() {
            // Fails on older kernels, where finding a port takes longer if many are taken.
            let _ = sys::set_any_local_port(socket.as_fd());
        }
        if pair.count_retry() {
            self.metrics.count(Counter::ConnectRetries);
        }
        pair.attempts += 1;
        pair.stage = Stage::Connecting;
        pair.progress = cx.millis;
        if let Err(error) = bound {
            let lack = view.source(pair.source).map(Lack::Address);
            return match (Errno::of(&error), lack) {
                (Errno::EADDRNOTAVAIL, Some(lack)) => self.lacks_port(key, lack, cx),
                (errno, _) => self.connect_failed(key, errno, None, cx),
            };
        }
        pair.dialing = true;
        cx.operations.push(End::Backend.key(key), Operation::Connect { socket: id, address });
    }

    /// There was no local port for the connect to the backend, or not even the local address: another source is
    /// tried, then another backend, and without one it waits. That is no failure of the backend, and trying in vain
    /// does not prolong the wait.
    fn lacks_port(&mut self, key: Key, lack: Lack, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let (source, began) = (pair.source, pair.progress);
        pair.attempts -= 1;
        if pair.waited.note(Want::Port) {
            self.metrics.count(Counter::BackendNoPort);
        }
        let trouble = pair.trouble();
        trouble.errno = Some(Errno::EADDRNOTAVAIL);
        let since = *trouble.lacks_since.get_or_insert(began);
        pair.progress = since;
        if let Some(lease) = &pair.lease {
            let view = &mut self.versions.get_mut(pair.version).views[usize::from(pair.route)];
            view.had_no_port(lease.endpoint().id(), source, cx.now);
            lease.not_connected(cx.now, lack);
        }
        self.choose_again(key, cx);
        // It waits again, and longer than those that wait already.
        if let Some(last) = self.waiting.pop_back() {
            if last == key { self.waiting.push_front(last) } else { self.waiting.push_back(last) }
        }
    }

    /// Gives up the socket, which no connect has been made on, and the place at the backend.
    fn choose_again(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if let Some(socket) = pair.side(End::Backend).stream.socket.take() {
            cx.operations.push(Key::fixed(0), Operation::Close { socket });
        }
        pair.lease = None;
        pair.stage = Stage::Choosing;
        self.choose(key, cx);
    }

    /// What is lacking when a connect fails with EADDRNOTAVAIL.
    fn lack_of_port(&mut self, key: Key) -> Lack {
        let Some(pair) = self.table.get_mut(key) else { return Lack::Way };
        let view = &self.versions.get_mut(pair.version).views[usize::from(pair.route)];
        let source = view.source(pair.source);
        let to = pair.lease.as_ref().and_then(|lease| lease.address().as_socket());
        match to {
            Some(to) if source.is_some() || sys::has_way_to(to) => Lack::Port(source),
            _ => Lack::Way,
        }
    }

    /// This machine has no socket for it: it waits until there is one. However often it tries, it is counted
    /// and told once.
    fn lacks_socket(&mut self, key: Key, errno: Errno, cx: &mut LoopContext<'_>) {
        let waiting = self.waiting.len();
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.trouble().errno = Some(errno);
        if pair.waited.note(Want::Socket) {
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
        let version = self.versions.get_mut(pair.version);
        let times = &version.settings.times;
        let view = &mut version.views[usize::from(pair.route)];
        let lease = pair.lease.as_ref();
        if result == Err(Errno::EINVAL)
            && lease.is_some_and(|lease| !lease.address().is_unix())
            && let Some(source) = view.source(pair.source)
        {
            // Bound to an address that is not there (net.ipv4.ip_nonlocal_bind), or of another interface.
            return self.lacks_port(key, Lack::Address(source), cx);
        }
        if result != Err(Errno::EADDRNOTAVAIL)
            && let Some(lease) = lease
        {
            // Those that wait may try, too.
            self.room |= view.had_port(lease.endpoint().id(), pair.source);
        }
        match result {
            Ok(()) => {
                pair.stage = Stage::Forwarding;
                self.without_backend -= 1;
                let took = cx.millis.since(pair.progress);
                times.connect.add(took);
                pair.progress = cx.millis;
                if let Some(detail) = &mut pair.detail {
                    detail.times.connected = Some(cx.now);
                }
                if let Some(lease) = &mut pair.lease {
                    lease.connected();
                }
                self.touch(key);
            }
            Err(errno @ Errno::EADDRNOTAVAIL) => match self.lack_of_port(key) {
                Lack::Way => self.connect_failed(key, errno, Some(Lack::Way), cx),
                lack => self.lacks_port(key, lack, cx),
            },
            Err(errno) => self.connect_failed(key, errno, None, cx),
        }
    }

    /// Tries another backend, if that is allowed. No byte has been sent to this one. It is not to blame where this
    /// machine lacks something.
    pub(super) fn connect_failed(
        &mut self,
        key: Key,
        errno: Errno,
        lack: Option<Lack>,
        cx: &mut LoopContext<'_>,
    ) {
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
            match lack {
                Some(lack) => lease.not_connected(cx.now, lack),
                None => lease.connect_failed_at(cx.now, errno),
            }
            let trouble = pair.trouble();
            trouble.tried.push(lease.endpoint().id());
            trouble.backend = Some(Arc::clone(lease.endpoint()));
        }
        let trouble = pair.trouble();
        (trouble.errno, trouble.lacks_since) = (Some(errno), None);
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
