//! Which local addresses the connections of a run need.
//!
//! A connection is its two addresses and two ports. With one target, each local address gives as
//! many connections as there are ephemeral ports, and a port that is in use or in TIME_WAIT is gone:
//!
//! ```text
//!   ports needed = connections at a time + closes per second x seconds of TIME_WAIT
//! ```
//!
//! TIME_WAIT falls on the side that sends the first FIN. After a close by the server it is the
//! server's, and the SYN of the next connection from that port ends it (RFC 6191); after a reset
//! nobody has one. Where the client's FIN is first it lasts 60 s (TCP_TIMEWAIT_LEN), but connect(2)
//! may take such a port again after `tcp_tw_reuse_delay` when `tcp_tw_reuse` allows it (1: always,
//! 2: on loopback) and TCP timestamps are on.
//!
//! Sockets must be bound with IP_BIND_ADDRESS_NO_PORT: otherwise bind(2) looks for a port that no
//! connection of this address has, whatever its target, and never takes one in TIME_WAIT.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::plan::{CloseStyle, Mode, Pace, Plan, Sources, Target};

mod ports;
#[cfg(test)]
mod tests;

pub use ports::{PortRoom, TimeWaitReuse};

/// TCP_TIMEWAIT_LEN; no sysctl changes it.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Of the ports of an address, those in use when further addresses are taken into the turn: the
/// kernel searches for a free port from a random one, and the search gets long as they fill up.
const COMFORTABLE_SHARE: f64 = 0.5;

/// Local addresses at most; each 28,000 connections.
const MOST_SOURCES: usize = 4096;

/// Short connections per second that no single generator thread exceeds (a loopback client needs
/// more than 20 us for each).
const THREAD_RATE_MAX: f64 = 50_000.0;

/// What a run asks of the local ports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// New connections.
    pub rate: Rate,
    /// Connections open at a time.
    pub at_once: usize,
    /// How long connections are made.
    pub duration: Duration,
    /// Who closes: whose TIME_WAIT it is.
    pub close: CloseStyle,
}

/// Connections per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many, whatever happens.
    Planned(f64),
    /// As many as go, which is not known beforehand; never more than this.
    AtMost(f64),
}

impl Demand {
    /// What `plan` asks for.
    pub fn of(plan: &Plan) -> Self {
        let at_once = plan.pace.at_once();
        let duration = plan.warm_up + plan.duration;
        let (at_once, rate) = match (plan.mode, plan.pace) {
            (Mode::Hold, Pace::Open { rate, .. }) => (held(rate, plan, duration), 0.0),
            (Mode::Rr | Mode::Stream { .. } | Mode::Hold | Mode::Storm, _) => (at_once, 0.0),
            (mode, Pace::Open { rate, .. } | Pace::Fixed { rate, .. }) => {
                (at_once, rate / operations_each(mode))
            }
            (mode, Pace::Closed { .. }) => {
                let most = THREAD_RATE_MAX * plan.threads as f64 / operations_each(mode);
                return Self { rate: Rate::AtMost(most), at_once, duration, close: plan.close };
            }
        };
        Self { rate: Rate::Planned(rate), at_once, duration, close: plan.close }
    }

    /// The part of one of so many targets, which have ports of their own.
    fn of_one(self, targets: usize) -> Self {
        let part = |rate: f64| rate / targets as f64;
        let rate = match self.rate {
            Rate::Planned(rate) => Rate::Planned(part(rate)),
            Rate::AtMost(rate) => Rate::AtMost(part(rate)),
        };
        Self { rate, at_once: self.at_once.div_ceil(targets), ..self }
    }

    /// Whether connections are closed, and others opened, while the run goes on. Only then its mode has
    /// the options of a rate and of who closes.
    fn closes(&self) -> bool {
        !matches!(self.rate, Rate::Planned(0.0))
    }

    /// Ports in use at the end of a run in which a closed one is free again after `wait`.
    fn ports(&self, wait: Duration) -> f64 {
        let (Rate::Planned(rate) | Rate::AtMost(rate)) = self.rate;
        self.at_once as f64 + rate * wait.min(self.duration).as_secs_f64()
    }
}

/// Connections that an open-loop run opens and keeps.
fn held(rate: f64, plan: &Plan, duration: Duration) -> usize {
    let due = (rate * duration.as_secs_f64()).ceil() as usize;
    plan.count.map_or(due, |count| due.min(count as usize))
}

/// Operations of one connection.
fn operations_each(mode: Mode) -> f64 {
    match mode {
        Mode::Http { requests_per_connection: Some(requests) } => f64::from(requests.max(1)),
        // Kept as long as the run: no new connections beside the first ones.
        Mode::Http { requests_per_connection: None } => f64::INFINITY,
        _ => 1.0,
    }
}

/// The sources of `plan`, for this machine: reads the sysctls and decides. Explicit sources in the
/// plan are checked and kept.
///
/// # Errors
/// As [`plan_sources`], or a sysctl that cannot be read.
pub fn for_plan(plan: &Plan) -> Result<Sources, String> {
    let explicit = match &plan.sources {
        Sources::Kernel => None,
        Sources::Rotate(addresses) => Some(addresses.as_slice()),
    };
    for_targets(&plan.targets, &Demand::of(plan), explicit, &PortRoom::read()?)
}

/// The sources for all targets together; a connection takes one of its target's address family.
fn for_targets(
    targets: &[Target],
    demand: &Demand,
    explicit: Option<&[IpAddr]>,
    room: &PortRoom,
) -> Result<Sources, String> {
    let demand = demand.of_one(targets.len());
    let mut all = Vec::new();
    for target in targets {
        let explicit = explicit.map(|sources| of_family(sources, target)).transpose()?;
        if let Sources::Rotate(sources) = plan_sources(target, &demand, explicit, room)? {
            all.extend(
                sources.into_iter().filter(|source| !all.contains(source)).collect::<Vec<_>>(),
            );
        }
    }
    let of_none = |source: &&IpAddr| !all.contains(source);
    match explicit.unwrap_or_default().iter().find(of_none) {
        Some(source) => Err(format!("--source {source}: no target has its address family")),
        None if all.is_empty() => Ok(Sources::Kernel),
        None => Ok(Sources::Rotate(all)),
    }
}

/// Of several targets' sources, those of the family of this one.
fn of_family(sources: &[IpAddr], target: &Target) -> Result<Vec<IpAddr>, String> {
    let Target::Tcp(address) = target else { return Ok(sources.to_vec()) };
    let is_v4 = address.ip().to_canonical().is_ipv4();
    let own: Vec<IpAddr> =
        sources.iter().filter(|source| source.is_ipv4() == is_v4).copied().collect();
    if own.is_empty() {
        return Err(format!(
            "no --source has the address family of the target {address}; give one, or choose the \
             family with --ipv4 or --ipv6"
        ));
    }
    Ok(own)
}

/// Which local addresses `demand` needs with the ports that `room` has for each.
///
/// # Errors
/// A sentence for the operator, when the ports of the addresses cannot do for a planned rate. A rate
/// that is not known is never refused.
pub fn plan_sources(
    target: &Target,
    demand: &Demand,
    explicit: Option<Vec<IpAddr>>,
    room: &PortRoom,
) -> Result<Sources, String> {
    let Target::Tcp(address) = target else {
        return without_ports(explicit);
    };
    let to = address.ip().to_canonical();
    let ports = demand.ports(port_wait(demand.close, to, room));
    if let Some(addresses) = explicit {
        check_explicit(&addresses, to)?;
        fits(ports, addresses.len(), demand, room, to)?;
        return Ok(Sources::Rotate(addresses));
    }
    let comfortable = (ports / (room.ports() as f64 * COMFORTABLE_SHARE)).ceil();
    match to {
        _ if comfortable <= 1.0 => Ok(Sources::Kernel),
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_unspecified() => {
            rotate_loopback(comfortable, demand.closes(), room).map(Sources::Rotate)
        }
        _ => fits(ports, 1, demand, room, to).map(|()| Sources::Kernel),
    }
}

fn without_ports(explicit: Option<Vec<IpAddr>>) -> Result<Sources, String> {
    match explicit {
        None => Ok(Sources::Kernel),
        Some(_) => Err("--source is for TCP; a unix socket has no addresses to choose".into()),
    }
}

/// How long a port is gone after its connection.
fn port_wait(close: CloseStyle, to: IpAddr, room: &PortRoom) -> Duration {
    match close {
        CloseStyle::Rst | CloseStyle::Server => Duration::ZERO,
        CloseStyle::Fin | CloseStyle::Half => match room.reuse {
            TimeWaitReuse::After(delay) => delay,
            // The kernel asks for 127.0.0.0/8 or ::1, not for an address of this machine.
            TimeWaitReuse::OnLoopbackAfter(delay) if to.is_loopback() => delay,
            TimeWaitReuse::OnLoopbackAfter(_) | TimeWaitReuse::Never => TIME_WAIT,
        },
    }
}

fn check_explicit(addresses: &[IpAddr], to: IpAddr) -> Result<(), String> {
    for (index, address) in addresses.iter().enumerate() {
        if address.is_ipv4() != to.is_ipv4() {
            return Err(format!("--source {address}: the target {to} has another address family"));
        }
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!("--source {address}: give an address of this machine"));
        }
        if addresses[..index].contains(address) {
            return Err(format!("--source {address} is given twice; give each address once"));
        }
    }
    Ok(())
}

const CLOSES_REMEDY: &str =
    "; lower --rate or --connections, or let the server close (--close server)";

/// Addresses of 127.0.0.0/8, all of which are this machine's. Each block of 127.N.0.0/16 from 127.1
/// on is one run's, so that a run does not meet the TIME_WAITs of the one before.
fn rotate_loopback(count: f64, closes: bool, room: &PortRoom) -> Result<Vec<IpAddr>, String> {
    if count > MOST_SOURCES as f64 {
        return Err(format!(
            "the run needs {count:.0} local addresses, and {MOST_SOURCES} are the limit{}",
            if closes { CLOSES_REMEDY } else { ". Open fewer connections" }
        ));
    }
    let block = 1 + (room.block % 254) as u8;
    let address = |index: u16| {
        let [high, low] = (index + 1).to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, block, high, low))
    };
    Ok((0..count as u16).map(address).collect())
}

fn fits(
    ports: f64,
    sources: usize,
    demand: &Demand,
    room: &PortRoom,
    to: IpAddr,
) -> Result<(), String> {
    let have = (room.ports() * sources) as f64;
    let Rate::Planned(rate) = demand.rate else { return Ok(()) };
    if ports <= have {
        return Ok(());
    }
    let wait = port_wait(demand.close, to, room).min(demand.duration).as_secs_f64();
    let at_once = demand.at_once as f64;
    let mut text = format!(
        "the run needs {ports:.0} local ports ({at_once:.0} connections at a time, and {rate} \
         closed per second for {wait} s of TIME_WAIT), and {sources} local {} has {have:.0} \
         (net.ipv4.ip_local_port_range)",
        if sources == 1 { "address" } else { "addresses" },
    );
    text += &remedies((have - at_once) / wait, demand, room);
    Err(text)
}

/// What would mend it, the cheapest first.
fn remedies(rate_that_fits: f64, demand: &Demand, room: &PortRoom) -> String {
    let mut text = if !demand.closes() {
        ". Open fewer connections at a time".to_owned()
    } else if rate_that_fits < 1.0 {
        ". Lower --connections or --max-inflight".to_owned()
    } else {
        format!(". {:.0} connections per second fit; lower --rate", rate_that_fits.floor())
    };
    text += ", give --source for each further address of this machine";
    if demand.closes() && matches!(demand.close, CloseStyle::Fin | CloseStyle::Half) {
        text += ", end connections with --close server or --close rst";
        if !matches!(room.reuse, TimeWaitReuse::After(_)) {
            text += ", set net.ipv4.tcp_tw_reuse=1";
        }
    }
    text + ", or widen net.ipv4.ip_local_port_range"
}
