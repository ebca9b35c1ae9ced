//! Where the sources of a thread's connections are counted, by slot.

use crate::ring::Key;
use crate::sources::{Admission, Held};

/// See the module. Takes memory once a connection is counted at all: most servers have no rules by source.
#[derive(Debug, Default)]
pub(crate) struct Counted(Vec<Held>);

impl Counted {
    /// A connection is counted there.
    #[inline]
    pub(crate) fn note(&mut self, key: Key, held: Held) {
        if held == Held::NONE {
            return;
        }
        let slot = key.slot as usize;
        if slot >= self.0.len() {
            self.0.resize(slot + 1, Held::NONE);
        }
        self.0[slot] = held;
    }

    /// Where a connection is counted that leaves the table.
    #[inline]
    pub(crate) fn take(&mut self, key: Key) -> Held {
        let held = self.0.get_mut(key.slot as usize);
        held.map_or(Held::NONE, |held| std::mem::replace(held, Held::NONE))
    }

    /// A connection has ended: its source may have one more.
    #[inline]
    pub(crate) fn release(&mut self, key: Key, admission: &Admission) {
        let held = self.take(key);
        if held != Held::NONE {
            admission.release(held);
        }
    }
}
