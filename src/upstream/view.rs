//! How one worker sees an upstream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Upstream;
use super::balance::{Candidate, Chooser};
use super::endpoint::{Endpoint, EndpointId};
use super::lease::Lease;
use crate::config::upstream::{Balance, WhenAllOut};
use crate::planted::{self, Bug};

/// Why there is nowhere to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoBackend {
    /// Every endpoint is down or ejected, and such connections are refused.
    #[error("every backend is down or ejected")]
    AllOut,
    /// Those that are up have as many connections as they may have.
    #[error("every backend that is up has its maximum of connections")]
    AllFull,
    /// Those that are up have been tried, or there are none.
    #[error("every backend that is up has been tried")]
    NoneLeft,
}

/// How one worker sees an upstream: its copy of the list of endpoints, and the memory of the policy.
/// A pick takes no lock and allocates nothing unless the list has changed since the last one.
#[derive(Debug)]
pub struct View {
    upstream: Arc<Upstream>,
    generation: u64,
    endpoints: Arc<[Arc<Endpoint>]>,
    chooser: Chooser,
    /// Those that may be chosen now; kept for its memory.
    candidates: Vec<Candidate>,
}

impl View {
    /// `number` tells the views of one upstream apart: they start at different endpoints.
    pub(super) fn new(upstream: Arc<Upstream>, balance: Balance, number: u64) -> Self {
        let mut view = Self {
            generation: 0,
            endpoints: Arc::new([]),
            chooser: Chooser::new(balance, number),
            candidates: Vec::new(),
            upstream,
        };
        view.refresh();
        view.begin_elsewhere(number);
        view
    }

    /// Without this the first connection of every worker would go to the same endpoint.
    fn begin_elsewhere(&mut self, number: u64) {
        if self.endpoints.is_empty() {
            return;
        }
        self.candidates.clear();
        let all = self.endpoints.iter().enumerate();
        let unloaded = |(index, endpoint): (usize, &Arc<Endpoint>)| Candidate {
            open: 0,
            ..endpoint.candidate(index, Duration::MAX)
        };
        self.candidates.extend(all.map(unloaded));
        for _ in 0..number % self.endpoints.len() as u64 {
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
        if self.generation != self.upstream.generation() && !planted::is(Bug::DrainingPicked) {
            self.refresh();
        }
        let now = self.upstream.common().since_start(now);
        match self.list_candidates(now, tried, Ask::Well) {
            Found::Some => self.choose(now, source),
            Found::Full => Err(NoBackend::AllFull),
            Found::Tried => Err(NoBackend::NoneLeft),
            Found::NoneThatIsWell if self.upstream.when_all_out() == WhenAllOut::Refuse => {
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
            Found::Tried | Found::NoneThatIsWell => Err(NoBackend::NoneLeft),
        }
    }

    fn list_candidates(&mut self, now: Duration, tried: &[EndpointId], ask: Ask) -> Found {
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
            } else if endpoint.is_full() {
                found = found.max(Found::Full);
            } else {
                found = Found::Some;
                self.candidates.push(endpoint.candidate(index, weighed_at));
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
            if let Some(lease) = Lease::take(endpoint, self.upstream.common(), now) {
                return Ok(lease);
            }
        }
        Err(NoBackend::AllFull)
    }

    fn refresh(&mut self) {
        let (generation, endpoints) = self.upstream.snapshot();
        let old = &self.endpoints;
        let place = |new: &Arc<Endpoint>| old.iter().position(|old| old.id() == new.id());
        self.chooser.rearrange(endpoints.iter().map(place));
        self.candidates.clear();
        self.candidates.reserve(endpoints.len());
        self.endpoints = endpoints;
        self.generation = generation;
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
    Full,
    Some,
}
