//! What an acceptor knows of how long connections wait for one of its listeners, and what follows for each of them.
//!
//! The wait is measured by the thread that takes the connection over, since the way there is part of it, and told back.
//! What comes with one turn has waited in one queue and is served one after another: so the first of a batch is looked at.
//! Those behind it have waited less until then, and wait for it besides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::overload::{Change, Limits, Overload};
use crate::config::OverloadAction;
use crate::dispatch::{Looked, Pressed, Shed, Told};
use crate::listener::{Pressure, PressureRules};

/// A full frontend is asked this often in an interval whether somebody waits.
const LOOKS_WHEN_FULL: u32 = 4;

/// One queue as its acceptor sees it. Each acceptor has its own, also where several share a socket.
#[derive(Debug)]
pub(super) struct Waiting {
    overload: Overload,
    looked: Arc<Looked>,
    /// When the connection was accepted that is looked at, while it is on its way.
    out: Option<Instant>,
    full: Option<Full>,
    /// Connections that were to be served newest first.
    accepted: u32,
    /// When it was watched last.
    watched: Option<Instant>,
}

/// There is no place under a limit.
#[derive(Debug, Clone, Copy)]
struct Full {
    /// Since when somebody is known to wait.
    waits_since: Option<Instant>,
    /// When to ask again whether somebody does.
    next_look: Instant,
}

impl Waiting {
    pub(super) fn new() -> Self {
        let (overload, looked) = (Overload::new(), Arc::default());
        Self { overload, looked, out: None, full: None, accepted: 0, watched: None }
    }

    /// Whether it has to be [watched](Self::watch) in the next turns.
    pub(super) fn is_of_interest(&self) -> bool {
        self.out.is_some() || self.full.is_some() || !self.overload.is_calm()
    }

    /// When it has to be watched although nothing comes.
    pub(super) fn next_turn(&self, pressure: &Pressure) -> Option<Instant> {
        let limits = limits(&pressure.rules());
        // What is out tells of itself; who has it may take long.
        let ends = self.overload.ends_at(limits).map(|at| match (self.out, self.watched) {
            (Some(_), Some(watched)) => at.max(watched + limits.interval),
            _ => at + Duration::from_millis(1),
        });
        ends.into_iter().chain(self.full.map(|full| full.next_look)).min()
    }

    /// What goes along with a connection that has come.
    pub(super) fn accepted(&mut self, pressure: &Pressure, now: Instant) -> Pressed {
        let rules = pressure.rules();
        self.collect(pressure, &rules);
        self.full = None;
        let is_overloaded = self.overload.is_overloaded();
        let looks = self.out.is_none() && self.overload.wants_look(now);
        let look = looks.then(|| self.looked.give());
        self.out = if looks { Some(now) } else { self.out };
        let newest_first = is_overloaded && rules.action == OverloadAction::Lifo;
        let newest_first = newest_first.then(|| {
            self.accepted = self.accepted.wrapping_add(1);
            self.accepted
        });
        let sheds = is_overloaded && rules.action == OverloadAction::Shed;
        let shed = sheds.then(|| Shed::new(rules.target, Arc::clone(pressure.shed_count())));
        Pressed { look, newest_first, shed }
    }

    /// Takes into account what has been told, and that time has passed.
    pub(super) fn watch(&mut self, pressure: &Pressure, now: Instant) {
        self.watched = Some(now);
        let rules = pressure.rules();
        self.collect(pressure, &rules);
        let limits = limits(&rules);
        match self.out.map(|accepted_at| now.saturating_duration_since(accepted_at)) {
            // It is not there yet, so it will have waited for longer.
            Some(so_far) if so_far >= limits.target => self.seen(pressure, (so_far, now), limits),
            Some(_) => {}
            None => tell(pressure, self.overload.pass(now, limits), now),
        }
    }

    /// What has become of the connection that is looked at.
    fn collect(&mut self, pressure: &Pressure, rules: &PressureRules) {
        let Some(accepted_at) = self.out else { return };
        let Some(told) = self.looked.take() else { return };
        self.out = None;
        if let Told::Adopted { waited, here } = told {
            self.seen(pressure, (waited, accepted_at + here), limits(rules));
        }
    }

    fn seen(&mut self, pressure: &Pressure, (wait, at): (Duration, Instant), limits: Limits) {
        for change in self.overload.seen(wait, (at, limits)) {
            tell(pressure, change, at);
        }
    }

    /// Whether to ask if somebody waits, since there is no place under a limit. To be asked for each turn in which that is
    /// so; `is_full` says it.
    pub(super) fn asks_who_waits(
        &mut self,
        is_full: bool,
        (pressure, now): (&Pressure, Instant),
    ) -> bool {
        if !is_full || pressure.action() != OverloadAction::Evict {
            self.full = None;
            return false;
        }
        self.full.get_or_insert(Full { waits_since: None, next_look: now }).next_look <= now
    }

    /// Somebody waits for a place, or nobody does. Returns how many connections are to make room.
    pub(super) fn full(&mut self, waits: bool, (pressure, now): (&Pressure, Instant)) -> u32 {
        let limits = limits(&pressure.rules());
        let Some(full) = &mut self.full else { return 0 };
        let since = waits.then(|| full.waits_since.unwrap_or(now));
        full.waits_since = since;
        match since.map(|since| now.saturating_duration_since(since)) {
            None => self.seen(pressure, (Duration::ZERO, now), limits),
            Some(wait) if wait >= limits.target => self.seen(pressure, (wait, now), limits),
            // It may have waited for longer than it is known to.
            Some(_) => {}
        }
        let makes_room = self.overload.makes_room(now, limits);
        let next_look = now + limits.interval / LOOKS_WHEN_FULL;
        let next_moment = self.overload.next_moment().unwrap_or(next_look);
        self.full = Some(Full { waits_since: since, next_look: next_look.min(next_moment) });
        makes_room
    }

    /// It is not listened for any more, or is another frontend's.
    pub(super) fn forget(&mut self, pressure: &Pressure) {
        if self.overload.is_overloaded() {
            pressure.ends();
        }
        *self = Self::new();
    }
}

fn limits(rules: &PressureRules) -> Limits {
    let sheds = rules.action == OverloadAction::Shed;
    Limits { target: rules.target, interval: rules.interval, sheds }
}

fn tell(pressure: &Pressure, change: Option<Change>, at: Instant) {
    match change {
        Some(Change::Begins) => pressure.begins(at),
        Some(Change::Ends) => pressure.ends(),
        None => {}
    }
}
