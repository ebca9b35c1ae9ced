//! Detail that costs: it is noted while somebody looks at it, and no longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Handle;

/// How long after the last look it is still noted.
pub(crate) const LAPSE: Duration = Duration::from_secs(90);

/// Shared by all threads: each reads once a turn whether it is to note the detail.
#[derive(Debug)]
pub(crate) struct Detail {
    origin: Instant,
    /// Milliseconds from `origin`; 0 until somebody has looked.
    until: AtomicU64,
    /// The first of the looks that have come one after another.
    since: Mutex<Option<Instant>>,
}

impl Default for Detail {
    fn default() -> Self {
        Self { origin: Instant::now(), until: AtomicU64::new(0), since: Mutex::new(None) }
    }
}

impl Detail {
    /// Whether it is to be noted.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        // Nobody has to know the time as long as nobody has looked.
        until > 0 && self.millis(now) < until
    }

    /// Somebody looks: from now on it is noted for a while. Returns since when it has been.
    pub(crate) fn look(&self, now: Instant) -> Instant {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let first = since.filter(|_| self.is_on(now)).unwrap_or(now);
        *since = Some(first);
        self.until.store(self.millis(now + LAPSE), Ordering::Relaxed);
        first
    }

    /// Since when it has been noted; `None` if it is not.
    pub(crate) fn since(&self, now: Instant) -> Option<Instant> {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| self.is_on(now))
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }
}

impl Handle {
    /// Lets the server note for 90 s how long each connection that comes waits in the accept queue, and returns
    /// since when it has been noted without a break. (Those of frontends with an access log always are.)
    pub fn watch_waits(&self) -> SystemTime {
        let now = Instant::now();
        SystemTime::now() - now.saturating_duration_since(self.shared.lifecycle.waits().look(now))
    }

    /// Since when waits are noted; `None` if nobody has looked for long.
    pub fn waits_watched_since(&self) -> Option<SystemTime> {
        let now = Instant::now();
        let since = self.shared.lifecycle.waits().since(now)?;
        Some(SystemTime::now() - now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lapses_when_nobody_looks_any_more() {
        let (detail, second) = (Detail::default(), Duration::from_secs(1));
        let start = detail.origin;
        assert!(!detail.is_on(start) && detail.since(start).is_none(), "nobody has looked");
        assert_eq!(detail.look(start + second), start + second);
        let last = start + second + LAPSE - Duration::from_millis(1);
        assert!(detail.is_on(last));
        assert_eq!(detail.look(last), start + second, "the same look goes on");
        assert_eq!(detail.since(last + LAPSE / 2), Some(start + second));
        let over = last + LAPSE;
        assert!(!detail.is_on(over) && detail.since(over).is_none());
        assert_eq!(detail.look(over), over, "another one begins");
        assert!(detail.is_on(over));
    }
}
