//! What the log is told of an upstream: when an endpoint begins to fail, when it is over, and when no healthy
//! one is left. A state that lasts is told once, one that comes and goes once in a while.
//!
//! These lines are written by worker threads and by those that check, but only by events that change a state,
//! and with no lock of an endpoint held. What is suppressed by these events is told by whoever calls `catch_up`.

use std::fmt;
use std::mem::discriminant;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::common::Common;
use super::endpoint::Endpoint;
use super::health::{Passive, Verdict};
use super::outage::News;
use crate::config::upstream::{SourceAddress, WhenAllOut};
use crate::log::rate_limit::{Incident, Late, Look, RateLimit, Suppressed, Times};
use crate::sys::Errno;

/// That an endpoint begins to fail is logged this often at most, for each; and that this machine is short of
/// something, for each upstream and kind of lack.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What connects have told of an endpoint, and what of that has been told on.
#[derive(Debug)]
pub(super) struct Connects {
    pub(super) passive: Passive,
    incident: Incident,
    withheld_told: bool,
    /// Of the last failure.
    errno: Option<Errno>,
}

/// What is to be told of a failed connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    /// In a row, this one with them.
    pub(super) failures: u32,
    /// The endpoint begins to fail; how often that was suppressed before.
    pub(super) began: Option<u64>,
    /// That an ejection is withheld is news.
    pub(super) withheld: bool,
}

impl Default for Connects {
    fn default() -> Self {
        let (passive, incident) = (Passive::default(), Incident::new(LOG_INTERVAL));
        Self { passive, incident, withheld_told: false, errno: None }
    }
}

impl Connects {
    /// A connect has failed, and this is what follows from it.
    pub(super) fn failed(&mut self, verdict: Verdict, errno: Errno, now: Instant) -> Failure {
        self.errno = Some(errno);
        let failures = self.passive.failures();
        // One from before an ejection is no failure of now.
        let began = if failures > 0 { self.incident.begin(now) } else { None };
        let withheld = verdict == Verdict::Withheld && self.incident.is_told();
        let withheld = withheld && !std::mem::replace(&mut self.withheld_told, true);
        Failure { verdict, failures, began, withheld }
    }

    /// A connect has succeeded. `Some` if that is to be told, with the failures before it.
    pub(super) fn succeeded(&mut self) -> Option<u32> {
        let failures = self.passive.failures();
        self.passive.succeeded();
        self.withheld_told = false;
        self.incident.end().then_some(failures)
    }

    /// What was suppressed, if that is to be told now, with the last errno.
    pub(super) fn catch_up(&mut self, look: Look) -> Option<(Late, Errno)> {
        // What was suppressed has failed.
        self.incident.catch_up(look).zip(self.errno)
    }
}

/// What this machine lacks for a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A descriptor, memory or what else an errno says.
    Errno(Errno),
    /// A local port of this source, or of the address that the kernel would choose.
    Port(Option<SourceAddress>),
    /// The address of a source.
    Address(SourceAddress),
    /// A source of the backend's address family.
    Family,
    /// An address from which the backend can be reached.
    Way,
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(formatter, "{errno}; {SHORT}"),
            Self::Port(None) => write!(
                formatter,
                "no local port is left for it (EADDRNOTAVAIL); give the upstream several source addresses, \
                 or widen net.ipv4.ip_local_port_range"
            ),
            Self::Port(Some(source)) => write!(
                formatter,
                "no local port of the source {source} is left for it (EADDRNOTAVAIL); give the upstream more \
                 source addresses, or widen net.ipv4.ip_local_port_range"
            ),
            Self::Address(source) => write!(
                formatter,
                "the source {source} is no longer an address of this machine, or cannot reach the backend \
                 (EADDRNOTAVAIL, EINVAL); see: ip addr"
            ),
            Self::Family => write!(
                formatter,
                "none of the upstream's source addresses is of the backend's address family; \
                 add one of that family"
            ),
            Self::Way => write!(
                formatter,
                "this machine has no address from which it can be reached (EADDRNOTAVAIL)"
            ),
        }
    }
}

/// What this machine is short of, each kind with a limit of its own: what is new is told at once, also while another
/// kind is suppressed.
#[derive(Debug, Default)]
pub(super) struct Shortage(Vec<Kind>);

/// One kind of lack.
#[derive(Debug)]
struct Kind {
    limit: RateLimit,
    /// The last one.
    lack: Lack,
}

impl Shortage {
    /// A connect has failed for it. `Some` if that is to be told.
    pub(super) fn ask(&mut self, now: Instant, lack: Lack) -> Option<Suppressed> {
        let is_same = |kind: &Kind| discriminant(&kind.lack) == discriminant(&lack);
        let place = self.0.iter().position(is_same).unwrap_or_else(|| {
            self.0.push(Kind { limit: RateLimit::new(LOG_INTERVAL), lack });
            self.0.len() - 1
        });
        let kind = &mut self.0[place];
        kind.lack = lack;
        kind.limit.ask(now).map(Suppressed)
    }

    /// How many connects have failed for each kind and were suppressed, if that is to be told now, and what lacked the
    /// last time.
    pub(super) fn catch_up(&mut self, look: Look) -> Vec<(u64, Lack)> {
        let late = |kind: &mut Kind| kind.limit.catch_up(look).map(|count| (count, kind.lack));
        self.0.iter_mut().filter_map(late).collect()
    }
}

impl Endpoint {
    /// Tells of a failed connect what is news about it.
    pub(super) fn tell_failure(&self, failure: Failure, errno: Errno) {
        let Failure { verdict, failures, began, withheld } = failure;
        let rules = self.passive();
        began.into_iter().for_each(|suppressed| self.tell_beginning(errno, suppressed));
        let failed = InARow(failures, errno);
        if let Verdict::Ejected(span) = verdict {
            let span = humantime::format_duration(span);
            tracing::warn!("backend {self} is ejected for {span}: {failed}");
        }
        if withheld {
            let percent = rules.ejected_percent_max;
            tracing::warn!(
                "backend {self} is not ejected although {failed}: at most {percent} % of the backends \
                 may be out, so it goes on getting connections"
            );
        }
    }

    /// Tells that connects to it begin to fail.
    fn tell_beginning(&self, errno: Errno, suppressed: u64) {
        let suppressed = Suppressed(suppressed);
        let rules = self.passive();
        match rules.failures.map(NonZeroU32::get) {
            // Such as the only one.
            Some(_) if !self.may_be_ejected() => {
                let percent = rules.ejected_percent_max;
                tracing::warn!(
                    "backend {self} cannot be connected to: {errno}; it goes on getting connections, \
                     since at most {percent} % of the backends may be out{suppressed}"
                );
            }
            Some(1) => tracing::warn!(
                "backend {self} cannot be connected to: {errno}; one such failure ejects it{suppressed}"
            ),
            Some(limit) => tracing::warn!(
                "backend {self} cannot be connected to: {errno}; {limit} such failures in a row eject \
                 it{suppressed}"
            ),
            None => tracing::warn!(
                "backend {self} cannot be connected to: {errno}; it goes on getting connections, since \
                 failures do not eject it{suppressed}"
            ),
        }
    }

    /// Tells what was not told when it happened.
    pub(super) fn tell_late(&self, late: Late, errno: Errno) {
        match late {
            Late::Lasts(suppressed) => self.tell_beginning(errno, suppressed),
            Late::Over(times) => tracing::warn!(
                "backend {self} could not be connected to {} more since the last such line, the last \
                 time with {errno}; it accepts connections again",
                Times(times)
            ),
        }
    }

    /// Tells that it accepts connections again.
    pub(super) fn tell_recovery(&self, failures: u32) {
        tracing::info!("backend {self} accepts connections again, after {failures} that failed");
    }

    /// Tells that this machine cannot connect to it, and with how many others the connection waits, if it
    /// does.
    pub(super) fn tell_shortage(&self, lack: Lack, waiting: Option<usize>, suppressed: Suppressed) {
        let waits = match waiting {
            None => String::new(),
            Some(0) => "; the connection waits in the queue".to_owned(),
            Some(1) => "; the connection waits in the queue, with another of its thread".to_owned(),
            Some(others) => {
                format!("; the connection waits in the queue, with {others} others of its thread")
            }
        };
        tracing::warn!(
            "backend {self} was not connected to: {lack}; the backend is not to blame{waits}{suppressed}"
        );
    }
}

const SHORT: &str = "this machine is short of something (descriptors, ports or memory)";

/// Connects that failed, the last of them with this.
struct InARow(u32, Errno);

impl fmt::Display for InARow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(1, errno) => write!(formatter, "a connect failed with {errno}"),
            Self(count, errno) => {
                write!(formatter, "{count} connects in a row failed, the last with {errno}")
            }
        }
    }
}

impl Common {
    /// Tells of an outage that begins or ends.
    pub(super) fn tell_outage(&self, news: News) {
        let upstream = self.name();
        match news {
            News::Begins { members: 0, suppressed } => {
                let suppressed = Suppressed(suppressed);
                tracing::error!(
                    "no backend for upstream {upstream}: all are drained, forced down or gone; connections are \
                     reset{suppressed}"
                );
            }
            News::Begins { members, suppressed } => {
                let what = match self.config().when_all_out {
                    WhenAllOut::TryAll => "connections are tried on them all the same",
                    WhenAllOut::Refuse => "connections are reset, unless one is only failing",
                };
                let suppressed = Suppressed(suppressed);
                tracing::error!(
                    "no healthy backend for upstream {upstream}: {members} of {members} down, ejected or \
                     failing; {what}{suppressed}"
                );
            }
            News::Ends { after } => {
                let after = milliseconds(after);
                tracing::info!("a healthy backend for upstream {upstream} again, after {after}");
            }
            News::Over { times, lasted } => {
                let (times, lasted) = (Times(times), milliseconds(lasted));
                tracing::warn!(
                    "no healthy backend for upstream {upstream} {times} more since the last such line, for \
                     {lasted} in all; there is one again"
                );
            }
        }
    }

    /// Tells how many connects have failed for want of something since that was told.
    pub(super) fn tell_past_shortage(&self, (connects, lack): (u64, Lack)) {
        let upstream = self.name();
        let what = match connects {
            1 => "1 more connect".to_owned(),
            count => format!("{count} more connects"),
        };
        tracing::warn!(
            "upstream {upstream}: {what} failed since the last such line; the last one: {lack}"
        );
    }
}

/// As it stands in a line.
fn milliseconds(time: Duration) -> humantime::FormattedDuration {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::super::health::FailedConnect;
    use super::*;
    use crate::config::upstream::PassiveHealth;

    const S: Duration = Duration::from_secs(1);

    /// An endpoint with its clock.
    struct Bench {
        connects: Connects,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { connects: Connects::default(), start: Instant::now() }
        }

        fn fails(&mut self, second: u32, has_room: bool) -> Failure {
            let (now, failed) = (self.start + second * S, second * S);
            let connect = FailedConnect { picked: failed, failed };
            let rules = PassiveHealth::default();
            let verdict = self.connects.passive.failed(connect, &rules, || has_room);
            self.connects.failed(verdict, Errno::ECONNREFUSED, now)
        }
    }

    #[test]
    fn the_first_failure_and_the_recovery_are_told() {
        let mut bench = Bench::new();
        assert_eq!(bench.connects.succeeded(), None);
        assert_eq!(bench.fails(0, true).began, Some(0));
        assert_eq!(bench.fails(0, true).began, None);
        let third = bench.fails(0, true);
        assert_eq!((third.began, third.verdict), (None, Verdict::Ejected(S)));
        assert_eq!(bench.connects.succeeded(), Some(3));
        assert_eq!(bench.connects.succeeded(), None);
    }

    #[test]
    fn an_ejection_that_is_withheld_is_told_once() {
        let mut bench = Bench::new();
        let told: Vec<_> = (0..6).map(|second| bench.fails(second, false).withheld).collect();
        assert_eq!(told, [false, false, true, false, false, false]);
        assert_eq!(bench.connects.succeeded(), Some(6));
        let told: Vec<_> = (10..13).map(|second| bench.fails(second, false).withheld).collect();
        assert_eq!(told, [false, false, true]);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_once_in_an_interval() {
        let mut bench = Bench::new();
        let mut told = Vec::new();
        for second in 0..=20 {
            told.extend(bench.fails(second, true).began.map(|suppressed| (second, suppressed)));
            bench.connects.succeeded();
        }
        assert_eq!(told, [(0, 0), (10, 9), (20, 9)]);
    }

    /// Otherwise it would be told as failing, and nothing would ever take that back.
    #[test]
    fn a_failure_from_before_an_ejection_is_none() {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.fails(0, true);
        }
        bench.connects.succeeded();
        let (now, failed) = (bench.start + 30 * S, 30 * S);
        let connect = FailedConnect { picked: Duration::ZERO, failed };
        let verdict = bench.connects.passive.failed(connect, &PassiveHealth::default(), || true);
        assert_eq!(bench.connects.failed(verdict, Errno::ECONNREFUSED, now).began, None);
    }

    #[test]
    fn what_was_suppressed_is_told_by_a_look_with_the_last_errno() {
        let mut bench = Bench::new();
        let at = |bench: &Bench, second: u32| Look::At(bench.start + second * S);
        bench.fails(0, false);
        bench.connects.succeeded();
        bench.fails(1, false);
        bench.connects.succeeded();
        assert_eq!(bench.connects.catch_up(at(&bench, 9)), None, "too soon");
        let refused = Errno::ECONNREFUSED;
        assert_eq!(bench.connects.catch_up(at(&bench, 10)), Some((Late::Over(1), refused)));
        bench.fails(11, false);
        assert_eq!(bench.connects.catch_up(Look::Last), Some((Late::Lasts(0), refused)));
        assert_eq!(bench.connects.succeeded(), Some(1), "so its end is told");
    }

    #[test]
    fn a_shortage_is_told_once_in_an_interval_with_what_was_suppressed() {
        let (mut shortage, start) = (Shortage::default(), Instant::now());
        let first = shortage.ask(start, Lack::Errno(Errno::EMFILE)).map(|Suppressed(count)| count);
        assert_eq!(first, Some(0));
        for _ in 0..3 {
            assert!(shortage.ask(start + S, Lack::Errno(Errno::ENFILE)).is_none());
        }
        assert_eq!(shortage.catch_up(Look::At(start + 9 * S)), [], "too soon");
        assert_eq!(shortage.catch_up(Look::At(start + 10 * S)), [(3, Lack::Errno(Errno::ENFILE))]);
        assert_eq!(shortage.catch_up(Look::Last), []);
    }

    #[test]
    fn another_kind_of_lack_is_told_at_once_and_then_limited_too() {
        let (mut shortage, start) = (Shortage::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..3 {
            for lack in [Lack::Port(None), Lack::Family] {
                let is_told = shortage.ask(start + second * S, lack);
                told.extend(is_told.map(|Suppressed(count)| (second, lack, count)));
            }
        }
        assert_eq!(told, [(0, Lack::Port(None), 0), (0, Lack::Family, 0)]);
        let late = shortage.catch_up(Look::Last);
        assert_eq!(late, [(2, Lack::Port(None)), (2, Lack::Family)]);
    }
}
