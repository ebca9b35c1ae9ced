//! Sources that were refused so often that they are to be banned.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::network::Network;

/// Most sources that are noted until somebody takes them. Whoever is refused again is noted again.
const NOTED_MAX: usize = 1024;

/// See the module. Noted by those who refuse, taken by whoever bans, once a second.
#[derive(Debug, Default)]
pub(super) struct Offenders {
    is_any: AtomicBool,
    noted: Mutex<BTreeMap<Network, Duration>>,
}

impl Offenders {
    /// This one is to be banned for so long.
    pub(super) fn note(&self, network: Network, time: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX || noted.contains_key(&network) {
            noted.insert(network, time);
            self.is_any.store(true, Ordering::Release);
        }
    }

    /// Those that were noted since the last call.
    pub(super) fn take(&self) -> Vec<(Network, Duration)> {
        if !self.is_any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *noted).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However often one of them is refused, there is room for the others.
    #[test]
    fn a_source_is_noted_once() {
        let (offenders, time) = (Offenders::default(), Duration::from_secs(1));
        let of = |last: u32| Network::of(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into());
        (0..5_000).for_each(|_| offenders.note(of(1), time));
        (2..=2_000).for_each(|last| offenders.note(of(last), time));
        let noted = offenders.take();
        assert_eq!(noted.len(), NOTED_MAX);
        assert!((1..=1_024).all(|last| noted.contains(&(of(last), time))));
        assert_eq!(offenders.take(), []);
    }
}
