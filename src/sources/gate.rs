//! The rules of a frontend and those of the process, asked one after the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key::SourceKey;
use super::networks::Networks;
use super::rules::{Rule, Rules};
use super::sources::{Action, Sources};
use super::table::{Over, Slot, Table};
use crate::config::Refusal;

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
    /// The same, after this time.
    Later(Held, Duration),
    /// It may not.
    Refused(Rule),
}

/// Who may come in through a frontend, in one version; see the module.
#[derive(Debug, Clone)]
pub struct Admission {
    gates: [Gate; TIERS],
    /// Senders of a PROXY header: whoever they speak for is asked, not they.
    trusted: Networks,
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
        Self { rules, sources }
    }

    /// Counts a connection of this address, if it may come in.
    fn ask(&self, address: IpAddr, now: Instant) -> Result<(Slot, Duration), Rule> {
        const NOT_COUNTED: (Slot, Duration) = (Slot::NONE, Duration::ZERO);
        let Some(rules) = &self.rules else { return Ok(NOT_COUNTED) };
        if let Some(rule) = rules.refuses(address) {
            self.against(rules, rule)?;
        }
        let Some(table) = self.sources.table().filter(|_| rules.has_limits()) else {
            return Ok(NOT_COUNTED);
        };
        if rules.exempt.contains(address) {
            return Ok(NOT_COUNTED);
        }
        let now_us = self.sources.micros(now);
        let key = SourceKey::of(address, rules.prefixes);
        match admit(table, (key, rules), now_us) {
            Ok((slot, wait)) => {
                if !wait.is_zero() {
                    self.sources.count(Rule::RatePerSource, Action::Delayed);
                }
                Ok((slot, wait))
            }
            Err(over) => {
                table.refuse(key);
                self.against(rules, over.rule())?;
                Ok((occupy(table, key, now_us), Duration::ZERO))
            }
        }
    }

    /// A rule is against a connection: an error if that is refused.
    fn against(&self, rules: &Rules, rule: Rule) -> Result<(), Rule> {
        let action = if rules.enforces { Action::Refused } else { Action::Observed };
        self.sources.count(rule, action);
        if rules.enforces { Err(rule) } else { Ok(()) }
    }

    fn release(&self, slot: Slot) {
        let Some(table) = self.sources.table() else { return };
        // The place says whose it is; once it is given back it may be another's.
        if let Some(site) = table.release(slot).and_then(SourceKey::site) {
            table.release_of(site);
        }
    }

    /// What was admitted comes to nothing.
    fn withdraw(&self, slot: Slot) {
        let (Some(table), Some(rules)) = (self.sources.table(), &self.rules) else { return };
        if let Some(site) = table.key(slot).and_then(SourceKey::site) {
            table.withdraw_of(site, rules.of_site.spacing);
        }
        table.withdraw(slot, rules.of_source.spacing);
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

/// Counts one more of a source and of its site, or of neither.
fn admit(
    table: &Table,
    (key, rules): (SourceKey, &Rules),
    now_us: u64,
) -> Result<(Slot, Duration), Over> {
    let (slot, wait) = table.admit(key, rules.of_source, now_us)?;
    let Some(site) = key.site() else { return Ok((slot, wait)) };
    // Where the source is not counted, its site would not be taken back.
    if slot == Slot::NONE {
        return Ok((slot, wait));
    }
    let of_site = match table.admit(site, rules.of_site, now_us) {
        Ok((counted, of_site)) if counted != Slot::NONE => return Ok((slot, wait.max(of_site))),
        // What is not counted for both is counted for neither: one slot has to tell what to take back.
        Ok(_) => Ok((Slot::NONE, wait)),
        Err(over) => Err(over),
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
    pub fn new(frontend: Gate, process: Gate, trusted: &[ipnet::IpNet]) -> Self {
        Self { gates: [frontend, process], trusted: Networks::new(trusted) }
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
        let [frontend, process] = &self.gates;
        let (own, wait) = match frontend.ask(address, now) {
            Ok(admitted) => admitted,
            Err(rule) => return Verdict::Refused(rule),
        };
        let (of_all, longer) = match process.ask(address, now) {
            Ok(admitted) => admitted,
            Err(rule) => {
                frontend.withdraw(own);
                return Verdict::Refused(rule);
            }
        };
        let held = Held([own, of_all]);
        match wait.max(longer) {
            Duration::ZERO => Verdict::In(held),
            wait => Verdict::Later(held, wait),
        }
    }

    /// Counts a connection that is there already.
    pub fn occupy(&self, address: IpAddr, now: Instant) -> Held {
        Held(self.gates.each_ref().map(|gate| gate.occupy(address, now)))
    }

    /// A connection has closed. Whatever the version is, what was counted under another one is taken back.
    pub fn release(&self, Held(slots): Held) {
        self.gates.iter().zip(slots).for_each(|(gate, slot)| gate.release(slot));
    }

    /// How connections are refused.
    pub fn refusal(&self) -> &Refusal {
        let rules = self.gates.iter().find_map(|gate| gate.rules.as_deref());
        rules.map_or(&Refusal::Reset, |rules| &rules.refusal)
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
        Self::new(none(), none(), &[])
    }
}
