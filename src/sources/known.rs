//! The sources of one frontend, or of the process: what is known of them, and how often which rule was against one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::key::{Prefixes, SourceKey};
use super::network::Network;
use super::offenders::Offenders;
use super::rate::Bucket;
use super::rules::Rule;
use super::table::{Known, Table};

/// Rates by the word of their [`SourceKey`]: how far each is ahead, in microseconds.
pub type Rates = BTreeMap<u64, u64>;

/// Most rates that are handed over.
const RATES_MAX: usize = 65_536;

/// No rate is further ahead than a day.
const AHEAD_MOST_US: u64 = 24 * 3600 * 1_000_000;

/// Between two looks for idle sources: each walks through the whole table.
const FORGET_EVERY_US: u64 = 60_000_000;

/// What becomes of a connection that a rule is against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is refused.
    Refused,
    /// It is kept until it is its turn.
    Delayed,
    /// It comes in, since rules are only watched.
    Observed,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refused, Self::Delayed, Self::Observed];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Delayed => "delayed",
            Self::Observed => "observed",
        }
    }
}

/// By what sources are listed, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Open connections.
    #[default]
    Open,
    /// How much of their rate they have used.
    Rate,
    /// How often they were refused.
    Refused,
}

/// Some sources, and of how many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Those that were asked for.
    pub sources: Vec<Known>,
    /// How many leading bits of an address make a source.
    pub prefixes: Prefixes,
    /// How many are known.
    pub known: usize,
    /// How many there is room for.
    pub capacity: usize,
    /// Sources that had to make room although their rate was not whole again.
    pub evicted: u64,
    /// Connections that were not counted, since there was no room.
    pub uncounted: u64,
}

/// See the module. It lives as long as its frontend, whatever the rules are; its table from the first limit on.
#[derive(Debug)]
pub struct Sources {
    start: Instant,
    table: OnceLock<Table>,
    bucket: Bucket,
    offenders: Offenders,
    /// A bit for each rule.
    in_force: AtomicU32,
    /// Of IPv4 and of IPv6, in 8 bits each.
    prefixes: AtomicU32,
    /// When idle sources were forgotten last.
    forgot_us: AtomicU64,
    counts: [[AtomicU64; Action::ALL.len()]; Rule::ALL.len()],
}

impl Default for Sources {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl Sources {
    /// None yet, of a time that begins then.
    pub(crate) fn since(start: Instant) -> Self {
        Self {
            start,
            table: OnceLock::new(),
            bucket: Bucket::default(),
            offenders: Offenders::default(),
            in_force: AtomicU32::new(0),
            prefixes: AtomicU32::new(packed(Prefixes::default())),
            forgot_us: AtomicU64::new(0),
            counts: Default::default(),
        }
    }

    /// Makes room for sources, if there is none yet.
    pub(super) fn make_table(&self, sources: u32) {
        self.table.get_or_init(|| Table::new(sources));
    }

    pub(super) fn table(&self) -> Option<&Table> {
        self.table.get()
    }

    /// How fast connections have come, whoever opened them.
    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Those that were refused too often.
    pub(super) fn offenders(&self) -> &Offenders {
        &self.offenders
    }

    /// Those that are to be banned, and for how long, since the last call.
    pub fn take_offenders(&self) -> Vec<(Network, Duration)> {
        self.offenders.take()
    }

    /// The time as the bucket counts it.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        self.micros(now) * 1_000
    }

    /// The time as tables count it. It begins with a second, so that the past has a place.
    pub(super) fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start) + Duration::from_secs(1);
        since.as_micros() as u64
    }

    /// These rules are in force from now on.
    pub(super) fn set_in_force(&self, rules: &[Rule]) {
        let mask = rules.iter().fold(0, |mask, rule| mask | 1 << *rule as u32);
        self.in_force.store(mask, Ordering::Relaxed);
    }

    /// What makes a source from now on.
    pub(super) fn set_prefixes(&self, prefixes: Prefixes) {
        self.prefixes.store(packed(prefixes), Ordering::Relaxed);
    }

    fn prefixes(&self) -> Prefixes {
        let [_, _, ipv4, ipv6] = self.prefixes.load(Ordering::Relaxed).to_be_bytes();
        Prefixes { ipv4, ipv6 }
    }

    /// What is to be shown: how often each rule that is in force has refused, and whatever else was counted.
    pub fn counts(&self) -> impl Iterator<Item = (Rule, Action, u64)> + '_ {
        let in_force = self.in_force.load(Ordering::Relaxed);
        let pairs = Rule::ALL.into_iter().flat_map(|rule| Action::ALL.map(|action| (rule, action)));
        pairs.filter_map(move |(rule, action)| {
            let count = self.counted(rule, action);
            let is_in_force = in_force & 1 << rule as u32 != 0;
            let is_shown = count > 0 || is_in_force && action == Action::Refused;
            is_shown.then_some((rule, action, count))
        })
    }

    /// Counts what became of a connection.
    pub(super) fn count(&self, rule: Rule, action: Action) {
        self.counts[rule as usize][action as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a rule was against a connection of which this became.
    pub fn counted(&self, rule: Rule, action: Action) -> u64 {
        self.counts[rule as usize][action as usize].load(Ordering::Relaxed)
    }

    /// Adds what another process has counted.
    pub fn add(&self, rule: Rule, action: Action, count: u64) {
        self.counts[rule as usize][action as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// The first `most` sources in this order. Walks through the whole table, but keeps no more than a few of them at a
    /// time: a table may have millions, and whoever looks may do so every second.
    pub fn list(&self, order: Order, most: usize, now: Instant) -> Listing {
        let Some(table) = self.table() else { return Listing::default() };
        let rank = |known: &Known| match order {
            Order::Open => u64::from(known.open),
            Order::Rate => known.ahead_us,
            Order::Refused => u64::from(known.refused),
        };
        let place = |known: &Known| (Reverse(rank(known)), known.key);
        let (mut first, mut known) = (Vec::new(), 0);
        for source in table.all(self.micros(now)) {
            known += 1;
            first.push(source);
            if first.len() > 2 * most {
                first.select_nth_unstable_by_key(most, place);
                first.truncate(most);
            }
        }
        first.sort_unstable_by_key(place);
        first.truncate(most);
        let (evicted, uncounted) = table.losses();
        let (capacity, prefixes) = (table.capacity(), self.prefixes());
        Listing { sources: first, prefixes, known, capacity, evicted, uncounted }
    }

    /// Forgets sources of which nothing is lost, once a minute. To be called at least so often.
    pub fn forget_idle(&self, now: Instant) {
        let Some(table) = self.table() else { return };
        let now_us = self.micros(now);
        let last_us = self.forgot_us.load(Ordering::Relaxed);
        if now_us.saturating_sub(last_us) >= FORGET_EVERY_US {
            self.forgot_us.store(now_us, Ordering::Relaxed);
            table.forget_idle(now_us);
        }
    }

    /// What another process is to know of rates that are not whole: those with most used, up to a limit.
    pub fn rates(&self, now: Instant) -> Rates {
        let all = self.list(Order::Rate, RATES_MAX, now).sources.into_iter();
        all.filter(|it| it.ahead_us > 0).map(|it| (it.key.get(), it.ahead_us)).collect()
    }

    /// What another process knew of rates.
    pub fn restore(&self, rates: &Rates, now: Instant) {
        let Some(table) = self.table() else { return };
        let now_us = self.micros(now);
        for (word, ahead_us) in rates {
            if let Some(key) = SourceKey::from_word(*word) {
                table.restore(key, (*ahead_us).min(AHEAD_MOST_US), now_us);
            }
        }
    }
}

fn packed(Prefixes { ipv4, ipv6 }: Prefixes) -> u32 {
    u32::from_be_bytes([0, 0, ipv4, ipv6])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than are wanted, and more than are kept at a time.
    #[test]
    fn a_list_has_the_first_of_all() {
        let (sources, now) = (Sources::default(), Instant::now());
        sources.make_table(1024);
        let key = |number: u32| {
            let address = std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            SourceKey::of(address, Prefixes::default())
        };
        // In an order that is not theirs.
        let ahead = |number: u32| u64::from(number * 37 % 100) * 10_000_000;
        let rates = (0..100).map(|number| (key(number).get(), ahead(number)));
        sources.restore(&rates.collect(), now);
        let mut all: Vec<u64> = (0..100).map(ahead).collect();
        all.sort_unstable_by_key(|ahead_us| Reverse(*ahead_us));
        for most in [1, 7, 50, 100, 200] {
            let list = sources.list(Order::Rate, most, now);
            let found: Vec<u64> = list.sources.iter().map(|it| it.ahead_us).collect();
            assert_eq!(found, all[..most.min(100)], "{most}");
            assert_eq!(list.known, 100);
        }
        let first = sources.list(Order::Open, 3, now).sources;
        assert_eq!(first.iter().map(|it| it.key).collect::<Vec<_>>(), [0, 1, 2].map(key));
    }
}
