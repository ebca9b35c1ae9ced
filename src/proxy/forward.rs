//! Bytes and FINs from one end to the other.

use std::net::Shutdown;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Stage};
use crate::connection::{Leaving, LoopContext, Receiving, SEND_LIMIT_BYTES, shots};
use crate::metrics::Counter;
use crate::ring::{Buffer, Descriptor, Key, Operation, Received};
use crate::sys::Errno;

impl Proxy {
    /// A receive has brought something.
    pub(super) fn received(
        &mut self,
        key: Key,
        end: End,
        result: Result<Received, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        let Some(pair) = self.table.get_mut(key) else { return };
        match result {
            Ok(Received::Bytes { buffer, len }) => self.bytes(key, end, (buffer, len), cx),
            Ok(Received::End) => self.fin(key, end, cx),
            Err(Errno::ENOBUFS) if pair.stage != Stage::Joining => {
                self.metrics.count(Counter::Starved);
                pair.side(end).stream.receiving = Receiving::Starved;
                cx.starved.push(end.key(key));
            }
            // Nobody cancels a receive but whoever ends the pair or suspends it.
            Err(Errno::ECANCELED) => self.touch(key),
            Err(_) => self.broken(key, end, cx),
        }
    }

    /// An end has sent its FIN.
    pub(super) fn fin(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        let joining = pair.stage == Stage::Joining;
        let (from, to) = pair.ends(end);
        from.stream.ended = true;
        // The first of the two FINs is the reason, unless there is another.
        if !to.stream.ended && !joining {
            pair.ended = if end == End::Client { Ended::Client } else { Ended::Backend };
        }
        pair.progress = now;
        self.touch(key);
    }

    fn bytes(
        &mut self,
        key: Key,
        end: End,
        (buffer, len): (Buffer, usize),
        cx: &mut LoopContext<'_>,
    ) {
        if !self.note_bytes(key, end, len, cx) {
            return cx.buffers.recycle(buffer);
        }
        let Some(pair) = self.table.get_mut(key) else { return };
        if pair.stage == Stage::Preread {
            return self.take_preread(key, (buffer, len), cx);
        }
        let (_, to) = pair.ends(end);
        let part = (buffer, 0..len);
        self.pieces.push_input(&mut to.stream.output, cx.buffers, part);
        self.judge_receive(key, end, len, cx);
        self.touch(key);
    }

    /// Counts bytes that have come; false if the pair is over and nobody wants them.
    pub(super) fn note_bytes(
        &mut self,
        key: Key,
        end: End,
        len: usize,
        cx: &mut LoopContext<'_>,
    ) -> bool {
        self.metrics.count(Counter::Receives);
        self.metrics.add(Counter::ReceivedBytes, len as u64);
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return false };
        if pair.stage == Stage::Joining {
            self.touch(key);
            return false;
        }
        let is_first = !std::mem::replace(&mut pair.side(end).stream.spoken, true);
        pair.bytes[end as usize] += len as u64;
        pair.asked = end == End::Client;
        if end == End::Backend && is_first {
            let times = &self.versions.get(pair.version).settings.times;
            times.first_byte.add(now.age(pair.began));
            if let Some(detail) = &mut pair.detail {
                detail.times.first_byte = Some(cx.now);
            }
        }
        // A client that drips what is read first makes no progress by that.
        if pair.stage != Stage::Preread {
            pair.progress = now;
        }
        true
    }

    /// A send has ended.
    pub(super) fn sent(
        &mut self,
        key: Key,
        end: End,
        result: Result<usize, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        let now = cx.millis;
        let suspends = self.suspension.has(key);
        let Some(pair) = self.table.get_mut(key) else { return };
        let stage = pair.stage;
        let side = pair.side(end);
        side.stream.sending = false;
        let asked = self.pieces.lent(&side.stream.output, SEND_LIMIT_BYTES);
        self.pieces.sent(&mut side.stream.output, cx.buffers, result.unwrap_or(0));
        match result {
            _ if stage == Stage::Joining => {
                self.pieces.clear(&mut side.stream.output, cx.buffers);
                self.touch(key);
            }
            Ok(bytes) => {
                self.metrics.count(Counter::Sends);
                self.metrics.add(Counter::SentBytes, bytes as u64);
                if suspends && bytes < asked {
                    // Cancelled. When these bytes went, nobody knows; what was seen of it counts already.
                    return self.touch(key);
                }
                (side.send_began, pair.progress) = (now, now);
                // It has met a reset, and taken it away from the receive: that one brings an end, which the
                // other end of the pair must not take for one.
                if bytes < asked {
                    return self.broken(key, end, cx);
                }
                self.touch(key);
            }
            Err(Errno::ECANCELED) if suspends => self.touch(key),
            Err(_) => self.broken(key, end, cx),
        }
    }

    /// An end has reset its connection, or the network broke it: so is the other one.
    pub(super) fn broken(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) {
        let ended = match end {
            End::Client if self.is_silent(key) => return self.cut_short(key, cx),
            End::Client => Ended::ClientReset,
            End::Backend => Ended::BackendReset,
        };
        self.fail(key, ended, cx);
    }

    /// Moves what is there to be moved, both ways.
    pub(super) fn forward(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if pair.is_through() {
            let ended = pair.ended;
            return self.terminate(key, ended, cx);
        }
        for end in End::BOTH {
            self.send(key, end, cx);
            self.pass_fin(key, end, cx);
            self.receive(key, end, cx);
        }
    }

    /// Starts sending the first piece that waits for an end, if none is being sent. When the other
    /// end's FIN has come too, the last piece is held back for the FIN, so that both leave in one
    /// segment.
    fn send(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        let (to, from) = pair.ends(end);
        let Some(socket) = &to.stream.socket else { return };
        if to.stream.sending || to.stream.output.is_empty() {
            return;
        }
        let Leaving { bytes, is_all, .. } =
            self.pieces.begin_single_send(&to.stream.output, cx.buffers, SEND_LIMIT_BYTES);
        let more = from.stream.ended && is_all;
        to.stream.sending = true;
        to.send_began = now;
        let socket = Descriptor::of(socket);
        cx.operations.push(end.key(key), Operation::Send { socket, bytes, more });
    }

    /// Sends a FIN to an end once the other end's has come and everything before it has been sent.
    fn pass_fin(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let (to, from) = pair.ends(end);
        let Some(socket) = &to.stream.socket else { return };
        if to.shut || !from.stream.ended || to.stream.sending || !to.stream.output.is_empty() {
            return;
        }
        to.shut = true;
        let socket = Descriptor::of(socket);
        let how = Shutdown::Write;
        cx.operations.push(end.key(key), Operation::Shutdown { socket, how });
    }

    /// Asks an end for more, unless that is asked already, or enough waits for the other end.
    ///
    /// The first receive of a client is single: most first messages are short. A backend's has many
    /// shots from the start, because its FIN then comes with its last bytes.
    pub(super) fn receive(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) {
        if self.splice(key, end, cx) {
            return;
        }
        let Some(pair) = self.table.get_mut(key) else { return };
        let budget = self.versions.get(pair.version).settings.budget_bytes;
        let (from, to) = pair.ends(end);
        let Some(socket) = from.stream.readable() else { return };
        let many = self.receive_credit && (from.stream.spoken || end == End::Backend);
        if let Some(shots) = shots(&to.stream.output, budget, many, cx.buffers) {
            from.stream.arm(end.key(key), (socket, shots), cx);
        }
    }
}
