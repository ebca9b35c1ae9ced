//! A few places for sources, side by side in memory.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entry::Entry;
use super::key::SourceKey;

/// Places of one set: two cache lines.
pub(super) const WAYS: usize = 8;

/// One source: which, and what is known of it. Who changes `key` has put [`Entry::CHANGING`] into `entry` before,
/// which no other thread changes; and an entry with open connections is never changed to that. So whoever has counted a
/// connection in `entry` and then still finds the key has counted it for that source.
#[derive(Debug, Default)]
pub(super) struct Place {
    key: AtomicU64,
    entry: AtomicU64,
}

/// See the module.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Set {
    pub(super) places: [Place; WAYS],
}

/// How often each was refused, beside a set.
#[derive(Debug, Default)]
pub(super) struct Refused(pub(super) [AtomicU32; WAYS]);

impl Place {
    pub(super) fn key(&self) -> Option<SourceKey> {
        SourceKey::from_word(self.key.load(Ordering::Acquire))
    }

    pub(super) fn has(&self, key: SourceKey) -> bool {
        self.key.load(Ordering::Acquire) == key.get()
    }

    pub(super) fn entry(&self) -> Entry {
        Entry(self.entry.load(Ordering::Acquire))
    }

    /// Changes what is known of `key`. `None` if another source is here by now; else what `change` says, `Err` leaves
    /// all as it is.
    pub(super) fn update<E>(
        &self,
        key: SourceKey,
        change: impl Fn(Entry) -> Result<Entry, E>,
    ) -> Option<Result<Entry, E>> {
        let mut before = self.entry();
        loop {
            if before.is_changing() || !self.has(key) {
                return None;
            }
            let after = match change(before) {
                Ok(after) => after,
                Err(error) => return Some(Err(error)),
            };
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match self.entry.compare_exchange(before.0, after.0, success, failure) {
                Ok(_) => return Some(Ok(after)),
                Err(now) => before = Entry(now),
            }
        }
    }

    /// Takes one open connection back.
    pub(super) fn close_one(&self) {
        let before = Entry(self.entry.fetch_sub(Entry::ONE_OPEN, Ordering::AcqRel));
        debug_assert!(before.open() > 0, "it is counted once");
    }

    /// Puts another source here, if what is here has no open connection. Only one thread at a time does so in a set.
    pub(super) fn replace(&self, key: SourceKey, entry: Entry) -> bool {
        let before = self.entry();
        if before.open() > 0 || before.is_changing() {
            return false;
        }
        let changing = Entry::CHANGING.0;
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        if self.entry.compare_exchange(before.0, changing, success, failure).is_err() {
            return false;
        }
        self.key.store(key.get(), Ordering::Release);
        self.entry.store(entry.0, Ordering::Release);
        true
    }

    /// Sets a time that is past to now.
    pub(super) fn renew(&self, now_us: u64) {
        if let Some(key) = self.key() {
            let renewed = |entry: Entry| Entry::new(entry.arrival_us(now_us), entry.open());
            let _ = self.update(key, |entry| Ok::<_, ()>(renewed(entry)));
        }
    }

    /// Forgets the source, if nothing is lost with it.
    pub(super) fn forget(&self, now_us: u64) -> bool {
        let before = self.entry();
        if self.key().is_none() || !before.is_idle(now_us) {
            return false;
        }
        let changing = Entry::CHANGING.0;
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        if self.entry.compare_exchange(before.0, changing, success, failure).is_err() {
            return false;
        }
        self.key.store(0, Ordering::Release);
        self.entry.store(Entry::new(0, 0).0, Ordering::Release);
        true
    }
}
