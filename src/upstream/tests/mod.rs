//! Upstreams: tables for what decides, and real sockets for what looks.

mod balance;
mod by_hand;
mod changes;
mod checks;
mod health;
mod members;
mod names;
mod pick;
mod properties;
mod record;
mod registry;
mod reload;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::*;
use crate::config::upstream::{ActiveHealth, Balance, WhenAllOut};
use crate::sys::Errno;
use crate::sys::testing::eventually;

/// For what must happen.
const DEADLINE: Duration = Duration::from_secs(10);

fn backends(texts: &[&str]) -> Vec<Backend> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config(texts: &[&str]) -> UpstreamConfig {
    UpstreamConfig::new(backends(texts))
}

fn no_names(name: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::Error::other(format!("{name} was looked up")))
}

/// One upstream of a registry, with its threads.
struct Running {
    registry: UpstreamRegistry,
    upstream: Arc<Upstream>,
}

impl Running {
    #[track_caller]
    fn start(config: UpstreamConfig, resolve: Box<Resolve>) -> Self {
        let registry = UpstreamRegistry::with_resolver(resolve);
        let name = config.name.clone();
        apply(&registry, &[config]);
        Self { upstream: registry.get(&name).unwrap(), registry }
    }
}

#[track_caller]
fn apply(registry: &UpstreamRegistry, configs: &[UpstreamConfig]) -> String {
    registry.apply(registry.prepare(configs).unwrap()).to_string()
}

/// Without names and without threads.
#[track_caller]
fn upstream(config: UpstreamConfig) -> Arc<Upstream> {
    Upstream::without_threads(config, Box::new(no_names)).unwrap()
}

fn address(lease: &Lease) -> String {
    lease.endpoint().address().to_string()
}

/// Picks at the start of the upstream, when nothing has been tried.
#[track_caller]
fn pick(view: &mut View) -> Lease {
    view.pick(None, &[]).unwrap()
}

/// Connects in a row that fail.
fn fail(view: &mut View, now: Instant, count: usize) {
    for _ in 0..count {
        let lease = view.pick_at(now, None, &[]).unwrap();
        lease.connect_failed_at(now, Errno::ECONNREFUSED);
    }
}

fn states(upstream: &Upstream, now: Instant) -> Vec<EndpointState> {
    upstream.endpoints().iter().map(|endpoint| endpoint.state(now)).collect()
}
