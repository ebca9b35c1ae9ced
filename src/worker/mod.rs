//! Connections: receive, answer, send, close.
//!
//! A [`Worker`] is a state machine. It is told what has completed and appends what to do next; it
//! never waits and never calls the kernel. [`Worker::advance`](Worker) is the one place that decides
//! what a connection does next; everything else notes what has happened and calls it.

mod close;
mod connection;
mod held;
mod input;
mod listing;
mod noted;
mod preread;
mod pressed;
mod sending;
mod slow;
mod suspension;
mod timers;
mod told;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use held::Held as HeldInputs;
use ipnet::IpNet;
use noted::{Noted, Notes};
use preread::{Begins, Preread};
use slow::Takings;
use suspension::Suspensions;
use timers::Timers;
use told::{Mailboxes, Shared};

use crate::access_log::LogSink;
use crate::config::{Patience, SessionTimeouts};
use crate::connection::{
    Counted, Deadlines, Idlest, LoopContext, Millis, Pieces, PrereadLog, Receiving, Sweeps, Table,
    ThreadLimits, VersionId, Versions, Waits, reply, sooner,
};
use crate::dispatch::{Accepted, ConnectionLimit, FrontendId, Mail};
use crate::log::rate_limit::Look;
use crate::metrics::{Block, Counter, FrontendTimes};
use crate::ring::{Completion, Event, Key, Operation, Received};
use crate::service::{CloseReason, Outbox, Service};
use crate::sources::{Admission, Held};
use crate::sys;
use connection::{Connection, Stage};

/// What the sessions of a frontend go by, in one version.
#[derive(Debug)]
pub struct SessionSettings<S> {
    /// What answers.
    pub service: Arc<S>,
    /// Bytes that may be queued for a peer before it is no longer read from.
    pub budget_bytes: u32,
    /// Deadlines.
    pub timeouts: SessionTimeouts,
    /// Whose they are.
    pub frontend: FrontendId,
    /// Which clients are not waited for any more.
    pub patience: Option<Patience>,
    /// Networks whose connections begin with a PROXY header. Nobody else's is looked for.
    pub trusted: Vec<IpNet>,
    /// Where connections of the frontend are counted.
    pub limit: Arc<ConnectionLimit>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// How long they take.
    pub times: Arc<FrontendTimes>,
    /// Where an entry goes for each connection that has ended.
    pub log: Option<LogSink>,
}

/// A version of the settings as this thread has it.
struct Version<S: Service> {
    settings: Arc<SessionSettings<S>>,
    /// What its sessions share with the others of this thread.
    local: Shared<S>,
    /// A connection that is looked at this often is never looked at too late: the shortest of the deadlines that
    /// begin without being put on the wheel.
    look_interval: Duration,
    /// Whether the server drains, or this frontend does: the number of the sweep that tells its sessions.
    draining: Option<u32>,
}

/// The connections of one thread; see the module.
pub struct Worker<S: Service> {
    versions: Versions<Version<S>>,
    receive_credit: bool,
    metrics: Arc<Block>,
    table: Table<Connection<S::Session>>,
    deadlines: Deadlines,
    pieces: Pieces,
    /// Reused for every call of the service.
    outbox: Outbox,
    /// Drains whose sessions are being told.
    sweeps: Sweeps,
    /// Connections whose PROXY header is still to come, and whom those stand for whose header has come, by slot.
    prereads: HashMap<u32, Preread>,
    told: HashMap<u32, SocketAddr>,
    preread_log: PrereadLog,
    /// What the access log wants to know of connections.
    notes: Notes,
    waits: Waits,
    takings: Takings,
    suspensions: Suspensions,
    /// What sessions are told, and by whom they can be.
    mail: Mail<S::Message>,
    mailboxes: Mailboxes<S::Message>,
    timers: Timers,
    held: HeldInputs,
    /// The slots of those that end in the middle of an answer.
    cut: HashSet<u32>,
    /// Where their sources are counted.
    counted: Counted,
    idlest: Idlest,
    /// Whether the peer of the connection at hand has been slow to read.
    is_slow: bool,
    /// Connections closed since the last [`take_closed`](Self::take_closed).
    closed: usize,
}

impl<S: Service> Worker<S> {
    /// A worker without connections.
    pub fn new(limits: ThreadLimits, mail: Mail<S::Message>, metrics: Arc<Block>) -> Self {
        Self {
            versions: Versions::new(),
            receive_credit: limits.receive_credit,
            table: Table::new(limits.capacity),
            deadlines: Deadlines::new(limits.capacity),
            pieces: Pieces::new(),
            outbox: Outbox::default(),
            sweeps: Sweeps::default(),
            prereads: HashMap::new(),
            told: HashMap::new(),
            preread_log: PrereadLog::default(),
            notes: Notes::default(),
            waits: Waits::default(),
            takings: Takings::default(),
            suspensions: Suspensions::default(),
            mail,
            mailboxes: Mailboxes::default(),
            timers: Timers::new(),
            held: HeldInputs::default(),
            cut: HashSet::new(),
            counted: Counted::default(),
            idlest: Idlest::default(),
            is_slow: false,
            closed: 0,
            metrics,
        }
    }

    /// Settings for connections to come. `None` if there are too many versions already.
    pub fn publish(&mut self, settings: Arc<SessionSettings<S>>) -> Option<VersionId> {
        let look_interval = shortest(&settings.timeouts);
        let local = self.shared(&settings.service);
        let version = Version { settings, local, look_interval, draining: None };
        self.versions.insert(version).ok()
    }

    /// No connection to come gets this version; it goes with the last one that has it.
    pub fn retire(&mut self, version: VersionId) {
        self.versions.retire(version);
    }

    /// Closes a connection that does not come to anything.
    fn refuse(
        &mut self,
        (socket, version, noted, held): (OwnedFd, VersionId, Option<Noted>, Held),
        reason: CloseReason,
        cx: &mut LoopContext<'_>,
    ) {
        self.metrics.count(close::counter(reason));
        self.log(noted, (version, reason, None), cx);
        self.closed += 1;
        let settings = &self.versions.get(version).settings;
        settings.limit.release(1);
        settings.admission.release(held);
        let is_shed = reason == CloseReason::Shed;
        if is_shed {
            reply(socket.as_fd(), settings.admission.refusal());
        }
        let operation = match is_shed && settings.admission.resets() {
            true => Operation::Reset { socket },
            false => Operation::Close { socket },
        };
        cx.operations.push(Key::fixed(0), operation);
    }

    /// Lets a starved receive ask again. False if that takes no buffer: the connection has gone, or does not
    /// want input for now.
    pub(crate) fn ask_again(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        let Some(connection) = self.table.get_mut(key) else { return false };
        // It may have asked since, if it was to be suspended and was not.
        if connection.stream.receiving != Receiving::Starved {
            return false;
        }
        connection.stream.receiving = Receiving::No;
        self.advance(key, cx);
        self.table.get_mut(key).is_some_and(|asked| asked.stream.receiving == Receiving::Armed)
    }

    /// Begins to tell sessions that they drain: those of a frontend, in whatever version, or all; at once, or evenly
    /// over a time.
    pub fn drain(&mut self, only: Option<FrontendId>, spread: Duration, cx: &mut LoopContext<'_>) {
        let what = (self.table.slots(), only.is_none());
        let number = self.sweeps.begin(what, spread, cx.now);
        for version in self.versions.iter_mut() {
            if only.is_none_or(|frontend| frontend == version.settings.frontend) {
                version.draining.get_or_insert(number);
            }
        }
        self.tell_draining(cx);
    }

    /// Tells some more sessions of a drain.
    fn tell_draining(&mut self, cx: &mut LoopContext<'_>) {
        for (slot, number) in self.sweeps.next(self.table.slots(), cx.now) {
            let Some(key) = self.table.key(slot) else { continue };
            let version = self.table.get_mut(key).map(|connection| connection.version);
            if version.is_some_and(|it| self.versions.get(it).draining == Some(number)) {
                self.session_drains(key, cx);
            }
        }
    }

    /// Starts what comes next on a connection.
    fn advance(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        if self.suspensions.has(key) {
            return self.settle(key, cx);
        }
        if self.holds(key) {
            self.catch_up(key, cx);
        }
        let Some(connection) = self.table.get_mut(key) else { return };
        match connection.stage {
            Stage::Open(_) => {
                self.send(key, cx);
                self.receive(key, cx);
            }
            Stage::Flushing { .. } if connection.stream.sending => {}
            Stage::Flushing { .. } if !connection.stream.output.is_empty() => self.send(key, cx),
            Stage::Flushing { linger: true } => self.linger(key, cx),
            Stage::Flushing { linger: false } => self.finish(key, cx),
            Stage::Preread | Stage::Lingering { .. } => self.receive(key, cx),
            Stage::Joining if connection.stream.in_flight() => {}
            Stage::Joining => self.release(key, cx),
        }
    }

    /// A completion for a connection that no longer exists. What it carries is reclaimed.
    fn stale(&mut self, event: Event, cx: &mut LoopContext<'_>) {
        self.metrics.count(Counter::Stale);
        if let Event::Received(Ok(Received::Bytes { buffer, .. })) = event {
            cx.buffers.recycle(buffer);
        }
    }

    /// Looks whether a deadline of the connection has passed; if not, when to look again.
    fn look(&mut self, key: Key, now: Millis, cx: &mut LoopContext<'_>) {
        self.note_taken(key, now);
        let Some(connection) = self.table.get(key) else { return };
        let is_open = connection.stage.is_open();
        let again = now.after(self.versions.get(connection.version).look_interval);
        match self.due(key, now) {
            Some((due, reason)) if now.reached(due) => match reason {
                // Who lingers after that has heard it already.
                CloseReason::HeaderTimeout | CloseReason::SlowBody if is_open => {
                    self.overdue(key, reason, cx);
                }
                _ => self.terminate(key, reason, cx),
            },
            // The state may change meanwhile, but a deadline that begins from now on is not over
            // before the shortest one would be.
            Some((due, _)) => self.deadlines.insert(key.slot, due.earlier(again)),
            None => self.deadlines.insert(key.slot, again),
        }
    }
}

impl<S: Service> Worker<S> {
    /// The first deadline of a connection, and what it means when it has passed.
    fn due(&self, key: Key, now: Millis) -> Option<(Millis, CloseReason)> {
        let connection = self.table.get(key)?;
        let settings = &self.versions.get(connection.version).settings;
        let own = deadline(connection, &settings.timeouts)?;
        let slow = self.patience(key, now).filter(|(due, _)| own.0.reached(*due));
        Some(slow.unwrap_or(own))
    }

    /// Takes a connection over, under this version of the settings.
    pub fn adopt(&mut self, accepted: Accepted, version: VersionId, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Accepted { socket, listener, accepted_at, held, pressed } = accepted;
        self.metrics.count(Counter::Opened);
        let times = &self.versions.get(version).settings.times;
        times.dispatch.add(cx.now.saturating_duration_since(accepted_at));
        let noted = self.note(&socket, (version, accepted_at), cx);
        let waited = (&socket, pressed.shed.as_ref());
        if let Some(reason) = self.unserved(waited, (version, accepted_at), cx) {
            return self.refuse((socket, version, noted, held), reason, cx);
        }
        let wait =
            if noted.is_some() { None } else { Waits::ask((socket.as_fd(), accepted_at), cx) };
        let (session, preread) = match self.begins_with(&socket, (listener, version)) {
            Begins::Header(preread) => (None, Some(preread)),
            Begins::Gone => {
                let refused = (socket, version, noted, held);
                return self.refuse(refused, CloseReason::PeerReset, cx);
            }
            Begins::Session => {
                let peer = || sys::peer_address(socket.as_fd()).ok().flatten();
                let key = self.table.next_key();
                let Some(session) = self.open_session(key, &peer, (listener, version)) else {
                    let reason = CloseReason::ServicePanicked;
                    return self.refuse((socket, version, noted, held), reason, cx);
                };
                (Some(session), None)
            }
        };
        let connection = Connection::new(socket, (session, version), now);
        self.versions.opened(version);
        let key = self.table.insert(connection);
        self.deadlines.catch_up(now);
        if let Some(noted) = noted {
            self.notes.insert(key, noted);
        }
        self.waits.note(key, wait);
        self.counted.note(key, held);
        if let Some(preread) = preread {
            self.prereads.insert(key.slot, preread);
        }
        self.deadlines.insert(key.slot, now.after(self.versions.get(version).look_interval));
        self.advance(key, cx);
    }

    /// Notes what has completed.
    pub fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>) {
        let Completion { key, more, event } = completion;
        let Some(connection) = self.table.get_mut(key) else {
            self.stale(event, cx);
            return;
        };
        match event {
            Event::Received(result) => {
                if !more {
                    connection.stream.receiving = Receiving::No;
                }
                self.received(key, result, cx);
            }
            Event::Sent(result) => {
                connection.stream.sending = false;
                self.sent(key, result, cx);
            }
            // Not ours; dropping the descriptor closes it.
            Event::Accepted(_)
            | Event::Opened(_)
            | Event::Connected(_)
            | Event::Spliced(_)
            | Event::Released(_) => {}
        }
    }

    /// What a turn does after its completions: deadlines that have passed, sessions that are told of a drain.
    pub fn tick(&mut self, cx: &mut LoopContext<'_>) {
        self.deliver(cx);
        self.run_timers(cx);
        let now = cx.millis;
        while let Some(slot) = self.deadlines.pop(now) {
            if let Some(key) = self.table.key(slot) {
                self.look(key, now, cx);
            }
        }
        self.tell_draining(cx);
        self.preread_log.catch_up(Look::At(cx.now));
    }

    /// How long until [`tick`](Self::tick) has something to do unasked.
    pub fn next_tick(&self, now: Instant, millis: Millis) -> Option<Duration> {
        let deadline = sooner(self.deadlines.next(millis), self.timers.next(millis));
        let told = self.preread_log.due().map(|due| due.saturating_duration_since(now));
        let sweep = self.sweeps.wait(now).filter(|_| self.open() > 0);
        sooner(sooner(deadline, sweep), told)
    }

    /// Ends all connections that are left.
    pub fn stop(&mut self, cx: &mut LoopContext<'_>) {
        for key in self.table.keys() {
            self.terminate(key, CloseReason::Stopped, cx);
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.table.len()
    }

    /// How many connections were closed since it was last asked.
    pub fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.closed)
    }
}

/// The deadline that runs on a connection whoever it serves, and what it means when it has passed.
fn deadline<Session>(
    connection: &Connection<Session>,
    timeouts: &SessionTimeouts,
) -> Option<(Millis, CloseReason)> {
    let (timeout, reason) = match connection.stage {
        // Ends by itself.
        Stage::Joining => return None,
        Stage::Lingering { .. } => (timeouts.linger, connection.reason),
        _ if connection.stream.sending => (timeouts.write_stall, CloseReason::WriteStall),
        _ if !connection.stream.spoken => (timeouts.first_byte, CloseReason::FirstByteTimeout),
        _ => (timeouts.idle, CloseReason::IdleTimeout),
    };
    Some((connection.progress.after(timeout), reason))
}

/// [`Version::look_interval`].
fn shortest(timeouts: &SessionTimeouts) -> Duration {
    let every = timeouts.first_byte.min(timeouts.idle).min(timeouts.write_stall);
    timeouts.requests.shortest().map_or(every, |own| own.min(every))
}

#[cfg(test)]
mod tests;
