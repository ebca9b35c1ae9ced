//! Which rules a seed stands for, and where its clients come from.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;

use crate::config::{Rate, Refusal, RuleMode, SourceRules, SourceSizes};
use crate::simulation::scenario::{Accepting, Scenario};
use crate::sources::{Admission, Gate, Rules, Sources};

/// Chosen so that the scenario of a seed is what it is without rules.
const SEED: u64 = 0x50e5_0000_0000_0016;

/// Where clients come from. Two of the IPv6 sources are of one site: with their two sites these are eight, for which
/// the smallest table has room, whatever their hashes.
const ADDRESSES: [&str; 6] =
    ["127.16.0.1", "127.16.0.2", "127.16.3.1", "127.6.1.1", "127.6.1.2", "127.6.2.1"];
const TABLE: u32 = 8;

/// Whatever is sent there is thrown away.
const DISCARD_PORT: u16 = 9;

/// What rules are about.
const NETWORKS: [&str; 6] = [
    "127.16.0.1/32",
    "127.16.0.0/24",
    "127.16.3.0/24",
    "2001:db8:1::/48",
    "2001:db8:1:2::/64",
    "::/0",
];

/// Rules that are in force at a time.
#[derive(Debug, Clone)]
pub(super) struct Version {
    frontend: SourceRules,
    process: SourceRules,
    /// Of the frontend, whoever comes.
    rate: Option<Rate>,
}

impl Version {
    pub(super) fn tiers(&self) -> [&SourceRules; 2] {
        [&self.frontend, &self.process]
    }

    /// Whether those that are refused are closed later.
    pub(super) fn lingers(&self) -> bool {
        matches!(self.frontend.refuse, Refusal::Reply(_))
    }

    /// As a server asks them.
    pub(super) fn admission(&self, [frontend, process]: &[Arc<Sources>; 2]) -> Admission {
        let sizes = SourceSizes { table: TABLE, ..SourceSizes::default() };
        let gate = |rules: &SourceRules, sources: &Arc<Sources>| {
            Gate::new(Rules::new(rules, sizes).map(Arc::new), Arc::clone(sources))
        };
        let gates = [gate(&self.frontend, frontend), gate(&self.process, process)];
        Admission::new(gates, &[], self.rate).refusing(self.frontend.refuse.clone())
    }
}

/// Draws versions of rules, and when those after the first one are told.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) -> (Vec<Version>, Vec<Duration>) {
    let mut rng = Rng::with_seed(seed.wrapping_mul(SEED) ^ SEED);
    let peer = |address: &str| SocketAddr::new(address.parse().expect("it is one"), DISCARD_PORT);
    let mut sources = ADDRESSES.map(peer);
    rng.shuffle(&mut sources);
    scenario.sources = sources[..rng.usize(1..=sources.len())].to_vec();
    // A listener that breaks closes whoever waits, which tells nothing of rules.
    scenario.breaks_at = None;
    if rng.u8(0..3) == 0 {
        scenario.accepting = Accepting::Dedicated;
    }
    let versions: Vec<Version> =
        (0..rng.usize(1..=4)).map(|_| version(&mut rng, scenario)).collect();
    let mut at: Vec<Duration> =
        versions[1..].iter().map(|_| scenario.span.mul_f64(rng.f64() * 1.2)).collect();
    at.sort_unstable();
    (versions, at)
}

fn version(rng: &mut Rng, scenario: &Scenario) -> Version {
    // With a thread that does nothing else it is known what came first.
    let is_ordered = scenario.accepting == Accepting::Dedicated;
    let mode = match rng.u8(0..12) {
        0 => RuleMode::Off,
        1..=3 if is_ordered => RuleMode::Observe,
        _ => RuleMode::Enforce,
    };
    let refuse = match rng.u8(0..6) {
        0 | 1 => Refusal::Delay,
        2 => Refusal::Close,
        3 if is_ordered => Refusal::Reply(b"no".to_vec()),
        _ => Refusal::Reset,
    };
    let exempt = if rng.u8(0..6) == 0 { networks(rng) } else { Vec::new() };
    let allow = if rng.u8(0..6) == 0 { networks(rng) } else { Vec::new() };
    let deny = if rng.u8(0..5) == 0 { vec![network(rng)] } else { Vec::new() };
    let limits = limits(rng, scenario.span);
    let frontend = SourceRules {
        mode,
        refuse: refuse.clone(),
        exempt: exempt.clone(),
        allow: allow.into(),
        deny: deny.into(),
        ..limits
    };
    let process = match rng.u8(0..3) {
        0 => SourceRules { refuse, exempt, ..self::limits(rng, scenario.span) },
        _ => SourceRules { refuse, ..SourceRules::default() },
    };
    let rate = (rng.u8(0..6) == 0).then(|| rate(rng, (scenario.span / 8, 1)));
    Version { frontend, process, rate }
}

fn network(rng: &mut Rng) -> IpNet {
    NETWORKS[rng.usize(0..NETWORKS.len())].parse().expect("it is one")
}

fn networks(rng: &mut Rng) -> Vec<IpNet> {
    (0..rng.usize(1..=3)).map(|_| network(rng)).collect()
}

fn limits(rng: &mut Rng, span: Duration) -> SourceRules {
    let site_factor = rng.u32(1..=4);
    let positive = |number| NonZeroU32::new(number);
    SourceRules {
        max_per_source: if rng.u8(0..4) > 0 { positive(rng.u32(1..=6)) } else { None },
        rate_per_source: rng.bool().then(|| rate(rng, (span / 4, site_factor))),
        site_factor,
        ..SourceRules::default()
    }
}

/// One after each interval, in whole microseconds also for a site.
fn rate(rng: &mut Rng, (longest, factor): (Duration, u32)) -> Rate {
    let most = (longest.as_micros() as u64 / u64::from(factor)).max(1);
    let period = Duration::from_micros(rng.u64(1..=most) * u64::from(factor));
    let positive = |number| NonZeroU32::new(number).expect("it is above 0");
    Rate { count: positive(1), period, burst: positive(rng.u32(1..=6)) }
}
