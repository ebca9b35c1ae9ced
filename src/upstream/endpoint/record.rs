//! An endpoint as one process tells another of it that takes its place.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::common::lock;
use super::super::health::{Checked, Passive};
use super::super::record::EndpointRecord;
use super::{Endpoint, moment, nanos};
use crate::config::upstream::ActiveCheck;

impl Endpoint {
    /// What is known of it at `now`.
    pub(in super::super) fn record(&self, now: Duration) -> EndpointRecord {
        let (is_up, in_a_row) = match lock(&self.checked).checked {
            Checked::Unknown => (None, 0),
            Checked::Up { failures } => (Some(true), failures),
            Checked::Down { successes } => (Some(false), successes),
        };
        let passive = lock(&self.connects).passive;
        let up_since = Some(self.up_since.load(Ordering::Relaxed)).filter(|since| *since != 0);
        EndpointRecord {
            address: self.address.to_string(),
            target: self.target.to_string(),
            is_up,
            in_a_row,
            failures: passive.failures(),
            ejections: passive.ejections(),
            ejected_for_ns: nanos(passive.until().saturating_sub(now)),
            has_answered: self.has_answered.load(Ordering::Relaxed),
            up_for_ns: up_since.map(|since| moment(now).saturating_sub(since)),
            open: self.open(),
        }
    }

    /// Makes it what another process has told of it, at `now`. What was counted so far is forgotten: the other one
    /// counts on until it tells what it has counted.
    pub(in super::super) fn restore(&self, record: &EndpointRecord, now: Duration) {
        self.counters.reset();
        let mut health = lock(&self.checked);
        if self.common.config().active.check != ActiveCheck::None {
            health.checked = match record.is_up {
                None => Checked::Unknown,
                Some(true) => Checked::Up { failures: record.in_a_row },
                Some(false) => Checked::Down { successes: record.in_a_row },
            };
        }
        self.set_standing(*health);
        drop(health);
        self.has_answered.store(record.has_answered, Ordering::Relaxed);
        // Zero is one that always was there.
        let since = |up_for| Some(moment(now).saturating_sub(up_for)).filter(|since| *since != 0);
        let since = record.up_for_ns.map_or(0, |up_for| since(up_for).unwrap_or(-1));
        self.up_since.store(since, Ordering::Relaxed);
        self.restore_ejection(record, now);
    }

    fn restore_ejection(&self, record: &EndpointRecord, now: Duration) {
        let until = now.saturating_add(Duration::from_nanos(record.ejected_for_ns));
        let mut ejections = self.common.ejections();
        let mut connects = lock(&self.connects);
        connects.passive = Passive::restored((record.failures, record.ejections), until);
        self.failures.store(record.failures, Ordering::Relaxed);
        if record.ejected_for_ns > 0 {
            ejections.eject(self.id, until);
            self.ejected_until.store(nanos(until), Ordering::Relaxed);
        }
    }
}
