//! What becomes of operations in flight.

use super::super::{SPLICE_LIMIT_BYTES, Spliced};
use super::socket::{SocketId, Stage};
use super::world::{InFlight, Outcome, Payload, Raw, What, World};
use super::{Faults, Role};
use crate::sys::Errno;

impl World {
    /// Looks whether an operation can go on, and lets it.
    pub(super) fn attempt(&mut self, id: u64) {
        // It may have ended together with another.
        let Some(mut operation) = self.operations.remove(&id) else { return };
        operation.scheduled = false;
        match operation.what {
            What::Open => self.open(id, operation),
            What::Connect => self.connected(id, operation),
            What::Accept { .. } => self.accept(id, operation),
            What::Receive { .. } | What::Splice { .. } => self.receive(id, operation),
            What::Send { .. } => self.send(id, operation),
        }
    }

    pub(super) fn chance(&mut self, thousandths: u16) -> bool {
        Faults::happens(&mut self.rng, thousandths)
    }

    /// It waits for something.
    fn keep(&mut self, id: u64, operation: InFlight) {
        self.operations.insert(id, operation);
    }

    /// It brings something and goes on.
    fn shot(&mut self, id: u64, operation: InFlight, outcome: Outcome) {
        self.push(&operation, true, outcome);
        self.operations.insert(id, operation);
        self.schedule(id);
    }

    /// It brings something for the last time.
    fn end(&mut self, id: u64, operation: InFlight, outcome: Outcome) {
        if let Some(socket) = operation.socket {
            self.sockets[socket.0].in_flight.retain(|other| *other != id);
        }
        if let What::Splice { to, .. } = operation.what {
            self.sockets[to.0].spliced_to = false;
        }
        self.rings[operation.ring.0].in_flight -= 1;
        self.push(&operation, false, outcome);
    }

    fn push(&mut self, operation: &InFlight, more: bool, outcome: Outcome) {
        let socket = operation.socket.map_or(String::new(), |socket| format!("c{}", socket.0));
        self.note_ring(operation.ring, || {
            format!("<- {socket} {}{}", outcome.describe(), if more { ", more" } else { "" })
        });
        let queue = &mut self.rings[operation.ring.0];
        queue.progress |= outcome.is_progress();
        queue.ready.push_back(Raw { key: operation.key, more, outcome, socket: operation.socket });
    }

    /// Whether a multishot has to end with its next completion.
    fn is_last(&mut self, operation: &InFlight) -> bool {
        let queue = &self.rings[operation.ring.0];
        let full = queue.ready.len() + 1 >= queue.capacity;
        full || self.chance(self.faults.multishot_ends)
    }

    fn open(&mut self, id: u64, operation: InFlight) {
        let outcome = if self.chance(self.faults.open_fails) {
            Err(Errno::EMFILE)
        } else {
            let socket = self.add(Role::Fresh, None);
            Ok(self.give_out(socket))
        };
        self.end(id, operation, Outcome::Opened(outcome));
    }

    fn connected(&mut self, id: u64, operation: InFlight) {
        let stream = self.stream(operation.socket.expect("a connect has a socket"));
        let outcome = match stream.stage {
            Stage::Established => Ok(()),
            Stage::Failed(errno) => Err(errno),
            Stage::Connecting if stream.shut_write || stream.shut_read => Err(Errno::ECONNRESET),
            Stage::Connecting if operation.cancelled => Err(Errno::ECANCELED),
            Stage::Connecting => return self.keep(id, operation),
        };
        self.end(id, operation, Outcome::Connected(outcome));
    }

    fn accept(&mut self, id: u64, operation: InFlight) {
        let listener = operation.socket.expect("an accept has a socket");
        if let Some(errno) = self.refusal(listener) {
            return self.end(id, operation, Outcome::Accepted(Err(errno)));
        }
        let is_empty = self.sockets[listener.0].listening().is_none_or(|l| l.queue.is_empty());
        if operation.cancelled && (is_empty || !self.chance(self.faults.cancel_loses)) {
            return self.end(id, operation, Outcome::Accepted(Err(Errno::ECANCELED)));
        }
        if is_empty {
            return self.keep(id, operation);
        }
        let waiting = self.sockets[listener.0].listening().and_then(|l| l.queue.pop_front());
        let Some(waiting) = waiting else { return };
        if self.chance(self.faults.accept_loses) {
            self.break_off(waiting);
            let errno = Faults::loss(&mut self.rng);
            return self.end(id, operation, Outcome::Accepted(Err(errno)));
        }
        if self.stream(waiting).own {
            self.violate(|| "a ring accepts what a ring has connected".into());
        }
        let socket = self.give_out(waiting);
        let now = self.now;
        self.stream(waiting).moved_at = now;
        self.note_ring(operation.ring, || format!("accepts c{}", waiting.0));
        let many = matches!(operation.what, What::Accept { many: true });
        if many && !self.is_last(&operation) {
            self.shot(id, operation, Outcome::Accepted(Ok(socket)));
        } else {
            self.end(id, operation, Outcome::Accepted(Ok(socket)));
        }
    }

    /// Why an accept fails without touching the queue, if it does.
    fn refusal(&mut self, listener: SocketId) -> Option<Errno> {
        let now = self.now;
        let runs_out = self.chance(self.faults.accept_shortage);
        let interrupted = self.chance(self.faults.accept_interrupted);
        let errno = Faults::shortage(&mut self.rng);
        let until = now + std::time::Duration::from_micros(self.rng.u64(1..200_000));
        let listening = self.sockets[listener.0].listening()?;
        if listening.broken.is_some() {
            return listening.broken;
        }
        if runs_out && listening.shortage.is_none() {
            listening.shortage = Some((until, errno));
        }
        listening.shortage = listening.shortage.filter(|(until, _)| *until > now);
        let shortage = listening.shortage.map(|(_, errno)| errno);
        shortage.or(interrupted.then_some(Errno::EINTR))
    }

    fn receive(&mut self, id: u64, operation: InFlight) {
        let socket = operation.socket.expect("a receive has a socket");
        let no_buffer = self.rings[operation.ring.0].lent.is_empty();
        if no_buffer && operation.what.takes_buffer() {
            return self.received(id, operation, Err(Errno::ENOBUFS));
        }
        let loses = self.chance(self.faults.cancel_loses);
        let stream = self.stream(socket);
        let readable = stream.is_readable();
        match stream.stage {
            Stage::Connecting if !stream.shut_read => return self.keep(id, operation),
            Stage::Failed(errno) => return self.received(id, operation, Err(errno)),
            Stage::Connecting | Stage::Established => {}
        }
        if operation.cancelled && !(readable && loses) {
            return self.received(id, operation, Err(Errno::ECANCELED));
        }
        if !readable && !stream.shut_read {
            return self.keep(id, operation);
        }
        if stream.shut_read && !(readable && loses) {
            stream.fin_seen = true;
            return self.received(id, operation, Ok(Vec::new()));
        }
        self.receive_something(id, operation, socket);
    }

    fn receive_something(&mut self, id: u64, operation: InFlight, socket: SocketId) {
        let starves = self.chance(self.faults.receive_starves);
        if starves && operation.what.takes_buffer() {
            return self.received(id, operation, Err(Errno::ENOBUFS));
        }
        if self.chance(self.faults.breaks) {
            self.break_off(socket);
        }
        let short = self.chance(self.faults.receive_short);
        let room = if operation.what.takes_buffer() {
            self.rings[operation.ring.0].buffer_bytes
        } else {
            SPLICE_LIMIT_BYTES
        };
        let draw = self.rng.usize(..);
        let stream = self.stream(socket);
        let waiting = stream.incoming.bytes.len();
        if waiting == 0 {
            stream.fin_seen = true;
            let outcome = if stream.reset { Err(Errno::ECONNRESET) } else { Ok(Vec::new()) };
            return self.received(id, operation, outcome);
        }
        let most = waiting.min(room);
        let count = if short { 1 + draw % most } else { most };
        let bytes = stream.incoming.take(count);
        self.tell(socket);
        self.received(id, operation, Ok(bytes));
    }

    /// A receive brings bytes, or ends; without bytes at the FIN.
    fn received(&mut self, id: u64, mut operation: InFlight, result: Result<Vec<u8>, Errno>) {
        let brings = result.as_ref().map_or(0, Vec::len);
        let outcome = match (&operation.what, result) {
            (What::Splice { pipe, to }, result) => {
                let (pipe, to) = (*pipe, *to);
                Outcome::Spliced(result.map(|bytes| self.pass_on(to, bytes)), pipe)
            }
            (_, Ok(bytes)) if brings > 0 => {
                let buffer = self.rings[operation.ring.0].lent.pop();
                Outcome::Received(Ok(Some((buffer.expect("it was looked for"), bytes))))
            }
            (_, result) => Outcome::Received(result.map(|_| None)),
        };
        let spent = match &mut operation.what {
            What::Receive { many: true, left } if brings > 0 => {
                *left = left.saturating_sub(brings);
                *left == 0
            }
            _ => true,
        };
        if spent || self.is_last(&operation) {
            self.end(id, operation, outcome);
        } else {
            self.shot(id, operation, outcome);
        }
    }

    /// What has come into a pipe goes on as far as there is room, or less far.
    fn pass_on(&mut self, to: SocketId, mut bytes: Vec<u8>) -> (Spliced, Vec<u8>) {
        let len = bytes.len();
        if len > 0 && self.chance(self.faults.breaks / 2) {
            self.break_off(to);
        }
        let (short, draw) = (self.chance(self.faults.receive_short), self.rng.usize(..));
        let stream = self.stream(to);
        let sent = match stream.stage {
            _ if len == 0 => Ok(0),
            Stage::Failed(errno) => Err(errno),
            _ if stream.reset => Err(Errno::ECONNRESET),
            _ if stream.shut_write => Err(Errno::EPIPE),
            _ if stream.far_closed => {
                // As with a send.
                self.break_off(to);
                Ok(len)
            }
            Stage::Connecting | Stage::Established => {
                let room = stream.outgoing.room().min(len);
                let count = if short { draw % (room + 1) } else { room };
                stream.outgoing.bytes.extend(&bytes[..count]);
                Ok(count)
            }
        };
        if sent.is_ok_and(|count| count > 0) {
            self.tell(to);
        }
        bytes.drain(..sent.unwrap_or(0));
        (Spliced { len, sent }, bytes)
    }

    fn send(&mut self, id: u64, mut operation: InFlight) {
        let socket = operation.socket.expect("a send has a socket");
        if self.chance(self.faults.breaks / 2) {
            self.break_off(socket);
        }
        let (short, draw) = (self.chance(self.faults.receive_short), self.rng.usize(..));
        let stream = self.sockets[socket.0].stream().expect("a send is on a stream");
        let What::Send { payload, sent, .. } = &mut operation.what else { return };
        let left = payload.bytes().len() - *sent;
        let failure = match stream.stage {
            Stage::Connecting if operation.cancelled => Some(Errno::ECANCELED),
            Stage::Connecting => return self.keep(id, operation),
            Stage::Failed(errno) => Some(errno),
            Stage::Established if stream.reset => Some(Errno::ECONNRESET),
            Stage::Established if stream.shut_write => Some(Errno::EPIPE),
            Stage::Established if operation.cancelled => Some(Errno::ECANCELED),
            Stage::Established if left == 0 => Some(Errno::ENODATA),
            Stage::Established => None,
        };
        if let Some(errno) = failure {
            // A cancel does not lose count of the bytes, unless they are in a pipe.
            let counts = errno == Errno::ECANCELED && !matches!(payload, Payload::Pipe(..));
            let partial = *sent > 0 && (counts || draw % 2 == 0);
            let outcome = if partial { Ok(*sent) } else { Err(errno) };
            return self.sent(id, operation, outcome);
        }
        if stream.far_closed {
            // The kernel takes the bytes, and the answer to them is a reset.
            let all = payload.bytes().len();
            self.break_off(socket);
            return self.sent(id, operation, Ok(all));
        }
        let room = stream.outgoing.room().min(left);
        if room == 0 {
            return self.keep(id, operation);
        }
        let count = if short { 1 + draw % room } else { room };
        stream.outgoing.bytes.extend(&payload.bytes()[*sent..*sent + count]);
        *sent += count;
        let (gone, is_file) = (*sent, matches!(payload, Payload::File(_)));
        self.tell(socket);
        if count == left || is_file {
            self.sent(id, operation, Ok(gone));
        } else {
            self.operations.insert(id, operation);
            self.schedule(id);
        }
    }

    /// A send ends; if it is to close, it does so however it has ended.
    fn sent(&mut self, id: u64, operation: InFlight, result: Result<usize, Errno>) {
        let InFlight { ring, key, socket, what, cancelled, scheduled } = operation;
        let What::Send { payload, close, .. } = what else { return };
        let rest = InFlight { ring, key, socket, what: What::Open, cancelled, scheduled };
        self.end(id, rest, Outcome::Sent(result, payload));
        if let Some(socket) = socket.filter(|_| close) {
            self.closed_by_ring(socket);
        }
    }
}

impl Outcome {
    /// Whether it is more than the lack of something.
    fn is_progress(&self) -> bool {
        match self {
            Self::Accepted(result) => result.is_ok(),
            Self::Received(result) => !matches!(result, Err(Errno::ENOBUFS)),
            Self::Opened(result) => result.is_ok(),
            Self::Connected(_) | Self::Spliced(..) | Self::Sent(..) => true,
        }
    }

    fn describe(&self) -> String {
        let failed = |errno: &Errno| errno.name().to_owned();
        match self {
            Self::Opened(result) => {
                format!("Open {}", result.as_ref().map_or_else(failed, |_| "ok".into()))
            }
            Self::Connected(result) => {
                format!("Connect {}", result.as_ref().map_or_else(failed, |()| "ok".into()))
            }
            Self::Accepted(result) => {
                format!("Accept {}", result.as_ref().map_or_else(failed, |_| "ok".into()))
            }
            Self::Received(Ok(Some((_, bytes)))) => format!("Receive {} bytes", bytes.len()),
            Self::Received(Ok(None)) => "Receive end".into(),
            Self::Received(Err(errno)) => format!("Receive {}", errno.name()),
            Self::Spliced(Ok((Spliced { len, sent: Ok(sent) }, _)), _) => {
                format!("Splice {len} bytes, {sent} of them on")
            }
            Self::Spliced(Ok((Spliced { len, sent: Err(errno) }, _)), _) => {
                format!("Splice {len} bytes, {} behind them", errno.name())
            }
            Self::Spliced(Err(errno), _) => format!("Splice {}", errno.name()),
            Self::Sent(Ok(bytes), _) => format!("Send {bytes} bytes"),
            Self::Sent(Err(errno), _) => format!("Send {}", errno.name()),
        }
    }
}
