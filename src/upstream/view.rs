//! How one worker sees an upstream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::{Candidate, Chooser};
use super::endpoint::{Endpoint, EndpointId};
use super::lease::Lease;
use super::sources::{Origin, SourceNumber, Sources};
use super::{Snapshot, Upstream};
use crate::config::upstream::{SourceAddress, UpstreamConfig, WhenAllOut};

/// Why there is nowhere to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoBackend {
    /// Every endpoint is down or ejected, and such connections are refused.
    #[error("every backend is down or ejected")]
    AllOut,
    /// Those that are up have as many connections as they may have, or as this machine has local ports for.
    #[error(
        "every backend that is up has its maximum of connections, or no local port is left for it"
    )]
    AllFull,
    /// Those that are up have been tried, or there are none.
    #[error("every backend that is up has been tried")]
    NoneLeft,
}

/// How one worker sees an upstream: its copy of the list of endpoints and of the configuration, and the memory of
/// the policy. A pick takes no lock and allocates nothing unless one of them has changed since the last one.
#[derive(Debug)]
pub struct View {
    upstream: Arc<Upstream>,
    generation: u64,
    endpoints: Arc<[Arc<Endpoint>]>,
    /// What the upstream was told when it had these endpoints.
    config: Arc<UpstreamConfig>,
    /// Tells the views of one upstream apart: they start at different endpoints.
    number: u64,
    chooser: Chooser,
    sources: Sources,
    /// Those that may be chosen now; kept for its memory.
    candidates: Vec<Candidate>,
}

impl View {
    pub(super) fn new(upstream: Arc<Upstream>, number: u64) -> Self {
        let Snapshot { generation, endpoints, config } = upstream.snapshot();
        let mut view = Self {
            generation,
            endpoints: Arc::new([]),
            chooser: Chooser::new(config.balance, number),
            candidates: Vec::new(),
            sources: Sources::new(&config.sources, number),
            config,
            number,
            upstream,
        };
        view.adopt(endpoints);
        view.begin_elsewhere();
        view
    }

    /// Without this the first connection of every worker would go to the same endpoint.
    fn begin_elsewhere(&mut self) {
        if self.endpoints.is_empty() {
            return;
        }
        self.candidates.clear();
        let all = self.endpoints.iter().enumerate();
        let unloaded = |(index, endpoint): (usize, &Arc<Endpoint>)| Candidate {
            open: 0,
            ..endpoint.candidate(index, Duration::MAX, self.config.slow_start)
        };
        self.candidates.extend(all.map(unloaded));
        for _ in 0..self.number % self.endpoints.len() as u64 {
            self.chooser.choose(&self.candidates, None);
        }
    }

    /// Chooses an endpoint for a new connection of `source`, none of those in `tried`, and takes a
    /// place there.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(
        &mut self,
        source: Option<IpAddr>,
        tried: &[EndpointId],
    ) -> Result<Lease, NoBackend> {
        self.pick_at(Instant::now(), source, tried)
    }

    /// [`pick`](Self::pick) for those who have looked at the clock already.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick_at(
        &mut self,
        now: Instant,
        source: Option<IpAddr>,
        tried: &[EndpointId],
    ) -> Result<Lease, NoBackend> {
        if self.generation != self.upstream.generation() {
            self.refresh();
        }
        let now = self.upstream.common().since_start(now);
        match self.list_candidates(now, tried, Ask::Well) {
            Found::Some => self.choose(now, source),
            Found::Full => Err(NoBackend::AllFull),
            Found::Tried | Found::OutOfReach => Err(NoBackend::NoneLeft),
            Found::NoneThatIsWell if self.config.when_all_out == WhenAllOut::Refuse => {
                Err(NoBackend::AllOut)
            }
            Found::NoneThatIsWell => self.fail_open(now, source, tried),
        }
    }

    /// Every endpoint is out: they are all treated as if they were not.
    fn fail_open(
        &mut self,
        now: Duration,
        source: Option<IpAddr>,
        tried: &[EndpointId],
    ) -> Result<Lease, NoBackend> {
        match self.list_candidates(now, tried, Ask::Any) {
            Found::Some => {
                self.upstream.count_fail_open_pick();
                self.choose(now, source)
            }
            Found::Full => Err(NoBackend::AllFull),
            Found::Tried | Found::OutOfReach | Found::NoneThatIsWell => Err(NoBackend::NoneLeft),
        }
    }

    /// An endpoint that no source reaches is a candidate only where there is no other, so that somebody is told.
    fn list_candidates(&mut self, now: Duration, tried: &[EndpointId], ask: Ask) -> Found {
        match self.list(now, (tried, ask), false) {
            Found::OutOfReach => self.list(now, (tried, ask), true),
            found => found,
        }
    }

    fn list(&mut self, now: Duration, (tried, ask): (&[EndpointId], Ask), is_last: bool) -> Found {
        self.candidates.clear();
        let mut found = match self.endpoints.is_empty() {
            true => Found::Tried,
            false => Found::NoneThatIsWell,
        };
        // In the worst case of all a slow start would only starve those that were ejected last.
        let weighed_at = if ask == Ask::Well { now } else { Duration::MAX };
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if ask == Ask::Well && !endpoint.is_well(now) {
                continue;
            }
            if tried.contains(&endpoint.id()) {
                found = found.max(Found::Tried);
            } else if endpoint.is_full(self.config.max_connections)
                || !self.sources.may_try((endpoint.id(), endpoint.address()), now)
            {
                found = found.max(Found::Full);
            } else if self.sources.reach(endpoint.address()) || is_last {
                found = Found::Some;
                let slow_start = self.config.slow_start;
                self.candidates.push(endpoint.candidate(index, weighed_at, slow_start));
            } else {
                found = found.max(Found::OutOfReach);
            }
        }
        found
    }

    /// Another worker may take the last place of the chosen one; then the next best is asked.
    fn choose(&mut self, now: Duration, source: Option<IpAddr>) -> Result<Lease, NoBackend> {
        while !self.candidates.is_empty() {
            let position = self.chooser.choose(&self.candidates, source);
            let chosen = self.candidates.remove(position);
            let endpoint = &self.endpoints[chosen.index];
            let max = self.config.max_connections;
            if let Some(lease) = Lease::take(endpoint, self.upstream.common(), now, max) {
                return Ok(lease);
            }
        }
        Err(NoBackend::AllFull)
    }

    /// What to bind the socket for the endpoint of a lease to; `None` if the source is gone since it was chosen.
    pub(crate) fn bound_to(
        &self,
        source: SourceNumber,
        lease: &Lease,
    ) -> Option<Option<SocketAddr>> {
        self.sources.bound_to(source, lease.endpoint().address())
    }

    /// From where to connect to the endpoint of a lease at `now`; the sources take turns.
    pub(crate) fn origin(&mut self, lease: &Lease, now: Instant) -> Origin {
        let now = self.upstream.common().since_start(now);
        let endpoint = lease.endpoint();
        self.sources.take((endpoint.id(), endpoint.address()), now)
    }

    /// A connect to an endpoint had a local port. True if others that wait for one may be made now.
    pub(crate) fn had_port(&mut self, endpoint: EndpointId, source: SourceNumber) -> bool {
        self.sources.has_one(endpoint, source)
    }

    /// A connect to an endpoint at `now` had no local port, or this machine does not have the address of the source.
    pub(crate) fn had_no_port(&mut self, endpoint: EndpointId, source: SourceNumber, now: Instant) {
        let now = self.upstream.common().since_start(now);
        self.sources.has_none(endpoint, source, now);
    }

    /// The address of a source; `None` if the kernel chooses.
    pub(crate) fn source(&self, source: SourceNumber) -> Option<SourceAddress> {
        self.sources.address(source)
    }

    fn refresh(&mut self) {
        let Snapshot { generation, endpoints, config } = self.upstream.snapshot();
        let is_other_policy = config.balance != self.config.balance;
        (self.generation, self.config) = (generation, config);
        if is_other_policy {
            self.chooser = Chooser::new(self.config.balance, self.number);
        }
        if !self.sources.are(&self.config.sources) {
            self.sources = Sources::new(&self.config.sources, self.number);
        }
        self.adopt(endpoints);
        if is_other_policy {
            self.begin_elsewhere();
        }
    }

    fn adopt(&mut self, endpoints: Arc<[Arc<Endpoint>]>) {
        let old = &self.endpoints;
        let place = |new: &Arc<Endpoint>| old.iter().position(|old| old.id() == new.id());
        self.chooser.rearrange(endpoints.iter().map(place));
        self.candidates.clear();
        self.candidates.reserve(endpoints.len());
        self.endpoints = endpoints;
        self.sources.keep(|id| self.endpoints.iter().any(|endpoint| endpoint.id() == id));
    }
}

/// Who is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Well,
    Any,
}

/// What there is, from the worst to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    NoneThatIsWell,
    Tried,
    /// There is no source of its address family.
    OutOfReach,
    Full,
    Some,
}
