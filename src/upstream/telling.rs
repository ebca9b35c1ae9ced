//! What the log is told of an upstream: when an endpoint begins to fail, when it is over, and when no healthy
//! one is left. A state that lasts is told once, one that comes and goes once in a while.
//!
//! These lines are written by worker threads and by those that check, but only by events that change a state,
//! and with no lock of an endpoint held.

use std::time::{Duration, Instant};

use super::endpoint::{Common, Endpoint};
use super::health::{Passive, Verdict};
use super::outage::News;
use crate::config::upstream::WhenAllOut;
use crate::log::flood::{KeptBack, Limit, Spell};
use crate::sys::Errno;

/// That an endpoint begins to fail is logged this often at most, for each; and that this machine is short of
/// something, for each upstream.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What connects have told of an endpoint, and what of that has been told on.
#[derive(Debug)]
pub(super) struct Connects {
    pub(super) passive: Passive,
    spell: Spell,
    withheld_told: bool,
}

/// What is to be told of a failed connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    /// In a row, this one with them.
    pub(super) failures: u32,
    /// The endpoint begins to fail; how often that was kept back before.
    pub(super) began: Option<u64>,
    /// That an ejection is withheld is news.
    pub(super) withheld: bool,
}

impl Default for Connects {
    fn default() -> Self {
        Self { passive: Passive::default(), spell: Spell::new(LOG_INTERVAL), withheld_told: false }
    }
}

impl Connects {
    /// A connect has failed, and this is what follows from it.
    pub(super) fn failed(&mut self, verdict: Verdict, now: Instant) -> Failure {
        let failures = self.passive.failures();
        // One from before an ejection is no failure of now.
        let began = if failures > 0 { self.spell.begin(now) } else { None };
        let withheld = verdict == Verdict::Withheld && self.spell.is_told();
        let withheld = withheld && !std::mem::replace(&mut self.withheld_told, true);
        Failure { verdict, failures, began, withheld }
    }

    /// A connect has succeeded. `Some` if that is to be told, with the failures before it.
    pub(super) fn succeeded(&mut self) -> Option<u32> {
        let failures = self.passive.failures();
        self.passive.succeeded();
        self.withheld_told = false;
        self.spell.end().then_some(failures)
    }
}

/// That this machine is short of something.
pub(super) const fn shortage() -> Limit {
    Limit::new(LOG_INTERVAL)
}

impl Endpoint {
    /// Tells of a failed connect what is news about it.
    pub(super) fn tell_failure(&self, failure: Failure, errno: Errno) {
        let Failure { verdict, failures, began, withheld } = failure;
        let rules = self.common().passive();
        if let Some(kept_back) = began.map(KeptBack) {
            match rules.failures {
                Some(limit) => tracing::warn!(
                    "backend {self} cannot be connected to: {errno}; {limit} such failures in a row \
                     eject it{kept_back}"
                ),
                None => tracing::warn!(
                    "backend {self} cannot be connected to: {errno}; it goes on getting connections, \
                     since failures eject nobody{kept_back}"
                ),
            }
        }
        if let Verdict::Ejected(span) = verdict {
            let span = humantime::format_duration(span);
            tracing::warn!(
                "backend {self} is ejected for {span}: {failures} connects in a row failed, the last \
                 with {errno}"
            );
        }
        if withheld {
            let percent = rules.ejected_percent_max;
            tracing::warn!(
                "backend {self} is not ejected although {failures} connects in a row failed, the last \
                 with {errno}: at most {percent} % of the backends may be out, so it goes on getting \
                 connections"
            );
        }
    }

    /// Tells that it accepts connections again.
    pub(super) fn tell_recovery(&self, failures: u32) {
        tracing::info!("backend {self} accepts connections again, after {failures} that failed");
    }

    /// Tells that this machine cannot connect to it.
    pub(super) fn tell_shortage(&self, errno: Errno, kept_back: KeptBack) {
        tracing::warn!(
            "backend {self} was not connected to: {errno}; this machine is short of something \
             (descriptors, ports or memory), the backend is not to blame{kept_back}"
        );
    }
}

impl Common {
    /// Tells of an outage that begins or ends.
    pub(super) fn tell_outage(&self, news: News) {
        let route = self.name();
        match news {
            News::Begins { members: 0, kept_back } => {
                let kept_back = KeptBack(kept_back);
                tracing::error!(
                    "no backend for route {route}: all are drained or gone; connections are \
                     reset{kept_back}"
                );
            }
            News::Begins { members, kept_back } => {
                let what = match self.when_all_out() {
                    WhenAllOut::TryAll => "connections are tried on them all the same",
                    WhenAllOut::Refuse => "connections are reset, unless one is only failing",
                };
                let kept_back = KeptBack(kept_back);
                tracing::error!(
                    "no healthy backend for route {route}: {members} of {members} down, ejected or \
                     failing; {what}{kept_back}"
                );
            }
            News::Ends { after } => {
                let after = humantime::format_duration(Duration::from_millis(
                    u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                ));
                tracing::info!("a healthy backend for route {route} again, after {after}");
            }
        }
    }
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
            self.connects.failed(verdict, now)
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
            told.extend(bench.fails(second, true).began.map(|kept_back| (second, kept_back)));
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
        assert_eq!(bench.connects.failed(verdict, now).began, None);
    }
}
