//! What is queued for a peer leaves, one send at a time.

use std::time::Duration;

use super::Worker;
use super::connection::Stage;
use crate::connection::{Leaving, LoopContext, SEND_LIMIT_BYTES};
use crate::metrics::Counter;
use crate::ring::{Bytes, Descriptor, Key, Operation};
use crate::service::{CloseReason, Service};
use crate::sys::Errno;

/// A peer is slow to read if a send to it takes as long as this.
pub(super) const SLOW: Duration = Duration::from_millis(20);

impl<S: Service> Worker<S> {
    /// Starts sending what waits, if nothing is being sent. The last bytes of a connection on which nothing else is in
    /// flight go together with the FIN and the close.
    pub(super) fn send(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(connection) = self.table.get_mut(key) else { return };
        let is_idle = !connection.stream.sending && connection.stream.socket.is_some();
        if !is_idle || connection.stream.output.is_empty() {
            return;
        }
        let output = &connection.stream.output;
        let is_before_file = self.pieces.is_before_file(output);
        let Leaving { bytes, is_all, is_whole } =
            self.pieces.begin_send(output, cx.buffers, SEND_LIMIT_BYTES);
        let last = is_all
            && connection.stage == (Stage::Flushing { linger: false })
            // What is closed already cannot move to another process, and this may take long.
            && !self.is_slow
            && !matches!(bytes, Bytes::File(_))
            && !connection.stream.in_flight();
        // They share segments: a head and its file, the parts of a file. Its last part lets all go that they have held
        // back.
        let more = match &bytes {
            Bytes::File(_) => !is_whole,
            _ => is_before_file,
        };
        let socket = if last { connection.stream.socket.take() } else { None };
        let operation = match (socket, &connection.stream.socket) {
            (Some(socket), _) => Operation::SendAndClose { socket, bytes },
            (None, Some(socket)) => Operation::Send { socket: Descriptor::of(socket), bytes, more },
            (None, None) => return,
        };
        connection.stream.sending = true;
        connection.progress = now;
        cx.operations.push(key, operation);
    }

    /// A send has ended.
    pub(super) fn sent(
        &mut self,
        key: Key,
        result: Result<usize, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        let now = cx.millis;
        let Some(connection) = self.table.get_mut(key) else { return };
        // A connection that ends has nothing else left.
        self.pieces.sent(&mut connection.stream.output, cx.buffers, result.unwrap_or(0));
        if connection.stage == Stage::Joining {
            self.pieces.clear(&mut connection.stream.output, cx.buffers);
        }
        let bytes = match result {
            Ok(bytes) => bytes,
            // Nothing has gone yet, and nothing is wrong.
            Err(Errno::ECANCELED) if self.suspensions.has(key) => return self.advance(key, cx),
            Err(errno) if self.sends_file(key) && !errno.breaks_a_connection() => {
                return self.terminate(key, CloseReason::FileFailed, cx);
            }
            Err(_) => return self.terminate(key, CloseReason::PeerReset, cx),
        };
        self.metrics.count(Counter::Sends);
        self.metrics.add(Counter::SentBytes, bytes as u64);
        self.notes.sent(key, bytes);
        self.is_slow = now.since(connection.progress) >= SLOW;
        connection.progress = now;
        self.takings.sent(key, bytes);
        if connection.stream.socket.is_none() {
            // It went with the last bytes. Where some of them did not, the peer had gone.
            if !connection.stream.output.is_empty() {
                connection.reason = CloseReason::PeerReset;
            }
            self.release(key, cx);
        } else {
            self.advance(key, cx);
        }
        self.is_slow = false;
    }

    /// Whether part of a file is what is sent first, or what a send that has ended was of.
    fn sends_file(&self, key: Key) -> bool {
        self.table.get(key).is_some_and(|it| self.pieces.begins_with_file(&it.stream.output))
    }
}
