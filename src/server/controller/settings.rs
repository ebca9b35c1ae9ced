//! From a frontend of the configuration to what its connections go by.

use std::sync::Arc;

use super::{Controller, Running};
use crate::config::upstream::Balance;
use crate::config::{Config, ConfigError, Frontend, Process, Protocol, ProxyConfig, SourceRules};
use crate::dispatch::ListenerId;
use crate::preread::routes::{Pattern, Route, Routes};
use crate::proxy::{PrereadRules, ProxySettings};
use crate::server::command::Command;
use crate::server::connections::Settings;
use crate::server::orders::Orders;
use crate::server::steps::Step;
use crate::service::Service;
use crate::sources::{Admission, Gate, Rules, Sources};
use crate::sys;
use crate::upstream::Upstream;
use crate::worker::SessionSettings;

impl<S: Service> Controller<S> {
    /// What the connections of a frontend go by. All that can be wrong was found when it was prepared.
    pub(super) fn settings(&self, frontend: &Frontend, running: &Running) -> Settings<S> {
        let Running { id, limit, times, admission, .. } = running;
        let (id, limit, times) = (*id, Arc::clone(limit), Arc::clone(times));
        let admission = Arc::clone(admission);
        let budget_bytes = frontend.limits.budget_bytes;
        let log = frontend.access_log.as_ref().and_then(|log| self.logs.open(log).ok());
        let log = log.map(|log| log.of(&frontend.name));
        let Protocol::Proxy(proxy) = &frontend.protocol else {
            return Settings::Sessions(Arc::new(SessionSettings {
                service: (self.services)(frontend),
                budget_bytes,
                timeouts: frontend.session_timeouts(),
                patience: frontend.overload.patience(),
                trusted: frontend.trusted.clone(),
                frontend: id,
                limit,
                admission,
                times,
                log,
            }));
        };
        let upstreams: Vec<_> =
            proxy.upstreams().filter_map(|name| self.upstreams.get(name)).collect();
        let by_source = |it: &Arc<Upstream>| it.config().balance == Balance::SourceHash;
        let preread = PrereadRules {
            trusted: frontend.trusted.clone(),
            send: proxy.send_header,
            routes: routes(proxy).unwrap_or_default(),
            balances_by_source: upstreams.iter().any(by_source),
        };
        Settings::Pairs(Arc::new(ProxySettings {
            budget_bytes,
            nodelay: frontend.socket.nodelay,
            retries: proxy.retries,
            queue: proxy.queue.get(),
            splice: proxy.splice && sys::block_sigpipe().is_ok(),
            timeouts: proxy.timeouts(&frontend.timeouts),
            patience: frontend.overload.patience(),
            preread,
            upstreams,
            log,
            frontend: id,
            limit,
            admission,
            times,
        }))
    }
}

impl<S: Service> Controller<S> {
    /// Who may come in: known before any socket is told to listen.
    pub(super) fn admit_as_told(&mut self, config: &Config, steps: &[Step]) {
        for step in steps {
            let Step::Publish { frontend: name } = step else { continue };
            let frontend = config.frontends.iter().find(|frontend| frontend.name == *name);
            if let (Some(frontend), Some(running)) = (frontend, self.running.get_mut(name)) {
                let admission = admission(frontend, &config.process, running, &self.sources);
                running.admission = Arc::new(admission);
            }
        }
    }

    /// The sockets of a frontend let in whoever may come in from now on.
    pub(super) fn tell_acceptors(&self, name: &str, orders: &mut Orders<S>) {
        let Some(running) = self.running.get(name) else { return };
        for (index, bound) in running.listened.iter().flat_map(|listened| &listened.bound) {
            let listener = ListenerId { frontend: running.id, index: *index };
            for (thread, socket) in &bound.sockets {
                let Some(socket) = socket.upgrade() else { continue };
                let to = running.listening(listener, socket);
                orders.push_to_acceptor(*thread, Command::Move { from: listener, to });
            }
        }
    }
}

/// Who may come in through a frontend.
fn admission(
    frontend: &Frontend,
    process: &Process,
    running: &Running,
    of_all: &Arc<Sources>,
) -> Admission {
    let rules = |rules: &SourceRules| Rules::new(rules, process.sources).map(Arc::new);
    let of_process = SourceRules {
        max_per_source: process.max_per_source,
        rate_per_source: process.rate_per_source,
        exempt: frontend.sources.exempt.clone(),
        refuse: frontend.sources.refuse.clone(),
        ..SourceRules::default()
    };
    let own = Gate::new(rules(&frontend.sources), Arc::clone(&running.sources));
    let all = Gate::new(rules(&of_process), Arc::clone(of_all));
    Admission::new([own, all], &frontend.trusted, frontend.limits.rate)
        .refusing(frontend.sources.refuse.clone())
}

/// Names to the place of their upstream.
pub(super) fn routes(config: &ProxyConfig) -> Result<Option<Routes<u16>>, ConfigError> {
    if config.routes.is_empty() {
        return Ok(None);
    }
    let route = |(index, (pattern, _)): (usize, &(String, _))| {
        let pattern: Pattern = pattern.parse()?;
        Ok(Route { pattern, target: index as u16 + 1 })
    };
    let routes = config.routes.iter().enumerate().map(route);
    let table =
        routes.collect::<Result<Vec<_>, _>>().and_then(|routes| Routes::new(routes, Some(0)));
    table.map(Some).map_err(|error| ConfigError::new(error.to_string()))
}
