//! The connections of a worker, by slot and generation.

use crate::ring::{Generation, Key};

/// Values under keys that are never valid again once their value was removed.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Slot<T> {
    generation: Generation,
    value: Option<T>,
}

impl<T> Table<T> {
    /// Room for so many values, and for more once there are. The memory is reserved now, so that it need not
    /// move, and becomes resident as it is used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity) }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.value = Some(value);
            return Key { slot, generation: entry.generation };
        }
        let slot = self.slots.len() as u32;
        let generation = Generation::FIRST;
        self.slots.push(Slot { generation, value: Some(value) });
        Key { slot, generation }
    }

    /// The key of the value that is inserted next.
    pub(crate) fn next_key(&self) -> Key {
        match self.free.last() {
            Some(slot) => Key { slot: *slot, generation: self.slots[*slot as usize].generation },
            None => Key { slot: self.slots.len() as u32, generation: Generation::FIRST },
        }
    }

    /// The value under a key that is still valid.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == key.generation)
    }

    /// All values, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// The value under a key that is still valid, to change it.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == key.generation)
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

    /// How many slots there are; each of them is used or has been.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
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
        let next = table.next_key();
        let first = table.insert('a');
        assert_eq!(first, next);
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.len(), 0);
        let next = table.next_key();
        let second = table.insert('c');
        assert_eq!(second, next);
        assert_eq!(second.slot, first.slot);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'c'));
        assert_eq!((table.keys(), table.key(7)), (vec![second], None));
        let beyond = table.insert('d');
        assert_eq!((table.keys(), table.get_mut(beyond)), (vec![second, beyond], Some(&mut 'd')));
    }
}
