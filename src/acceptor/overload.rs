//! Whether a queue stands, and how hard to lean against it: CoDel (RFC 8289) for connections. No clock, no kernel.
//!
//! A queue is good that absorbs a burst and empties again. One that stands costs every connection its wait and serves
//! nobody sooner. So the sign is the *smallest* wait within an interval: if that is too long, the queue has not been empty.
//!
//! ```text
//!          a wait too long              for an interval none was short
//!   Calm ------------------> Above ------------------------------------> Overloaded
//!    ^                         |                                             |
//!    +------ a short wait, or nobody has come for an interval ---------------+
//! ```
//!
//! One short wait answers the question for its interval, whatever the others were. So a calm queue is looked at
//! [`LOOKS`] times an interval and no more; one that is above its target with every batch, until a wait is short.
//!
//! Where connections that have waited too long are shed, waits are short because of that. Then one short wait is no sign
//! that the queue has been empty: it is calm when for an interval none was too long.
//!
//! Connections make room at the moments of CoDel's control law.

use std::time::{Duration, Instant};

/// Looks of a calm queue in one interval. Each is a system call. With this many it is noticed after an interval and a
/// quarter that a queue stands.
const LOOKS: u32 = 4;

/// Most moments that count: then there is one every 3 ms.
const COUNT_MAX: u32 = 1024;

/// An overload that begins again within so many intervals goes on from where it was, less [`FORGOTTEN`] moments (as in
/// the first publication of CoDel, ACM Queue 10(5), 2012; the RFC lets the controller forget more).
const MEMORY: u32 = 16;
const FORGOTTEN: u32 = 2;

/// What too long is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// A wait that is too long.
    pub(super) target: Duration,
    /// For how long none may have been shorter.
    pub(super) interval: Duration,
    /// Whether who waits too long is shed.
    pub(super) sheds: bool,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is overloaded.
    Begins,
    /// It is no more.
    Ends,
}

/// The control law: the moments at which to do more, each closer to the one before: `interval / sqrt(n)` after it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Law {
    /// Moments that have passed.
    count: u32,
    next: Instant,
}

impl Law {
    fn new(count: u32, interval: Duration, now: Instant) -> Self {
        Self { count, next: now + gap(interval, count) }
    }

    /// Goes on to the moments that have passed; says how many these are.
    fn catch_up(&mut self, interval: Duration, now: Instant) -> u32 {
        let mut passed = 0;
        while now >= self.next && passed < COUNT_MAX {
            passed += 1;
            self.count = (self.count + 1).min(COUNT_MAX);
            self.next += gap(interval, self.count);
        }
        // What has passed unseen is not made up for.
        self.next = self.next.max(now);
        passed
    }
}

fn gap(interval: Duration, count: u32) -> Duration {
    interval.div_f64(f64::from(count.max(1)).sqrt())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Calm,
    Above { since: Instant },
    Overloaded { law: Law },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Overload {
    stage: Stage,
    /// The last wait that was too long was over then.
    last_above: Option<Instant>,
    /// A calm queue is looked at again from then on.
    next_look: Option<Instant>,
    /// When it was overloaded last, and how many moments of the law had passed.
    left: Option<(Instant, u32)>,
    /// Moments of the law of which nothing has been made yet.
    unspent: u32,
}

impl Overload {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Calm, last_above: None, next_look: None, left: None, unspent: 0 }
    }

    /// Whether the wait of a connection that comes now would tell something.
    pub(super) fn wants_look(&self, now: Instant) -> bool {
        self.stage != Stage::Calm || self.next_look.is_none_or(|next| now >= next)
    }

    /// Whether it has to be looked at in each turn.
    pub(super) fn is_calm(&self) -> bool {
        self.stage == Stage::Calm
    }

    pub(super) fn is_overloaded(&self) -> bool {
        matches!(self.stage, Stage::Overloaded { .. })
    }

    /// When it ends by itself if nobody comes.
    pub(super) fn ends_at(&self, limits: Limits) -> Option<Instant> {
        self.last_above.filter(|_| !self.is_calm()).map(|last| last + limits.interval)
    }

    /// A connection has waited so long until `at`. Returns what has changed, in its order.
    pub(super) fn seen(
        &mut self,
        wait: Duration,
        (at, limits): (Instant, Limits),
    ) -> [Option<Change>; 2] {
        if wait < limits.target {
            if limits.sheds && self.is_overloaded() {
                return [self.pass(at, limits), None];
            }
            self.next_look = Some(at + limits.interval / LOOKS);
            return [self.calm(at), None];
        }
        // Nobody waited before it came, if that is so.
        let came = at.checked_sub(wait).unwrap_or(at);
        let was_empty = self.last_above.is_some_and(|last| came > last + limits.interval);
        let ended = if was_empty { self.calm(came) } else { None };
        self.last_above = self.last_above.max(Some(at));
        [ended, self.above(at, limits)]
    }

    fn above(&mut self, at: Instant, limits: Limits) -> Option<Change> {
        match self.stage {
            Stage::Calm => self.stage = Stage::Above { since: at },
            Stage::Above { since } if at.saturating_duration_since(since) >= limits.interval => {
                let memory = limits.interval * MEMORY;
                let left =
                    self.left.filter(|(left, _)| at.saturating_duration_since(*left) < memory);
                let count = left.map_or(1, |(_, count)| count.saturating_sub(FORGOTTEN).max(1));
                self.stage = Stage::Overloaded { law: Law::new(count, limits.interval, at) };
                self.unspent = 1;
                return Some(Change::Begins);
            }
            Stage::Above { .. } | Stage::Overloaded { .. } => {}
        }
        None
    }

    /// The time has passed, and no connection is on its way that tells more.
    pub(super) fn pass(&mut self, now: Instant, limits: Limits) -> Option<Change> {
        let ends_at = self.ends_at(limits)?;
        if now > ends_at { self.calm(ends_at) } else { None }
    }

    fn calm(&mut self, at: Instant) -> Option<Change> {
        let stage = std::mem::replace(&mut self.stage, Stage::Calm);
        self.unspent = 0;
        let Stage::Overloaded { law } = stage else { return None };
        self.left = Some((at, law.count));
        Some(Change::Ends)
    }

    /// How many connections are to make room now.
    pub(super) fn makes_room(&mut self, now: Instant, limits: Limits) -> u32 {
        self.catch_up(now, limits);
        std::mem::take(&mut self.unspent)
    }

    /// Moments of the law so far.
    fn catch_up(&mut self, now: Instant, limits: Limits) -> Option<u32> {
        let Stage::Overloaded { law } = &mut self.stage else { return None };
        self.unspent += law.catch_up(limits.interval, now);
        Some(law.count)
    }

    /// The next moment of the law.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        match self.stage {
            Stage::Overloaded { law } => Some(law.next),
            Stage::Calm | Stage::Above { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
