//! The connections of one thread of the generator: a state machine on a ring.

mod ending;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef};

use super::outcome::{Fault, Phase};
use super::pacer::{Next, Pacer};
use super::plan::{CloseStyle, Mode, Pace, Plan, Sources, Target};
use super::protocol::Protocol;
use super::recorder::Recorder;
use super::session::{Session, Stage};
use crate::ring::{
    BufferPool, Bytes, Completion, Descriptor, Event, Generation, Key, Operation, Operations,
    Received, Shots,
};
use crate::sys::{self, Errno};

/// How often sessions are looked at for timeouts.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What one receive of many may bring before it is armed again.
const CREDIT_BYTES: u32 = 1 << 30;

/// One turn of the thread.
pub(super) struct Turn<'a> {
    pub(super) buffers: &'a mut BufferPool,
    pub(super) operations: &'a mut Operations,
    pub(super) now: Instant,
}

/// See the module.
pub(super) struct Client {
    plan: Arc<Plan>,
    protocol: Protocol,
    pacer: Pacer,
    pub(super) recorder: Recorder,
    domain: Domain,
    address: SockAddr,
    slots: Vec<(Generation, Option<Session>)>,
    free: Vec<u32>,
    /// Open connections between two operations.
    idle: VecDeque<Key>,
    /// Sessions that are not idle.
    active: usize,
    /// Sessions ever begun.
    begun: u64,
    operations_begun: u64,
    receive_many: bool,
    /// Whether our FIN goes out behind the last request. An accept ends so too: most servers say
    /// nothing until they have heard something.
    sends_fin: bool,
    next_look: Instant,
    stopping: bool,
}

impl Client {
    pub(super) fn new(
        plan: Arc<Plan>,
        protocol: Protocol,
        (index, start): (usize, Instant),
        receive_credit: bool,
    ) -> Self {
        let (domain, address) = match &plan.target {
            Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Target::Unix(path) => {
                (Domain::UNIX, SockAddr::unix(path).expect("the path was checked"))
            }
        };
        // A connection with one exchange has one receive that brings bytes; many shots save nothing.
        let keeps = match plan.mode {
            Mode::Http { requests_per_connection } => requests_per_connection.is_none(),
            mode => !matches!(mode, Mode::Accept | Mode::Crr | Mode::Storm),
        };
        Self {
            pacer: Pacer::new(&plan, index, start),
            recorder: Recorder::new(start + plan.warm_up, plan.duration),
            protocol,
            domain,
            address,
            slots: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            active: 0,
            begun: index as u64,
            operations_begun: (index as u64) << 32,
            receive_many: keeps && receive_credit,
            sends_fin: plan.close == CloseStyle::Half || plan.mode == Mode::Accept,
            next_look: start,
            stopping: false,
            plan,
        }
    }

    /// Starts nothing any more, and ends what is idle.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing is open and nothing will start.
    pub(super) fn is_done(&self) -> bool {
        self.stopping && self.active == 0 && self.idle.is_empty()
    }

    /// Starts what is due. Returns when to look again.
    pub(super) fn turn(&mut self, turn: &mut Turn<'_>) -> Instant {
        if turn.now >= self.next_look {
            self.next_look = turn.now + LOOK_INTERVAL;
            self.look(turn);
        }
        loop {
            let next =
                if self.stopping { Next::Over } else { self.pacer.next(turn.now, self.active) };
            match next {
                Next::Start(planned) => self.start(planned, turn),
                Next::Skip(planned) => self.recorder.not_started(planned),
                Next::At(moment) => return moment.min(self.next_look),
                Next::Later => return self.next_look,
                Next::Over => {
                    self.stopping = true;
                    self.end_idle(turn);
                    return self.next_look;
                }
            }
        }
    }

    /// Notes what has completed.
    pub(super) fn complete(&mut self, completion: Completion, turn: &mut Turn<'_>) {
        let Completion { key, more, event } = completion;
        match event {
            Event::Opened(result) => self.opened(key, result, turn),
            Event::Connected(result) => self.connected(key, result, turn),
            Event::Sent(result) => self.sent(key, result, turn),
            Event::Received(result) => {
                if let Some(session) = self.get(key) {
                    session.receiving = more;
                }
                self.received(key, result, turn);
            }
            Event::Accepted(_) | Event::Spliced(_) => {}
        }
        self.settle(key, turn);
    }

    fn get(&mut self, key: Key) -> Option<&mut Session> {
        let (generation, session) = self.slots.get_mut(key.slot as usize)?;
        session.as_mut().filter(|_| *generation == key.generation)
    }

    /// Begins an operation, on a connection that is open and idle where the mode keeps them.
    fn start(&mut self, planned: Instant, turn: &mut Turn<'_>) {
        self.recorder.started(planned);
        self.operations_begun += 1;
        let number = self.operations_begun;
        let filling = self.plan.mode == Mode::Hold && !self.is_full();
        if !filling && let Some(key) = self.idle.pop_front() {
            self.active += 1;
            if let Some(session) = self.get(key) {
                session.renew(number, planned, turn.now);
            }
            return self.exchange(key, turn);
        }
        let exchanges = match self.plan.mode {
            Mode::Accept | Mode::Crr | Mode::Storm => 1,
            Mode::Http { requests_per_connection } => requests_per_connection.unwrap_or(u32::MAX),
            Mode::Rr | Mode::Hold | Mode::Stream { .. } => u32::MAX,
        };
        let key = self.insert(Session::new(number, planned, turn.now, exchanges));
        self.active += 1;
        self.begun += 1;
        turn.operations.push(key, Operation::Open { domain: self.domain });
    }

    /// Whether `hold` has all its connections.
    fn is_full(&self) -> bool {
        let wanted = match (self.plan.pace, self.plan.count) {
            (_, Some(count)) => count as usize,
            (Pace::Closed { connections }, None) => connections,
            (Pace::Open { max_inflight, .. }, None) => max_inflight,
        };
        self.active + self.idle.len() >= wanted.div_ceil(self.plan.threads)
    }

    fn insert(&mut self, session: Session) -> Key {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push((Generation::FIRST, None));
        }
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(session);
        Key { slot, generation: *generation }
    }

    fn opened(&mut self, key: Key, result: Result<OwnedFd, Errno>, turn: &mut Turn<'_>) {
        let prepared = result.and_then(|socket| self.prepare(socket));
        let address = self.address.clone();
        let Some(session) = self.get(key) else { return };
        session.opening = false;
        let socket = match prepared {
            Ok(socket) => socket,
            Err(errno) => return self.fail(key, Phase::Connect, Fault::Errno(errno), turn),
        };
        let descriptor = Descriptor::of(&socket);
        session.socket = Some(socket);
        session.connecting = true;
        session.stage = Stage::Connecting;
        let address = Box::new(address);
        turn.operations.push(key, Operation::Connect { socket: descriptor, address });
        // The request and the answer wait for the handshake in the kernel.
        self.exchange(key, turn);
    }

    /// Options that the close style and the sources ask for.
    fn prepare(&self, socket: OwnedFd) -> Result<OwnedFd, Errno> {
        let options = SockRef::from(&socket);
        let errno = |error: std::io::Error| Errno::of(&error);
        if self.plan.close == CloseStyle::Rst {
            options.set_linger(Some(Duration::ZERO)).map_err(errno)?;
        }
        if let Sources::Rotate(addresses) = &self.plan.sources {
            let source: IpAddr = addresses[(self.begun as usize) % addresses.len()];
            sys::set_bind_address_no_port(socket.as_fd()).map_err(errno)?;
            options.bind(&SocketAddr::new(source, 0).into()).map_err(errno)?;
        }
        Ok(socket)
    }

    /// Sends the request and asks for the answer.
    fn exchange(&mut self, key: Key, turn: &mut Turn<'_>) {
        let protocol = self.protocol;
        let sends_fin = self.sends_fin;
        let Some(session) = self.get(key) else { return };
        let Some(socket) = session.socket.as_ref().map(Descriptor::of) else { return };
        let last = session.exchanges_left == 0;
        let request = protocol.request_for(session.number, last);
        if !request.is_empty() {
            session.sending = true;
            turn.operations.push(
                key,
                Operation::Send { socket, bytes: Bytes::Static(request), fin_follows: false },
            );
        }
        if sends_fin && last && !session.connecting && !session.sending {
            self.send_fin(key, turn);
        }
        self.receive(key, turn);
    }

    fn receive(&mut self, key: Key, turn: &mut Turn<'_>) {
        let many = self.receive_many;
        let Some(session) = self.get(key) else { return };
        let (Some(socket), false) = (&session.socket, session.receiving) else { return };
        let shots = if many { Shots::Many { credit_bytes: CREDIT_BYTES } } else { Shots::Once };
        let operation = Operation::Receive { socket: Descriptor::of(socket), shots };
        session.receiving = true;
        turn.operations.push(key, operation);
    }

    fn connected(&mut self, key: Key, result: Result<(), Errno>, turn: &mut Turn<'_>) {
        let sends_fin = self.sends_fin;
        let Some(session) = self.get(key) else { return };
        session.connecting = false;
        if let Err(errno) = result {
            return self.fail(key, Phase::Connect, Fault::Errno(errno), turn);
        }
        session.times.connected = Some(turn.now);
        if session.stage == Stage::Connecting {
            session.stage = Stage::Exchanging;
        }
        let ended = session.ended_early;
        let (times, fin) =
            (session.times, sends_fin && session.exchanges_left == 0 && !session.sending);
        self.recorder.connected(&times, turn.now);
        if fin {
            self.send_fin(key, turn);
        }
        if ended {
            self.ended(key, turn);
        }
    }

    fn sent(&mut self, key: Key, result: Result<usize, Errno>, turn: &mut Turn<'_>) {
        let sends_fin = self.sends_fin;
        let streaming = matches!(self.plan.mode, Mode::Stream { echo: false });
        let Some(session) = self.get(key) else { return };
        session.sending = false;
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(_) if session.recorded => return,
            // The connect that the send waited for tells more.
            Err(_) if session.connecting => return,
            Err(errno) => return self.fail(key, Phase::Send, Fault::Errno(errno), turn),
        };
        let (times, last) = (session.times, session.exchanges_left == 0);
        self.recorder.bytes(&times, bytes, 0);
        if streaming {
            self.answered(key, turn);
        } else if sends_fin && last {
            self.send_fin(key, turn);
        }
    }

    fn received(&mut self, key: Key, result: Result<Received, Errno>, turn: &mut Turn<'_>) {
        match result {
            Ok(Received::Bytes { buffer, len }) => {
                let progress = self.take(key, turn.buffers.bytes(&buffer, 0..len), turn.now);
                turn.buffers.recycle(buffer);
                match progress {
                    Some(Ok(true)) => self.answered(key, turn),
                    Some(Ok(false)) => self.receive(key, turn),
                    Some(Err(fault)) => self.fail(key, Phase::Receive, fault, turn),
                    None => {}
                }
            }
            Ok(Received::End) => self.ended(key, turn),
            Err(Errno::ENOBUFS) => self.receive(key, turn),
            Err(errno) => {
                let Some(session) = self.get(key) else { return };
                // The connect that the receive waited for tells more.
                if !session.connecting && !session.recorded {
                    let phase = session.phase();
                    self.fail(key, phase, Fault::Errno(errno), turn);
                }
            }
        }
    }

    /// Bytes have come; `None` if nobody waits for them.
    fn take(&mut self, key: Key, bytes: &[u8], now: Instant) -> Option<Result<bool, Fault>> {
        let protocol = self.protocol;
        let session = self.get(key)?;
        if session.recorded {
            return None;
        }
        if session.stage == Stage::Ending || session.times.answered.is_some() {
            return Some(Err(Fault::WrongBytes));
        }
        if session.reply.is_empty() {
            session.times.first_byte = Some(now);
        }
        let result = session.reply.take(&protocol, session.number, bytes);
        let times = session.times;
        self.recorder.bytes(&times, 0, bytes.len());
        Some(result)
    }
}

#[cfg(test)]
mod tests;
