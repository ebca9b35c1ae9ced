//! Requests out, answers in.

use std::net::Shutdown;
use std::os::fd::AsFd;

use super::{Client, Turn};
use crate::load::outcome::{Fault, Phase};
use crate::load::plan::Mode;
use crate::load::protocol::Whole;
use crate::load::session::{Sending, Stage};
use crate::ring::{Buffer, BufferPool, Bytes, Descriptor, Key, Operation, Received, Shots};
use crate::sys::{self, Errno};

/// What one receive of many may bring before it is armed again.
const CREDIT_BYTES: u32 = 1 << 30;

impl Client {
    /// Sends the requests that have not gone out, as many as go at once, and asks for the answer.
    pub(super) fn transmit(&mut self, key: Key, buffers: &mut BufferPool, turn: &mut Turn<'_>) {
        let protocol = self.protocol;
        let Some(session) = self.get(key) else { return };
        let Some(socket) = session.socket.as_ref() else { return };
        if session.sending.is_some() || session.unsent == 0 || session.send_error.is_some() {
            return;
        }
        // The server may have closed it, or said something, and the ring has not told of it yet.
        if session.was_idle(turn.now) && sys::peek(socket.as_fd()) != Err(Errno::EAGAIN) {
            return self.retire(key, turn);
        }
        let socket = Descriptor::of(socket);
        session.idle_since = None;
        let unsent = session.exchanges.len() - session.unsent;
        let exchanges = session.exchanges.range(unsent..);
        let mut requests =
            exchanges.map(|exchange| protocol.request(exchange.number, exchange.is_last));
        let first = requests.next().unwrap_or_default();
        let gathered = gather(first, requests, buffers);
        session.unsent -= gathered.as_ref().map_or(1, |gathered| gathered.requests);
        let bytes = match &gathered {
            Some(Gathered { buffer, len, .. }) => Bytes::Pool(buffers.range(buffer, 0..*len)),
            None => Bytes::Static(first),
        };
        if !bytes.is_empty() {
            let planned = session.exchanges[unsent].times.planned;
            let buffer = gathered.map(|gathered| gathered.buffer);
            session.sending = Some(Sending { buffer, bytes: bytes.clone(), sent: 0, planned });
            turn.operations.push(key, Operation::Send { socket, bytes, more: false });
        }
        self.send_fin_behind_the_last(key, turn);
        self.receive(key, turn);
    }

    pub(super) fn receive(&mut self, key: Key, turn: &mut Turn<'_>) {
        let many = self.receive_many;
        let Some(session) = self.get(key) else { return };
        let (Some(socket), false) = (&session.socket, session.receiving) else { return };
        if session.peer_finished {
            return;
        }
        let shots = if many { Shots::Many { credit_bytes: CREDIT_BYTES } } else { Shots::Once };
        let operation = Operation::Receive { socket: Descriptor::of(socket), shots };
        session.receiving = true;
        turn.operations.push(key, operation);
    }

    /// Where the plan says so, our FIN goes out when the last request has.
    pub(super) fn send_fin_behind_the_last(&mut self, key: Key, turn: &mut Turn<'_>) {
        let sends_fin = self.sends_fin;
        let Some(session) = self.get(key) else { return };
        let is_last = session.exchanges.back().is_some_and(|last| last.is_last);
        let all_sent = session.unsent == 0 && session.sending.is_none() && !session.connecting;
        if !sends_fin || !is_last || !all_sent || session.finished {
            return;
        }
        if let Some(socket) = &session.socket {
            let socket = Descriptor::of(socket);
            session.finished = true;
            turn.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Write });
        }
    }

    pub(super) fn sent(
        &mut self,
        key: Key,
        result: Result<usize, Errno>,
        buffers: &mut BufferPool,
        turn: &mut Turn<'_>,
    ) {
        let streaming = matches!(self.plan.mode, Mode::Stream { echo: false });
        let is_http = self.plan.http.is_some();
        let Some(session) = self.get(key) else { return };
        let Some(mut sending) = session.sending.take() else { return };
        let (planned, taken) = (sending.planned, result.unwrap_or(0));
        if let (Some(bytes), Some(socket)) = (sending.go_on(taken, buffers), &session.socket) {
            // An error came behind what was taken. The rest meets it.
            let socket = Descriptor::of(socket);
            session.sending = Some(sending);
            turn.operations.push(key, Operation::Send { socket, bytes, more: false });
            return self.recorder.sent(planned, taken);
        }
        self.recorder.sent(planned, taken);
        sending.buffer.into_iter().for_each(|buffer| buffers.recycle(buffer));
        let errno = match result {
            Ok(_) => {
                if streaming {
                    return self.answered(key, Whole::PLAIN, turn);
                }
                self.transmit(key, buffers, turn);
                return self.send_fin_behind_the_last(key, turn);
            }
            Err(errno) => errno,
        };
        let Some(session) = self.get(key) else { return };
        // The connect that the send waited for tells more, and an operation with its answer is over.
        if session.connecting || session.exchanges.is_empty() {
            return;
        }
        // An HTTP server may answer before it has read everything, and close: that comes yet.
        let is_gone = [Errno::EPIPE, Errno::ECONNRESET].contains(&errno);
        if is_http && is_gone && session.receiving {
            session.send_error = Some(errno);
            return;
        }
        self.fail(key, (Phase::Send, Fault::Errno(errno)), turn);
    }

    pub(super) fn received(
        &mut self,
        key: Key,
        result: Result<Received, Errno>,
        buffers: &mut BufferPool,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(Received::Bytes { buffer, len }) => {
                self.take(key, buffers.bytes(&buffer, 0..len), turn);
                buffers.recycle(buffer);
            }
            Ok(Received::End) => self.ended(key, turn),
            Err(Errno::ENOBUFS) => self.receive(key, turn),
            Err(errno) => {
                let Some(session) = self.get(key) else { return };
                // The connect that the receive waited for tells more.
                if !session.connecting {
                    self.reset(key, errno, turn);
                }
            }
        }
    }

    /// Bytes have come: the end of one answer may be the beginning of the next.
    fn take(&mut self, key: Key, mut bytes: &[u8], turn: &mut Turn<'_>) {
        let protocol = self.protocol;
        while !bytes.is_empty() {
            let Some(session) = self.get(key) else { return };
            if session.unanswered().is_none() {
                return self.unasked(key, bytes, turn);
            }
            let exchange = &mut session.exchanges[0];
            let number = exchange.number;
            let planned = exchange.times.planned;
            let reply = session.reply.get_or_insert_with(|| protocol.reply(number));
            if !reply.has_begun() {
                exchange.times.first_byte = Some(turn.now);
            }
            let taken = reply.take(&protocol, number, bytes);
            let outstanding = session.outstanding();
            let (len, whole) = match taken {
                Ok(taken) => taken,
                Err(fault) => {
                    self.recorder.received(planned, bytes.len());
                    return self.fail(key, (Phase::Receive, fault), turn);
                }
            };
            self.recorder.received(planned, len);
            bytes = &bytes[len..];
            match whole {
                Some(_) if outstanding == 1 && !bytes.is_empty() => {
                    return self.fail(key, (Phase::Verify, protocol.unasked()), turn);
                }
                Some(whole) => self.answered(key, whole, turn),
                None => {}
            }
        }
        self.receive(key, turn);
    }

    /// Bytes have come that no request has asked for.
    fn unasked(&mut self, key: Key, bytes: &[u8], turn: &mut Turn<'_>) {
        let fault = self.protocol.unasked();
        let Some(session) = self.get(key) else { return };
        if session.outstanding() > 0 {
            return self.fail(key, (Phase::Verify, fault), turn);
        }
        // What a server still sends on a connection that is over is nobody's answer.
        if session.stage != Stage::Ending {
            self.retire(key, turn);
        }
        self.receive(key, turn);
        self.listen(key, bytes, turn);
    }
}

/// Requests that go out together.
struct Gathered {
    buffer: Buffer,
    len: usize,
    requests: usize,
}

/// Copies small requests that wait behind each other into one buffer; `None` if there is only one, or
/// no room.
fn gather<'a>(
    first: &'a [u8],
    rest: impl Iterator<Item = &'a [u8]>,
    buffers: &mut BufferPool,
) -> Option<Gathered> {
    let mut rest = rest.peekable();
    let most = buffers.buffer_bytes();
    let fits = |len: usize, next: &&[u8]| len + next.len() <= most;
    rest.peek().filter(|next| fits(first.len(), next))?;
    let mut buffer = buffers.take()?;
    buffers.write(&mut buffer, 0, first);
    let (mut len, mut requests) = (first.len(), 1);
    while let Some(next) = rest.next_if(|next| fits(len, next)) {
        buffers.write(&mut buffer, len, next);
        len += next.len();
        requests += 1;
    }
    Some(Gathered { buffer, len, requests })
}
