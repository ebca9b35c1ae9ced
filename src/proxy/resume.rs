//! Pairs that were suspended, on this thread or another one, and go on here.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::pair::{End, Pair, Stage, Times};
use super::waited::Want;
use super::{Ended, Proxy, deadline};
use crate::connection::suspended::{
    LackedRecord, PairRecord, PairStage, Place, Record, Suspended, TimesRecord,
};
use crate::connection::{LoopContext, VersionId};
use crate::ring::Key;
use crate::sys;
use crate::sys::Errno;
use crate::upstream::{ConnectFailure, Lease};

impl Proxy {
    /// Takes a suspended pair into the table, under this version of the settings, and goes on with it. The place that it
    /// is counted with is the table's from now on. Times have gone on meanwhile, and so have its deadlines.
    ///
    /// # Errors
    /// Gives back what makes no sense here: what is no pair, or goes to an upstream that this version does not have.
    pub fn resume(
        &mut self,
        suspended: Suspended,
        version: VersionId,
        cx: &mut LoopContext<'_>,
    ) -> Result<(), Suspended> {
        let Some(route) = self.route_of(&suspended, version) else { return Err(suspended) };
        let Suspended { record: Record::Pair(mut record), sockets, mut place, .. } = suspended
        else {
            return Err(suspended);
        };
        let mut sockets = VecDeque::from(sockets);
        let Some(client) = sockets.pop_front() else { return Ok(()) };
        let mut pair = Pair::new(client, version, cx.millis);
        pair.side(End::Backend).stream.socket = sockets.pop_front();
        pair.route = route;
        let held = place.take_source();
        pair.lease = self.lease_of(&record, (version, route), place);
        let stalled = self.restore(&mut pair, &mut record, cx);
        self.versions.opened(version);
        let is_known = record.client.is_some() || self.find_peer(&mut pair);
        let admission = &self.versions.get(version).settings.admission;
        let held = held.unwrap_or_else(|| {
            let socket = pair.side(End::Client).stream.socket.as_ref();
            let peer = socket.and_then(|socket| sys::peer_address(socket.as_fd()).ok().flatten());
            // The record has the peer where no header has told another one.
            let told = record.client.filter(|client| Some(*client) != peer);
            admission.occupy(told, || peer, cx.now)
        });
        let key = self.table.insert(pair);
        self.counted.note(key, held);
        self.add_without_backend((record.stage != PairStage::Forwarding).into());
        self.deadlines.catch_up(cx.millis);
        self.waits.note(key, record.waited);
        match record.stage {
            PairStage::Preread if !is_known => self.fail(key, Ended::ClientReset, cx),
            PairStage::Preread => self.begin(key, cx),
            PairStage::Waiting => self.line_up(key, cx),
            PairStage::Forwarding => {}
        }
        self.advance(key, cx);
        self.put_on_wheel(key, stalled, cx);
        Ok(())
    }

    /// Which upstream of this version it goes to; `None` if it makes no sense here.
    fn route_of(&self, suspended: &Suspended, version: VersionId) -> Option<u16> {
        let Record::Pair(record) = &suspended.record else { return None };
        let (sockets, goes_anywhere) = match record.stage {
            PairStage::Preread => (1, true),
            PairStage::Waiting => (1, false),
            PairStage::Forwarding => (2, false),
        };
        let upstreams = &self.versions.get(version).settings.upstreams;
        let route = upstreams.iter().position(|upstream| upstream.name() == record.upstream);
        // What it has not said yet decides.
        let route = route.or(goes_anywhere.then_some(0))?;
        (suspended.sockets.len() == sockets).then_some(u16::try_from(route).ok()?)
    }

    /// The place at its backend: its own, or one more where that is another process's. None if nobody knows the backend
    /// here any more.
    fn lease_of(
        &self,
        record: &PairRecord,
        (version, route): (VersionId, u16),
        place: Place,
    ) -> Option<Lease> {
        let upstream = &self.versions.get(version).settings.upstreams[usize::from(route)];
        let lease = place.into_lease();
        let open = || upstream.lease_open(record.endpoint.as_deref()?);
        lease.or_else(open).filter(|_| record.stage == PairStage::Forwarding)
    }

    /// Makes a new pair what the record says. Returns how long each end has taken nothing.
    fn restore(
        &mut self,
        pair: &mut Pair,
        record: &mut PairRecord,
        cx: &mut LoopContext<'_>,
    ) -> [Option<Duration>; 2] {
        let now = cx.millis;
        pair.stage = match record.stage {
            PairStage::Preread => Stage::Preread,
            PairStage::Waiting => Stage::Waiting,
            PairStage::Forwarding => Stage::Forwarding,
        };
        (pair.began, pair.progress) = (now.before(record.age), now.before(record.idle));
        pair.lifetime_share = record.lifetime_share;
        (pair.attempts, pair.failures) = (record.attempts, record.failures);
        (pair.asked, pair.bytes) = (record.asked, record.bytes);
        let LackedRecord { room, socket, port } = record.lacked;
        for (lacked, want) in [(room, Want::Room), (socket, Want::Socket), (port, Want::Port)] {
            if lacked {
                pair.waited.note(want);
            }
        }
        pair.ended = ended(record);
        restore_detail(pair, record, cx.now);
        End::BOTH.map(|end| {
            let told = &mut record.sides[end as usize];
            let side = pair.side(end);
            (side.stream.spoken, side.stream.ended) = (told.spoken, told.ended);
            side.shut = told.shut;
            let unsent = std::mem::take(&mut told.unsent);
            self.pieces.push_owned(&mut side.stream.output, unsent);
            told.stalled
        })
    }

    /// Puts a pair into the queue that was in one already, before those that came later. However many wait here, it had
    /// a place.
    fn line_up(&mut self, key: Key, cx: &LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.waited.note(Want::Turn);
        let began = pair.began;
        self.versions.get_mut(pair.version).waiting += 1;
        let is_later = |other: &Key| {
            let other = self.table.get(*other);
            other.is_some_and(|other| !began.reached(other.began))
        };
        let place = self.waiting.iter().position(is_later).unwrap_or(self.waiting.len());
        self.waiting.insert(place, key);
        self.next_look = cx.now;
    }

    /// Notes when to look at a pair that goes on, so that what is left of each deadline stays.
    fn put_on_wheel(&mut self, key: Key, stalled: [Option<Duration>; 2], cx: &LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        for (end, stalled) in End::BOTH.into_iter().zip(stalled) {
            let side = pair.side(end);
            if let Some(stalled) = stalled.filter(|_| side.stream.sending) {
                side.send_began = cx.millis.before(stalled);
            }
        }
        let version = self.versions.get(pair.version);
        let again = cx.millis.after(version.look_interval);
        let due = deadline(pair, &version.settings.timeouts);
        let look = due.map_or(again, |(due, _)| due.earlier(again));
        self.deadlines.insert(key.slot, look);
    }
}

/// Why it ends, as far as that is decided: who ended first, or how the last connect failed.
fn ended(record: &PairRecord) -> Ended {
    let timed_out = |errno| ConnectFailure::of(Errno(errno)) == ConnectFailure::TimedOut;
    match (record.client_ended_first, record.failures) {
        (Some(false), _) => Ended::Backend,
        (Some(true), _) | (None, 0) => Ended::Client,
        (None, _) if record.errno.is_some_and(timed_out) => Ended::ConnectTimeout,
        (None, _) => Ended::ConnectFailed,
    }
}

/// What few pairs have.
fn restore_detail(pair: &mut Pair, record: &PairRecord, now: Instant) {
    if record.client.is_some() || record.destination.is_some() {
        let detail = pair.detail();
        (detail.client, detail.destination) = (record.client, record.destination);
    }
    if let Some(errno) = record.errno {
        let (lacks, since) = (record.lacked.port, pair.progress);
        let trouble = pair.trouble();
        trouble.errno = Some(Errno(errno));
        if lacks {
            (trouble.lacks_since, trouble.retried) = (Some(since), record.failures);
        }
    }
    let queued = [0, 1].map(|end| record.sides[end].queued);
    if queued != [None; 2] {
        pair.detail().queued = queued;
    }
    if record.times != TimesRecord::default() {
        let times = &record.times;
        let moment = |since: Option<Duration>| since.and_then(|since| now.checked_sub(since));
        pair.detail().times = Times {
            queued: times.queued,
            accepted: moment(times.accepted),
            adopted: moment(times.adopted),
            connected: moment(times.connected),
            first_byte: moment(times.first_byte),
        };
    }
}
