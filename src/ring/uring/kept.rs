//! What sends in flight name and nobody else may free.
//!
//! The kernel reads the bytes of a send until its completion, also when whoever has asked for it is gone.
//! So what it names is here from before its entry is pushed until that completion. It has a tag of its own
//! ([`Kind::SendKept`](super::Kind)) which at most one send in flight bears: no completion but its own
//! lets it go.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::operation::{Bytes, GATHERED_MAX};
use super::super::tag::Key;
use crate::shared::SharedPart;
use crate::sys::{Message, MessageHeader};

/// What is kept, under the keys of the sends.
#[derive(Debug, Default)]
pub(super) struct Kept {
    in_flight: HashMap<Key, Named>,
    /// Messages that are used again: as many as have been in flight at once, at most [`SPARE_MAX`].
    #[expect(clippy::vec_box, reason = "the kernel is told where a message is, so none moves")]
    spare: Vec<Box<Gathered>>,
}

/// Most messages that are kept for later.
const SPARE_MAX: usize = 1024;

#[derive(Debug)]
enum Named {
    Part(#[expect(dead_code, reason = "it keeps the bytes")] SharedPart),
    Gathered(Box<Gathered>),
}

/// Parts that are sent together. Boxed, so that the message stays where the kernel looks for it.
#[derive(Debug, Default)]
struct Gathered {
    message: Message,
    /// Which have the shared bytes that the message points to.
    parts: Box<[Bytes]>,
}

impl Kept {
    /// Keeps a part. Returns where its bytes are, and stay.
    ///
    /// # Panics
    /// If something is kept under this key: its completion could not be told from this one's.
    pub(super) fn insert(&mut self, key: Key, part: SharedPart) -> *const u8 {
        let address = part.as_ptr();
        self.keep(key, Named::Part(part));
        address
    }

    /// Keeps parts that are in memory, each of which is where `place` says. Returns the header of the message that names them, which
    /// stays where it is.
    ///
    /// # Panics
    /// As [`insert`](Self::insert), and if there are too many of them.
    pub(super) fn gather(
        &mut self,
        key: Key,
        parts: Box<[Bytes]>,
        place: impl Fn(&Bytes) -> (*const u8, usize),
    ) -> *const MessageHeader {
        assert!(parts.len() <= GATHERED_MAX, "{} parts in one send", parts.len());
        let mut gathered = self.spare.pop().unwrap_or_default();
        gathered.message.set(parts.iter().map(place));
        gathered.parts = parts;
        let header = gathered.message.as_ptr();
        self.keep(key, Named::Gathered(gathered));
        header
    }

    fn keep(&mut self, key: Key, named: Named) {
        match self.in_flight.entry(key) {
            Entry::Vacant(free) => free.insert(named),
            Entry::Occupied(_) => panic!("two sends of shared bytes are in flight under {key:?}"),
        };
    }

    /// Whether a send is in flight under this key.
    pub(super) fn has(&self, key: Key) -> bool {
        !self.in_flight.is_empty() && self.in_flight.contains_key(&key)
    }

    /// The send has completed.
    pub(super) fn remove(&mut self, key: Key) {
        let kept = self.in_flight.remove(&key);
        debug_assert!(kept.is_some(), "nothing was kept for {key:?}");
        if let Some(Named::Gathered(mut gathered)) = kept
            && self.spare.len() < SPARE_MAX
        {
            gathered.parts = Box::default();
            self.spare.push(gathered);
        }
    }
}
