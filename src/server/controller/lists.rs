//! Lists that change while the server runs: a reload of the upstreams or frontends that name them alone.

use super::{Command, Controller, Orders, Reloaded, Shared, Splicing, Step};
use crate::config::upstream::Backend;
use crate::config::{Frontend, NetworksFile};
use crate::server::{ReloadError, StartError};
use crate::service::Service;

/// The backends that an upstream is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendList {
    /// Its name.
    pub upstream: String,
    /// All of them.
    pub backends: Vec<Backend>,
}

impl<S: Service> Controller<S> {
    /// Makes these the backends of their upstreams. Frontends, and upstreams that are not named, stay as they are,
    /// with what was done to them by hand.
    pub(in crate::server) fn replace_backends(
        &mut self,
        lists: &[BackendList],
        shared: &Shared,
    ) -> Result<Reloaded, ReloadError> {
        let mut config = self.config.clone();
        let mut changed = Vec::new();
        for upstream in &mut config.upstreams {
            if let Some(list) = lists.iter().find(|list| list.upstream == upstream.name) {
                upstream.backends.clone_from(&list.backends);
                changed.push(upstream.clone());
            }
        }
        // There may be other checks then, which take descriptors from connections.
        let plan = self.plan(&config).map_err(StartError::from)?;
        let prepared = self.upstreams.prepare_some(&changed).map_err(StartError::from)?;
        let upstreams = self.upstreams.apply(prepared);
        self.config = config;
        shared.connection_limit.set_limit(plan.max_connections);
        let mut orders = Orders::new(&self.threads);
        orders.everywhere(|| Command::Splice(Splicing::with_descriptors(plan.per_worker)));
        let warnings = orders.send(&self.threads, true);
        Ok(Reloaded { upstreams, warnings, ..Reloaded::default() })
    }
}

impl<S: Service> Controller<S> {
    /// Lets in through the frontends that name this file whom its networks let in. Whatever else they are told stays.
    pub(in crate::server) fn replace_networks(&mut self, of: &NetworksFile) -> Reloaded {
        let mut config = self.config.clone();
        let (mut steps, mut orders) = (Vec::new(), Orders::new(&self.threads));
        for Frontend { name, sources, .. } in &mut config.frontends {
            if sources.replace(of) {
                steps.push(Step::Publish { frontend: name.clone() });
            }
        }
        self.admit_as_told(&config, &steps);
        for step in &steps {
            if let Step::Publish { frontend } = step {
                self.publish(&config, frontend, &mut orders);
            }
        }
        self.config = config;
        let warnings = orders.send(&self.threads, true);
        Reloaded { steps, warnings, ..Reloaded::default() }
    }
}
