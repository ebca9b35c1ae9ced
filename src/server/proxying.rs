//! Connections are passed on to backends.

use std::sync::Arc;

use super::error::StartError;
use super::plan::Descriptors;
use super::work::{Place, Work};
use crate::config::upstream::Balance;
use crate::config::{Config, ConfigError, Protocol, ProxyConfig, ProxyTimeouts};
use crate::metrics::Block;
use crate::preread::routes::{Pattern, Route, Routes};
use crate::process::Alarm;
use crate::proxy::{LogSink, PrereadRules, Proxy, ProxySettings, Splicing};
use crate::sys;
use crate::upstream::{Upstream, UpstreamRegistry};

/// Most directions of one thread that are spliced at a time: each takes two descriptors, and the memory of
/// what its reader has not taken yet.
const PIPES: usize = 256;

/// Receives that bring much before a direction is spliced: a quarter of a megabyte at least with
/// buffers of the default size.
const SPLICE_PATIENCE: u8 = 16;

/// What all threads of a proxy share.
pub(super) struct Proxying {
    config: ProxyConfig,
    /// The default first, then one for each route.
    upstreams: Vec<Arc<Upstream>>,
    preread: Arc<PrereadRules>,
    log: Option<LogSink>,
    /// Health checks and name look-ups run as long as this lives.
    registry: UpstreamRegistry,
}

impl Proxying {
    /// Resolves the backends' names and starts to check their health.
    ///
    /// # Errors
    /// A configuration that cannot be run, a name that does not resolve.
    pub(super) fn new(config: &Config, log: Option<LogSink>) -> Result<Self, StartError> {
        config.validate()?;
        let frontend = config.frontends[0].clone();
        let Protocol::Proxy(proxy) = &frontend.protocol else { unreachable!("it proxies") };
        let routes = routes(proxy)?;
        let registry = UpstreamRegistry::new();
        let _ = registry.apply(registry.prepare(&config.upstreams)?);
        let upstreams: Vec<_> = proxy.upstreams().filter_map(|name| registry.get(name)).collect();
        let by_source = |to: &Arc<Upstream>| to.config().balance == Balance::SourceHash;
        let balances_by_source = upstreams.iter().any(by_source);
        let preread = PrereadRules {
            trusted: proxy.trusted.clone(),
            send: proxy.send_header,
            routes,
            balances_by_source,
        };
        let (config, preread) = ((**proxy).clone(), Arc::new(preread));
        Ok(Self { config, upstreams, registry, preread, log })
    }
}

impl Proxying {
    /// What the calling thread may splice with so many descriptors.
    fn splicing(&self, descriptors: usize) -> Splicing {
        let splices = self.config.splice && sys::block_sigpipe().is_ok();
        Splicing { pipes: if splices { descriptors / 2 } else { 0 }, patience: SPLICE_PATIENCE }
    }
}

/// Names to the place of their upstream.
fn routes(config: &ProxyConfig) -> Result<Option<Routes<u16>>, ConfigError> {
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

impl Work for Proxying {
    type Serving = Proxy;

    /// The client's socket and the backend's, two ends for each pipe, and those of health checks.
    fn descriptors(&self) -> Descriptors {
        let pipes = if self.config.splice { PIPES } else { 0 };
        let beside = self.registry.checks_at_once();
        Descriptors { per_connection: 2, per_worker: 2 * pipes, beside }
    }

    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.clone()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.log.iter().map(LogSink::alarm).chain([self.registry.alarm()]).cloned().collect()
    }

    fn blocks(&self) -> Vec<Arc<Block>> {
        self.log.iter().flat_map(|log| log.metrics().iter().cloned()).collect()
    }

    fn serving(&self, place: Place<'_>) -> Proxy {
        let Place { config, capacity, descriptors, capabilities, metrics, now } = place;
        let timeouts: ProxyTimeouts = self.config.timeouts(&config.frontends[0].timeouts);
        let settings = ProxySettings {
            capacity,
            budget_bytes: config.frontends[0].limits.budget_bytes,
            receive_credit: capabilities.receive_credit,
            nodelay: config.frontends[0].socket.nodelay,
            retries: self.config.retries,
            queue: self.config.queue.get(),
            splicing: self.splicing(descriptors),
            timeouts,
        };
        let views = self.upstreams.iter().map(Upstream::view).collect();
        let preread = Arc::clone(&self.preread);
        Proxy::new(settings, views, (preread, self.log.clone()), metrics, now)
    }
}
