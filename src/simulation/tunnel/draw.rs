//! What a seed stands for besides the scenario of every server: backends, and what the proxy is told.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::scenario::Scenario;
use super::preamble::Preambles;
use crate::config::upstream::{ActiveCheck, Balance, UpstreamConfig, WhenAllOut};
use crate::config::{ProxyProtocolVersion, ProxyTimeouts};
use crate::preread::routes::{Route, Routes};
use crate::proxy::Splicing;
use crate::ring::simulated::Listener;
use crate::upstream::Upstream;

/// How a backend is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Up,
    /// A reset answers the SYN.
    Down,
    /// Nothing answers the SYN.
    BlackHole,
    /// Takes one connection out of its queue, then none for this long.
    Slow(Duration),
    /// Up and down in turn, for this long each.
    Flaps(Duration),
}

impl State {
    fn draw(rng: &mut Rng) -> Self {
        let micros = |rng: &mut Rng, bits: u32| Duration::from_micros(rng.u64(1..1 << bits));
        match rng.u8(0..12) {
            0 => Self::Down,
            1 => Self::BlackHole,
            2 => Self::Slow(micros(rng, 18)),
            3 | 4 => Self::Flaps(micros(rng, 20)),
            _ => Self::Up,
        }
    }

    pub(super) fn apply(self, listener: &Listener) {
        match self {
            Self::Down => listener.refuse(true),
            Self::BlackHole => listener.stop_admitting(),
            Self::Up | Self::Slow(_) | Self::Flaps(_) => {}
        }
    }
}

/// From numbers of its own, so that the rest of a seed stays what it was.
fn draw_splicing(rng: &mut Rng) -> Splicing {
    Splicing { pipes: [0, 0, 1, 64][rng.usize(0..4)], patience: rng.u8(1..4) }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of each backend, with the upstream that it belongs to.
    pub(super) states: Vec<(usize, State)>,
    pub(super) backlog: usize,
    pub(super) balance: Balance,
    pub(super) when_all_out: WhenAllOut,
    passive: bool,
    pub(super) max_connections: Option<usize>,
    /// Whether a connect may find no local port: who it is for waits then, or goes elsewhere.
    pub(super) lacks_ports: bool,
    pub(super) retries: u8,
    pub(super) queue: usize,
    pub(super) timeouts: ProxyTimeouts,
    pub(super) send: Option<ProxyProtocolVersion>,
    /// Whether a backend is chosen only when the client has said something.
    pub(super) greets: bool,
    pub(super) splicing: Splicing,
    pub(super) preambles: Preambles,
    /// How many checks in a row bring a backend up, and down.
    pub(super) checks: Option<(u32, u32)>,
    /// Whether backends drain, leave and come back.
    pub(super) moves: bool,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, scenario: &Scenario) -> Self {
        let mut some = || Duration::from_millis(rng.u64(50..2000));
        let timeouts = ProxyTimeouts {
            preread: scenario.timeouts.first_byte,
            connect: some(),
            queue: some(),
            idle: scenario.timeouts.idle,
            write_stall: scenario.timeouts.write_stall,
            half_closed: some(),
            lifetime: None,
        };
        let lifetime = (rng.u8(0..5) == 0).then(|| Duration::from_millis(rng.u64(50..3000)));
        let send = match rng.u8(0..6) {
            0 => Some(ProxyProtocolVersion::V1),
            1 => Some(ProxyProtocolVersion::V2),
            _ => None,
        };
        let balances = [Balance::LeastConnections, Balance::RoundRobin, Balance::Random];
        Self {
            states: (0..rng.usize(1..=3)).map(|_| (0, State::draw(rng))).collect(),
            backlog: [1, 5, 100][rng.usize(0..3)],
            balance: balances[rng.usize(0..3)],
            when_all_out: if rng.bool() { WhenAllOut::Refuse } else { WhenAllOut::TryAll },
            passive: rng.bool(),
            max_connections: rng.bool().then(|| [1, 2, 5, 20][rng.usize(0..4)]),
            lacks_ports: scenario.faults.no_port > 0,
            retries: rng.u8(0..=3),
            queue: [1, 4, 64][rng.usize(0..3)],
            timeouts: ProxyTimeouts { lifetime, ..timeouts },
            send,
            greets: rng.u8(0..6) == 0,
            splicing: draw_splicing(&mut Rng::with_seed(rng.get_seed())),
            preambles: Preambles::none(),
            checks: None,
            moves: false,
        }
    }

    /// Draws what most seeds have besides. One in four has nothing of it.
    pub(super) fn draw_more(&mut self, rng: &mut Rng) {
        if rng.u8(0..4) == 0 {
            return;
        }
        if rng.u8(0..4) > 0 {
            self.preambles = Preambles::draw(rng);
            self.greets &= self.preambles.routes == 0;
        }
        for upstream in 1..=self.preambles.routes {
            let states = (0..rng.usize(1..=2)).map(|_| (upstream, State::draw(rng)));
            self.states.extend(states);
        }
        if rng.u8(0..3) > 0 {
            self.balance = Balance::SourceHash;
        }
        if rng.bool() {
            self.checks = Some((rng.u32(1..=3), rng.u32(1..=3)));
        }
        self.moves = rng.bool();
    }

    /// The upstream of this number, which begins at `start`.
    pub(super) fn upstream(
        &self,
        number: usize,
        addresses: Vec<SocketAddr>,
        start: Instant,
    ) -> Arc<Upstream> {
        let backends = addresses.iter().map(|one| one.to_string().parse());
        let backends: Result<Vec<_>, _> = backends.collect();
        let mut config = UpstreamConfig::new(backends.expect("addresses are backends"));
        config.name = format!("upstream-{number}");
        config.balance = self.balance;
        config.when_all_out = self.when_all_out;
        config.max_connections = self.max_connections.and_then(NonZeroUsize::new);
        config.passive.ejection_base = Duration::from_millis(100);
        config.passive.ejection_max = Duration::from_secs(1);
        if !self.passive {
            config.passive.failures = None;
        }
        if let Some((rise, fall)) = self.checks {
            let row = |checks| NonZeroU32::new(checks).expect("it is drawn from one on");
            config.active.check = ActiveCheck::Connect;
            (config.active.rise, config.active.fall) = (row(rise), row(fall));
        }
        let resolve = Box::new(|_: &str, _: u16| unreachable!("an address is no name"));
        let upstream = Upstream::without_threads_from(config, resolve, start);
        upstream.expect("the configuration is right")
    }

    /// Those of the preambles, or one that nobody is on: what a client says first is read then, and
    /// goes where all goes.
    pub(super) fn routes(&self) -> Option<Routes<u16>> {
        if let Some(routes) = self.preambles.routes() {
            return Some(routes);
        }
        let nowhere = "nowhere.example".parse().expect("it is a name");
        let route = Route { pattern: nowhere, target: 0 };
        self.greets.then(|| Routes::new([route], Some(0)).expect("there is one route"))
    }

    /// Whether a client's source alone says where it goes, as long as all is well.
    pub(super) fn is_by_source(&self) -> bool {
        self.balance == Balance::SourceHash && self.max_connections.is_none() && !self.lacks_ports
    }

    /// By how much one connection may last longer than with a service.
    pub(super) fn extra(&self) -> Duration {
        let ProxyTimeouts { connect, queue, half_closed, .. } = self.timeouts;
        (connect + queue) * (u32::from(self.retries) + 1) + half_closed
    }
}
