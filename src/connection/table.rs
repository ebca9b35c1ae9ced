//! The connections of a worker, by slot and generation.

use crate::planted::{self, Bug};
use crate::ring::{Generation, Key};

/// Values under keys that are never valid again once their value was removed.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: usize,
}

#[derive(Debug)]
pub(super) struct Slot<T> {
    generation: Generation,
    value: Option<T>,
}

impl<T> Table<T> {
    /// Room for `limit` values. The memory is reserved now, so that it never has to move, and
    /// becomes resident as it is used.
    pub(crate) fn new(limit: usize) -> Self {
        Self { slots: Vec::with_capacity(limit), free: Vec::with_capacity(limit), limit }
    }

    /// Stores a value, or gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.value = Some(value);
            return Ok(Key { slot, generation: entry.generation });
        }
        if self.slots.len() == self.limit {
            return Err(value);
        }
        let slot = self.slots.len() as u32;
        let generation = Generation::FIRST;
        self.slots.push(Slot { generation, value: Some(value) });
        Ok(Key { slot, generation })
    }

    /// The value under a key that is still valid.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        let ignored = planted::is(Bug::GenerationIgnored);
        slot.value.as_mut().filter(|_| slot.generation == key.generation || ignored)
    }

    /// Takes a value out; its key becomes invalid.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.next();
        self.free.push(key.slot);
        Some(value)
    }

    /// The key of the value in a slot, if there is one.
    pub(crate) fn key(&self, slot: u32) -> Option<Key> {
        let entry = self.slots.get(slot as usize)?;
        entry.value.as_ref().map(|_| Key { slot, generation: entry.generation })
    }

    /// All valid keys, in the order of their slots.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..self.slots.len() as u32).filter_map(|slot| self.key(slot)).collect()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut table = Table::new(1);
        let first = table.insert('a').unwrap();
        assert_eq!(table.insert('b'), Err('b'));
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.len(), 0);
        let second = table.insert('c').unwrap();
        assert_eq!(second.slot, first.slot);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'c'));
        assert_eq!((table.keys(), table.key(7)), (vec![second], None));
    }
}
