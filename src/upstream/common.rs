//! What all endpoints of an upstream share: its configuration, and what is known of all of them together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ejections::Ejections;
use super::endpoint::Endpoint;
use super::messages::Shortage;
use super::outage::Outage;
use crate::config::upstream::UpstreamConfig;
use crate::log::rate_limit::Look;

/// What all endpoints of an upstream share.
#[derive(Debug)]
pub(super) struct Common {
    /// What the log calls the upstream.
    name: String,
    pub(super) epoch: Instant,
    /// Changed under the lock of the members only. Whoever picks has it from there, with the list.
    config: Mutex<Arc<UpstreamConfig>>,
    ejections: Mutex<Ejections>,
    outage: Mutex<Outage>,
    pub(super) shortage: Mutex<Shortage>,
}

impl Common {
    pub(super) fn new(config: Arc<UpstreamConfig>, epoch: Instant) -> Self {
        Self {
            name: config.name.clone(),
            epoch,
            ejections: Mutex::new(Ejections::new(config.passive.ejected_percent_max)),
            config: Mutex::new(config),
            outage: Mutex::default(),
            shortage: Mutex::default(),
        }
    }

    /// What the upstream is told now. No other lock is taken behind this one.
    pub(super) fn config(&self) -> Arc<UpstreamConfig> {
        Arc::clone(&lock(&self.config))
    }

    /// From now on it is told this.
    pub(super) fn set_config(&self, config: Arc<UpstreamConfig>) {
        self.ejections().set_percent_max(config.passive.ejected_percent_max);
        *lock(&self.config) = config;
    }

    /// Since the start of the upstream.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    pub(super) fn ejections(&self) -> MutexGuard<'_, Ejections> {
        lock(&self.ejections)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Those that get connections have changed.
    pub(super) fn note_members(&self, serving: &[Arc<Endpoint>], now: Instant) {
        let members = serving.iter().map(|endpoint| (endpoint.id(), endpoint.is_healthy()));
        let news = lock(&self.outage).set_members(members, now);
        news.into_iter().for_each(|news| self.tell_outage(news));
    }

    /// The health of an endpoint may have changed. It is read under the lock: of two threads that have changed
    /// it, the later here sees what both have done.
    pub(super) fn note_health(&self, endpoint: &Endpoint, now: Instant) {
        let mut outage = lock(&self.outage);
        let news = outage.set(endpoint.id(), endpoint.is_healthy(), now);
        drop(outage);
        news.into_iter().for_each(|news| self.tell_outage(news));
    }

    /// Tells what was suppressed, if that is to be told now.
    pub(super) fn catch_up(&self, look: Look) {
        let news = lock(&self.outage).catch_up(look);
        news.into_iter().for_each(|news| self.tell_outage(news));
        let shortages = lock(&self.shortage).catch_up(look);
        shortages.into_iter().for_each(|shortage| self.tell_past_shortage(shortage));
    }
}

/// A thread that panics leaves nothing half done behind these locks: each holds plain numbers.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
