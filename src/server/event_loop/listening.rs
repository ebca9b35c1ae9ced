//! The sockets that a thread accepts on: told to listen, drained, closed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::EventLoop;
use crate::acceptor::{PeerAddress, Source};
use crate::config::ListenAddress;
use crate::dispatch::ListenerId;
use crate::listener::{Listener, Pressure, QueueWaits};
use crate::metrics::Pauses;
use crate::ring::{Descriptor, Key, Ring};
use crate::server::command::Listening;
use crate::server::lifecycle::Phase;
use crate::server::messages;
use crate::service::Service;
use crate::sys;

/// How long a draining server goes on accepting at least: what had begun to connect when new
/// connections were refused needs a round trip to be through.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// Most listeners that are closed in one turn: the cancels of their accepts take time in the kernel.
const CLOSES_PER_TURN: usize = 64;

/// A listening socket as the loop needs it.
pub(crate) trait ListeningSocket {
    /// Where it listens.
    fn address(&self) -> &ListenAddress;

    /// The socket as accepts name it.
    fn descriptor(&self) -> Descriptor;

    /// How many connections may wait in its accept queue.
    fn queue_limit(&self) -> usize;

    /// How long its connections have waited.
    fn waits(&self) -> Arc<QueueWaits>;

    /// Whether it can be closed although connections wait in its queue: somebody else keeps it open.
    fn is_kept(&self) -> bool {
        false
    }

    /// Makes it such as io_uring accepts on.
    fn make_blocking(&self) -> io::Result<()> {
        Ok(())
    }

    /// How long it was not accepted on.
    fn pauses(&self) -> Arc<Pauses>;

    /// Whether its connections wait too long, and what is done about it.
    fn pressure(&self) -> Arc<Pressure>;

    /// How to ask who is at the other end of a connection that it has accepted.
    fn peer(&self) -> PeerAddress {
        sys::peer_address
    }

    /// Whether somebody waits in its queue, as far as the kernel tells.
    fn is_waited_at(&self) -> bool {
        self.is_empty() == Some(false)
    }

    /// Refuses connections that have not begun.
    fn stop_admitting(&self) -> io::Result<()>;

    /// Whether nothing waits in the accept queue; `None` where the kernel does not tell.
    fn is_empty(&self) -> Option<bool>;
}

impl ListeningSocket for Listener {
    fn address(&self) -> &ListenAddress {
        Listener::address(self)
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(self)
    }

    /// The queue holds one more than its limit.
    fn queue_limit(&self) -> usize {
        self.backlog().effective as usize + 1
    }

    fn waits(&self) -> Arc<QueueWaits> {
        Arc::clone(Listener::waits(self))
    }

    fn is_kept(&self) -> bool {
        Listener::is_kept(self)
    }

    fn make_blocking(&self) -> io::Result<()> {
        Listener::make_blocking(self)
    }

    fn pauses(&self) -> Arc<Pauses> {
        Arc::clone(Listener::pauses(self))
    }

    fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(Listener::pressure(self))
    }

    fn is_waited_at(&self) -> bool {
        Listener::is_waited_at(self).unwrap_or(false)
    }

    fn stop_admitting(&self) -> io::Result<()> {
        Listener::stop_admitting(self)
    }

    /// The kernel does not tell the length of a unix socket's queue.
    fn is_empty(&self) -> Option<bool> {
        self.queue().map_or(Some(false), |queue| queue.waiting.map(|waiting| waiting == 0))
    }
}

/// A socket that this thread accepts on.
pub(crate) struct Listened<L> {
    pub(crate) listening: Listening<L>,
    /// As the acceptor knows it.
    pub(crate) key: Key,
    /// When this thread saw it begin to drain.
    pub(super) drain_seen: Option<Instant>,
    /// Whether nothing is accepted any more.
    closed: bool,
    /// Held by those that stop for another process, until their last connection has been placed.
    stops: Option<Arc<()>>,
}

impl<R: Ring, S: Service, L: ListeningSocket> EventLoop<R, S, L> {
    pub(super) fn listen(&mut self, listening: Listening<L>, now: Instant) {
        let listener = listening.listener;
        if self.ring.capabilities().accepts_blocking
            && let Err(error) = listening.socket.make_blocking()
        {
            let address = listening.socket.address();
            tracing::warn!("{address}: the socket cannot be made blocking: {error}");
        }
        let key = self.acceptor.add(source(&listening));
        let stops = None;
        self.listeners.push(Listened { listening, key, drain_seen: None, closed: false, stops });
        if !self.accepts {
            // It comes too late: the server drains, and this thread has accepted its last connection.
            self.acceptor.close(key);
            self.closes = true;
        } else if self.phase >= Phase::Draining {
            self.stop_listening(Some(listener), now);
        }
    }

    /// What comes in through a socket belongs to another listener from now on, what is held included.
    pub(super) fn move_listener(&mut self, from: ListenerId, to: Listening<L>) {
        // A thread may have several sockets of one listener.
        let socket = to.socket.descriptor();
        let is_it = |it: &&mut Listened<L>| {
            let Listening { listener, socket: own, .. } = &it.listening;
            !it.closed && *listener == from && own.descriptor() == socket
        };
        if let Some(listened) = self.listeners.iter_mut().find(is_it) {
            self.acceptor.change(listened.key, source(&to));
            listened.listening = to;
        }
    }

    /// Accepts on no listener any more, and refuses nobody: another process accepts on the same sockets.
    /// Those that drain go on to.
    pub(super) fn stop_accepting(&mut self, stops: &Arc<()>) {
        self.closes = true;
        for listened in self.listeners.iter_mut().filter(|it| it.drain_seen.is_none()) {
            self.acceptor.close(listened.key);
            listened.closed = true;
            listened.stops = Some(Arc::clone(stops));
        }
    }

    /// Begins to drain a listener, or all of them.
    pub(super) fn stop_listening(&mut self, only: Option<ListenerId>, now: Instant) {
        self.closes = true;
        for listened in &mut self.listeners {
            let Listening { listener, socket, .. } = &listened.listening;
            if only.is_some_and(|only| only != *listener) || listened.drain_seen.is_some() {
                continue;
            }
            listened.drain_seen = Some(now);
            // What a failure ends is started again, and may be given this socket.
            let has_failed = self.shared.lifecycle.panicked().is_some();
            if socket.is_kept() || has_failed {
                self.acceptor.close(listened.key);
                listened.closed = true;
                continue;
            }
            self.acceptor.drain(listened.key);
            if self.acceptor.is_over(listened.key) {
                continue;
            }
            if let Err(error) = socket.stop_admitting() {
                let address = socket.address();
                tracing::warn!("{address} cannot refuse new connections while draining: {error}");
            }
        }
    }

    /// Places and arms; finds out whether the queues of draining listeners are empty.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.listeners.is_empty() {
            self.acceptor.close_refused(now, &mut self.operations);
            return self.tell_accepted_last();
        }
        if self.closes {
            self.close_settled(now);
        }
        if let Some(preference) = self.occupancy.preference(now, self.cpu_time) {
            self.acceptor.prefer(preference);
        }
        self.acceptor.turn(now, &mut self.operations);
        self.look_at_full_listeners(now);
        for (key, errno) in self.acceptor.take_broken() {
            let broken = self.listeners.iter().find(|listened| listened.key == key);
            let Some(Listened { listening, drain_seen: None, .. }) = broken else { continue };
            let open = self.shared.connection_limit.open() + self.acceptor.held();
            let address = listening.socket.address();
            let lifecycle = &self.shared.lifecycle;
            messages::lose(lifecycle, (listening.listener, address), errno, (open, now));
        }
        if self.closes {
            self.forget_done();
            self.tell_accepted_last();
        }
    }

    /// Whether somebody waits where there is no place for anybody.
    fn look_at_full_listeners(&mut self, now: Instant) {
        for key in self.acceptor.take_full() {
            let listened = self.listeners.iter().find(|listened| listened.key == key);
            let waits = listened.is_some_and(|it| it.listening.socket.is_waited_at());
            self.acceptor.is_waited_for((key, waits), now, &mut self.operations);
        }
    }

    /// Closes draining listeners of which the last connection has been accepted.
    fn close_settled(&mut self, now: Instant) {
        let lifecycle = &self.shared.lifecycle;
        let over = lifecycle.drain_until().is_some_and(|end| now >= end)
            || lifecycle.phase() == Phase::Stopping;
        let mut closed = 0;
        for listened in &mut self.listeners {
            let Some(seen) = listened.drain_seen.filter(|_| !listened.closed) else { continue };
            // An acceptor that is not held up has emptied the queue of a unix socket.
            let is_empty = || {
                self.acceptor.is_over(listened.key)
                    || listened
                        .listening
                        .socket
                        .is_empty()
                        .unwrap_or_else(|| !self.acceptor.is_held_up(listened.key))
            };
            if over || (now >= seen + SETTLE && is_empty()) {
                self.acceptor.close(listened.key);
                listened.closed = true;
                closed += 1;
            }
            if closed >= CLOSES_PER_TURN && !over {
                return;
            }
        }
    }

    /// Drops the listeners that are done with, which closes their sockets.
    fn forget_done(&mut self) {
        let Self { listeners, acceptor, shared, .. } = self;
        listeners.retain(|Listened { listening, key, .. }| {
            let is_done = acceptor.is_done(*key);
            if is_done {
                acceptor.remove(*key);
                if shared.lifecycle.phase() == Phase::Serving {
                    shared.lifecycle.sockets().remove(listening.listener);
                }
            }
            !is_done
        });
        let ends = |listened: &Listened<L>| listened.drain_seen.is_some() || listened.closed;
        let drains = listeners.iter().any(ends);
        self.closes = drains || self.phase == Phase::Stopping;
    }

    /// Once the server drains and nothing is left to accept.
    fn tell_accepted_last(&mut self) {
        let is_last = self.listeners.is_empty()
            && self.commands.is_empty()
            && (self.phase == Phase::Stopping || !self.shared.lifecycle.is_held());
        if self.phase >= Phase::Draining && self.accepts && is_last {
            self.accepts = false;
            self.shared.lifecycle.accepted_last();
        }
    }
}

fn source<L: ListeningSocket>(listening: &Listening<L>) -> Source {
    let Listening { listener, socket, limit, admission, queues, .. } = listening;
    Source {
        socket: socket.descriptor(),
        listener: *listener,
        address: socket.address().clone(),
        backlog: socket.queue_limit(),
        limit: Arc::clone(limit),
        admission: Arc::clone(admission),
        queues: *queues,
        waits: socket.waits(),
        pauses: socket.pauses(),
        pressure: socket.pressure(),
        peer: socket.peer(),
    }
}
