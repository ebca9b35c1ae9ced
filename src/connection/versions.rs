//! What connections go by, in the versions that a thread has of it. A connection keeps the version under which
//! it came; a version that is no longer current goes with its last connection.

/// The number of a version: small, since every connection has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionId(u16);

/// Versions by their numbers.
#[derive(Debug)]
pub(crate) struct Versions<T> {
    slots: Vec<Option<Version<T>>>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Version<T> {
    value: T,
    /// Connections that have it.
    open: u32,
    /// Whether no new connection gets it.
    retired: bool,
}

impl<T> Versions<T> {
    /// Most versions at a time.
    pub(crate) const COUNT_MAX: usize = u16::MAX as usize;

    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// A version for connections to come. Gives it back if there are too many.
    pub(crate) fn insert(&mut self, value: T) -> Result<VersionId, T> {
        if self.free.is_empty() && self.slots.len() >= Self::COUNT_MAX {
            return Err(value);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u16 - 1
        });
        self.slots[usize::from(slot)] = Some(Version { value, open: 0, retired: false });
        Ok(VersionId(slot))
    }

    /// The version of a connection, or a current one.
    ///
    /// # Panics
    /// If it has gone, which it does not as long as a connection has it.
    pub(crate) fn get(&self, id: VersionId) -> &T {
        &self.version(id).value
    }

    /// The same, to change what a thread keeps beside it.
    ///
    /// # Panics
    /// As [`get`](Self::get).
    pub(crate) fn get_mut(&mut self, id: VersionId) -> &mut T {
        let version = self.slots.get_mut(usize::from(id.0)).and_then(Option::as_mut);
        &mut version.expect("a version lives as long as its connections").value
    }

    /// A connection has come under it.
    pub(crate) fn opened(&mut self, id: VersionId) {
        if let Some(version) = self.slots[usize::from(id.0)].as_mut() {
            version.open += 1;
        }
    }

    /// A connection of it has gone.
    pub(crate) fn closed(&mut self, id: VersionId) {
        if let Some(version) = self.slots[usize::from(id.0)].as_mut() {
            version.open -= 1;
        }
        self.release(id);
    }

    /// No new connection gets it any more.
    pub(crate) fn retire(&mut self, id: VersionId) {
        if let Some(version) = self.slots[usize::from(id.0)].as_mut() {
            version.retired = true;
        }
        self.release(id);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|version| &version.value)
    }

    /// The same, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten().map(|version| &mut version.value)
    }

    fn version(&self, id: VersionId) -> &Version<T> {
        let version = self.slots.get(usize::from(id.0)).and_then(Option::as_ref);
        version.expect("a version lives as long as its connections")
    }

    fn release(&mut self, id: VersionId) {
        let slot = &mut self.slots[usize::from(id.0)];
        if slot.as_ref().is_some_and(|it| it.retired && it.open == 0) {
            *slot = None;
            self.free.push(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_version_goes_with_its_last_connection_once_it_is_retired() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let mut versions = Versions::new();
        let one = versions.insert(Arc::clone(&first)).unwrap();
        versions.opened(one);
        versions.opened(one);
        let two = versions.insert(Arc::clone(&second)).unwrap();
        versions.retire(one);
        versions.closed(one);
        assert_eq!((**versions.get(one), Arc::strong_count(&first)), (1, 2));
        versions.closed(one);
        assert_eq!((Arc::strong_count(&first), versions.len()), (1, 1));
        // A current one stays without connections.
        versions.opened(two);
        versions.closed(two);
        assert_eq!(**versions.get(two), 2);
        let three = versions.insert(Arc::new(3)).unwrap();
        assert_eq!((three, versions.len()), (one, 2));
        versions.retire(two);
        assert_eq!(Arc::strong_count(&second), 1);
    }

    #[test]
    fn there_are_so_many_at_most() {
        let mut versions = Versions::new();
        let last = (0..Versions::<usize>::COUNT_MAX).map(|n| versions.insert(n).unwrap()).last();
        assert_eq!(versions.insert(7), Err(7));
        versions.retire(last.unwrap());
        assert!(versions.insert(7).is_ok());
    }
}
