//! Pairs that are taken off this thread, to go on elsewhere: nothing new is started on one, what is in flight is
//! cancelled, and once the kernel has told how each of that ended the pair leaves, with all bytes that it still owes.
//!
//! ```text
//!              cancels              last completion
//!   in table ----------> suspending ---------------> suspended
//!      ^                     |
//!      |  cannot move yet    |  ended meanwhile
//!      +---------------------+----------------> closed
//! ```
//!
//! What waits in a pipe is read out of it: a descriptor less to move, and a pair gets a new pipe once much flows. A send
//! out of a pipe that was cancelled does not tell how much went, but the pipe tells how much is left. Where pipes are only
//! played, as in the simulator, a pipe has nothing in it although its bytes wait; such a pair stays until they are sent.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pair::{Detail, End, Pair, Stage};
use super::waited::Want;
use super::{Proxy, ProxySettings};
use crate::connection::suspended::{
    LackedRecord, PairRecord, PairStage, Place, Record, SideRecord, Suspended, TimesRecord,
    UNSENT_MAX_BYTES,
};
use crate::connection::{LoopContext, Receiving, VersionId};
use crate::dispatch::FrontendId;
use crate::metrics::Counter;
use crate::ring::{Key, Kind, Operation};
use crate::sys::{self, Polled};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspension {
    /// Those that still have something in flight, or have not been looked at since.
    begun: HashSet<Key>,
    /// Those that have left.
    left: Vec<Suspended>,
}

impl Suspension {
    /// Whether a pair is being suspended.
    pub(super) fn has(&self, key: Key) -> bool {
        !self.begun.is_empty() && self.begun.contains(&key)
    }

    /// It ends, or goes on here.
    pub(super) fn forget(&mut self, key: Key) {
        if !self.begun.is_empty() {
            self.begun.remove(&key);
        }
    }
}

impl Proxy {
    /// Begins to suspend the pair in a slot, if its frontend is `movable`. False if there is none, or if it cannot be
    /// moved now, or is being suspended already; then nothing has changed.
    pub fn suspend(
        &mut self,
        slot: u32,
        movable: &dyn Fn(FrontendId) -> bool,
        cx: &mut LoopContext<'_>,
    ) -> bool {
        let Some(key) = self.table.key(slot) else { return false };
        let Some(pair) = self.table.get(key) else { return false };
        let frontend = self.versions.get(pair.version).settings.frontend;
        if self.suspension.has(key) || !movable(frontend) || !self.can_move(key, cx) {
            return false;
        }
        let Some(pair) = self.table.get_mut(key) else { return false };
        self.suspension.begun.insert(key);
        for end in End::BOTH {
            let side = pair.side(end);
            if side.stream.receiving == Receiving::Armed {
                cx.operations.push(end.key(key), Operation::Cancel(Kind::Receive));
            }
            if side.stream.sending {
                cx.operations.push(end.key(key), Operation::Cancel(Kind::Send));
            } else {
                // What comes from now on waits from now on.
                side.send_began = cx.millis;
            }
        }
        self.quiet(key, cx);
        true
    }

    /// What the pair in a slot came in through.
    pub(crate) fn frontend_of(&self, slot: u32) -> Option<FrontendId> {
        let pair = self.table.get(self.table.key(slot)?)?;
        Some(self.versions.get(pair.version).settings.frontend)
    }

    /// Whether the pair in a slot could go on under this version of its frontend's settings.
    pub(crate) fn could_resume(&self, slot: u32, version: VersionId) -> bool {
        let pair = self.table.key(slot).and_then(|key| self.table.get(key));
        pair.is_some_and(|pair| {
            let own = &self.versions.get(pair.version).settings.upstreams;
            let name = own[usize::from(pair.route)].name();
            let others = &self.versions.get(version).settings.upstreams;
            pair.version == version || others.iter().any(|upstream| upstream.name() == name)
        })
    }

    /// Those that have become quiet since it was last asked.
    pub fn take_suspended(&mut self) -> Vec<Suspended> {
        std::mem::take(&mut self.suspension.left)
    }

    /// How many have been begun, and are neither taken nor ended.
    pub fn suspending(&self) -> usize {
        self.suspension.begun.len() + self.suspension.left.len()
    }

    /// Whether a pair is in a condition that can be told to another thread.
    fn can_move(&mut self, key: Key, cx: &LoopContext<'_>) -> bool {
        let Some(pair) = self.table.get_mut(key) else { return false };
        match pair.stage {
            Stage::Preread => is_untouched(pair),
            Stage::Waiting => !owes_much(pair),
            Stage::Forwarding => !owes_much(pair) && self.pipes_tell(key, cx),
            // It will be something else soon.
            Stage::Choosing | Stage::Opening | Stage::Connecting | Stage::Joining => false,
        }
    }

    /// What a pair does that is being suspended: it leaves as soon as nothing is in flight, or goes on here.
    pub(super) fn quiet(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if pair.in_flight() {
            return;
        }
        let is_over = pair.stage == Stage::Forwarding && pair.is_through();
        let goes_on =
            is_over || owes_much(pair) || pair.stage == Stage::Preread && !is_untouched(pair);
        if goes_on || !self.empty_pipes(key, cx) {
            self.suspension.forget(key);
            return self.advance(key, cx);
        }
        match self.lost(key) {
            Some(end) => self.broken(key, end, cx),
            None => self.leave(key, cx),
        }
    }

    /// Whether there are bytes in every pipe that has some to send.
    fn pipes_tell(&mut self, key: Key, cx: &LoopContext<'_>) -> bool {
        let Some(pair) = self.table.get_mut(key) else { return false };
        End::BOTH.into_iter().all(|end| {
            let output = &pair.side(end.other()).stream.output;
            self.pieces.in_pipe(output, cx.buffers).is_none()
                || pair.pipe(end).is_some_and(|pipe| pipe.held().is_ok_and(|bytes| bytes > 0))
        })
    }

    /// Reads what waits in pipes. False if it is not there; then nothing is lost, and it can be sent as ever.
    fn empty_pipes(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        if !self.pipes_tell(key, cx) {
            return false;
        }
        let Some(pair) = self.table.get_mut(key) else { return false };
        for end in End::BOTH {
            let output = pair.side(end.other()).stream.output;
            let Some(waiting) = self.pieces.in_pipe(&output, cx.buffers) else { continue };
            let Some(Ok(rest)) = pair.pipe(end).map(sys::Pipe::take) else { return false };
            // A cancelled send did not tell of the others.
            self.metrics.add(Counter::SentBytes, (waiting - rest.len()) as u64);
            let output = &mut pair.side(end.other()).stream.output;
            self.pieces.sent(output, cx.buffers, waiting);
            self.pieces.push_owned(output, rest);
        }
        true
    }

    /// An end that has reset its connection although all that was seen is a FIN: the kernel has told the cancelled send
    /// of the reset, and that one told how many bytes had gone before. No regular end may be made of it.
    fn lost(&mut self, key: Key) -> Option<End> {
        let pair = self.table.get_mut(key)?;
        End::BOTH.into_iter().find(|end| {
            let stream = &pair.side(*end).stream;
            let Some(socket) = stream.socket.as_ref().filter(|_| stream.ended) else {
                return false;
            };
            !stream.output.is_empty() && {
                let mut polled = [Polled::new(socket.as_fd(), 0)];
                let asked = sys::poll(&mut polled, Some(Duration::ZERO));
                asked.is_ok() && polled[0].ready & (sys::POLLHUP | sys::POLLERR) != 0
            }
        })
    }

    /// Takes a pair out of the table: all that it is, besides its sockets, is in its record from now on.
    fn leave(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(mut pair) = self.table.remove(key) else { return };
        self.suspension.forget(key);
        self.deadlines.remove(key.slot);
        self.pipes -= End::BOTH.iter().filter(|end| pair.pipe(**end).is_some()).count();
        let version = self.versions.get_mut(pair.version);
        version.waiting -= usize::from(pair.stage == Stage::Waiting);
        self.without_backend -= usize::from(pair.stage != Stage::Forwarding);
        let settings = Arc::clone(&version.settings);
        self.versions.closed(pair.version);
        let unsent = End::BOTH
            .map(|end| self.pieces.take_bytes(&mut pair.side(end).stream.output, cx.buffers));
        let record = PairRecord {
            waited: self.waits.get(key),
            ..record((&mut pair, unsent), &settings, cx)
        };
        self.waits.forget(key);
        let mut place = Place::counted(&settings.limit);
        place.lease = pair.lease.take();
        place.and_source(&settings.admission, self.counted.take(key));
        let sockets = End::BOTH.into_iter().filter_map(|end| pair.side(end).stream.socket.take());
        self.suspension.left.push(Suspended {
            frontend: settings.frontend,
            record: Record::Pair(Box::new(record)),
            sockets: sockets.collect(),
            place,
        });
    }
}

/// Whether more waits for an end than is copied at once.
fn owes_much(pair: &mut Pair) -> bool {
    End::BOTH.into_iter().any(|end| pair.side(end).stream.output.bytes > UNSENT_MAX_BYTES)
}

/// Whether nothing has come of what has to be read first.
fn is_untouched(pair: &mut Pair) -> bool {
    let client = &pair.side(End::Client).stream;
    !client.spoken && !client.ended
}

fn record(
    (pair, unsent): (&mut Pair, [Vec<u8>; 2]),
    settings: &ProxySettings,
    cx: &LoopContext<'_>,
) -> PairRecord {
    let detail = pair.detail.take().unwrap_or_default();
    let mut unsent = unsent.into_iter();
    let sides = End::BOTH.map(|end| {
        let queued = detail.queued[end as usize];
        side((pair, end), (unsent.next().unwrap_or_default(), queued), cx)
    });
    PairRecord {
        stage: match pair.stage {
            Stage::Preread => PairStage::Preread,
            Stage::Forwarding => PairStage::Forwarding,
            _ => PairStage::Waiting,
        },
        upstream: settings.upstreams[usize::from(pair.route)].name().to_owned(),
        endpoint: pair.lease.as_ref().map(|lease| lease.endpoint().address().to_string()),
        attempts: pair.attempts,
        failures: pair.failures,
        errno: detail.trouble.as_ref().and_then(|trouble| trouble.errno).map(|errno| errno.0),
        lacked: LackedRecord {
            room: pair.waited.has(Want::Room),
            socket: pair.waited.has(Want::Socket),
            port: pair.waited.has(Want::Port),
        },
        asked: pair.asked,
        client_ended_first: match (sides[0].ended, sides[1].ended) {
            (false, false) => None,
            (true, true) => Some(pair.ended == super::Ended::Client),
            (client, _) => Some(client),
        },
        bytes: pair.bytes,
        sides,
        client: detail.client,
        destination: detail.destination,
        age: cx.millis.age(pair.began),
        lifetime_share: pair.lifetime_share,
        idle: cx.millis.since(pair.progress),
        waited: None,
        times: times(&detail, cx.now),
    }
}

fn side(
    (pair, end): (&mut Pair, End),
    (unsent, queued): (Vec<u8>, Option<u32>),
    cx: &LoopContext<'_>,
) -> SideRecord {
    let forwards = pair.stage == Stage::Forwarding;
    let side = pair.side(end);
    let stalls = forwards && !unsent.is_empty();
    SideRecord {
        spoken: side.stream.spoken,
        ended: side.stream.ended,
        shut: side.shut,
        stalled: stalls.then(|| cx.millis.since(side.send_began)),
        queued: queued.filter(|_| stalls),
        unsent,
    }
}

fn times(detail: &Detail, now: Instant) -> TimesRecord {
    let since = |moment: Option<Instant>| moment.map(|it| now.saturating_duration_since(it));
    let times = &detail.times;
    TimesRecord {
        queued: times.queued,
        accepted: since(times.accepted),
        adopted: since(times.adopted),
        connected: since(times.connected),
        first_byte: since(times.first_byte),
    }
}
