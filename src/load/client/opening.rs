//! How connections of the generator begin.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef};

use super::{Client, Turn};
use crate::load::outcome::{Fault, Phase};
use crate::load::plan::{CloseStyle, Mode, Sources};
use crate::load::session::{Session, Stage};
use crate::ring::{Descriptor, Key, Operation};
use crate::sys::{self, Errno};

impl Client {
    /// Opens all connections of a plan that keeps a fixed number of them, before they are needed.
    pub(super) fn open_ahead(&mut self, turn: &mut Turn<'_>) {
        if self.stopping || std::mem::replace(&mut self.opened_ahead, true) {
            return;
        }
        for _ in 0..self.limits.connections {
            self.open(turn.now, turn);
        }
    }

    /// Opens a connection for an operation that was planned for then.
    pub(super) fn open(&mut self, planned: Instant, turn: &mut Turn<'_>) -> Key {
        let requests = match self.plan.mode {
            Mode::Accept | Mode::Crr | Mode::Storm => Some(1),
            Mode::Http { requests_per_connection } => requests_per_connection,
            Mode::Rr | Mode::Hold | Mode::Stream { .. } => None,
        };
        let target = self.begun as usize % self.targets.len();
        self.begun += 1;
        let key = self.insert(Session::new(target, planned, turn.now, requests));
        turn.operations.push(key, Operation::Open { domain: self.targets[target].0 });
        key
    }

    pub(super) fn opened(&mut self, key: Key, result: Result<OwnedFd, Errno>, turn: &mut Turn<'_>) {
        let begun = self.begun;
        let Some(session) = self.get(key) else { return };
        session.opening = false;
        let target = session.target;
        let domain = self.targets[target].0;
        let prepared = result.and_then(|socket| self.prepare(socket, domain, begun));
        let socket = match prepared {
            Ok(socket) => socket,
            Err(errno) => return self.fail_all(key, (Phase::Connect, Fault::Errno(errno)), turn),
        };
        let address = Box::new(self.targets[target].1.clone());
        let Some(session) = self.get(key) else { return };
        let descriptor = Descriptor::of(&socket);
        session.socket = Some(socket);
        if session.stage == Stage::Ending {
            return;
        }
        session.connecting = true;
        session.stage = Stage::Connecting;
        turn.operations.push(key, Operation::Connect { socket: descriptor, address });
        // Requests and answers wait for the handshake in the kernel.
        self.to_send.push(key);
    }

    /// Options that the close style and the sources ask for.
    fn prepare(&self, socket: OwnedFd, domain: Domain, begun: u64) -> Result<OwnedFd, Errno> {
        let options = SockRef::from(&socket);
        let errno = |error: std::io::Error| Errno::of(&error);
        if self.plan.close == CloseStyle::Rst {
            options.set_linger(Some(Duration::ZERO)).map_err(errno)?;
        }
        if let Sources::Rotate(addresses) = &self.plan.sources {
            let usable = || {
                addresses
                    .iter()
                    .filter(|ip| Domain::for_address(SocketAddr::new(**ip, 0)) == domain)
            };
            let count = usable().count().max(1);
            if let Some(source) = usable().nth(begun as usize % count) {
                sys::set_bind_address_no_port(socket.as_fd()).map_err(errno)?;
                options.bind(&SocketAddr::new(*source, 0).into()).map_err(errno)?;
            }
        }
        Ok(socket)
    }

    pub(super) fn connected(&mut self, key: Key, result: Result<(), Errno>, turn: &mut Turn<'_>) {
        let accept = self.plan.mode == Mode::Accept;
        let Some(session) = self.get(key) else { return };
        session.connecting = false;
        if let Err(errno) = result {
            let has_answered = session.answers > 0 || session.reply.is_some();
            let was_there = errno.comes_after_the_handshake() || has_answered;
            // A reset does not tell whether anybody accepted it.
            if accept || !was_there {
                return self.fail_all(key, (Phase::Connect, Fault::Errno(errno)), turn);
            }
            // It was reset before we heard of it. What the server sent before that may still come.
            session.send_error = Some(errno);
        }
        if session.stage == Stage::Connecting {
            session.stage = Stage::Open;
        }
        session.exchanges.iter_mut().for_each(|exchange| exchange.since = turn.now);
        session.idle_since = session.exchanges.is_empty().then_some(turn.now);
        let (planned, took) = (session.planned, turn.now - session.started);
        let (is_open, ended) = (session.stage == Stage::Open, session.ended_early);
        self.recorder.connected(planned, took);
        if result.is_ok() {
            self.send_fin_behind_the_last(key, turn);
        }
        if is_open {
            // A connection without an operation looks out for the server's FIN.
            self.receive(key, turn);
        }
        if is_open && result.is_ok() {
            self.list(key);
        }
        if ended {
            self.ended(key, turn);
        }
    }
}
