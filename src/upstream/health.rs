//! Whether an endpoint is well: two state machines without a clock.
//!
//! ```text
//!   by checks                                       by connections
//!
//!           fall failures in a row                        enough failures in a row, and room
//!        +--------------------------+                   +-----------------------------------+
//!        |                          v                   |                                   v
//!      up                         down                 in                                ejected
//!        ^                          |                   ^                                   |
//!        +--------------------------+                   +-----------------------------------+
//!           rise successes in a row                           its time is over
//! ```
//!
//! They know nothing of each other. An endpoint gets connections when it is up and in. Times are
//! counted from the start of the upstream.

use std::time::Duration;

use crate::config::upstream::{ActiveHealth, PassiveHealth};

/// What checks say about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Checked {
    /// No check has ended yet. It counts as up, and the first check that fails is enough.
    #[default]
    Unknown,
    /// Up, with this many failures in a row.
    Up { failures: u32 },
    /// Down, with this many successes in a row.
    Down { successes: u32 },
}

impl Checked {
    pub(super) fn is_up(self) -> bool {
        matches!(self, Self::Unknown | Self::Up { .. })
    }

    /// After one more check.
    pub(super) fn after(self, passed: bool, rules: &ActiveHealth) -> Self {
        match (self, passed) {
            (Self::Unknown | Self::Up { .. }, true) => Self::Up { failures: 0 },
            (Self::Unknown, false) => Self::Down { successes: 0 },
            (Self::Up { failures }, false) if failures + 1 >= rules.fall.get() => {
                Self::Down { successes: 0 }
            }
            (Self::Up { failures }, false) => Self::Up { failures: failures + 1 },
            (Self::Down { .. }, false) => Self::Down { successes: 0 },
            (Self::Down { successes }, true) if successes + 1 >= rules.rise.get() => {
                Self::Up { failures: 0 }
            }
            (Self::Down { successes }, true) => Self::Down { successes: successes + 1 },
        }
    }
}

/// What connections say about an endpoint. Neither failures nor ejections are forgotten with time,
/// only by a success: after an ejection, one failure is enough for the next and longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passive {
    /// Connects that failed since the last one that did not.
    failures: u32,
    /// Ejections since then.
    ejections: u32,
    /// When the last ejection ends or ended.
    until: Duration,
}

/// A connect that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedConnect {
    /// When the endpoint was picked.
    pub(super) picked: Duration,
    /// When the connect failed.
    pub(super) failed: Duration,
}

/// What follows from a connect that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays in.
    Stays,
    /// It should be ejected, but too many are out.
    Withheld,
    /// It is out for this long.
    Ejected(Duration),
}

impl Passive {
    /// When the last ejection ends or ended; zero if there was none.
    pub(super) fn until(&self) -> Duration {
        self.until
    }

    /// Connects that failed since the last one that did not. With none there is nothing that a success
    /// would change.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// As it was in another process: failures and ejections since the last success, and when the last ejection ends.
    pub(super) fn restored((failures, ejections): (u32, u32), until: Duration) -> Self {
        Self { failures, ejections, until }
    }

    /// Ejections since the last success.
    pub(super) fn ejections(&self) -> u32 {
        self.ejections
    }

    /// A connect succeeded. An ejection goes on to its end.
    pub(super) fn succeeded(&mut self) {
        *self = Self { until: self.until, ..Self::default() };
    }

    /// A connect failed; `has_room` says whether one more endpoint may be ejected. A connect from
    /// before the end of the last ejection is old news and does not count.
    pub(super) fn failed(
        &mut self,
        connect: FailedConnect,
        rules: &PassiveHealth,
        has_room: impl FnOnce() -> bool,
    ) -> Verdict {
        if connect.picked < self.until {
            return Verdict::Stays;
        }
        self.failures = self.failures.saturating_add(1);
        match rules.failures {
            Some(limit) if self.failures >= limit.get() => {}
            _ => return Verdict::Stays,
        }
        if !has_room() {
            return Verdict::Withheld;
        }
        let span = ejection(rules, self.ejections);
        self.ejections = self.ejections.saturating_add(1);
        self.until = connect.failed + span;
        Verdict::Ejected(span)
    }
}

/// How long an ejection is that comes after `before` others.
fn ejection(rules: &PassiveHealth, before: u32) -> Duration {
    let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
    rules.ejection_base.saturating_mul(factor).min(rules.ejection_max)
}

/// A weight of which `age` of the slow start has passed: it grows evenly, from almost nothing.
pub(super) fn ramped(weight: u64, age: Duration, slow_start: Duration) -> u64 {
    if age >= slow_start {
        return weight;
    }
    let part = u128::from(weight) * age.as_nanos() / slow_start.as_nanos();
    u64::try_from(part).unwrap_or(weight).max(1)
}
