//! How long one connection waits until its thread takes it over, told back to the acceptor that asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody is looked at; one is on its way; it was closed before its thread took it over. Any other value is a wait.
const IDLE: u64 = u64::MAX;
const OUT: u64 = u64::MAX - 1;
const LOST: u64 = u64::MAX - 2;

/// Where an acceptor reads what became of the connection that it looks at: one at a time.
///
/// ```text
///          give               adopted
///   idle --------> on its way --------> waited --- take ---> idle
///                      |    dropped                             ^
///                      +------------> lost ------ take ---------+
/// ```
#[derive(Debug)]
pub struct Looked {
    waited_us: AtomicU64,
    /// Of that, since it was accepted.
    here_us: AtomicU64,
}

/// Goes along with the connection that is looked at.
#[derive(Debug)]
pub struct Look(Arc<Looked>);

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Its thread has taken it over.
    Adopted {
        /// Since it could have been accepted.
        waited: Duration,
        /// Since it was accepted.
        here: Duration,
    },
    /// It was closed before that.
    Lost,
}

impl Default for Looked {
    fn default() -> Self {
        Self { waited_us: AtomicU64::new(IDLE), here_us: AtomicU64::new(0) }
    }
}

impl Looked {
    /// For one connection. The one before must have been [taken](Self::take).
    pub fn give(self: &Arc<Self>) -> Look {
        self.waited_us.store(OUT, Ordering::Relaxed);
        Look(Arc::clone(self))
    }

    /// What became of it, once.
    pub fn take(&self) -> Option<Told> {
        let waited = self.waited_us.load(Ordering::Acquire);
        if matches!(waited, IDLE | OUT) {
            return None;
        }
        self.waited_us.store(IDLE, Ordering::Relaxed);
        let here = Duration::from_micros(self.here_us.load(Ordering::Relaxed));
        let waited = (waited != LOST).then(|| Duration::from_micros(waited));
        Some(waited.map_or(Told::Lost, |waited| Told::Adopted { waited, here }))
    }
}

impl Look {
    /// Its thread takes it over: it has waited so long, of that so long since it was accepted.
    pub fn adopted(self, waited: Duration, here: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(LOST);
        self.0.here_us.store(micros(here), Ordering::Relaxed);
        self.0.waited_us.store(micros(waited).min(LOST - 1), Ordering::Release);
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let (old, new, order) = (OUT, LOST, Ordering::Relaxed);
        // One that was taken over has told already.
        let _ = self.0.waited_us.compare_exchange(old, new, order, order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_became_of_it_is_told_once() {
        let looked = Arc::new(Looked::default());
        assert_eq!(looked.take(), None);
        let look = looked.give();
        assert_eq!(looked.take(), None, "it is on its way");
        look.adopted(7 * MS, 2 * MS);
        assert_eq!(looked.take(), Some(Told::Adopted { waited: 7 * MS, here: 2 * MS }));
        assert_eq!(looked.take(), None);
        drop(looked.give());
        assert_eq!(looked.take(), Some(Told::Lost));
        looked.give().adopted(Duration::MAX, Duration::MAX);
        assert!(matches!(looked.take(), Some(Told::Adopted { .. })), "as long as can be told");
    }
}
