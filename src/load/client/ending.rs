//! How operations and connections of the generator end.

use std::net::Shutdown;
use std::time::Instant;

use super::{Client, Turn};
use crate::load::outcome::{Fault, Phase};
use crate::load::plan::{CloseStyle, Mode};
use crate::load::session::{Session, Stage, phase_of};
use crate::ring::{Descriptor, Key, Kind, Operation};

impl Client {
    /// The server's FIN has come.
    pub(super) fn ended(&mut self, key: Key, turn: &mut Turn<'_>) {
        let accept = self.plan.mode == Mode::Accept;
        let Some(session) = self.get(key) else { return };
        session.receiving = false;
        // The completion of the connect may come last. If it failed, it ended the receive and tells
        // why; if not, this is the server's FIN.
        if session.connecting {
            session.ended_early = true;
            return;
        }
        if accept && !session.recorded && session.times.answered.is_none() {
            session.times.first_byte = Some(turn.now);
            session.times.answered = Some(turn.now);
            session.stage = Stage::Ending;
        }
        match session.stage {
            Stage::Ending if session.recorded => {}
            Stage::Ending => self.succeed(key, turn),
            Stage::Idle => {
                self.idle.retain(|idle| *idle != key);
                self.active += 1;
                if let Some(session) = self.get(key) {
                    session.stage = Stage::Ending;
                    session.recorded = true;
                }
            }
            _ => self.fail(key, Phase::Receive, Fault::EarlyEnd, turn),
        }
    }

    /// The answer is complete: the connection goes on, or ends in the style of the plan.
    pub(super) fn answered(&mut self, key: Key, turn: &mut Turn<'_>) {
        let (style, stopping) = (self.plan.close, self.stopping);
        let holds = self.plan.mode == Mode::Hold;
        let Some(session) = self.get(key) else { return };
        session.times.answered = Some(turn.now);
        if session.exchanges_left > 0 && (!stopping || holds) {
            self.succeed(key, turn);
            if let Some(session) = self.get(key) {
                session.stage = Stage::Idle;
                self.active -= 1;
                self.idle.push_back(key);
            }
            return;
        }
        // A connection that would go on, but for the end of the run, just ends.
        let interrupted = session.exchanges_left > 0;
        session.stage = Stage::Ending;
        match style {
            // The operation is over with the server's FIN.
            CloseStyle::Server | CloseStyle::Half if !interrupted => self.receive(key, turn),
            _ => self.succeed(key, turn),
        }
    }

    fn succeed(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if !std::mem::replace(&mut session.recorded, true) {
            let times = session.times;
            self.recorder.completed(&times, turn.now);
        }
    }

    pub(super) fn fail(&mut self, key: Key, phase: Phase, fault: Fault, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        session.stage = Stage::Ending;
        if !std::mem::replace(&mut session.recorded, true) {
            let times = session.times;
            self.recorder.failed(&times, (phase_of(fault, phase), fault), turn.now);
        }
        self.unblock(key, turn);
    }

    pub(super) fn send_fin(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if let (Some(socket), false) = (&session.socket, session.finished) {
            let socket = Descriptor::of(socket);
            session.finished = true;
            turn.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Write });
        }
    }

    /// Makes what is in flight end.
    fn unblock(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if session.connecting {
            turn.operations.push(key, Operation::Cancel(Kind::Connect));
        }
        if let (Some(socket), true) = (&session.socket, session.in_flight()) {
            let socket = Descriptor::of(socket);
            turn.operations.push(key, Operation::Shutdown { socket, how: Shutdown::Both });
        }
    }

    /// Closes a connection whose operation is over and on which nothing is in flight.
    pub(super) fn settle(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if session.stage != Stage::Ending || !session.recorded {
            return;
        }
        if session.in_flight() {
            // A receive of many outlives the last answer.
            let waits = session.receiving && !session.sending && !session.connecting;
            if waits && !std::mem::replace(&mut session.finished, true) {
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
        self.active -= 1;
    }

    pub(super) fn end_idle(&mut self, turn: &mut Turn<'_>) {
        for key in std::mem::take(&mut self.idle) {
            self.active += 1;
            if let Some(session) = self.get(key) {
                session.stage = Stage::Ending;
            }
            self.settle(key, turn);
        }
    }

    /// Fails what takes too long.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>) {
        for slot in 0..self.slots.len() {
            let (generation, session) = &self.slots[slot];
            let key = Key { slot: slot as u32, generation: *generation };
            if let Some(session) = session
                && session.stage != Stage::Idle
                && !session.recorded
                && let Some(phase) = self.overdue(session, turn.now)
            {
                self.fail(key, phase, Fault::TimedOut, turn);
                self.settle(key, turn);
            }
        }
    }

    fn overdue(&self, session: &Session, now: Instant) -> Option<Phase> {
        let timeouts = &self.plan.timeouts;
        let (since, limit) = match session.times.connected {
            None if session.connecting || session.opening => {
                (session.times.started, timeouts.connect)
            }
            connected => (connected.unwrap_or(session.times.started), timeouts.response),
        };
        (now.saturating_duration_since(since) > limit).then(|| session.phase())
    }
}
