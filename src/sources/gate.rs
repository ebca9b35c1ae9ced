//! The rules of a frontend and those of the process, asked one after the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::key::SourceKey;
use super::known::{Action, Sources};
use super::networks::Networks;
use super::rate::Spacing;
use super::rules::{Rule, Rules};
use super::table::{Limits, Over, Slot, Table};
use crate::config::{Rate, Refusal};

/// The frontend, and the process.
const TIERS: usize = 2;

/// What a connection is counted as: its place among the sources of its frontend, and of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held([Slot; TIERS]);

/// Rules, and what they are asked about.
#[derive(Debug, Clone)]
pub struct Gate {
    /// `None`: nobody is asked, but what was counted before is still taken back.
    pub rules: Option<Arc<Rules>>,
    /// What is known.
    pub sources: Arc<Sources>,
}

/// What the rules say of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may come in, and is counted.
    In(Held),
    /// The same, after this time, also if a rule is against it that is only watched.
    Later(Held, Duration),
    /// It comes in and is counted, since this rule that is against it is only watched.
    Observed(Held, Rule),
    /// It may not.
    Refused(Rule),
}

/// Who may come in through a frontend, in one version; see the module.
#[derive(Debug, Clone)]
pub struct Admission {
    gates: [Gate; TIERS],
    /// Senders of a PROXY header: whoever they speak for is asked, not they.
    trusted: Networks,
    /// How fast connections of the frontend may come, whoever opens them.
    rate: Option<Spacing>,
    refusal: Refusal,
}

/// What one gate says of a connection that may come in.
#[derive(Debug, Clone, Copy)]
struct Passed {
    slot: Slot,
    wait: Duration,
    observed: Option<Rule>,
    /// Whether something was taken of a rate.
    is_charged: bool,
}

impl Passed {
    const NOT_COUNTED: Self =
        Self { slot: Slot::NONE, wait: Duration::ZERO, observed: None, is_charged: false };
}

impl Held {
    /// Counted nowhere.
    pub const NONE: Self = Self([Slot::NONE; TIERS]);
}

impl Gate {
    /// Rules over sources; room is made for these if it is needed.
    pub fn new(rules: Option<Arc<Rules>>, sources: Arc<Sources>) -> Self {
        if let Some(rules) = rules.as_ref().filter(|rules| rules.has_limits()) {
            sources.make_table(rules.table);
        }
        if let Some(rules) = &rules {
            sources.set_prefixes(rules.prefixes);
        }
        sources.set_in_force(&rules.as_ref().map_or_else(Vec::new, |rules| rules.in_force()));
        Self { rules, sources }
    }

    /// Counts a connection of this address, if it may come in.
    fn ask(&self, address: IpAddr, at_accept: bool, now: Instant) -> Result<Passed, Rule> {
        let Some(rules) = &self.rules else { return Ok(Passed::NOT_COUNTED) };
        let observed = match rules.refuses(address) {
            None => None,
            Some(rule) => Some(self.against(rules, rule)?),
        };
        let uncounted = Passed { observed, ..Passed::NOT_COUNTED };
        let Some(table) = self.sources.table().filter(|_| rules.has_limits()) else {
            return Ok(uncounted);
        };
        if rules.exempt.contains(address) {
            return Ok(uncounted);
        }
        let now_us = self.sources.micros(now);
        let key = SourceKey::of(address, rules.prefixes);
        match admit(table, (key, rules), at_accept, now_us) {
            Ok((slot, wait)) => {
                if !wait.is_zero() {
                    self.sources.count(Rule::RatePerSource, Action::Delayed);
                }
                Ok(Passed { slot, wait, observed, is_charged: true })
            }
            Err((over, whose)) => {
                let refused = table.refuse(whose);
                // Behind a PROXY header it is another address that connects.
                if at_accept
                    && rules.enforces
                    && let Some((after, time)) = rules.ban
                    && refused.checked_rem(after.get()) == Some(0)
                    && refused > 0
                {
                    self.sources.offenders().note(rules.network(whose, address), time);
                }
                let rule = self.against(rules, over.rule())?;
                let observed = observed.or(Some(rule));
                let slot = occupy(table, key, now_us);
                Ok(Passed { slot, observed, ..Passed::NOT_COUNTED })
            }
        }
    }

    /// A rule is against a connection: an error if that is refused.
    fn against(&self, rules: &Rules, rule: Rule) -> Result<Rule, Rule> {
        let action = if rules.enforces { Action::Refused } else { Action::Observed };
        self.sources.count(rule, action);
        if rules.enforces { Err(rule) } else { Ok(rule) }
    }

    fn release(&self, slot: Slot) {
        let Some(table) = self.sources.table() else { return };
        // The place says whose it is; once it is given back it may be another's.
        if let Some(site) = table.release(slot).and_then(SourceKey::site) {
            table.release_of(site);
        }
    }

    /// What was admitted comes to nothing. Nothing was taken of the rate of one that was only watched.
    fn withdraw(&self, slot: Slot, is_charged: bool) {
        let (Some(table), Some(rules)) = (self.sources.table(), &self.rules) else { return };
        let of = |limits: Limits| limits.spacing.filter(|_| is_charged);
        if let Some(site) = table.key(slot).and_then(SourceKey::site) {
            table.withdraw_of(site, of(rules.of_site));
        }
        table.withdraw(slot, of(rules.of_source));
    }

    fn occupy(&self, address: IpAddr, now: Instant) -> Slot {
        let rules = self.rules.as_ref().filter(|rules| rules.has_limits());
        let Some((table, rules)) = self.sources.table().zip(rules) else { return Slot::NONE };
        if rules.exempt.contains(address) {
            return Slot::NONE;
        }
        occupy(table, SourceKey::of(address, rules.prefixes), self.sources.micros(now))
    }
}

/// Counts one more of a source and of its site, or of neither; an error names the one that is over its limit.
fn admit(
    table: &Table,
    (key, rules): (SourceKey, &Rules),
    at_accept: bool,
    now_us: u64,
) -> Result<(Slot, Duration), (Over, SourceKey)> {
    let patience = |limits: Limits| match at_accept {
        true => limits,
        false => Limits { patience: Duration::ZERO, ..limits },
    };
    let own = table.admit(key, patience(rules.of_source), now_us);
    let (slot, wait) = own.map_err(|over| (over, key))?;
    let Some(site) = key.site() else { return Ok((slot, wait)) };
    // Where the source is not counted, its site would not be taken back.
    if slot == Slot::NONE {
        return Ok((slot, wait));
    }
    let of_site = match table.admit(site, patience(rules.of_site), now_us) {
        Ok((counted, of_site)) if counted != Slot::NONE => return Ok((slot, wait.max(of_site))),
        // What is not counted for both is counted for neither: one slot has to tell what to take back.
        Ok(_) => Ok((Slot::NONE, wait)),
        Err(over) => Err((over, site)),
    };
    table.withdraw(slot, rules.of_source.spacing);
    of_site
}

/// Counts a connection that is there whatever the limits say.
fn occupy(table: &Table, key: SourceKey, now_us: u64) -> Slot {
    let slot = table.occupy(key, now_us);
    let Some(site) = key.site().filter(|_| slot != Slot::NONE) else { return slot };
    if table.occupy(site, now_us) == Slot::NONE {
        table.withdraw(slot, None);
        return Slot::NONE;
    }
    slot
}

impl Admission {
    /// The rules of a frontend and of its process. Connections of trusted networks begin with a PROXY header.
    pub fn new([frontend, process]: [Gate; TIERS], trusted: &[IpNet], rate: Option<Rate>) -> Self {
        let (trusted, rate) = (Networks::new(trusted), rate.map(Spacing::from));
        Self { gates: [frontend, process], trusted, rate, refusal: Refusal::default() }
    }

    /// The same, with this way to refuse connections.
    #[must_use]
    pub fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    /// Whether there is a limit on how fast connections come.
    pub fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// How many connections may come at once now, whoever opens them.
    pub fn room(&self, now: Instant) -> usize {
        let Some(spacing) = self.rate else { return usize::MAX };
        let sources = &self.gates[0].sources;
        let room = sources.bucket().room(spacing, sources.nanos(now));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// When there is room for one.
    pub fn room_at(&self, now: Instant) -> Option<Instant> {
        let spacing = self.rate?;
        let sources = &self.gates[0].sources;
        Some(now + sources.bucket().wait(spacing, sources.nanos(now)))
    }

    /// A connection has come.
    pub fn count(&self, now: Instant) {
        if let Some(spacing) = self.rate {
            let sources = &self.gates[0].sources;
            sources.bucket().count(spacing, sources.nanos(now));
        }
    }

    /// Whether nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.gates.iter().all(|gate| gate.rules.is_none())
    }

    /// Whether the first bytes of a connection from there say who is to be asked.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.contains(address)
    }

    /// Asks whether a connection from there may come in, and counts it if it may.
    pub fn ask(&self, address: IpAddr, now: Instant) -> Verdict {
        match self.passes(address, true, now) {
            Err(rule) => Verdict::Refused(rule),
            Ok((held, Duration::ZERO, None)) => Verdict::In(held),
            Ok((held, Duration::ZERO, Some(rule))) => Verdict::Observed(held, rule),
            Ok((held, wait, _)) => Verdict::Later(held, wait),
        }
    }

    /// The same where nobody can wait for a turn: counted, with the rule that is only watched, if one is against it.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn ask_now(&self, address: IpAddr, now: Instant) -> Result<(Held, Option<Rule>), Rule> {
        self.passes(address, false, now).map(|(held, _, observed)| (held, observed))
    }

    fn passes(
        &self,
        address: IpAddr,
        at_accept: bool,
        now: Instant,
    ) -> Result<(Held, Duration, Option<Rule>), Rule> {
        let [frontend, process] = &self.gates;
        let own = frontend.ask(address, at_accept, now)?;
        let of_all = process.ask(address, at_accept, now).inspect_err(|_| {
            frontend.withdraw(own.slot, own.is_charged);
        })?;
        let (wait, observed) = (own.wait.max(of_all.wait), own.observed.or(of_all.observed));
        Ok((Held([own.slot, of_all.slot]), wait, observed))
    }

    /// One that was to wait for its turn is refused instead: it is as if it had not come.
    pub fn withdraw(&self, Held(slots): Held) {
        self.gates.iter().zip(slots).for_each(|(gate, slot)| gate.withdraw(slot, true));
        self.gates[0].sources.count(Rule::RatePerSource, Action::Refused);
    }

    /// Counts a connection that is there already, if anybody is asked about its client: whom a PROXY header has told, or
    /// who is at the other end.
    pub fn occupy(
        &self,
        told: Option<SocketAddr>,
        peer: impl FnOnce() -> Option<SocketAddr>,
        now: Instant,
    ) -> Held {
        if self.is_empty() {
            return Held::NONE;
        }
        let own = || peer().map(|peer| peer.ip()).filter(|address| !self.trusts(*address));
        let address = told.map(|told| told.ip()).or_else(own);
        let occupy = |address| Held(self.gates.each_ref().map(|gate| gate.occupy(address, now)));
        address.map_or(Held::NONE, occupy)
    }

    /// Whether whoever is refused sees a reset.
    pub fn resets(&self) -> bool {
        matches!(self.refusal(), Refusal::Reset | Refusal::Delay)
    }

    /// A connection has closed. Whatever the version is, what was counted under another one is taken back.
    pub fn release(&self, Held(slots): Held) {
        self.gates.iter().zip(slots).for_each(|(gate, slot)| gate.release(slot));
    }

    /// How connections are refused.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }
}

impl Over {
    fn rule(self) -> Rule {
        match self {
            Self::Open => Rule::MaxPerSource,
            Self::Rate(_) => Rule::RatePerSource,
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        let none = || Gate::new(None, Arc::default());
        Self::new([none(), none()], &[], None)
    }
}

#[cfg(test)]
mod tests;
