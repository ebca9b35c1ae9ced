//! Rules by source, and books of them that are kept beside the server.
//!
//! After every turn of a thread a plain [`Model`] is asked about each connection that the thread was told of, in that order,
//! and takes back what the turn has closed. Then the server has refused whom the model refuses, nobody else, and counts
//! what the model counts. A thread that accepts and serves may have closed some before it was asked about others of the same
//! turn, or after it: where that matters, either is right.

mod draw;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use draw::Version;
use model::{Asked, Less, Model, Said};

use super::driver::Driver;
use super::scenario::Scenario;
use super::workload::Workload;
use crate::metrics::Counter;
use crate::ring::Operation;
use crate::ring::simulated::{Network, Notice};
use crate::server::Phase;
use crate::sources::{Admission, Order, Sources};
use crate::sys;

/// More than there are sources and sites.
const KNOWN_MAX: usize = 64;

/// Who is at the other end. A descriptor can only have a peer in the loopback network, so one in 127.6.0.0/16 stands for an
/// IPv6 address: 127.6.a.b for one in 2001:db8:a:b::/64.
pub(super) fn peer(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    sys::peer_address(socket).map(|peer| peer.map(translated))
}

fn translated(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V4(address) => match address.octets() {
            [127, 6, site, subnet] => {
                let words = [0x2001, 0xdb8, site.into(), subnet.into(), 0, 0, 0, 1];
                (Ipv6Addr::from(words), peer.port()).into()
            }
            _ => peer,
        },
        IpAddr::V6(_) => peer,
    }
}

/// What is known of a connection that came in.
#[derive(Debug)]
struct Open {
    counted: Vec<model::Counted>,
    /// When it may be served.
    due: Duration,
}

/// See the module.
pub(super) struct SourceRules {
    versions: Vec<Version>,
    /// Those that have been in force, the last one still is.
    admissions: Vec<Arc<Admission>>,
    /// When the next one is told.
    at: Vec<Duration>,
    /// Of the frontend, and of the process.
    sources: [Arc<Sources>; 2],
    model: Model,
    open: BTreeMap<usize, Open>,
    /// Those that are refused and not closed yet.
    refused: BTreeSet<usize>,
    /// By which of the versions connections to a port were asked last.
    asked_by: BTreeMap<u16, usize>,
    /// How many each thread has refused.
    refusals: BTreeMap<usize, u64>,
    /// Whether it has never mattered what came first in a turn.
    is_exact: bool,
}

/// A turn of a thread, as far as it matters here.
struct Turn<'a> {
    network: &'a Network,
    thread: usize,
    /// What it had been told of.
    notices: Vec<Notice>,
    /// By which admission connections to which port are asked.
    admissions: Vec<(u16, &'a Arc<Admission>)>,
    /// Whom it closes.
    closed: BTreeSet<usize>,
    /// How many it has refused since it began.
    refused: u64,
    /// Whether nobody is kept waiting any more.
    hurries: bool,
}

impl SourceRules {
    /// Draws rules, and gives clients their sources.
    pub(super) fn draw(seed: u64, scenario: &mut Scenario) -> Self {
        let (versions, at) = draw::draw(seed, scenario);
        Self {
            versions,
            admissions: Vec::new(),
            at,
            sources: Default::default(),
            model: Model::default(),
            open: BTreeMap::new(),
            refused: BTreeSet::new(),
            asked_by: BTreeMap::new(),
            refusals: BTreeMap::new(),
            is_exact: true,
        }
    }

    /// The first version is in force.
    pub(super) fn begin(&mut self, network: &Network) {
        network.keep_notices();
        self.sources = [(); 2].map(|()| Arc::new(Sources::since(network.now())));
        self.next(network);
    }

    /// The next version is in force.
    pub(super) fn next(&mut self, network: &Network) -> &Arc<Admission> {
        let place = self.admissions.len().min(self.versions.len() - 1);
        let version = &self.versions[place];
        network.note("rules", || format!("{version:?}"));
        self.admissions.push(Arc::new(version.admission(&self.sources)));
        self.admission()
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        self.admissions.last().expect("it has begun")
    }

    /// When there is another version.
    pub(super) fn moments(&self) -> &[Duration] {
        &self.at
    }

    fn follow(&mut self, turn: &Turn<'_>) -> Result<(), String> {
        self.note_versions(turn);
        let closed_behind_bytes = turn.notices.iter().filter_map(|notice| match notice {
            Notice::Closed { connection } => Some(*connection),
            Notice::Accepted { .. } => None,
        });
        // What is sent behind has been closed with the turn in which that is known.
        let ended: Vec<usize> = turn.closed.iter().copied().chain(closed_behind_bytes).collect();
        let mut less = Less::new();
        for counted in ended.iter().filter_map(|it| self.open.get(it)).flat_map(|it| &it.counted) {
            *less.entry(counted.clone()).or_default() += 1;
        }
        let mut refused = 0;
        for notice in &turn.notices {
            if let Notice::Accepted { connection, port, peer } = *notice {
                refused += u64::from(self.ask(turn, (connection, port, peer), &less)?);
            }
        }
        self.count_refused(turn, refused)?;
        for connection in ended {
            self.end(turn, connection)?;
        }
        self.compare(turn)
    }

    fn note_versions(&mut self, turn: &Turn<'_>) {
        for (port, admission) in &turn.admissions {
            let version = self.admissions.iter().rposition(|it| Arc::ptr_eq(it, admission));
            self.asked_by.extend(version.map(|version| (*port, version)));
        }
    }

    /// Asks the model about a connection. True if it is refused.
    fn ask(
        &mut self,
        turn: &Turn<'_>,
        (connection, port, peer): (usize, u16, Option<SocketAddr>),
        less: &Less,
    ) -> Result<bool, String> {
        let now = turn.network.elapsed();
        let open = Open { counted: Vec::new(), due: Duration::ZERO };
        let Some(address) = peer.map(|peer| translated(peer).ip()) else {
            self.open.insert(connection, open);
            return Ok(false);
        };
        let version = self.asked_by.get(&port).copied().unwrap_or_default();
        let version = self.versions[version.min(self.versions.len() - 1)].clone();
        let asked = Asked { rules: version.tiers(), address, now_us: now.as_micros() as u64 };
        // A reply lingers: whether it is one shows later.
        let was_refused = turn.closed.contains(&connection);
        let (none, said) = (Less::new(), self.model.clone().ask(&asked, &Less::new()));
        let other = self.model.clone().ask(&asked, less);
        let matters = said != other;
        let is_known = said.is_refused() != other.is_refused() && !version.lingers();
        self.is_exact &= !matters;
        let takes_other = is_known && other.is_refused() == was_refused;
        let said = self.model.ask(&asked, if takes_other { less } else { &none });
        if said.is_refused() != was_refused && !version.lingers() {
            let did = if was_refused { "refused" } else { "let in" };
            return Err(format!("c{connection} of {address} is {did}, it was to be {said:?}"));
        }
        match said {
            Said::Refused(_) => {
                self.refused.insert(connection);
                Ok(true)
            }
            Said::In(counted, wait) => {
                self.open.insert(connection, Open { counted, due: now + wait });
                Ok(false)
            }
        }
    }

    fn count_refused(&mut self, turn: &Turn<'_>, refused: u64) -> Result<(), String> {
        let counted = self.refusals.entry(turn.thread).or_default();
        *counted += refused;
        if *counted == turn.refused {
            return Ok(());
        }
        Err(format!("{} connections are counted as refused, {counted} were", turn.refused))
    }

    /// A connection is closed.
    fn end(&mut self, turn: &Turn<'_>, connection: usize) -> Result<(), String> {
        let served = turn.network.worked_on_since(connection);
        if self.refused.remove(&connection) {
            return match served {
                Some(_) => Err(format!("c{connection} was served although it is refused")),
                None => Ok(()),
            };
        }
        let Some(open) = self.open.remove(&connection) else { return Ok(()) };
        open.counted.into_iter().for_each(|counted| self.model.release(counted));
        match served {
            None => Err(format!("c{connection} was never served although nothing is against it")),
            Some(at) if at < open.due && !turn.hurries => {
                Err(format!("c{connection} is served at {at:?}, its turn is at {:?}", open.due))
            }
            Some(_) => Ok(()),
        }
    }

    /// What the server counts is what the model does.
    fn compare(&self, turn: &Turn<'_>) -> Result<(), String> {
        let now = turn.network.now();
        for (tier, sources) in self.sources.iter().enumerate() {
            let counted = open_of(sources, now);
            let own = self.model.open(tier);
            if counted != own {
                let of = ["a frontend", "the process"][tier];
                return Err(format!("sources of {of} have {own:?} open, {counted:?} are counted"));
            }
            if !self.is_exact {
                continue;
            }
            let ahead = ahead_of(sources, now);
            let own = self.model.ahead(tier, turn.network.elapsed().as_micros() as u64);
            if ahead != own {
                return Err(format!(
                    "of their rates sources have taken {own:?}, {ahead:?} is noted"
                ));
            }
            let counts: Vec<_> = sources.counts().filter(|(_, _, count)| *count > 0).collect();
            let own = self.model.counts(tier);
            if counts != own {
                return Err(format!("rules were against {own:?}, {counts:?} are counted"));
            }
        }
        Ok(())
    }

    /// When all is closed nothing is counted.
    fn check_end(&self, now: Instant) -> Result<(), String> {
        let left: Vec<_> = self.sources.iter().flat_map(|sources| open_of(sources, now)).collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(format!("{left:?} are still counted as open by source"))
    }
}

/// Open connections by source, where there are any.
fn open_of(sources: &Sources, now: Instant) -> BTreeMap<String, u32> {
    let all = sources.list(Order::Open, KNOWN_MAX, now).sources.into_iter();
    all.filter(|known| known.open > 0).map(|known| (known.key.to_string(), known.open)).collect()
}

/// Microseconds until the rate of a source is whole again, where it is not.
fn ahead_of(sources: &Sources, now: Instant) -> BTreeMap<String, u64> {
    let all = sources.list(Order::Rate, KNOWN_MAX, now).sources.into_iter();
    let some = all.filter(|known| known.ahead_us > 0);
    some.map(|known| (known.key.to_string(), known.ahead_us)).collect()
}

impl<P: Workload> Driver<P> {
    /// After a step of a thread: whom has it refused, and what does it count?
    pub(super) fn check_sources(&mut self, index: usize) -> Result<(), String> {
        // A server that stops drops what it has.
        if self.rules.is_none() || self.is_stopping() {
            return Ok(());
        }
        let thread = &mut self.threads[index];
        if !matches!(thread.state, super::thread::State::Start(_)) {
            return Ok(());
        }
        let Some(event_loop) = &mut thread.event_loop else { return Ok(()) };
        let (ring, operations) = event_loop.ring();
        let closed = operations.queued().filter_map(|operation| match operation {
            Operation::Close { socket } | Operation::Reset { socket } => {
                self.network.number_of(socket)
            }
            _ => None,
        });
        let (closed, notices) = (closed.collect(), self.network.take_notices(ring.number()));
        let listeners = event_loop.listeners().iter();
        let listeners = listeners.map(|it| (it.listening.socket.port(), &it.listening.admission));
        let turn = Turn {
            network: &self.network,
            thread: index,
            notices,
            admissions: listeners.collect(),
            closed,
            refused: thread.block.get(Counter::AcceptRefused),
            hurries: self.servers[thread.server].phase() != Phase::Serving,
        };
        self.rules.as_mut().map_or(Ok(()), |rules| rules.follow(&turn))
    }

    /// When the server has ended.
    pub(super) fn check_sources_end(&self) -> Result<(), String> {
        self.rules.as_ref().map_or(Ok(()), |rules| rules.check_end(self.network.now()))
    }
}
