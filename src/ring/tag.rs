//! What travels through the kernel with an operation and comes back with its completions.

use super::operation::Kind;

/// Names an operation's owner: a slot in the owner's table and the generation of that slot.
///
/// The generation makes late completions harmless: a slot that has been used again since has
/// another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index into the owner's table.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: Generation,
}

/// Counts the uses of a slot, modulo 2^24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Generation(u32);

impl Generation {
    /// The generation of a slot's first use.
    pub const FIRST: Self = Self(0);
    const BITS: u32 = 24;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// As a number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The generation of this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        (number <= Self::MASK).then_some(Self(number))
    }

    /// The generation of the slot's next use.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1) & Self::MASK)
    }
}

impl Key {
    /// A key for a table whose slots are never used again.
    pub fn fixed(slot: u32) -> Self {
        Self { slot, generation: Generation::default() }
    }
}

/// The 64 bits of user data:
///
/// ```text
///  63      56 55                              32 31                               0
/// +----------+----------------------------------+----------------------------------+
/// |   kind   |            generation            |               slot               |
/// +----------+----------------------------------+----------------------------------+
/// ```
///
/// Public for benches/ring.rs only: engines pack and unpack tags, nobody else.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub(super) kind: Kind,
    pub(super) key: Key,
}

impl Tag {
    /// The tag of an operation of `key`.
    #[must_use]
    pub fn new(kind: Kind, key: Key) -> Self {
        Self { kind, key }
    }

    /// All of it in 64 bits.
    #[must_use]
    pub fn pack(self) -> u64 {
        let kind = u64::from(self.kind as u8) << 56;
        let generation = u64::from(self.key.generation.0) << 32;
        kind | generation | u64::from(self.key.slot)
    }

    /// What [`Tag::pack`] has packed.
    ///
    /// # Panics
    /// If the kind is none of ours: the kernel has corrupted the user data.
    #[must_use]
    pub fn unpack(bits: u64) -> Self {
        let kind = Kind::from_bits((bits >> 56) as u8);
        let generation = Generation((bits >> 32) as u32 & Generation::MASK);
        Self { kind, key: Key { slot: bits as u32, generation } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_comes_back() {
        for kind in Kind::ALL {
            for (slot, generation) in [(0, 0), (u32::MAX, Generation::MASK), (1, 2)] {
                let tag = Tag::new(kind, Key { slot, generation: Generation(generation) });
                assert_eq!(Tag::unpack(tag.pack()), tag);
            }
        }
    }

    #[test]
    fn generations_wrap() {
        assert_eq!(Generation(Generation::MASK).next(), Generation(0));
        assert_ne!(Generation(0).next(), Generation(0));
    }
}
