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
    /// How long others of the same source may wait for theirs, who came before.
    pub(super) delay_most: Duration,
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
        let Some((place, key)) = self.place(slot).and_then(|it| Some((it, it.key()?))) else {
            return;
        };
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

    /// Counts that a source was refused, if it is known. How often that was since it is known.
    pub(super) fn refuse(&self, key: SourceKey) -> u32 {
        let set = self.set_of(key);
        let Some(way) = self.way_of(set, key) else { return 0 };
        self.refused[set].0[way].fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// One connection of a source that is known elsewhere than by its slot has closed.
    pub(super) fn release_of(&self, key: SourceKey) {
        let set = self.set_of(key);
        if let Some(way) = self.way_of(set, key) {
            self.sets[set].places[way].close_one();
        }
    }

    /// All that is known, in no order.
    pub(super) fn all(&self, now_us: u64) -> impl Iterator<Item = Known> {
        (0..self.sets.len())
            .flat_map(move |set| (0..WAYS).filter_map(move |way| self.known_at(set, way, now_us)))
    }

    /// Forgets sources without open connections whose rate is whole again, and renews the time of the others: none comes
    /// round.
    pub(super) fn forget_idle(&self, now_us: u64) {
        for (number, set) in self.sets.iter().enumerate() {
            let _adding = self.lock(number);
            for (way, place) in set.places.iter().enumerate() {
                if place.forget(now_us) {
                    self.refused[number].0[way].store(0, Ordering::Relaxed);
                } else {
                    place.renew(now_us);
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
        Some(spacing) => {
            let arrival_us =
                spacing.fit_us(arrival_us, now_us, limits.patience.max(limits.delay_most));
            match spacing.take_us(arrival_us, now_us) {
                Err(TooEarly(early)) if early <= limits.patience => {
                    arrival_us + spacing.interval_us()
                }
                taken => taken.map_err(Over::Rate)?,
            }
        }
    };
    Ok(Entry::new(arrival_us, entry.open() + 1))
}

#[cfg(test)]
mod tests;
