//! How a connection ends, in named steps: terminate, join, close.

use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Worker;
use super::connection::Stage;
use crate::connection::suspended::Awaited;
use crate::connection::{LoopContext, VersionId};
use crate::metrics::Counter;
use crate::ring::{Descriptor, Key, Kind, Operation};
use crate::service::{CloseReason, Service};

/// Most bytes that a lingering connection may still bring before it is closed on the peer.
const LINGER_LIMIT_BYTES: u32 = 1024 * 1024;

impl<S: Service> Worker<S> {
    /// Everything is sent: close, or first end what is still in flight.
    pub(super) fn finish(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let reason = connection.reason;
        self.terminate(key, reason, cx);
    }

    /// Everything is sent: send our FIN and read on until the peer's.
    pub(super) fn linger(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(connection) = self.table.get_mut(key) else { return };
        if let Some(socket) = &connection.stream.socket {
            let socket = Descriptor::of(socket);
            cx.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Write });
        }
        connection.stage = Stage::Lingering { bytes_left: LINGER_LIMIT_BYTES };
        connection.progress = now;
        let linger = self.versions.get(connection.version).settings.timeouts.linger;
        self.deadlines.insert(key.slot, now.after(linger));
        self.advance(key, cx);
    }

    /// Ends a connection now: what is queued is dropped, what is in flight is made to end. Whoever has not been given all
    /// of an answer sees a reset: a FIN would say that this was all.
    pub(super) fn terminate(&mut self, key: Key, reason: CloseReason, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.stage != Stage::Joining {
            let stream = &mut connection.stream;
            let has_more = connection.stage == Stage::Open(Awaited::Room);
            let is_cut =
                reason != CloseReason::PeerReset && (has_more || !stream.output.is_empty());
            connection.stage = Stage::Joining;
            connection.reason = reason;
            let is_cancelled = self.suspensions.forget(key);
            self.pieces.clear(&mut stream.output, cx.buffers);
            if is_cut && stream.socket.is_some() {
                self.cut.insert(key.slot);
                if !is_cancelled {
                    stream.cancel(key, cx);
                }
            } else if stream.in_flight() {
                let operation = match &stream.socket {
                    Some(socket) => {
                        Operation::Shutdown { socket: Descriptor::of(socket), how: Shutdown::Both }
                    }
                    None => Operation::Cancel(Kind::Send),
                };
                cx.operations.push(key, operation);
            }
        }
        self.advance(key, cx);
    }

    /// Nothing is in flight any more: close and forget.
    pub(super) fn release(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(mut connection) = self.table.remove(key) else { return };
        self.deadlines.remove(key.slot);
        if let Some(noted) = self.notes.remove(key) {
            let ended = (connection.version, connection.reason, self.told(key));
            self.log(Some(noted), ended, cx);
        }
        self.waits.forget(key);
        self.timers.forget(key);
        self.mailboxes.close(key);
        let _ = self.held.take(key);
        let owes = self.takings.forget(key);
        let is_cut = !self.cut.is_empty() && self.cut.remove(&key.slot);
        self.forget_header(key);
        self.pieces.clear(&mut connection.stream.output, cx.buffers);
        self.close_session((connection.session, connection.version), connection.reason);
        let settings = &self.versions.get(connection.version).settings;
        settings.times.lifetime.add(cx.millis.age(connection.began));
        settings.limit.release(1);
        self.counted.release(key, &settings.admission);
        let resets = settings.admission.resets();
        self.versions.closed(connection.version);
        if let Some(socket) = connection.stream.socket {
            let operation = match connection.reason {
                // Whoever sends no header is not answered as if all were well.
                CloseReason::BadProxyHeader => Operation::Reset { socket },
                CloseReason::Refused if resets => Operation::Reset { socket },
                // What the kernel still has for it would be kept for as long as it likes to take it.
                CloseReason::WriteStall | CloseReason::SlowRead => Operation::Reset { socket },
                CloseReason::IdleTimeout if owes => Operation::Reset { socket },
                _ if is_cut => Operation::Reset { socket },
                _ => Operation::Close { socket },
            };
            cx.operations.push(key, operation);
        }
        self.closed += 1;
    }

    fn close_session(
        &self,
        (session, version): (Option<S::Session>, VersionId),
        reason: CloseReason,
    ) {
        self.metrics.count(counter(reason));
        if let Some(session) = session {
            let version = self.versions.get(version);
            let service = &version.settings.service;
            // The connection is over anyway.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                service.closed(session, &mut version.local(&self.mail), reason);
            }));
        }
    }
}

pub(super) fn counter(reason: CloseReason) -> Counter {
    match reason {
        CloseReason::PeerClosed => Counter::ClosedByPeer,
        CloseReason::PeerReset => Counter::ClosedByReset,
        CloseReason::ServiceClosed => Counter::ClosedByService,
        CloseReason::ServiceAborted => Counter::ClosedByAbort,
        CloseReason::ServicePanicked => Counter::ClosedByPanic,
        CloseReason::FileFailed => Counter::ClosedByFile,
        CloseReason::OutboxOverflow => Counter::ClosedByOverflow,
        CloseReason::FirstByteTimeout => Counter::ClosedByFirstByteTimeout,
        CloseReason::IdleTimeout => Counter::ClosedByIdleTimeout,
        CloseReason::WriteStall => Counter::ClosedByWriteStall,
        CloseReason::HeaderTimeout => Counter::ClosedByHeaderTimeout,
        CloseReason::SlowBody => Counter::ClosedBySlowBody,
        CloseReason::SlowRead => Counter::ClosedBySlowRead,
        CloseReason::Stopped => Counter::ClosedByStop,
        CloseReason::Operator => Counter::ClosedByOperator,
        CloseReason::Evicted => Counter::ClosedByEviction,
        CloseReason::DeadOnArrival => Counter::ClosedDeadOnArrival,
        CloseReason::Shed => Counter::ClosedByShed,
        CloseReason::BadProxyHeader => Counter::ClosedByBadProxyHeader,
        CloseReason::Refused => Counter::ClosedByRule,
    }
}
