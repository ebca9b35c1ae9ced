//! A connection is taken off its thread with all that it is, and put on one again.
//!
//! ```text
//!   suspend: nothing more is started, what is in flight is cancelled
//!      |
//!      +-- nothing in flight any more --> out of the table: take_suspended
//!      |       `-- its service does not let it go, or it has said its last --> goes on where it is
//!      `-- reset, deadline, abort, stop --> ends as always
//! ```

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Connection, Stage};
use super::held::HeldInput;
use super::noted::Noted;
use super::preread::Preread;
use super::{Worker, slow};
use crate::connection::suspended::{
    Awaited, Place, Record, SessionRecord, SessionStage, Suspended, UNSENT_MAX_BYTES,
};
use crate::connection::{LoopContext, Millis, Receiving, Stream, VersionId};
use crate::dispatch::{FrontendId, ListenerId};
use crate::ring::{Key, Kind, Operation};
use crate::service::{Service, Timer};
use crate::sources::Held;
use crate::sys;

/// Those that are on their way off the thread.
#[derive(Debug, Default)]
pub(super) struct Suspensions {
    /// The slots of those on which something may still be in flight.
    begun: HashSet<u32>,
    /// Those that are out of the table, until somebody takes them.
    quiet: Vec<Suspended>,
}

impl Suspensions {
    /// Whether a connection is to be left alone until nothing is in flight on it.
    #[inline]
    pub(super) fn has(&self, key: Key) -> bool {
        !self.begun.is_empty() && self.begun.contains(&key.slot)
    }

    /// It ends where it is. True if it was to leave: then what is in flight has been cancelled.
    #[inline]
    pub(super) fn forget(&mut self, key: Key) -> bool {
        !self.begun.is_empty() && self.begun.remove(&key.slot)
    }
}

impl<S: Service> Worker<S> {
    /// Begins to take the connection in a slot off this thread: nothing more is started on it, and what is in flight
    /// is cancelled. False if there is none, if it is being suspended already, or if it cannot be moved now, because it
    /// has begun to end, is among its PROXY header, or its service does not let it go; then nothing has changed.
    pub fn suspend(
        &mut self,
        slot: u32,
        movable: &dyn Fn(FrontendId) -> bool,
        cx: &mut LoopContext<'_>,
    ) -> bool {
        let Some(key) = self.table.key(slot).filter(|key| self.may_suspend(*key, movable)) else {
            return false;
        };
        let Some(connection) = self.table.get_mut(key) else { return false };
        let stream = &mut connection.stream;
        match stream.receiving {
            Receiving::Armed => cx.operations.push(key, Operation::Cancel(Kind::Receive)),
            // Its place in the line for a buffer is void.
            Receiving::Starved => stream.receiving = Receiving::No,
            Receiving::No => {}
        }
        if stream.sending {
            cx.operations.push(key, Operation::Cancel(Kind::Send));
        }
        self.suspensions.begun.insert(slot);
        self.advance(key, cx);
        true
    }

    /// What the connection in a slot came in through.
    pub(crate) fn frontend_of(&self, slot: u32) -> Option<FrontendId> {
        let connection = self.table.get(self.table.key(slot)?)?;
        Some(self.versions.get(connection.version).settings.frontend)
    }

    /// Whether the connection in a slot could go on under this version of its frontend's settings.
    pub(crate) fn could_resume(&self, slot: u32, version: VersionId) -> bool {
        let connection = self.table.key(slot).and_then(|key| self.table.get(key));
        connection.is_some_and(|connection| {
            let service = |version| self.versions.get(version).settings.service.name();
            connection.version == version || service(connection.version) == service(version)
        })
    }

    /// Those on which nothing is in flight any more, since it was last asked. They are out of the table.
    pub fn take_suspended(&mut self) -> Vec<Suspended> {
        std::mem::take(&mut self.suspensions.quiet)
    }

    /// How many have begun to be suspended, and are neither quiet nor at their end.
    pub fn suspending(&self) -> usize {
        self.suspensions.begun.len()
    }

    fn may_suspend(&self, key: Key, movable: &dyn Fn(FrontendId) -> bool) -> bool {
        let Some(connection) = self.table.get(key).filter(|it| it.stream.socket.is_some()) else {
            return false;
        };
        let frontend = self.versions.get(connection.version).settings.frontend;
        !self.suspensions.has(key) && movable(frontend) && self.portrait(key).is_some()
    }

    /// Where a connection is in its life, and its session as its service writes it; `None` if it cannot be moved.
    fn portrait(&self, key: Key) -> Option<(SessionStage, Vec<u8>)> {
        let connection = self.table.get(key)?;
        let output = &connection.stream.output;
        if output.bytes > UNSENT_MAX_BYTES || self.pieces.in_files(output) > 0 {
            return None;
        }
        let stage = match connection.stage {
            Stage::Preread => {
                let listener = self.prereads.get(&key.slot)?.untouched()?.index;
                return Some((SessionStage::Preread { listener }, Vec::new()));
            }
            Stage::Open(_) => SessionStage::Open,
            // It is over as soon as it is looked at.
            Stage::Flushing { linger: false } if connection.stream.output.is_empty() => {
                return None;
            }
            Stage::Flushing { linger } => SessionStage::Flushing { linger },
            Stage::Lingering { bytes_left } => SessionStage::Lingering { bytes_left },
            Stage::Joining => return None,
        };
        let session = connection.session.as_ref()?;
        let service = &self.versions.get(connection.version).settings.service;
        // A session that cannot be asked cannot be moved; what it does next is none of its service's fault.
        let written = catch_unwind(AssertUnwindSafe(|| service.suspend(session))).ok().flatten()?;
        Some((stage, written))
    }

    /// What a connection that is being suspended does next: nothing until nothing is in flight, then it leaves.
    pub(super) fn settle(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        if self.table.get(key).is_none_or(|connection| connection.stream.in_flight()) {
            return;
        }
        self.suspensions.forget(key);
        match self.portrait(key) {
            Some(portrait) => self.leave(key, portrait, cx),
            None => self.advance(key, cx),
        }
    }

    fn leave(
        &mut self,
        key: Key,
        (stage, session): (SessionStage, Vec<u8>),
        cx: &mut LoopContext<'_>,
    ) {
        let told = self.told(key);
        self.note_taken(key, cx.millis);
        let Some(mut connection) = self.table.remove(key) else { return };
        self.deadlines.remove(key.slot);
        self.forget_header(key);
        let noted = self.notes.remove(key);
        let waited = noted.as_ref().and_then(Noted::waited).or_else(|| self.waits.get(key));
        self.waits.forget(key);
        let timer = self.timers.left(key, cx.millis);
        self.timers.forget(key);
        self.mailboxes.close(key);
        let HeldInput { bytes: held, end: held_end } = self.held.take(key);
        let record = SessionRecord {
            stage,
            reason: connection.reason,
            session,
            awaited: connection.stage.awaited().unwrap_or_default(),
            held,
            held_end,
            timer,
            unsent: self.pieces.take_bytes(&mut connection.stream.output, cx.buffers),
            spoken: connection.stream.spoken,
            ended: connection.stream.ended,
            told,
            age: cx.millis.age(connection.began),
            idle: cx.millis.since(connection.progress),
            waited,
            log: noted.map(|noted| noted.suspended(cx.now)),
            begun: cx.millis.age(connection.begun),
            taking: self.takings.suspend(key, cx.millis),
        };
        let settings = &self.versions.get(connection.version).settings;
        let mut place = Place::counted(&settings.limit);
        place.and_source(&settings.admission, self.counted.take(key));
        self.suspensions.quiet.push(Suspended {
            frontend: settings.frontend,
            record: Record::Session(Box::new(record)),
            sockets: connection.stream.socket.into_iter().collect(),
            place,
        });
        self.versions.closed(connection.version);
        // Nobody is told that it is closed, and nobody is there to be hurt.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(connection.session)));
    }

    /// Puts a suspended connection on this thread, under this version of the settings, whose limit counts it. Gives
    /// it back as it is if it is none of a service, or this service cannot make a session of it.
    pub fn resume(
        &mut self,
        suspended: Suspended,
        version: VersionId,
        cx: &mut LoopContext<'_>,
    ) -> Result<(), Suspended> {
        let Some(session) = self.revived(&suspended, version) else { return Err(suspended) };
        let Suspended { frontend, record: Record::Session(record), mut sockets, mut place } =
            suspended
        else {
            unreachable!("none but a session was revived");
        };
        let socket = sockets.pop();
        // From now on the connection has the place.
        let held = place.take_source();
        drop(place.into_lease());
        let preread = match record.stage {
            SessionStage::Preread { listener } => {
                let peer = socket.as_ref().and_then(peer_address);
                Some(Preread::new(ListenerId { frontend, index: listener }, peer))
            }
            _ => None,
        };
        let held = held.unwrap_or_else(|| {
            let admission = &self.versions.get(version).settings.admission;
            admission.occupy(record.told, || peer_address(socket.as_ref()?), cx.now)
        });
        self.come_back((socket, session, preread), (*record, held), version, cx);
        Ok(())
    }

    /// The session of what is resumed, which is none as long as its PROXY header has not come. `None` if it makes no
    /// sense.
    fn revived(&mut self, suspended: &Suspended, version: VersionId) -> Option<Option<S::Session>> {
        let Record::Session(record) = &suspended.record else { return None };
        if suspended.sockets.len() != 1 || u32::try_from(record.unsent.len()).is_err() {
            return None;
        }
        if matches!(record.stage, SessionStage::Preread { .. }) {
            return Some(None);
        }
        self.revive(self.table.next_key(), &record.session, version).map(Some)
    }

    fn come_back(
        &mut self,
        (socket, session, preread): (Option<OwnedFd>, Option<S::Session>, Option<Preread>),
        (mut record, held): (SessionRecord, Held),
        version: VersionId,
        cx: &mut LoopContext<'_>,
    ) {
        let now = cx.millis;
        let stage = Stage::of(record.stage, record.awaited);
        let mut stream = Stream::new(socket);
        (stream.spoken, stream.ended) = (record.spoken, record.ended);
        self.is_slow = !record.unsent.is_empty();
        self.pieces.push_owned(&mut stream.output, std::mem::take(&mut record.unsent));
        let progress = now.before(record.idle);
        let unsent = stream.output.bytes;
        let queued = record.taking.and(stream.socket.as_ref()).map_or(0, slow::queued);
        let connection = Connection {
            stream,
            session,
            stage,
            reason: record.reason,
            version,
            began: now.before(record.age),
            begun: now.before(record.begun),
            progress,
        };
        self.versions.opened(version);
        let key = self.table.insert(connection);
        let bytes = std::mem::take(&mut record.held);
        let input = HeldInput { bytes, end: record.held_end };
        self.held.put(key, input);
        if let Some(left) = record.timer {
            self.timers.change(key, Timer::Set(left), now);
        }
        self.counted.note(key, held);
        match record.log {
            Some(log) => self.notes.insert(key, Noted::resumed(log, cx.now)),
            None => self.waits.note(key, record.waited),
        }
        if let Some(preread) = preread {
            self.prereads.insert(key.slot, preread);
        }
        if let Some(told) = record.told {
            self.told.insert(key.slot, told);
        }
        if let Some(taking) = record.taking {
            self.takings.resume(key, (taking, now), (queued, unsent));
        }
        self.deadlines.catch_up(now);
        self.advance(key, cx);
        self.is_slow = false;
        self.go_on_waiting(key, (stage, progress), now);
        self.tell_draining_to(key, cx);
    }

    /// Its deadlines go on from where they were: to be sent something once more is no progress.
    fn go_on_waiting(&mut self, key: Key, (stage, progress): (Stage, Millis), now: Millis) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.stage == stage {
            connection.progress = progress;
        }
        let again = now.after(self.versions.get(connection.version).look_interval);
        let due = self.due(key, now).map_or(again, |(due, _)| due);
        self.deadlines.insert(key.slot, due.earlier(again));
    }

    /// A drain that has begun may have passed its slot.
    fn tell_draining_to(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let version = self.table.get(key).map(|connection| connection.version);
        if version.is_some_and(|version| self.versions.get(version).draining.is_some()) {
            self.session_drains(key, cx);
        }
    }
}

impl Stage {
    fn of(stage: SessionStage, awaited: Awaited) -> Self {
        match stage {
            SessionStage::Preread { .. } => Self::Preread,
            SessionStage::Open => Self::Open(awaited),
            SessionStage::Flushing { linger } => Self::Flushing { linger },
            SessionStage::Lingering { bytes_left } => Self::Lingering { bytes_left },
        }
    }
}

fn peer_address(socket: &OwnedFd) -> Option<std::net::SocketAddr> {
    sys::peer_address(socket.as_fd()).ok().flatten()
}
