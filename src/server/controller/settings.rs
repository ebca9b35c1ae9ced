//! From a frontend of the configuration to what its connections go by.

use std::sync::Arc;

use super::Controller;
use crate::config::upstream::Balance;
use crate::config::{ConfigError, Frontend, Protocol, ProxyConfig};
use crate::dispatch::{ConnectionLimit, FrontendId};
use crate::metrics::FrontendTimes;
use crate::preread::routes::{Pattern, Route, Routes};
use crate::proxy::{PrereadRules, ProxySettings};
use crate::server::connections::Settings;
use crate::service::Service;
use crate::sys;
use crate::upstream::Upstream;
use crate::worker::SessionSettings;

impl<S: Service> Controller<S> {
    /// What the connections of a frontend go by. All that can be wrong was found when it was prepared.
    pub(super) fn settings(
        &self,
        frontend: &Frontend,
        (id, limit, times): (FrontendId, Arc<ConnectionLimit>, Arc<FrontendTimes>),
    ) -> Settings<S> {
        let budget_bytes = frontend.limits.budget_bytes;
        let log = frontend.access_log.as_ref().and_then(|log| self.logs.open(log).ok());
        let log = log.map(|log| log.of(&frontend.name));
        let Protocol::Proxy(proxy) = &frontend.protocol else {
            return Settings::Sessions(Arc::new(SessionSettings {
                service: (self.services)(frontend),
                budget_bytes,
                timeouts: frontend.session_timeouts(),
                trusted: frontend.trusted.clone(),
                frontend: id,
                limit,
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
            preread,
            upstreams,
            log,
            frontend: id,
            limit,
            times,
        }))
    }
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
