//! What a connection holds of limits while no thread has it.

use std::sync::Arc;

use crate::dispatch::ConnectionLimit;
use crate::sources::{Admission, Held};
use crate::upstream::Lease;

/// Places under limits, and at a backend, each of which is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Place {
    limits: Vec<Arc<ConnectionLimit>>,
    /// At the backend.
    pub lease: Option<Lease>,
    /// Where its source is counted, and by whose rules.
    source: Option<(Arc<Admission>, Held)>,
}

impl Place {
    /// A place that is counted already.
    pub fn counted(limit: &Arc<ConnectionLimit>) -> Self {
        Self { limits: vec![Arc::clone(limit)], lease: None, source: None }
    }

    /// One under another limit too, which is counted already.
    pub fn and_counted(&mut self, limit: &Arc<ConnectionLimit>) {
        self.limits.push(Arc::clone(limit));
    }

    /// Its source is counted there already.
    pub fn and_source(&mut self, admission: &Arc<Admission>, held: Held) {
        self.source = (held != Held::NONE).then(|| (Arc::clone(admission), held));
    }

    /// Where its source is counted, if that is in this process. Whoever takes it gives it back.
    pub fn take_source(&mut self) -> Option<Held> {
        self.source.take().map(|(_, held)| held)
    }

    /// Another process has the connection: its place at the backend is not free for others here.
    pub fn give_away(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_away();
        }
    }

    /// A thread has the connection: from now on that gives the places back. What remains is the lease.
    pub fn into_lease(mut self) -> Option<Lease> {
        self.limits.clear();
        self.lease.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.iter().for_each(|limit| limit.release(1));
        if let Some((admission, held)) = self.source.take() {
            admission.release(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_unless_a_thread_has_them() {
        let (frontend, process) =
            (Arc::new(ConnectionLimit::new(2)), Arc::new(ConnectionLimit::new(2)));
        for kept in [false, true] {
            assert!(frontend.admit() && process.admit());
            let mut place = Place::counted(&frontend);
            place.and_counted(&process);
            if kept {
                assert!(place.into_lease().is_none());
            } else {
                drop(place);
            }
            let open = usize::from(kept);
            assert_eq!((frontend.open(), process.open()), (open, open));
        }
    }
}
