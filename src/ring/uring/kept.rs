//! What sends in flight name and nobody else may free.
//!
//! The kernel reads the bytes of a send until its completion, also when whoever has asked for it is gone.
//! So the part is here from before its entry is pushed until that completion. It has a tag of its own
//! ([`Kind::SendKept`](super::Kind)) which at most one send in flight bears: no completion but its own
//! lets the part go.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::tag::Key;
use crate::shared::SharedPart;

/// The parts, under the keys of their sends.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<Key, SharedPart>);

impl Kept {
    /// Keeps a part. Returns where its bytes are, and stay.
    ///
    /// # Panics
    /// If one is kept under this key: its completion could not be told from this one's.
    pub(super) fn insert(&mut self, key: Key, part: SharedPart) -> *const u8 {
        let address = part.as_ptr();
        match self.0.entry(key) {
            Entry::Vacant(free) => free.insert(part),
            Entry::Occupied(_) => panic!("two sends of shared bytes are in flight under {key:?}"),
        };
        address
    }

    /// Whether a send is in flight under this key.
    pub(super) fn has(&self, key: Key) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key)
    }

    /// The send has completed.
    pub(super) fn remove(&mut self, key: Key) {
        let kept = self.0.remove(&key);
        debug_assert!(kept.is_some(), "nothing was kept for {key:?}");
    }
}
