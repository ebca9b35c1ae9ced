//! What the kernel does to connections before anybody has accepted them: looked at once a second, and by whoever asks.
//!
//! Nothing here is on the way of a connection: sockets and /proc are asked, and counters of threads are read.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Handle;
use super::directory::{FrontendState, FrontendStatus};
use super::verdict::{Judgement, PauseCause, Seen, Verdict};
use crate::config::ListenAddress;
use crate::listener::{AcceptQueue, Listener};
use crate::log::rate_limit::Incident;
use crate::log::{RateLimit, Suppressed};
use crate::metrics::{Counter, DurationCounts};
use crate::sys;

/// How often the log tells that something is wrong with a listener, at most. What changes meanwhile is in the status.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// What the kernel counts for the network namespace of the process, all servers in it together (TcpExt in
/// /proc/net/netstat). Zero for what this kernel does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceCounters {
    /// ListenOverflows: handshakes and SYNs that a full accept queue dropped.
    pub listen_overflows: u64,
    /// ListenDrops: all that listeners dropped, for whatever reason.
    pub listen_drops: u64,
    /// SyncookiesSent.
    pub syn_cookies_sent: u64,
    /// SyncookiesFailed: answers to cookies that were none.
    pub syn_cookies_failed: u64,
    /// TCPReqQFullDrop: SYNs that a full queue of handshakes dropped.
    pub syn_queue_full_drops: u64,
    /// TCPReqQFullDoCookies: SYNs that it answered with a cookie.
    pub syn_queue_full_cookies: u64,
}

impl NamespaceCounters {
    /// As they are now; `None` if they cannot be read, for want of a descriptor perhaps.
    pub fn read() -> Option<Self> {
        fs::read_to_string("/proc/self/net/netstat").ok().map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let counter = |name| sys::net_counter(text, "TcpExt:", name).unwrap_or(0);
        Self {
            listen_overflows: counter("ListenOverflows"),
            listen_drops: counter("ListenDrops"),
            syn_cookies_sent: counter("SyncookiesSent"),
            syn_cookies_failed: counter("SyncookiesFailed"),
            syn_queue_full_drops: counter("TCPReqQFullDrop"),
            syn_queue_full_cookies: counter("TCPReqQFullDoCookies"),
        }
    }
}

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
    /// How long connections have waited in the queue: a sample.
    pub waits: DurationCounts,
    /// How often SYN-ACKs were sent again to the connections of that sample.
    pub retransmitted: u64,
    /// How it is.
    pub verdict: Verdict,
    /// Since when it is so.
    pub since: Instant,
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
    /// The look before this one.
    before: (Option<NamespaceCounters>, ProcessSeen),
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    listener: Weak<Listener>,
    judgement: Judgement,
    incident: Incident,
    /// Of changes from one trouble to another.
    changes: RateLimit,
    longest: u32,
    /// As the kernel tells them, which wrap, and added up.
    drops: (u32, u64),
}

impl Socket {
    fn new(listener: &Arc<Listener>, now: Instant) -> Self {
        Self {
            listener: Arc::downgrade(listener),
            judgement: Judgement::new(now),
            incident: Incident::new(LOG_INTERVAL),
            changes: RateLimit::new(LOG_INTERVAL),
            longest: 0,
            drops: (0, 0),
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
        let (advice, suppressed) = (verdict.advice(), Suppressed(suppressed));
        tracing::warn!(
            "frontend '{frontend}' on {address}: {verdict}: {waiting} in the accept queue (limit {limit}), {drops} \
             drops since the last check: {advice}{suppressed}"
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
        let before = (NamespaceCounters::read(), ProcessSeen::default());
        Self(Mutex::new(Watched { before, sockets: Vec::new() }))
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
        watched.look(&frontends, process, Instant::now())
    }
}

impl Watched {
    fn look(
        &mut self,
        frontends: &[FrontendStatus],
        process: ProcessSeen,
        now: Instant,
    ) -> Vec<ListenerStatus> {
        let namespace = NamespaceCounters::read().or(self.before.0);
        let (old_namespace, old_process) =
            std::mem::replace(&mut self.before, (namespace, process));
        let grown = |counter: fn(&NamespaceCounters) -> u64| match (&namespace, &old_namespace) {
            (Some(new), Some(old)) => counter(new).saturating_sub(counter(old)),
            _ => 0,
        };
        let changes = Seen {
            overflows: grown(|it| it.listen_overflows),
            syn_queue_full: grown(|it| it.syn_queue_full_drops),
            ..Seen::default()
        };
        let pause = |frontend: &FrontendStatus| {
            let is_at = |open: usize, limit: usize| open >= limit;
            let (open, limit) = process.connections;
            let causes = [
                (is_at(open, limit), PauseCause::ProcessLimit),
                (
                    is_at(frontend.open(), frontend.max_connections().unwrap_or(usize::MAX)),
                    PauseCause::FrontendLimit,
                ),
                (process.no_descriptor > old_process.no_descriptor, PauseCause::Descriptors),
                (process.full > old_process.full, PauseCause::Workers),
            ];
            causes.into_iter().find(|(is_so, _)| *is_so).map(|(_, cause)| cause)
        };
        let mut old: VecDeque<Socket> = std::mem::take(&mut self.sockets).into();
        let mut all = Vec::new();
        for frontend in frontends {
            let pause = pause(frontend);
            for listener in frontend.sockets() {
                let Ok(queue) = listener.queue() else { continue };
                // They mostly come in the order of the last time.
                let place = old
                    .iter()
                    .position(|it| std::ptr::eq(it.listener.as_ptr(), Arc::as_ptr(&listener)));
                let known = place.and_then(|place| old.remove(place));
                let mut socket = known.unwrap_or_else(|| Socket::new(&listener, now));
                let drops = queue.drops.map_or(0, |told| socket.take_drops(told));
                let waiting = queue.waiting.unwrap_or(0);
                socket.longest = socket.longest.max(waiting);
                let counts_others =
                    listener.drops_what_it_defers() || frontend.state != FrontendState::Listening;
                let seen =
                    Seen { waiting, limit: queue.limit, drops, counts_others, pause, ..changes };
                socket.judge((&frontend.name, listener.address()), &seen, now);
                all.push(ListenerStatus {
                    frontend: frontend.name.clone(),
                    address: listener.address().clone(),
                    queue,
                    longest: socket.longest,
                    drops: socket.drops.1,
                    waits: listener.waits().waits(),
                    retransmitted: listener.waits().retransmitted(),
                    verdict: socket.judgement.verdict(),
                    since: socket.judgement.since(),
                });
                self.sockets.push(socket);
            }
        }
        // One that could not be asked now, or that nobody names any more and that is still open.
        self.sockets.extend(old.into_iter().filter(|it| it.listener.strong_count() > 0));
        all
    }
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

    /// Looks at all accept queues, and logs what has changed of the verdicts on them. To be called every second or so;
    /// whoever wants to know calls it, too.
    pub fn watch_queues(&self) -> Vec<ListenerStatus> {
        let no_descriptor = [
            Counter::AcceptProcessDescriptors,
            Counter::AcceptSystemDescriptors,
            Counter::AcceptMemory,
        ];
        self.queues.look(|| {
            let process = ProcessSeen {
                connections: (self.open(), self.max_connections()),
                no_descriptor: no_descriptor.into_iter().map(|it| self.counter(it)).sum(),
                full: self.counter(Counter::InboxesFull),
            };
            (self.frontends(), process)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_namespace_are_found_by_name() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 4 5 6 7\n";
        let expected = NamespaceCounters {
            syn_cookies_sent: 4,
            listen_overflows: 5,
            listen_drops: 6,
            syn_queue_full_drops: 7,
            ..NamespaceCounters::default()
        };
        assert_eq!(NamespaceCounters::parse(text), expected);
    }

    #[test]
    fn drops_are_added_up_beyond_the_kernels_width() {
        let listener = Listener::bind(
            &"127.0.0.1:0".parse().unwrap(),
            &crate::config::SocketOptions::default(),
            crate::listener::Sharing::Exclusive,
        );
        let mut socket = Socket::new(&Arc::new(listener.unwrap()), Instant::now());
        assert_eq!(socket.take_drops(u32::MAX), u64::from(u32::MAX));
        assert_eq!(socket.take_drops(2), 3);
        assert_eq!(socket.drops.1, u64::from(u32::MAX) + 3);
    }
}
