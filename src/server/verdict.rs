//! What is wrong with a listener, in one word, from what the kernel counts for it.
//!
//! ```text
//!                  a look finds something                worse was found, or the
//!   healthy -----------------------------> a verdict --- old cause is over -----> another verdict
//!      ^                                       |
//!      +--- nothing found for CALM ------------+
//! ```

use std::fmt;
use std::time::{Duration, Instant};

/// How long nothing may be found before a listener is healthy again, or another verdict replaces a worse one.
const CALM: Duration = Duration::from_secs(10);

/// Why nobody is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseCause {
    /// All workers have as many connections as they have room for.
    Workers,
    /// No descriptor or no memory is left.
    Descriptors,
    /// The frontend has as many connections as it may have.
    FrontendLimit,
    /// The process has as many connections as it may have.
    ProcessLimit,
}

/// How a listener is. What is worse comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verdict {
    /// Whoever connects is accepted.
    #[default]
    Healthy,
    /// The queue of handshakes under way was full, and SYNs were dropped.
    SynQueue,
    /// The accept queue was full, and handshakes were dropped.
    AcceptQueueOverflow,
    /// Connections wait because this program accepts none.
    AcceptingPaused(PauseCause),
}

impl Verdict {
    /// The verdicts that a listener can have, in a word each.
    pub const NAMES: [&'static str; 4] =
        ["healthy", "syn_queue", "accept_queue_overflow", "accepting_paused"];

    /// In a word, without the cause of a pause.
    pub fn name(self) -> &'static str {
        Self::NAMES[match self {
            Self::Healthy => 0,
            Self::SynQueue => 1,
            Self::AcceptQueueOverflow => 2,
            Self::AcceptingPaused(_) => 3,
        }]
    }

    /// Why accepting is paused.
    pub fn pause(self) -> Option<PauseCause> {
        match self {
            Self::AcceptingPaused(cause) => Some(cause),
            _ => None,
        }
    }

    /// What is wrong and what helps, in words; nothing for one that is healthy.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Healthy => "",
            Self::SynQueue => {
                "SYNs are dropped because the SYN queue is full: raise net.ipv4.tcp_max_syn_backlog and the backlog, \
                 and keep net.ipv4.tcp_syncookies at 1"
            }
            Self::AcceptQueueOverflow => {
                "the accept queue was full, so connects take a second or more: raise net.core.somaxconn, then the \
                 backlog; if the queue is always long, add workers or speed up the service"
            }
            Self::AcceptingPaused(cause) => cause.advice(),
        }
    }
}

impl PauseCause {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Descriptors => "descriptors",
            Self::FrontendLimit => "frontend_max_connections",
            Self::ProcessLimit => "max_connections",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Workers => {
                "connections wait because all workers are full, stuck or overloaded: look at the CPU of each thread \
                 (top -H)"
            }
            Self::Descriptors => {
                "connections wait because the server is out of descriptors or memory: raise the limit on open files \
                 (LimitNOFILE=), or lower the limit on connections"
            }
            Self::FrontendLimit => {
                "connections wait because the frontend is at its limit on connections: raise it, or find what keeps \
                 them open"
            }
            Self::ProcessLimit => {
                "connections wait because the server is at its limit on connections: raise it, or find what keeps \
                 them open"
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptingPaused(cause) => write!(formatter, "{} ({})", self.name(), cause.name()),
            _ => formatter.write_str(self.name()),
        }
    }
}

/// What a look at a listener has shown, and what has changed since the look before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Connections that wait.
    pub(super) waiting: u32,
    /// The queue is full with one more than this.
    pub(super) limit: u32,
    /// What the kernel has dropped of this listener's.
    pub(super) drops: u64,
    /// Whether drops are counted that have nothing to do with a queue: the ACKs of handshakes that TCP_DEFER_ACCEPT
    /// holds back, and SYNs that a drain refuses.
    pub(super) counts_others: bool,
    /// ListenOverflows of the network namespace.
    pub(super) overflows: u64,
    /// TCPReqQFullDrop of the network namespace.
    pub(super) syn_queue_full: u64,
    /// Why nobody is accepted at the moment, or was since the look before.
    pub(super) pause: Option<PauseCause>,
}

impl Seen {
    /// The drops of a listener have many causes, and its queue may have been full between two looks. So they count as an
    /// overflow if the queue is full now, or if the namespace has counted one.
    fn verdict(&self) -> Verdict {
        let is_full = self.waiting > self.limit;
        let drops = if self.counts_others { 0 } else { self.drops };
        match self.pause {
            Some(cause) if self.waiting > 0 => Verdict::AcceptingPaused(cause),
            _ if self.drops > 0 && is_full => Verdict::AcceptQueueOverflow,
            _ if drops > 0 && self.overflows > 0 => Verdict::AcceptQueueOverflow,
            _ if drops > 0 && self.syn_queue_full > 0 => Verdict::SynQueue,
            _ => Verdict::Healthy,
        }
    }
}

/// The verdict on a listener, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    verdict: Verdict,
    since: Instant,
    /// When it was last found.
    found: Instant,
}

impl Judgement {
    pub(super) fn new(now: Instant) -> Self {
        Self { verdict: Verdict::Healthy, since: now, found: now }
    }

    /// Takes a look into account. True if the verdict is another.
    pub(super) fn look(&mut self, seen: &Seen, now: Instant) -> bool {
        let found = seen.verdict();
        let is_over = now.saturating_duration_since(self.found) >= CALM;
        let before = self.verdict;
        if found > before || is_over {
            self.verdict = found;
        }
        if found != Verdict::Healthy && found >= before {
            self.found = now;
        }
        if self.verdict != before {
            (self.since, self.found) = (now, now);
        }
        self.verdict != before
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Seen = Seen {
        waiting: 0,
        limit: 16,
        drops: 0,
        counts_others: false,
        overflows: 0,
        syn_queue_full: 0,
        pause: None,
    };

    #[test]
    fn drops_are_an_overflow_only_with_a_full_queue() {
        let full = Seen { waiting: 17, drops: 3, ..QUIET };
        let was_full = Seen { drops: 3, overflows: 3, ..QUIET };
        let paused = Seen { pause: Some(PauseCause::FrontendLimit), ..full };
        let table = [
            (QUIET, Verdict::Healthy),
            (Seen { waiting: 17, ..QUIET }, Verdict::Healthy),
            (full, Verdict::AcceptQueueOverflow),
            (Seen { waiting: 16, ..full }, Verdict::Healthy),
            (was_full, Verdict::AcceptQueueOverflow),
            (Seen { drops: 0, ..was_full }, Verdict::Healthy),
            (Seen { counts_others: true, ..was_full }, Verdict::Healthy),
            (Seen { counts_others: true, ..full }, Verdict::AcceptQueueOverflow),
            (Seen { syn_queue_full: 1, drops: 3, ..QUIET }, Verdict::SynQueue),
            (Seen { syn_queue_full: 1, ..QUIET }, Verdict::Healthy),
            (paused, Verdict::AcceptingPaused(PauseCause::FrontendLimit)),
            (Seen { waiting: 0, drops: 0, ..paused }, Verdict::Healthy),
        ];
        for (seen, verdict) in table {
            assert_eq!(seen.verdict(), verdict, "{seen:?}");
        }
    }

    #[test]
    fn a_verdict_lasts_until_it_is_calm_and_what_is_worse_replaces_it_at_once() {
        let start = Instant::now();
        let overflow = Seen { waiting: 17, drops: 3, ..QUIET };
        let paused = Seen { pause: Some(PauseCause::ProcessLimit), ..overflow };
        let (second, pause) = (Duration::from_secs(1), PauseCause::ProcessLimit);
        let mut judgement = Judgement::new(start);
        let mut look = |seen: &Seen, at: u32| {
            let changed = judgement.look(seen, start + at * second);
            (changed, judgement.verdict())
        };
        assert_eq!(look(&QUIET, 1), (false, Verdict::Healthy));
        assert_eq!(look(&overflow, 2), (true, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&QUIET, 11), (false, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&overflow, 11), (false, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&QUIET, 20), (false, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&paused, 20), (true, Verdict::AcceptingPaused(pause)));
        assert_eq!(look(&overflow, 29), (false, Verdict::AcceptingPaused(pause)));
        assert_eq!(look(&overflow, 30), (true, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&QUIET, 39), (false, Verdict::AcceptQueueOverflow));
        assert_eq!(look(&QUIET, 40), (true, Verdict::Healthy));
        assert_eq!(look(&overflow, 41), (true, Verdict::AcceptQueueOverflow));
    }
}
