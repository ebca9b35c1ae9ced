//! How operations and connections of the generator end.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::{Client, Turn};
use crate::load::outcome::{Fault, Phase};
use crate::load::plan::{CloseStyle, Mode};
use crate::load::protocol::Whole;
use crate::load::session::{Exchange, Session, Stage, phase_of};
use crate::ring::{Descriptor, Key, Kind, Operation};
use crate::sys::Errno;

/// How long a connection that is over waits for the server's FIN, or for what is in flight, before it
/// is closed all the same.
const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// How long the FIN of a server may take that has said it closes. Servers send it with the answer; one
/// that waits for the client to close first (RFC 9112, section 9.6) must not hold up the next request.
const FIN_LIMIT: Duration = Duration::from_millis(20);

impl Client {
    /// The server's FIN has come.
    pub(super) fn ended(&mut self, key: Key, turn: &mut Turn<'_>) {
        let (accept, protocol) = (self.plan.mode == Mode::Accept, self.protocol);
        let Some(session) = self.get(key) else { return };
        session.receiving = false;
        // The completion of the connect may come last. If it failed, it ended the receive and tells
        // why; if not, this is the server's FIN.
        if session.connecting {
            session.ended_early = true;
            return;
        }
        // The kernel tells a reset once, here to the connect or to a send. What it tells a receive
        // from then on is the end.
        if session.send_error == Some(Errno::ECONNRESET) {
            return self.reset(key, Errno::ECONNRESET, turn);
        }
        session.peer_finished = true;
        let Some(first) = session.exchanges.front_mut() else {
            return self.closed_by_server(key, turn);
        };
        if first.times.answered.is_some() {
            return self.succeed(key, turn);
        }
        if accept {
            first.times.first_byte = Some(turn.now);
            return self.answered(key, Whole::PLAIN, turn);
        }
        let number = first.number;
        let whole = session.reply.as_mut().map(|reply| reply.end(&protocol, number));
        match whole {
            Some(Ok(whole)) => self.answered(key, whole, turn),
            Some(Err(fault)) => self.fail(key, (Phase::Receive, fault), turn),
            None => self.lost(key, Fault::EarlyEnd, turn),
        }
    }

    /// The connection was reset, or has broken otherwise.
    pub(super) fn reset(&mut self, key: Key, errno: Errno, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        session.peer_finished = true;
        let fault = Fault::Errno(errno);
        match session.exchanges.front() {
            None => self.closed_by_server(key, turn),
            Some(first) if first.times.answered.is_some() => {
                self.fail(key, (Phase::Close, fault), turn);
            }
            Some(_) => self.lost(key, fault, turn),
        }
    }

    /// The first answer is complete: the connection goes on, or ends in the style of the plan or as the
    /// server says.
    pub(super) fn answered(&mut self, key: Key, whole: Whole, turn: &mut Turn<'_>) {
        let (style, stopping) = (self.plan.close, self.stopping);
        let Some(session) = self.get(key) else { return };
        let Some(first) = session.exchanges.front_mut() else { return };
        first.times.answered = Some(turn.now);
        let Exchange { times, is_last, .. } = *first;
        session.reply = None;
        session.answers += 1;
        let (has_fin, keeps) = (session.peer_finished, whole.keeps && !session.peer_finished);
        let keeps = keeps && session.send_error.is_none();
        if let Some((status, body_bytes)) = whole.http {
            self.recorder.answer(times.planned, status, body_bytes);
        }
        let awaits_fin = is_last && matches!(style, CloseStyle::Server | CloseStyle::Half);
        if awaits_fin && !has_fin && whole.verdict.is_ok() {
            // The operation is over with the server's FIN.
            self.end(key, turn.now);
            return self.receive(key, turn);
        }
        match whole.verdict {
            Ok(()) => self.succeed(key, turn),
            Err(fault) => self.record_failure(key, (Phase::Verify, fault), turn.now),
        }
        let Some(session) = self.get(key) else { return };
        if awaits_fin {
            self.await_fin(key, turn);
        } else if is_last || (stopping && session.exchanges.is_empty() && keeps) {
            self.end(key, turn.now);
        } else if keeps {
            self.rest(key, turn.now);
        } else {
            session.announced = Some(turn.now);
            self.move_on(key, turn);
            self.await_fin(key, turn);
            if has_fin {
                self.closed_by_server(key, turn);
            }
        }
    }

    /// The first operation has succeeded.
    fn succeed(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if let Some(Exchange { times, .. }) = session.exchanges.pop_front() {
            self.under_way -= 1;
            self.recorder.completed(&times, turn.now);
        }
    }

    fn record_failure(&mut self, key: Key, (phase, fault): (Phase, Fault), now: Instant) {
        let Some(session) = self.get(key) else { return };
        session.reply = None;
        let Some(Exchange { times, .. }) = session.exchanges.pop_front() else { return };
        session.unsent = session.unsent.min(session.exchanges.len());
        self.under_way -= 1;
        self.recorder.failed(&times, (phase_of(fault, phase), fault), now);
    }

    /// The connection is gone, and no byte of the first answer has come. On a kept connection that is
    /// the server's right (RFC 9112, section 9.3.1), and the request goes out again.
    fn lost(&mut self, key: Key, fault: Fault, turn: &mut Turn<'_>) {
        let protocol = self.protocol;
        let Some(session) = self.get(key) else { return };
        let Some(first) = session.exchanges.front() else { return };
        let was_kept = session.answers > 0 && session.reply.is_none();
        let is_sent = session.outstanding() > 0;
        if is_sent && !(was_kept && protocol.may_resend(first.number)) {
            let (planned, phase) = (first.times.planned, session.phase());
            let at = match session.send_error {
                Some(errno) if session.reply.is_none() => (Phase::Send, Fault::Errno(errno)),
                _ => (phase, fault),
            };
            if was_kept {
                self.recorder.not_resent(planned);
            }
            return self.fail(key, at, turn);
        }
        self.recorder.closed_by_server(turn.now);
        self.move_on(key, turn);
        self.end(key, turn.now);
        self.unblock(key, turn);
    }

    /// Fails the first operation and ends the connection; those behind it go to another one.
    pub(super) fn fail(&mut self, key: Key, at: (Phase, Fault), turn: &mut Turn<'_>) {
        self.record_failure(key, at, turn.now);
        self.move_on(key, turn);
        self.end(key, turn.now);
        self.unblock(key, turn);
    }

    /// Fails all operations of a connection that did not come about, or on which nothing happens.
    pub(super) fn fail_all(&mut self, key: Key, at: (Phase, Fault), turn: &mut Turn<'_>) {
        while self.get(key).is_some_and(|session| !session.exchanges.is_empty()) {
            self.record_failure(key, at, turn.now);
        }
        self.end(key, turn.now);
        self.unblock(key, turn);
    }

    /// Sends the operations of a connection that is over again, on a new one; or fails them, where the
    /// server may have acted on them and must not twice, or where that went on for too long.
    pub(super) fn move_on(&mut self, key: Key, turn: &mut Turn<'_>) {
        let (protocol, timeouts) = (self.protocol, self.plan.timeouts);
        let Some(session) = self.get(key) else { return };
        let (mut moved, mut failed) = (Vec::new(), Vec::new());
        let sent = session.outstanding();
        let mut resent = 0;
        for (index, exchange) in session.exchanges.drain(..).enumerate() {
            let age = turn.now.saturating_duration_since(exchange.times.started);
            if index < sent && !protocol.may_resend(exchange.number) {
                failed.push((exchange, Fault::EarlyEnd));
            } else if age > timeouts.connect + timeouts.response {
                failed.push((exchange, Fault::TimedOut));
            } else {
                resent += usize::from(index < sent);
                moved.push(exchange);
            }
        }
        session.unsent = 0;
        self.under_way -= failed.len() as u64;
        for (Exchange { times, .. }, fault) in failed {
            if fault == Fault::EarlyEnd {
                self.recorder.not_resent(times.planned);
            }
            self.recorder.failed(&times, (Phase::Receive, fault), turn.now);
        }
        let Some(first) = moved.first() else { return };
        self.recorder.resent(first.times.planned, resent);
        let new = self.open(turn.now, turn);
        for exchange in moved {
            self.assign(new, Exchange { since: turn.now, ..exchange });
        }
    }

    /// Takes no operation any more.
    pub(super) fn end(&mut self, key: Key, now: Instant) {
        self.unlist(key);
        let Some(session) = self.get(key) else { return };
        session.stage = Stage::Ending;
        session.ending_since.get_or_insert(now);
    }

    /// The server has said that it closes; it comes first, so that TIME_WAIT is not ours.
    pub(super) fn await_fin(&mut self, key: Key, turn: &mut Turn<'_>) {
        self.end(key, turn.now);
        if let Some(session) = self.get(key) {
            session.awaits_fin = true;
        }
        self.receive(key, turn);
    }

    /// Makes what is in flight end.
    pub(super) fn unblock(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if session.connecting {
            turn.operations.push(key, Operation::Cancel(Kind::Connect));
        }
        if let (Some(socket), true) = (&session.socket, session.in_flight()) {
            let socket = Descriptor::of(socket);
            turn.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Both });
        }
    }

    /// Closes a connection whose operations are over and on which nothing is in flight.
    pub(super) fn settle(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if session.stage != Stage::Ending || !session.exchanges.is_empty() {
            return;
        }
        if session.in_flight() {
            // A receive of many outlives the last answer.
            let idles = session.receiving && session.sending.is_none() && !session.connecting;
            if idles && !session.awaits_fin && !std::mem::replace(&mut session.finished, true) {
                self.unblock(key, turn);
            }
            return;
        }
        if let Some(socket) = session.socket.take() {
            turn.operations.push(key, Operation::Close { socket });
        }
        let (generation, place) = &mut self.slots[key.slot as usize];
        *place = None;
        *generation = generation.next();
        self.free.push(key.slot);
        self.sessions -= 1;
    }

    /// Ends the connections that have nothing to do.
    pub(super) fn end_idle(&mut self, turn: &mut Turn<'_>) {
        if self.listed == 0 {
            return;
        }
        for key in self.keys() {
            let Some(session) = self.get(key) else { continue };
            if session.is_listed && session.exchanges.is_empty() {
                self.end(key, turn.now);
                self.settle(key, turn);
            }
        }
    }

    /// Fails what is under way and ends all connections, without waiting for anybody.
    pub(in crate::load) fn cut_off(&mut self, turn: &mut Turn<'_>) {
        self.stopping = true;
        for key in self.keys() {
            let Some(session) = self.get(key) else { continue };
            let phase = session.phase();
            self.fail_all(key, (phase, Fault::CutOff), turn);
            self.settle(key, turn);
        }
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let open = self.slots.iter().zip(0..).filter(|((_, session), _)| session.is_some());
        open.map(|((generation, _), slot)| Key { slot, generation: *generation }).collect()
    }

    /// Fails what takes too long.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>) {
        for slot in 0..self.slots.len() {
            let (generation, session) = &self.slots[slot];
            let key = Key { slot: slot as u32, generation: *generation };
            let Some(session) = session else { continue };
            if let Some(phase) = self.overdue(session, turn.now) {
                self.fail_all(key, (phase, Fault::TimedOut), turn);
                self.settle(key, turn);
            } else if lingers(session, turn.now) {
                self.close_lingering(key, turn);
            }
        }
    }

    fn overdue(&self, session: &Session, now: Instant) -> Option<Phase> {
        let timeouts = &self.plan.timeouts;
        let first = session.exchanges.front()?;
        let limit = match session.stage {
            Stage::Opening | Stage::Connecting => timeouts.connect,
            Stage::Open | Stage::Ending => timeouts.response,
        };
        (now.saturating_duration_since(first.since) > limit).then(|| session.phase())
    }
}

/// Whether a connection that is over is not gone after a while.
fn lingers(session: &Session, now: Instant) -> bool {
    let since = session.ending_since.filter(|_| session.exchanges.is_empty());
    let limit = if session.awaits_fin { FIN_LIMIT } else { LINGER_LIMIT };
    since.is_some_and(|since| now.saturating_duration_since(since) > limit)
}
