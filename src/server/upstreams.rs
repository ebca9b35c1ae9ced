//! The upstreams of a server, by their names.

use std::sync::Arc;

use super::error::StartError;
use super::suppressed::SuppressedReporter;
use crate::config::{Config, ConfigError};
use crate::process::Alarm;
use crate::upstream::{Upstream, UpstreamGuard};

/// See the module. Health checks and name look-ups run as long as this lives.
#[derive(Debug)]
pub(super) struct Upstreams {
    /// Ends before the guards, which tell what is left.
    reporter: Option<SuppressedReporter>,
    guards: Vec<UpstreamGuard>,
}

impl Upstreams {
    /// Resolves the backends' names and starts to check their health.
    ///
    /// # Errors
    /// A configuration that cannot be run, a name that does not resolve.
    pub(super) fn start(config: &Config) -> Result<Self, StartError> {
        let guards = config.upstreams.iter().cloned().map(Upstream::start);
        let guards = guards.collect::<Result<Vec<_>, _>>()?;
        let mut upstreams = Self { reporter: None, guards };
        if !upstreams.guards.is_empty() {
            let reporter = SuppressedReporter::start(upstreams.all())
                .map_err(|error| StartError::System { step: "starting a thread", error })?;
            upstreams.reporter = Some(reporter);
        }
        Ok(upstreams)
    }

    /// The upstream of this name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Upstream>, StartError> {
        let found = self.guards.iter().find(|guard| guard.upstream().name() == name);
        let unknown = || ConfigError::new(format!("there is no upstream '{name}'"));
        Ok(found.map(|guard| Arc::clone(guard.upstream())).ok_or_else(unknown)?)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Upstream>> {
        self.guards.iter().map(|guard| Arc::clone(guard.upstream())).collect()
    }

    /// What watches over their threads.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        let own = self.guards.iter().map(|guard| guard.upstream().alarm().clone());
        own.chain(self.reporter.iter().map(|reporter| reporter.alarm.clone())).collect()
    }

    /// Health checks of these upstreams that are under way at a time, at most.
    pub(super) fn checks_at_once(&self) -> usize {
        self.guards.iter().map(|guard| guard.upstream().checks_at_once()).sum()
    }
}
