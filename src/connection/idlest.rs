//! Which connections have been idle for longest, without a list of them in that order.

use std::time::Duration;

use crate::ring::Key;

/// Most slots that are looked at for one eviction. With no more connections than this on a thread it is exact; else it
/// is the one that has been idle for longest of so many, and the next ones have their turn with the next eviction.
pub(crate) const EVICTION_SLOTS: u32 = 4096;

/// A connection that has not been idle for this long makes no room: it has just come, or is about to ask.
pub(crate) const IDLE_MIN: Duration = Duration::from_secs(1);

/// Goes round the slots of a table.
#[derive(Debug, Default)]
pub(crate) struct Idlest {
    next: u32,
}

impl Idlest {
    /// The connection that has been idle for longest, of those in the slots whose turn it is. `idle` says how long the
    /// connection in a slot has been; nothing for one that may not be closed.
    pub(crate) fn find(
        &mut self,
        slots: u32,
        mut idle: impl FnMut(u32) -> Option<(Duration, Key)>,
    ) -> Option<Key> {
        let count = slots.min(EVICTION_SLOTS);
        let begin = if self.next < slots { self.next } else { 0 };
        let all = (0..count).map(|step| (begin + step) % slots);
        let found = all.filter_map(&mut idle).filter(|(idle, _)| *idle >= IDLE_MIN);
        let longest = found.max_by_key(|(idle, _)| *idle);
        self.next = if slots > 0 { (begin + count) % slots } else { 0 };
        longest.map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(idle: &[u64]) -> impl Fn(u32) -> Option<(Duration, Key)> {
        |slot| {
            let idle = *idle.get(slot as usize)?;
            (idle > 0).then(|| (Duration::from_secs(idle), Key::fixed(slot)))
        }
    }

    #[test]
    fn the_one_that_has_been_idle_for_longest_is_found() {
        let find = |idle: &[u64]| {
            let found = Idlest::default().find(idle.len() as u32, seconds(idle));
            found.map(|key| key.slot)
        };
        assert_eq!(find(&[]), None);
        assert_eq!(find(&[0, 0]), None);
        assert_eq!(find(&[3, 0, 9, 4]), Some(2));
        let fresh = |slot| Some((IDLE_MIN - Duration::from_millis(1), Key::fixed(slot)));
        assert_eq!(Idlest::default().find(4, fresh), None);
    }

    /// Of a large table a part is looked at each time, and all of it in turn.
    #[test]
    fn each_eviction_looks_at_so_many_slots_and_all_have_their_turn() {
        let slots = 2 * EVICTION_SLOTS + 100;
        let mut idlest = Idlest::default();
        let mut seen = vec![0; slots as usize];
        for _ in 0..3 {
            let mut looks = 0;
            idlest.find(slots, |slot| {
                seen[slot as usize] += 1;
                looks += 1;
                None
            });
            assert_eq!(looks, EVICTION_SLOTS);
        }
        assert!(seen.iter().all(|count| *count >= 1));
        // There may be fewer by now.
        assert_eq!(idlest.find(1, seconds(&[5])).map(|key| key.slot), Some(0));
    }
}
