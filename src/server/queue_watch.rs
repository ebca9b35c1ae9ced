//! What the kernel does to connections before anybody has accepted them: looked at once a second, and by whoever asks.
//!
//! Nothing here is on the way of a connection: sockets and /proc are asked, and counters of threads are read.

mod namespace;
mod numbers;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use namespace::NamespaceChanges;
pub use namespace::NamespaceCounters;
use numbers::Numbers;

use super::Handle;
use super::directory::{FrontendState, FrontendStatus};
use super::verdict::{Judgement, PauseCause, Seen, Verdict};
use crate::config::{ListenAddress, OverloadAction};
use crate::listener::{AcceptQueue, Listener};
use crate::log::rate_limit::Incident;
use crate::log::{RateLimit, Suppressed};
use crate::metrics::{Counter, DurationCounts};
use crate::sys;

/// How often the log tells that something is wrong with a listener, at most. What changes meanwhile is in the status.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// A listening socket, as it was seen last.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerStatus {
    /// The frontend that it belongs to.
    pub frontend: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// What is in its accept queue.
    pub queue: AcceptQueue,
    /// The most that was ever seen in the queue.
    pub longest: u32,
    /// What the kernel has dropped since the socket was made, whatever the reason.
    pub drops: u64,
    /// Those of them that were SYNs from banned sources, as far as that is known: while bans are in the kernel, what it
    /// drops with the queue below its limit. (With TCP_DEFER_ACCEPT it drops other segments, too, and nothing is known.)
    pub dropped_by_bans: u64,
    /// How long connections have waited in the queue: a sample.
    pub waits: DurationCounts,
    /// How often SYN-ACKs were sent again to the connections of that sample.
    pub retransmitted: u64,
    /// Tells it from the others on its address, from 0 on; the same for as long as it is open.
    pub socket: usize,
    /// How long it was not accepted on, for each cause, in the order of [`PauseCause::ALL`].
    pub paused: [Duration; PauseCause::ALL.len()],
    /// What is done while connections wait too long.
    pub overload: OverloadAction,
    /// Since when they do; `None` if they do not.
    pub overloaded_since: Option<Instant>,
    /// How often that has begun.
    pub overloads: u64,
    /// How many connections were reset for it.
    pub shed: u64,
    /// How it is.
    pub verdict: Verdict,
    /// Since when it is so.
    pub since: Instant,
}

/// A socket, for the process that takes the place of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct SocketRecord {
    number: usize,
    longest: u32,
    dropped_by_bans: u64,
}

/// What there is to see beside the sockets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessSeen {
    /// Connections of the whole process, and their limit.
    pub(super) connections: (usize, usize),
    /// Accepts that failed for want of a descriptor or of memory, since the start.
    pub(super) no_descriptor: u64,
    /// Tries to place a connection that no worker had room for, since the start.
    pub(super) full: u64,
}

/// All listeners.
#[derive(Debug)]
pub(super) struct QueueWatch(Mutex<Watched>);

#[derive(Debug)]
struct Watched {
    namespace: NamespaceChanges,
    /// As it was at the last look.
    process: ProcessSeen,
    sockets: Vec<Socket>,
    /// SYNs of banned sources that were dropped for sockets that are closed now.
    dropped_before: u64,
    /// What the process before this one has told of sockets that are still to come, by the number that the kernel gives
    /// each.
    known: BTreeMap<u64, SocketRecord>,
}

#[derive(Debug)]
struct Socket {
    listener: Weak<Listener>,
    judgement: Judgement,
    incident: Incident,
    /// Of changes from one trouble to another.
    changes: RateLimit,
    /// Where it listens, and its place among those on the same address.
    address: ListenAddress,
    number: usize,
    longest: u32,
    /// As the kernel tells them, which wrap, and added up.
    drops: (u32, u64),
    /// Whether bans were in the kernel at the last look, and their version.
    bans: (bool, u64),
    dropped_by_bans: u64,
    /// How often it had begun to be overloaded at the last look.
    overloads: u64,
    /// How long its rate had held connections back at the last look.
    held_by_rate: Duration,
}

impl Socket {
    fn new(listener: &Arc<Listener>, as_before: SocketRecord, now: Instant) -> Self {
        let SocketRecord { number, longest, dropped_by_bans } = as_before;
        Self {
            listener: Arc::downgrade(listener),
            judgement: Judgement::new(now),
            incident: Incident::new(LOG_INTERVAL),
            changes: RateLimit::new(LOG_INTERVAL),
            address: listener.address().clone(),
            number,
            longest,
            drops: (listener.drops_before(), listener.drops_before().into()),
            bans: (false, 0),
            dropped_by_bans,
            overloads: listener.pressure().begun(),
            held_by_rate: listener.pauses().get(PauseCause::FrontendRate, now),
        }
    }

    fn is_of(&self, listener: &Arc<Listener>) -> bool {
        std::ptr::eq(self.listener.as_ptr(), Arc::as_ptr(listener))
    }

    /// Takes into account what is in its queue now. `changes` is what there is to see beside that.
    fn look(
        &mut self,
        (frontend, listener): (&FrontendStatus, &Listener),
        queue: AcceptQueue,
        (changes, now): (Seen, Instant),
    ) -> ListenerStatus {
        let drops = queue.drops.map_or(0, |told| self.take_drops(told));
        let waiting = queue.waiting.unwrap_or(0);
        let pressure = listener.pressure();
        let (overloads, overloaded_since) = (pressure.begun(), pressure.since());
        let has_begun = std::mem::replace(&mut self.overloads, overloads) != overloads;
        self.longest = self.longest.max(waiting);
        let held_by_rate = listener.pauses().get(PauseCause::FrontendRate, now);
        let is_held = std::mem::replace(&mut self.held_by_rate, held_by_rate) < held_by_rate;
        let pause = changes.pause.or(is_held.then_some(PauseCause::FrontendRate));
        let asks = queue.waiting.is_none() && pause.is_some();
        let bans = listener.drops_syns();
        let before = std::mem::replace(&mut self.bans, bans);
        let counts_others =
            listener.drops_what_it_defers() || frontend.state != FrontendState::Listening;
        let seen = Seen {
            waiting,
            some_wait: asks && listener.is_waited_at().unwrap_or(false),
            limit: queue.limit,
            drops,
            counts_others,
            bans: bans.0 || before.0 || bans.1 != before.1,
            is_overloaded: overloaded_since.is_some() || has_begun,
            pause,
            ..changes
        };
        self.dropped_by_bans += seen.dropped_by_bans();
        if seen.overflowed() {
            // It was full, although nobody looked just then.
            self.longest = self.longest.max(seen.limit + 1);
        }
        self.judge((&frontend.name, listener.address()), &seen, now);
        ListenerStatus {
            frontend: frontend.name.clone(),
            address: listener.address().clone(),
            queue,
            longest: self.longest,
            drops: self.drops.1,
            dropped_by_bans: self.dropped_by_bans,
            waits: listener.waits().waits(),
            retransmitted: listener.waits().retransmitted(),
            socket: self.number,
            paused: PauseCause::ALL.map(|cause| listener.pauses().get(cause, now)),
            overload: pressure.action(),
            overloaded_since,
            overloads,
            shed: pressure.shed(),
            verdict: self.judgement.verdict(),
            since: self.judgement.since(),
        }
    }

    /// Takes a look into account, and logs a verdict that is another than before. The end of one that was told is told,
    /// too, and none of those that come too often.
    fn judge(&mut self, (frontend, address): (&str, &ListenAddress), seen: &Seen, now: Instant) {
        let (before, since) = (self.judgement.verdict(), self.judgement.since());
        let is_news = self.judgement.look(seen, now);
        let verdict = self.judgement.verdict();
        if verdict == Verdict::Healthy {
            if is_news && self.incident.end() {
                let lasted = (now - since).as_secs();
                tracing::info!(
                    "frontend '{frontend}' on {address}: healthy; was {before} for {lasted} s"
                );
            }
            return;
        }
        let is_told = self.incident.is_told();
        let suppressed = match self.incident.begin(now) {
            Some(suppressed) => suppressed,
            None if is_told && is_news => match self.changes.ask(now) {
                Some(suppressed) => suppressed,
                None => return,
            },
            None => return,
        };
        let Seen { waiting, limit, drops, .. } = seen;
        let waiting = if seen.some_wait { "some".to_owned() } else { waiting.to_string() };
        let what = match seen.verdict() == verdict {
            true => format!(
                "{waiting} in the accept queue now (limit {limit}), {drops} drops since the last check"
            ),
            // It was hidden by a worse one.
            false => format!("found while it was {before}"),
        };
        let (advice, suppressed) = (verdict.advice(), Suppressed(suppressed));
        tracing::warn!(
            "frontend '{frontend}' on {address}: {verdict}: {what}: {advice}{suppressed}"
        );
    }

    fn take_drops(&mut self, told: u32) -> u64 {
        let more = u64::from(told.wrapping_sub(self.drops.0));
        self.drops = (told, self.drops.1 + more);
        more
    }
}

impl QueueWatch {
    /// For sockets that are new: what the kernel counts from now on is of interest.
    pub(super) fn new() -> Self {
        let namespace = NamespaceChanges { before: NamespaceCounters::read() };
        let (process, sockets, dropped_before, known) = Default::default();
        Self(Mutex::new(Watched { namespace, process, sockets, dropped_before, known }))
    }

    /// SYNs of banned sources that the kernel has dropped until the last look, also for sockets that are closed now.
    pub(super) fn dropped_by_bans(&self) -> u64 {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: u64 = watched.sockets.iter().map(|socket| socket.dropped_by_bans).sum();
        watched.dropped_before + open
    }

    /// The sockets that are open, by the number that the kernel gives each.
    pub(super) fn sockets(&self) -> BTreeMap<u64, SocketRecord> {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = |socket: &Socket| {
            let cookie = sys::socket_cookie(socket.listener.upgrade()?.as_fd()).ok()?;
            let Socket { number, longest, dropped_by_bans, .. } = *socket;
            Some((cookie, SocketRecord { number, longest, dropped_by_bans }))
        };
        watched.sockets.iter().filter_map(record).collect()
    }

    /// What another process has told of sockets that this one is about to listen on. Its last word, when it has closed them,
    /// names none.
    pub(super) fn know(&self, sockets: BTreeMap<u64, SocketRecord>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.extend(sockets);
    }

    /// Looks at all listeners, and logs what has changed. `now` tells what there is beside them, once nobody else looks:
    /// who is late must not bring what was before.
    pub(super) fn look(
        &self,
        now: impl FnOnce() -> (Vec<FrontendStatus>, ProcessSeen),
    ) -> Vec<ListenerStatus> {
        // Whoever panicked with it has left it whole.
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (frontends, process) = now();
        watched.look(&frontends, process, NamespaceCounters::read)
    }
}

impl Watched {
    fn look(
        &mut self,
        frontends: &[FrontendStatus],
        process: ProcessSeen,
        read: impl Fn() -> Option<NamespaceCounters>,
    ) -> Vec<ListenerStatus> {
        let begin = read();
        let open = |frontend: &FrontendStatus| frontend.sockets().collect::<Vec<_>>();
        let open: Vec<_> = frontends.iter().map(|it| (it, open(it))).collect();
        let queues = |all: &Vec<Arc<Listener>>| all.iter().map(|it| it.queue()).collect::<Vec<_>>();
        let queues: Vec<_> = open.iter().map(|(_, listeners)| queues(listeners)).collect();
        let (overflows, syn_queue_full) = self.namespace.take(begin, read());
        let old_process = std::mem::replace(&mut self.process, process);
        let now = Instant::now();
        let mut old: VecDeque<Socket> = std::mem::take(&mut self.sockets).into();
        let mut all = Vec::new();
        let mut numbers = None;
        for ((frontend, listeners), queues) in open.iter().zip(queues) {
            let pause = pause(frontend, &process, &old_process);
            for (listener, queue) in listeners.iter().zip(queues) {
                let Ok(queue) = queue else { continue };
                // They mostly come in the order of the last time.
                let place = old.iter().position(|it| it.is_of(listener));
                let known = place.and_then(|place| old.remove(place));
                let mut socket = known.unwrap_or_else(|| {
                    let cookie = sys::socket_cookie(listener.as_fd()).unwrap_or_default();
                    if let Some(as_before) = self.known.get(&cookie) {
                        return Socket::new(listener, *as_before, now);
                    }
                    let known = || Numbers::of(self.sockets.iter().chain(&old), &open, &self.known);
                    let numbers = numbers.get_or_insert_with(known);
                    let number = numbers.take(listener.address());
                    Socket::new(listener, SocketRecord { number, ..SocketRecord::default() }, now)
                });
                let changes = Seen { pause, overflows, syn_queue_full, ..Seen::default() };
                all.push(socket.look((frontend, listener), queue, (changes, now)));
                self.sockets.push(socket);
            }
        }
        // One that could not be asked now, or that nobody names any more and that is still open.
        for socket in old {
            match socket.listener.strong_count() {
                0 => self.dropped_before += socket.dropped_by_bans,
                _ => self.sockets.push(socket),
            }
        }
        if !all.is_empty() {
            self.known.clear();
        }
        all
    }
}

/// Why nobody is accepted for a frontend at the moment, or was since the look before.
fn pause(
    frontend: &FrontendStatus,
    process: &ProcessSeen,
    before: &ProcessSeen,
) -> Option<PauseCause> {
    let is_at = |open: usize, limit: usize| open >= limit;
    let (open, limit) = process.connections;
    let own_limit = frontend.max_connections().unwrap_or(usize::MAX);
    let causes = [
        (is_at(open, limit), PauseCause::ProcessLimit),
        (is_at(frontend.open(), own_limit), PauseCause::FrontendLimit),
        (process.no_descriptor > before.no_descriptor, PauseCause::Descriptors),
        (process.full > before.full, PauseCause::Workers),
    ];
    causes.into_iter().find(|(is_so, _)| *is_so).map(|(_, cause)| cause)
}

impl Handle {
    /// Open connections of each worker, those on their way to it included.
    pub fn worker_loads(&self) -> Vec<usize> {
        self.inboxes.iter().map(|inbox| inbox.load().open()).collect()
    }

    /// The value of a counter on each thread, with the thread's name.
    pub fn by_thread(&self, counter: Counter) -> impl Iterator<Item = (&str, u64)> {
        self.blocks.iter().map(move |(name, block)| (name.as_str(), block.get(counter)))
    }

    /// How many buffers each thread has left, with its name.
    pub fn buffers_free(&self) -> impl Iterator<Item = (&str, u64)> {
        self.blocks.iter().map(|(name, block)| (name.as_str(), block.buffers_free()))
    }

    /// SYNs of banned sources that the kernel has dropped until the last look at the queues, as far as it is known, also
    /// for sockets that are closed now. It never falls while the process lives.
    pub fn dropped_by_bans(&self) -> u64 {
        self.queues.dropped_by_bans()
    }

    /// Looks at all accept queues, and logs what has changed of the verdicts on them; ends bans that are over. To be called
    /// every second or so; whoever wants to know calls it, too.
    pub fn watch_queues(&self) -> Vec<ListenerStatus> {
        self.directory.forget_idle_sources(Instant::now());
        self.look_after_bans();
        let no_descriptor = [
            Counter::AcceptProcessDescriptors,
            Counter::AcceptSystemDescriptors,
            Counter::AcceptMemory,
        ];
        // What another process still counts says nothing of this one.
        let own = |counter: Counter| self.counter_of_this_process(counter);
        self.queues.look(|| {
            let process = ProcessSeen {
                connections: (self.open(), self.max_connections()),
                no_descriptor: no_descriptor.into_iter().map(own).sum(),
                full: own(Counter::InboxesFull),
            };
            (self.frontends(), process)
        })
    }
}

#[cfg(test)]
mod tests;
