//! Whether connections wait too long for a listener, as its acceptors see it, and what they are told to do then.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{OverloadAction, OverloadConfig};

/// What the acceptors of one listening socket go by and tell. These write, any thread reads.
#[derive(Debug)]
pub struct Pressure {
    action: AtomicU8,
    target_us: AtomicU64,
    interval_us: AtomicU64,
    /// Acceptors for which it is overloaded, and since when: mostly there is one. Held by those that write.
    overloaded: Mutex<(u32, Option<Instant>)>,
    begun: AtomicU64,
    shed: Arc<AtomicU64>,
}

/// What an acceptor goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureRules {
    /// What is done while the listener is overloaded.
    pub action: OverloadAction,
    /// A wait that is too long.
    pub target: Duration,
    /// For how long none may have been shorter.
    pub interval: Duration,
}

impl Default for Pressure {
    fn default() -> Self {
        let pressure = Self {
            action: AtomicU8::default(),
            target_us: AtomicU64::default(),
            interval_us: AtomicU64::default(),
            overloaded: Mutex::default(),
            begun: AtomicU64::default(),
            shed: Arc::default(),
        };
        pressure.follow(&OverloadConfig::default());
        pressure
    }
}

impl Pressure {
    /// Goes by this from now on.
    pub fn follow(&self, config: &OverloadConfig) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.action.store(config.action as u8, Ordering::Relaxed);
        self.target_us.store(micros(config.target), Ordering::Relaxed);
        self.interval_us.store(micros(config.interval), Ordering::Relaxed);
    }

    /// What an acceptor goes by.
    pub fn rules(&self) -> PressureRules {
        let time = |micros: &AtomicU64| Duration::from_micros(micros.load(Ordering::Relaxed));
        PressureRules {
            action: self.action(),
            target: time(&self.target_us),
            interval: time(&self.interval_us),
        }
    }

    /// What is done while it is overloaded.
    pub fn action(&self) -> OverloadAction {
        let place = usize::from(self.action.load(Ordering::Relaxed));
        OverloadAction::ALL.get(place).copied().unwrap_or_default()
    }

    /// An acceptor finds it overloaded.
    pub fn begins(&self, now: Instant) {
        let mut overloaded = self.overloaded.lock().unwrap_or_else(PoisonError::into_inner);
        overloaded.0 += 1;
        overloaded.1.get_or_insert(now);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// An acceptor finds it overloaded no more.
    pub fn ends(&self) {
        let mut overloaded = self.overloaded.lock().unwrap_or_else(PoisonError::into_inner);
        overloaded.0 = overloaded.0.saturating_sub(1);
        if overloaded.0 == 0 {
            overloaded.1 = None;
        }
    }

    /// Where connections are counted that are not served for it.
    pub fn shed_count(&self) -> &Arc<AtomicU64> {
        &self.shed
    }

    /// Since when it is overloaded; `None` if it is not.
    pub fn since(&self) -> Option<Instant> {
        self.overloaded.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// How often it has begun to be overloaded.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many connections were not served for it.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Adds what another process has counted.
    pub fn add(&self, begun: u64, shed: u64) {
        self.begun.fetch_add(begun, Ordering::Relaxed);
        self.shed.fetch_add(shed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_by_what_it_was_told_last() {
        let pressure = Pressure::default();
        let OverloadConfig { action, target, interval, .. } = OverloadConfig::default();
        assert_eq!(pressure.rules(), PressureRules { action, target, interval });
        for (place, action) in OverloadAction::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, place);
            let target = Duration::from_millis(place as u64 + 1);
            let interval = 3 * target;
            pressure.follow(&OverloadConfig {
                action,
                target,
                interval,
                ..OverloadConfig::default()
            });
            assert_eq!(pressure.rules(), PressureRules { action, target, interval });
        }
    }

    /// Two threads that share a socket.
    #[test]
    fn it_is_overloaded_until_it_is_for_no_acceptor() {
        let (pressure, start) = (Pressure::default(), Instant::now());
        assert_eq!((pressure.since(), pressure.begun()), (None, 0));
        pressure.begins(start);
        pressure.begins(start + Duration::from_secs(1));
        pressure.ends();
        assert_eq!((pressure.since(), pressure.begun()), (Some(start), 2));
        pressure.ends();
        assert_eq!(pressure.since(), None);
    }
}
