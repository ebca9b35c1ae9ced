//! How a pair ends, in named steps: terminate, join, release.

use std::net::Shutdown;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Side, Stage};
use crate::connection::{LoopContext, Receiving};
use crate::ring::{Descriptor, Key, Kind, Operation};
use crate::upstream::EndpointCounter;

impl Proxy {
    /// Ends a pair that has failed: neither peer may take it for a regular end.
    pub(super) fn fail(&mut self, key: Key, ended: Ended, cx: &mut LoopContext<'_>) {
        if let Some(pair) = self.table.get_mut(key) {
            pair.reset = true;
        }
        self.terminate(key, ended, cx);
    }

    /// Ends a pair that is refused, in the way of its frontend.
    pub(super) fn turn_away(&mut self, key: Key, ended: Ended, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        match self.versions.get(pair.version).settings.admission.resets() {
            true => self.fail(key, ended, cx),
            false => self.terminate(key, ended, cx),
        }
    }

    /// Ends a pair now: what is queued is dropped, what is in flight is made to end. With bytes
    /// dropped, or bytes that may be there and found no buffer, both peers see a reset, else a FIN.
    pub(super) fn terminate(&mut self, key: Key, ended: Ended, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if pair.stage == Stage::Joining {
            return self.join(key, cx);
        }
        if pair.stage == Stage::Connecting && pair.dialing {
            cx.operations.push(End::Backend.key(key), Operation::Cancel(Kind::Connect));
        }
        if pair.stage == Stage::Waiting {
            self.versions.get_mut(pair.version).waiting -= 1;
        }
        self.suspension.forget(key);
        self.without_backend -= usize::from(pair.stage != Stage::Forwarding);
        pair.stage = Stage::Joining;
        pair.ended = ended;
        pair.reset |= pair.owes_bytes() || pair.is_starved();
        let reset = pair.reset;
        for end in End::BOTH {
            let side = pair.side(end);
            self.pieces.clear(&mut side.stream.output, cx.buffers);
            interrupt(end.key(key), side, reset, cx);
        }
        self.join(key, cx);
    }

    /// Closes both sockets and forgets the pair, once nothing is in flight any more.
    pub(super) fn join(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        if self.table.get_mut(key).is_none_or(|pair| pair.in_flight()) {
            return;
        }
        let Some(mut pair) = self.table.remove(key) else { return };
        self.deadlines.remove(key.slot);
        self.pipes -= End::BOTH.iter().filter(|end| pair.pipe(**end).is_some()).count();
        let reset = pair.reset;
        for end in End::BOTH {
            let side = pair.side(end);
            self.pieces.clear(&mut side.stream.output, cx.buffers);
            if let Some(socket) = side.stream.socket.take() {
                cx.operations.push(Key::fixed(0), last_operation(socket, reset));
            }
        }
        self.metrics.count(pair.ended.counter());
        if let Some(lease) = &pair.lease {
            let counters = lease.endpoint().counters();
            counters.add(EndpointCounter::BytesTo, pair.bytes[End::Client as usize]);
            counters.add(EndpointCounter::BytesFrom, pair.bytes[End::Backend as usize]);
            if matches!(pair.ended, Ended::Idle | Ended::HalfClosed) {
                counters.count(EndpointCounter::Timeouts);
            }
        }
        self.waits.forget(key);
        self.note(&mut pair, cx.now);
        let settings = &self.versions.get(pair.version).settings;
        settings.times.lifetime.add(cx.millis.age(pair.began));
        settings.limit.release(1);
        self.counted.release(key, &settings.admission);
        self.versions.closed(pair.version);
        self.closed += 1;
        // Its lease and its descriptors are free with it.
        self.room = true;
    }
}

fn last_operation(socket: std::os::fd::OwnedFd, reset: bool) -> Operation {
    if reset { Operation::Reset { socket } } else { Operation::Close { socket } }
}

/// Makes what is in flight on a side end.
fn interrupt(key: Key, side: &Side, reset: bool, cx: &mut LoopContext<'_>) {
    let Some(socket) = side.stream.socket.as_ref().filter(|_| side.stream.in_flight()) else {
        return;
    };
    if !reset {
        let socket = Descriptor::of(socket);
        cx.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Both });
        return;
    }
    // A shutdown would send a FIN.
    if side.stream.sending {
        cx.operations.push(key, Operation::Cancel(Kind::Send));
    }
    if side.stream.receiving == Receiving::Armed {
        cx.operations.push(key, Operation::Cancel(Kind::Receive));
    }
}
