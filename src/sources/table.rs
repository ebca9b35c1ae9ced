//! What is known of sources: a table of fixed size that all threads share.
//!
//! A source has its place in one set of eight, by a hash that is keyed by a secret of the process, so that nobody can
//! choose addresses that meet in one set. To find it, to count a connection and to take it back needs no lock. To add a
//! source takes one of 64 locks, so that two threads do not add it twice.
//!
//! When a set is full, a source goes that has no open connection: first one whose rate is whole again, of which nothing
//! is lost; else the one whose rate will be whole first. A source with open connections stays. When all eight have some,
//! one more source is not counted, and comes in.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::entry::Entry;
use super::key::SourceKey;
use super::rate::{Spacing, TooEarly};
use super::set::{Place, Refused, Set, WAYS};

/// Locks for adding.
const LOCKS: usize = 64;

/// Where a source is in a table, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// What a source may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    pub(super) open: Option<u32>,
    pub(super) spacing: Option<Spacing>,
    /// How long one that comes too fast may wait for its turn.
    pub(super) patience: Duration,
}

/// Why a source may not have one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Open,
    Rate(TooEarly),
}

/// What a table has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Whom it is about.
    pub key: SourceKey,
    /// Connections that are open.
    pub open: u32,
    /// How far its theoretical arrival time is ahead of now, in microseconds.
    pub ahead_us: u64,
    /// How often it was refused since it is known.
    pub refused: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    refused: Box<[Refused]>,
    hasher: RandomState,
    adding: [Mutex<()>; LOCKS],
    evicted: AtomicU64,
    uncounted: AtomicU64,
}

impl Slot {
    /// Nowhere: nothing is counted.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn new(set: usize, way: usize) -> Self {
        Self((set * WAYS + way) as u32)
    }
}

impl Table {
    /// Room for at least `sources`.
    pub(super) fn new(sources: u32) -> Self {
        let sets = (sources as usize).div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            refused: (0..sets).map(|_| Refused::default()).collect(),
            hasher: RandomState::new(),
            adding: std::array::from_fn(|_| Mutex::new(())),
            evicted: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
        }
    }

    /// Sources that it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Sources that had to go although their rate was not whole again, and connections that were not counted.
    pub(super) fn losses(&self) -> (u64, u64) {
        (self.evicted.load(Ordering::Relaxed), self.uncounted.load(Ordering::Relaxed))
    }

    /// Counts one more connection of a source, if it may have one; and how long that has to wait for its turn.
    pub(super) fn admit(
        &self,
        key: SourceKey,
        limits: Limits,
        now_us: u64,
    ) -> Result<(Slot, Duration), Over> {
        let set = self.set_of(key);
        let change = |entry| one_more(entry, limits, now_us);
        let known = self.admit_known(set, key, change).unwrap_or_else(|| {
            let _adding = self.lock(set);
            // Somebody may have added it meanwhile.
            self.admit_known(set, key, change).unwrap_or_else(|| {
                let entry = change(Entry::new(now_us, 0))?;
                Ok((self.add(set, (key, entry), now_us), entry))
            })
        });
        let (slot, entry) = known?;
        let wait = |spacing: Spacing| spacing.waits_us(entry.arrival_us(now_us), now_us);
        Ok((slot, limits.spacing.map_or(Duration::ZERO, wait)))
    }

    /// Counts a connection that exists already.
    pub(super) fn occupy(&self, key: SourceKey, now_us: u64) -> Slot {
        self.admit(key, Limits::default(), now_us).map_or(Slot::NONE, |(slot, _)| slot)
    }

    /// What [`admit`](Self::admit) has counted comes to nothing: it is as if nobody had come.
    pub(super) fn withdraw(&self, slot: Slot, spacing: Option<Spacing>) {
        let Some((place, key)) = self.place(slot).and_then(|it| Some((it, it.key()?))) else { return };
        let back_us = spacing.map_or(0, |spacing| spacing.interval_us());
        let _ = place.update(key, |entry: Entry| {
            let arrival = (entry.0 >> Entry::ARRIVAL_SHIFT).wrapping_sub(back_us);
            Ok::<_, ()>(Entry::new(arrival, entry.open() - 1))
        });
    }

    /// The same for a source that is known elsewhere than by its slot.
    pub(super) fn withdraw_of(&self, key: SourceKey, spacing: Option<Spacing>) {
        let set = self.set_of(key);
        if let Some(way) = self.way_of(set, key) {
            self.withdraw(Slot::new(set, way), spacing);
        }
    }

    /// Whose connection is counted there.
    pub(super) fn key(&self, slot: Slot) -> Option<SourceKey> {
        self.place(slot)?.key()
    }

    /// A connection has closed. Returns whose it was.
    pub(super) fn release(&self, slot: Slot) -> Option<SourceKey> {
        let place = self.place(slot)?;
        let key = place.key();
        place.close_one();
        key
    }

    /// Counts that a source was refused, if it is known.
    pub(super) fn refuse(&self, key: SourceKey) {
        let set = self.set_of(key);
        if let Some(way) = self.way_of(set, key) {
            self.refused[set].0[way].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One connection of a source that is known elsewhere than by its slot has closed.
    pub(super) fn release_of(&self, key: SourceKey) {
        let set = self.set_of(key);
        if let Some(way) = self.way_of(set, key) {
            self.sets[set].places[way].close_one();
        }
    }

    /// What is known of a source.
    pub(super) fn known(&self, key: SourceKey, now_us: u64) -> Option<Known> {
        let set = self.set_of(key);
        self.known_at(set, self.way_of(set, key)?, now_us)
    }

    /// All that is known, in no order.
    pub(super) fn all(&self, now_us: u64) -> impl Iterator<Item = Known> {
        (0..self.sets.len())
            .flat_map(move |set| (0..WAYS).filter_map(move |way| self.known_at(set, way, now_us)))
    }

    /// Forgets sources without open connections whose rate is whole again, so that their time does not come round.
    pub(super) fn forget_idle(&self, now_us: u64) {
        for (number, set) in self.sets.iter().enumerate() {
            let _adding = self.lock(number);
            for (way, place) in set.places.iter().enumerate() {
                if place.forget(now_us) {
                    self.refused[number].0[way].store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// What another process knew of a source: how far ahead its time is.
    pub(super) fn restore(&self, key: SourceKey, ahead_us: u64, now_us: u64) {
        let slot = self.occupy(key, now_us);
        if let Some(place) = self.place(slot) {
            let arrival = now_us + ahead_us;
            let _ = place.update(key, |entry: Entry| {
                let arrival = entry.arrival_us(now_us).max(arrival);
                Ok::<_, ()>(Entry::new(arrival, entry.open() - 1))
            });
        }
    }

    fn known_at(&self, set: usize, way: usize, now_us: u64) -> Option<Known> {
        let place = &self.sets[set].places[way];
        let (key, entry) = (place.key()?, place.entry());
        let refused = self.refused[set].0[way].load(Ordering::Relaxed);
        let ahead_us = entry.arrival_us(now_us) - now_us;
        Some(Known { key, open: entry.open(), ahead_us, refused })
    }

    fn set_of(&self, key: SourceKey) -> usize {
        self.hasher.hash_one(key.get()) as usize & (self.sets.len() - 1)
    }

    fn way_of(&self, set: usize, key: SourceKey) -> Option<usize> {
        self.sets[set].places.iter().position(|place| place.has(key))
    }

    fn place(&self, Slot(slot): Slot) -> Option<&Place> {
        self.sets.get(slot as usize / WAYS).map(|set| &set.places[slot as usize % WAYS])
    }

    fn lock(&self, set: usize) -> MutexGuard<'_, ()> {
        self.adding[set % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the source is not known.
    fn admit_known(
        &self,
        set: usize,
        key: SourceKey,
        change: impl Fn(Entry) -> Result<Entry, Over>,
    ) -> Option<Result<(Slot, Entry), Over>> {
        let way = self.way_of(set, key)?;
        let place = &self.sets[set].places[way];
        let entry = match place.update(key, change)? {
            Ok(entry) => entry,
            Err(over) => return Some(Err(over)),
        };
        // What was counted before another source came here was not counted for this one.
        if !place.has(key) {
            place.close_one();
            return None;
        }
        Some(Ok((Slot::new(set, way), entry)))
    }

    /// Adds a source that is not there, in the place of another one if need be. The set's lock is held.
    fn add(&self, set: usize, (key, entry): (SourceKey, Entry), now_us: u64) -> Slot {
        let places = &self.sets[set].places;
        for _ in 0..WAYS {
            let free = (0..WAYS).filter(|&way| places[way].entry().open() == 0);
            let worth = |way: &usize| {
                let known = places[*way].key().is_some();
                (known, places[*way].entry().arrival_us(now_us))
            };
            let Some(way) = free.min_by_key(worth) else { break };
            let loses = places[way].key().is_some() && !places[way].entry().is_idle(now_us);
            if places[way].replace(key, entry) {
                self.refused[set].0[way].store(0, Ordering::Relaxed);
                self.evicted.fetch_add(u64::from(loses), Ordering::Relaxed);
                return Slot::new(set, way);
            }
        }
        self.uncounted.fetch_add(1, Ordering::Relaxed);
        Slot::NONE
    }
}

/// The same with one connection more, if that is within the limits.
fn one_more(entry: Entry, limits: Limits, now_us: u64) -> Result<Entry, Over> {
    if entry.open() >= limits.open.unwrap_or(Entry::OPEN_MOST) {
        return Err(Over::Open);
    }
    let arrival_us = entry.arrival_us(now_us);
    let arrival_us = match limits.spacing {
        None => arrival_us,
        Some(spacing) => match spacing.take_us(arrival_us, now_us) {
            Err(TooEarly(early)) if early <= limits.patience => arrival_us + spacing.interval_us(),
            taken => taken.map_err(Over::Rate)?,
        },
    };
    Ok(Entry::new(arrival_us, entry.open() + 1))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::super::key::Prefixes;
    use super::*;
    use crate::config::Rate;

    fn key(number: u32) -> SourceKey {
        SourceKey::of(IpAddr::V4(Ipv4Addr::from_bits(number)), Prefixes::default())
    }

    fn at_most(open: u32) -> Limits {
        Limits { open: Some(open), ..Limits::default() }
    }

    fn per_second(count: u32, burst: u32) -> Spacing {
        let positive = |number| NonZeroU32::new(number).unwrap();
        let (count, burst) = (positive(count), positive(burst));
        Spacing::from(Rate { count, period: Duration::from_secs(1), burst })
    }

    fn at_rate(count: u32, burst: u32) -> Limits {
        Limits { spacing: Some(per_second(count, burst)), ..Limits::default() }
    }

    #[test]
    fn each_source_has_its_own_limit() {
        let table = Table::new(1024);
        let slots: Vec<Slot> = (0..3)
            .flat_map(|source| (0..2).map(move |_| source))
            .map(|source| table.admit(key(source), at_most(2), 0).unwrap().0)
            .collect();
        for source in 0..3 {
            assert_eq!(table.admit(key(source), at_most(2), 0), Err(Over::Open));
        }
        assert_eq!(table.release(slots[0]), Some(key(0)));
        assert!(table.admit(key(0), at_most(2), 0).is_ok());
        assert_eq!(table.admit(key(1), at_most(2), 0), Err(Over::Open));
    }

    #[test]
    fn a_rate_is_kept_to() {
        let table = Table::new(1024);
        let mut admitted = 0;
        for now_us in (0..10_000_000).step_by(5_000) {
            if let Ok((slot, _)) = table.admit(key(7), at_rate(20, 5), now_us) {
                table.release(slot);
                admitted += 1;
            }
        }
        assert_eq!(admitted, 5 + 199);
    }

    #[test]
    fn who_is_patient_waits_for_its_turn() {
        let table = Table::new(1024);
        let limits = Limits { patience: Duration::from_millis(250), ..at_rate(10, 1) };
        let waits: Vec<_> =
            (0..4).map(|_| table.admit(key(7), limits, 0).map(|(_, wait)| wait)).collect();
        let ms = |number| Ok(Duration::from_millis(number));
        let too_early = Over::Rate(TooEarly(Duration::from_millis(300)));
        assert_eq!(waits, [ms(0), ms(100), ms(200), Err(too_early)]);
    }

    #[test]
    fn what_comes_to_nothing_was_not_there() {
        let table = Table::new(1024);
        let limits = Limits { open: Some(1), ..at_rate(10, 1) };
        for _ in 0..3 {
            let (slot, _) = table.admit(key(7), limits, 500).unwrap();
            table.withdraw(slot, limits.spacing);
        }
        assert_eq!(table.known(key(7), 500).unwrap().open, 0);
    }

    /// Sources that all meet in the only set that there is.
    #[test]
    fn a_full_set_keeps_whoever_has_connections() {
        let table = Table::new(1);
        assert_eq!(table.capacity(), WAYS);
        let held: Vec<Slot> =
            (0..7).map(|it| table.admit(key(it), at_most(1), 0).unwrap().0).collect();
        // One place is left: those that come and go take turns in it.
        for source in 100..200 {
            let (slot, _) = table.admit(key(source), at_most(1), 0).unwrap();
            table.release(slot);
        }
        let (last, _) = table.admit(key(7), at_most(1), 0).unwrap();
        assert_eq!(table.losses(), (0, 0));
        let (nowhere, _) = table.admit(key(8), at_most(1), 0).unwrap();
        assert_eq!((nowhere, table.losses()), (Slot::NONE, (0, 1)));
        assert_eq!(table.release(nowhere), None);
        for source in 0..8 {
            assert_eq!(table.admit(key(source), at_most(1), 0), Err(Over::Open), "{source}");
        }
        table.release(held[3]);
        table.release(last);
        assert!(table.admit(key(8), at_most(1), 0).is_ok());
    }

    #[test]
    fn of_those_without_connections_the_one_goes_of_which_least_is_lost() {
        let table = Table::new(1);
        for source in 0..8 {
            let limits = at_rate(source + 1, 1);
            table.release(table.admit(key(source), limits, 0).unwrap().0);
        }
        // Source 7 is the fastest: its rate is whole again first.
        table.admit(key(50), at_rate(1, 1), 100_000).unwrap();
        assert!(table.known(key(7), 0).is_none() && table.known(key(6), 0).is_some());
        assert_eq!(table.losses(), (1, 0));
    }

    #[test]
    fn what_is_idle_is_forgotten() {
        let table = Table::new(1024);
        table.release(table.admit(key(1), at_rate(1, 1), 0).unwrap().0);
        let (open, _) = table.admit(key(2), at_rate(1, 1), 0).unwrap();
        table.refuse(key(1));
        table.forget_idle(999_999);
        assert_eq!(table.all(0).count(), 2);
        table.forget_idle(1_000_001);
        let left: Vec<_> = table.all(1_000_001).map(|known| known.key).collect();
        assert_eq!(left, [key(2)]);
        table.release(open);
        table.forget_idle(1_000_001);
        assert_eq!(table.all(0).count(), 0);
    }

    #[test]
    fn what_another_process_knew_counts() {
        let table = Table::new(1024);
        table.restore(key(1), 500_000, 0);
        assert!(table.admit(key(1), at_rate(2, 1), 499_999).is_err());
        assert!(table.admit(key(1), at_rate(2, 1), 500_000).is_ok());
    }

    /// Threads that come and go: nobody is above its limit at any moment, and nothing is left.
    #[test]
    fn it_is_exact_for_many_threads() {
        const SOURCES: u32 = 40;
        const LIMIT: u32 = 3;
        let table = Table::new(64);
        let open: Vec<_> = (0..SOURCES).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (table, open) = (&table, &open);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    let mut held = Vec::new();
                    for now_us in 0..30_000 {
                        let source = random.u32(0..SOURCES);
                        let of = &open[source as usize];
                        match table.admit(key(source), at_most(LIMIT), now_us) {
                            Ok((Slot::NONE, _)) => {}
                            Ok((slot, _)) => {
                                assert!(of.fetch_add(1, Ordering::SeqCst) < LIMIT, "{source}");
                                held.push((source, slot));
                            }
                            Err(_) => {}
                        }
                        if held.len() > 10 || random.bool() {
                            let Some((source, slot)) = held.pop() else { continue };
                            open[source as usize].fetch_sub(1, Ordering::SeqCst);
                            assert_eq!(table.release(slot), Some(key(source)));
                        }
                    }
                    for (source, slot) in held {
                        open[source as usize].fetch_sub(1, Ordering::SeqCst);
                        table.release(slot);
                    }
                });
            }
        });
        assert_eq!(table.all(0).map(|known| known.open).sum::<u32>(), 0);
    }

    proptest! {
        /// A plain list of sources says the same as a table with room for all of them.
        #[test]
        fn a_plain_list_agrees(
            steps in proptest::collection::vec((0..6_u32, any::<bool>(), 0..200_000_u64), 1..200),
        ) {
            let table = Table::new(4096);
            let limits = Limits { open: Some(3), ..at_rate(8, 4) };
            let mut plain: Vec<(u64, Vec<Slot>)> = vec![(0, Vec::new()); 6];
            let mut now_us = 1;
            for (source, comes, gap) in steps {
                now_us += gap;
                let (arrival, open) = &mut plain[source as usize];
                if !comes {
                    if let Some(slot) = open.pop() {
                        table.release(slot);
                    }
                    continue;
                }
                let due = per_second(8, 4).take_us((*arrival).max(now_us), now_us);
                let wanted = open.len() < 3 && due.is_ok();
                let admitted = table.admit(key(source), limits, now_us);
                prop_assert_eq!(admitted.is_ok(), wanted, "source {} at {}", source, now_us);
                if let Ok((slot, _)) = admitted {
                    open.push(slot);
                    *arrival = due.unwrap_or(*arrival);
                }
            }
        }
    }
}
