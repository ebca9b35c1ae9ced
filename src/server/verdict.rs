//! What is wrong with a listener, in one word, from what the kernel counts for it.
//!
//! ```text
//!             a look finds something                worse was found, or this one not for
//!   healthy ------------------------> a verdict --- CALM and another waits -----------> another verdict
//!      ^                                  |
//!      +--- not found for CALM -----------+
//! ```
//!
//! What is found behind a worse verdict waits, and is told for CALM when that is over.

use std::fmt;
use std::time::{Duration, Instant};

pub use crate::metrics::PauseCause;

/// How long nothing may be found before a listener is healthy again, or another verdict replaces a worse one.
const CALM: Duration = Duration::from_secs(10);

/// How a listener is. What is worse comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verdict {
    /// Whoever connects is accepted.
    #[default]
    Healthy,
    /// Whoever connected waited too long: the frontend is overloaded.
    Overloaded,
    /// The queue of handshakes under way was full, and SYNs were dropped.
    SynQueue,
    /// The accept queue was full, and handshakes were dropped.
    AcceptQueueOverflow,
    /// Connections wait because this program accepts none.
    AcceptingPaused(PauseCause),
}

impl Verdict {
    /// The verdicts that a listener can have, in a word each.
    pub const NAMES: [&'static str; 5] =
        ["healthy", "overloaded", "syn_queue", "accept_queue_overflow", "accepting_paused"];

    /// All that a look may find, from bad to worse.
    const FOUND: [Self; 8] = [
        Self::Overloaded,
        Self::SynQueue,
        Self::AcceptQueueOverflow,
        Self::AcceptingPaused(PauseCause::Workers),
        Self::AcceptingPaused(PauseCause::Descriptors),
        Self::AcceptingPaused(PauseCause::FrontendLimit),
        Self::AcceptingPaused(PauseCause::ProcessLimit),
        Self::AcceptingPaused(PauseCause::FrontendRate),
    ];

    /// In a word, without the cause of a pause.
    pub fn name(self) -> &'static str {
        Self::NAMES[match self {
            Self::Healthy => 0,
            Self::Overloaded => 1,
            Self::SynQueue => 2,
            Self::AcceptQueueOverflow => 3,
            Self::AcceptingPaused(_) => 4,
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
            Self::Overloaded => {
                "every connection waits longer than the overload target before it is served: add workers or speed up the \
                 service; overload = shed, evict or lifo says who gets what there is (docs/LIMITS.md)"
            }
            Self::SynQueue => {
                "SYNs are dropped because the SYN queue is full: raise net.ipv4.tcp_max_syn_backlog and the backlog, \
                 and keep net.ipv4.tcp_syncookies at 1"
            }
            Self::AcceptQueueOverflow => {
                "the accept queue was full, so connects take a second or more: raise net.core.somaxconn, then the \
                 backlog; if the queue is always long, add workers or speed up the service"
            }
            Self::AcceptingPaused(cause) => advice_on(cause),
        }
    }
}

fn advice_on(pause: PauseCause) -> &'static str {
    match pause {
        PauseCause::Workers => {
            "connections wait because all workers are full, stuck or overloaded: look at the CPU of each thread \
             (top -H)"
        }
        PauseCause::Descriptors => {
            "connections wait because the server is out of descriptors or memory: raise the limit on open files \
             (LimitNOFILE=), or lower the limit on connections"
        }
        PauseCause::FrontendLimit => {
            "connections wait because the frontend is at its limit on connections: raise it, or find what keeps \
             them open"
        }
        PauseCause::FrontendRate => {
            "connections wait because they come faster than the rate of the frontend: raise it, or find who opens \
             them (acceptor ctl sources)"
        }
        PauseCause::ProcessLimit => {
            "connections wait because the server is at its limit on connections: raise it, or find what keeps \
             them open"
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
    /// Whether some wait although nobody tells how many: those of a unix socket.
    pub(super) some_wait: bool,
    /// The queue is full with one more than this.
    pub(super) limit: u32,
    /// What the kernel has dropped of this listener's.
    pub(super) drops: u64,
    /// Whether drops are counted that have nothing to do with a queue: the ACKs of handshakes that TCP_DEFER_ACCEPT
    /// holds back, and SYNs that a drain refuses.
    pub(super) counts_others: bool,
    /// Whether the kernel drops the SYNs of banned sources, which are counted, too, or has done so since the look before.
    pub(super) bans: bool,
    /// ListenOverflows of the network namespace.
    pub(super) overflows: u64,
    /// TCPReqQFullDrop of the network namespace.
    pub(super) syn_queue_full: u64,
    /// Why nobody is accepted at the moment, or was since the look before.
    pub(super) pause: Option<PauseCause>,
    /// Whether an acceptor finds the listener overloaded, or has since the look before.
    pub(super) is_overloaded: bool,
}

impl Seen {
    /// The drops of a listener have many causes, and its queue may have been full between two looks. So they count as an
    /// overflow if the queue is full now, or if the namespace has counted one. Where bans may be the cause, it takes both.
    /// Whether the queue is full, or was since the look before.
    pub(super) fn overflowed(&self) -> bool {
        let (is_full, has_overflowed) = (self.waiting > self.limit, self.overflows > 0);
        match self.bans {
            true => self.drops > 0 && is_full && has_overflowed,
            false => self.drops > 0 && is_full || self.own_drops() > 0 && has_overflowed,
        }
    }

    /// Drops of which it is not known that they have nothing to do with a queue.
    fn own_drops(&self) -> u64 {
        if self.counts_others || self.bans { 0 } else { self.drops }
    }

    /// Drops that are those of banned sources.
    pub(super) fn dropped_by_bans(&self) -> u64 {
        if self.bans && !self.counts_others && !self.overflowed() { self.drops } else { 0 }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.pause {
            Some(cause) if self.waiting > 0 || self.some_wait => Verdict::AcceptingPaused(cause),
            _ if self.overflowed() => Verdict::AcceptQueueOverflow,
            _ if self.own_drops() > 0 && self.syn_queue_full > 0 => Verdict::SynQueue,
            _ if self.is_overloaded => Verdict::Overloaded,
            _ => Verdict::Healthy,
        }
    }
}

/// The verdict on a listener, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    verdict: Verdict,
    since: Instant,
    looked: Instant,
    /// How long each verdict is still to be told; those behind the one that is told wait.
    left: [Duration; Verdict::FOUND.len()],
}

impl Judgement {
    pub(super) fn new(now: Instant) -> Self {
        let left = Default::default();
        Self { verdict: Verdict::Healthy, since: now, looked: now, left }
    }

    /// Takes a look into account. True if the verdict is another.
    pub(super) fn look(&mut self, seen: &Seen, now: Instant) -> bool {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        let (before, found) = (self.verdict, seen.verdict());
        for (verdict, left) in Verdict::FOUND.into_iter().zip(&mut self.left) {
            // One pause does not wait behind another: it is over, or goes on.
            let is_told = verdict == before || verdict.pause().and(before.pause()).is_some();
            if is_told {
                *left = left.saturating_sub(passed);
            }
            if verdict == found {
                *left = CALM;
            }
        }
        let worst = self.left.iter().rposition(|left| !left.is_zero());
        self.verdict = worst.map_or(Verdict::Healthy, |place| Verdict::FOUND[place]);
        if self.verdict != before {
            self.since = now;
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
        some_wait: false,
        limit: 16,
        drops: 0,
        counts_others: false,
        bans: false,
        overflows: 0,
        syn_queue_full: 0,
        pause: None,
        is_overloaded: false,
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
            (Seen { bans: true, ..full }, Verdict::Healthy),
            (Seen { bans: true, ..was_full }, Verdict::Healthy),
            (Seen { bans: true, overflows: 3, ..full }, Verdict::AcceptQueueOverflow),
            (Seen { bans: true, syn_queue_full: 1, drops: 3, ..QUIET }, Verdict::Healthy),
            (Seen { syn_queue_full: 1, drops: 3, ..QUIET }, Verdict::SynQueue),
            (Seen { syn_queue_full: 1, ..QUIET }, Verdict::Healthy),
            (Seen { is_overloaded: true, ..QUIET }, Verdict::Overloaded),
            (Seen { is_overloaded: true, ..full }, Verdict::AcceptQueueOverflow),
            (paused, Verdict::AcceptingPaused(PauseCause::FrontendLimit)),
            (Seen { waiting: 0, drops: 0, ..paused }, Verdict::Healthy),
            (
                Seen { waiting: 0, drops: 0, some_wait: true, ..paused },
                Verdict::AcceptingPaused(PauseCause::FrontendLimit),
            ),
            (Seen { some_wait: true, ..QUIET }, Verdict::Healthy),
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

    /// The last is over when it was last seen so long ago, whatever came before.
    #[test]
    fn pauses_do_not_queue_up() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let paused = |cause| Seen { pause: Some(cause), waiting: 1, ..QUIET };
        let mut judgement = Judgement::new(start);
        for (place, cause) in PauseCause::ALL.into_iter().enumerate() {
            judgement.look(&paused(cause), start + place as u32 * second);
        }
        judgement.look(&QUIET, start + 13 * second);
        assert_eq!(judgement.verdict().name(), "accepting_paused");
        judgement.look(&QUIET, start + 14 * second);
        assert_eq!(judgement.verdict(), Verdict::Healthy);
    }

    #[test]
    fn the_verdicts_that_can_be_found_are_in_order() {
        assert!(Verdict::FOUND.is_sorted() && Verdict::FOUND[0] > Verdict::Healthy);
    }

    /// An overflow, then a pause, with one more overflow in it: each is told for as long as if it were alone.
    #[test]
    fn what_a_worse_verdict_hides_is_told_when_that_is_over() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let overflow = Seen { drops: 3, overflows: 3, ..QUIET };
        let paused = Seen { waiting: 3, pause: Some(PauseCause::Workers), ..QUIET };
        let pause = Verdict::AcceptingPaused(PauseCause::Workers);
        for meanwhile in [QUIET, overflow] {
            let mut judgement = Judgement::new(start);
            let told: Vec<_> = (1..60)
                .map(|at| {
                    let seen = match at {
                        2 => &overflow,
                        3..=12 => &paused,
                        16 => &meanwhile,
                        _ => &QUIET,
                    };
                    judgement.look(seen, start + at * second);
                    judgement.verdict()
                })
                .collect();
            let last = |verdict| told.iter().rposition(|told| *told == verdict).unwrap() + 1;
            assert_eq!(told[1..3], [Verdict::AcceptQueueOverflow, pause]);
            let hidden = if meanwhile.drops > 0 { 10 } else { 9 };
            assert_eq!((last(pause), last(Verdict::AcceptQueueOverflow)), (21, 21 + hidden));
            assert_eq!(told[58], Verdict::Healthy);
        }
    }
}
