//! One server with frontends of several protocols: sessions of services and pairs of a proxy on the same threads,
//! out of the same buffers, with the same queues and limits.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::changes::Frontend;
use super::conversation::{DiscardTalk, EchoTalk, HttpTalk};
use super::scenario::Scenario;
use super::tunnel::Tunnels;
use super::workload::{Conversing, Moment, Workload};
use crate::metrics::Block;
use crate::proxy::Splicing;
use crate::ring::simulated::Network;
use crate::server::connections::Settings;
use crate::service::http::Http;
use crate::service::{Builtin, Discard, Echo};
use crate::upstream::Lease;

/// What HTTP clients are answered.
const BODY: &[u8] = b"hello";

/// From where the clients of each service count, beyond all numbers of the proxy.
const SERVICES: u32 = 1 << 28;
const NUMBERS: u32 = 1 << 20;

/// Chosen so that the scenario of a seed and the proxy in it are those that they are without services beside it.
const SEED: u64 = 0x313d_0000_0000_0021;

/// What a frontend is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Proxy,
    Echo,
    Discard,
    Http,
}

/// See the module.
pub(super) struct Mixed {
    /// Of each kind of frontend.
    protocols: Vec<Protocol>,
    proxy: Tunnels,
    echo: Conversing<'static, Builtin, EchoTalk>,
    discard: Conversing<'static, Builtin, DiscardTalk>,
    http: Conversing<'static, Builtin, HttpTalk<'static>>,
}

impl Mixed {
    pub(super) fn new() -> Self {
        let first = |place| SERVICES + place * NUMBERS;
        let http = Builtin::Http(Box::new(Http::new(BODY)));
        Self {
            protocols: vec![Protocol::Proxy],
            proxy: Tunnels::new(),
            echo: Conversing::new(Arc::new(Builtin::Echo(Echo)), &EchoTalk).numbered_from(first(0)),
            discard: Conversing::new(Arc::new(Builtin::Discard(Discard)), &DiscardTalk)
                .numbered_from(first(1)),
            http: Conversing::new(Arc::new(http), &const { HttpTalk(BODY) })
                .numbered_from(first(2)),
        }
    }

    fn services(&self) -> [&dyn Workload<Service = Builtin>; 3] {
        [&self.echo, &self.discard, &self.http]
    }

    fn service(&mut self, protocol: Protocol) -> Option<&mut dyn Workload<Service = Builtin>> {
        match protocol {
            Protocol::Proxy => None,
            Protocol::Echo => Some(&mut self.echo),
            Protocol::Discard => Some(&mut self.discard),
            Protocol::Http => Some(&mut self.http),
        }
    }
}

impl Workload for Mixed {
    type Service = Builtin;

    fn prepare(&mut self, seed: u64, scenario: &mut Scenario) {
        self.proxy.prepare(seed, scenario);
        let mut rng = Rng::with_seed(seed.wrapping_mul(SEED) ^ SEED);
        let mut services = [Protocol::Echo, Protocol::Discard, Protocol::Http];
        rng.shuffle(&mut services);
        self.protocols.extend(&services[..rng.usize(1..=3)]);
        rng.shuffle(&mut self.protocols);
    }

    fn kinds(&self) -> usize {
        self.protocols.len()
    }

    fn settings(
        &mut self,
        scenario: &Scenario,
        network: &Network,
        frontend: &Frontend,
    ) -> Settings<Builtin> {
        let protocol = self.protocols[frontend.kind];
        if let Some(service) = self.service(protocol) {
            return service.settings(scenario, network, frontend);
        }
        match self.proxy.settings(scenario, network, frontend) {
            Settings::Pairs(settings) => Settings::Pairs(settings),
            Settings::Sessions(_) => unreachable!("a proxy has no sessions"),
        }
    }

    fn splicing(&self) -> Splicing {
        self.proxy.splicing()
    }

    fn watch(&mut self, block: &Arc<Block>) {
        self.proxy.watch(block);
    }

    fn invite(
        &mut self,
        network: &Network,
        scenario: &Scenario,
        ports: &[Vec<u16>],
        rng: &mut Rng,
    ) {
        let mut left = scenario.connections;
        for (place, protocol) in self.protocols.clone().into_iter().enumerate() {
            let connections = match self.protocols.len() - place {
                1 => left,
                kinds => rng.usize(0..=left * 2 / kinds),
            };
            left -= connections;
            let (share, own) =
                (Scenario { connections, ..scenario.clone() }, &ports[place..=place]);
            match self.service(protocol) {
                Some(service) => service.invite(network, &share, own, rng),
                None => self.proxy.invite(network, &share, own, rng),
            }
        }
    }

    fn act(&mut self, whom: u32, moment: Moment<'_>) -> Result<(), String> {
        match whom.checked_sub(SERVICES).map(|number| number / NUMBERS) {
            None => self.proxy.act(whom, moment),
            Some(0) => self.echo.act(whom, moment),
            Some(1) => self.discard.act(whom, moment),
            Some(_) => self.http.act(whom, moment),
        }
    }

    fn is_over(&self) -> bool {
        self.proxy.is_over() && self.services().iter().all(|service| service.is_over())
    }

    fn waiting(&self) -> Vec<String> {
        let services = self.services();
        let services = services.iter().flat_map(|service| service.waiting());
        self.proxy.waiting().into_iter().chain(services).collect()
    }

    fn heard_bytes(&self) -> usize {
        let services: usize = self.services().iter().map(|service| service.heard_bytes()).sum();
        self.proxy.heard_bytes() + services
    }

    fn check_step(&mut self, now: Instant) -> Result<(), String> {
        self.proxy.check_step(now)
    }

    fn check_quiet(&mut self, pairs: &[usize], moment: Moment<'_>) -> Result<bool, String> {
        self.proxy.check_quiet(pairs, moment)
    }

    fn check_places(&self, live: &[usize], twice: &[&Lease]) -> Result<(), String> {
        self.proxy.check_places(live, twice)
    }

    fn reserve(&mut self, server: usize, before: Option<(usize, usize)>) {
        self.proxy.reserve(server, before);
    }

    fn ends_sharing(&mut self, server: usize) {
        self.proxy.ends_sharing(server);
    }

    fn takes_over(&mut self, server: usize) {
        self.proxy.takes_over(server);
    }

    fn dies(&mut self) {
        self.proxy.dies();
    }

    fn check_end(&mut self) -> Result<(), String> {
        self.proxy.check_end()
    }
}
