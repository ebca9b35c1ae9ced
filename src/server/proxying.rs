//! Connections are passed on to backends.

use std::sync::Arc;

use super::error::StartError;
use super::plan::Descriptors;
use super::suppressed::SuppressedReporter;
use super::work::{Place, Work};
use crate::config::upstream::{Balance, UpstreamConfig};
use crate::config::{Config, ConfigError, Protocol, ProxyConfig, ProxyTimeouts};
use crate::metrics::Block;
use crate::preread::routes::{Pattern, Route, Routes};
use crate::process::Alarm;
use crate::proxy::{LogSink, PrereadRules, Proxy, ProxySettings, Splicing};
use crate::sys;
use crate::upstream::{Upstream, UpstreamGuard};

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
    /// Ends before the guards, which tell what is left.
    reporter: SuppressedReporter,
    /// Health checks and name look-ups run as long as this lives.
    _guards: Vec<UpstreamGuard>,
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
        let named: Vec<UpstreamConfig> =
            proxy.upstreams().filter_map(|name| config.upstream(name)).cloned().collect();
        let balances_by_source = named.iter().any(|to| to.balance == Balance::SourceHash);
        let guards = named.into_iter().map(Upstream::start).collect::<Result<Vec<_>, _>>()?;
        let preread = PrereadRules {
            trusted: proxy.trusted.clone(),
            send: proxy.send_header,
            routes: routes(proxy)?,
            balances_by_source,
        };
        let upstreams: Vec<_> = guards.iter().map(|guard| Arc::clone(guard.upstream())).collect();
        let reporter = SuppressedReporter::start(upstreams.clone())
            .map_err(|error| StartError::System { step: "starting a thread", error })?;
        let (config, preread) = ((**proxy).clone(), Arc::new(preread));
        Ok(Self { config, upstreams, preread, log, reporter, _guards: guards })
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
        let beside = self.upstreams.iter().map(|upstream| upstream.checks_at_once()).sum();
        Descriptors { per_connection: 2, per_worker: 2 * pipes, beside }
    }

    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.clone()
    }

    fn alarms(&self) -> Vec<Alarm> {
        let upstreams = self.upstreams.iter().map(|upstream| upstream.alarm());
        let others = self.log.iter().map(LogSink::alarm).chain([&self.reporter.alarm]);
        upstreams.chain(others).cloned().collect()
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
