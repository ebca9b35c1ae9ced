//! Limits that hold for two processes together, while one has taken the place of the other: each counts what the other
//! has. The new one alone accepts, so what the old one has of the process and of frontends only becomes less. But
//! connections that it still has may want a backend: it says how many places it keeps for them, and takes no more.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Handle;
use super::super::figures::Figures;
use super::Offer;
use crate::connection::suspended::Place;
use crate::dispatch::{ConnectionLimit, FrontendId};
use crate::upstream::{Lease, Upstream};

/// How many connections a server has, by what limits them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenCounts {
    /// Of the process.
    pub process: usize,
    /// Of each frontend.
    pub frontends: Vec<(String, usize)>,
    /// Of each upstream and address of a backend: those that it has, or may get while the limit is shared.
    pub backends: Vec<(String, String, usize)>,
}

impl Handle {
    /// A place for a connection that comes from elsewhere, whether there is room for it or not, and the number of its
    /// frontend.
    pub fn place_for(&self, frontend: &str) -> Option<(FrontendId, Place)> {
        let (id, limit) = self.control.lock().limit_of(frontend)?;
        limit.take(1);
        self.shared.connection_limit.take(1);
        let mut place = Place::counted(&limit);
        place.and_counted(&self.shared.connection_limit);
        Some((id, place))
    }

    /// How many connections there are, by what limits them, for another process that counts them too. A backend with a
    /// limit gets no more from here than this says, until [`end_sharing`](Self::end_sharing): so the limit holds for both.
    /// That is what it has, and one more for each connection that may still want a backend.
    pub fn share_limits(&self) -> OpenCounts {
        let (frontends, offers) = {
            let control = self.control.lock();
            (control.open_by_frontend(), control.offers())
        };
        let upstreams = self.upstreams();
        let spare = self.without_backend((&frontends, &offers), &upstreams);
        let of_upstream = |upstream: Arc<Upstream>| {
            let name = upstream.name().to_owned();
            let told = upstream.narrow(spare).into_iter();
            told.map(move |(address, most)| (name.clone(), address, most))
        };
        OpenCounts {
            process: self.open(),
            frontends: frontends.into_iter().filter(|(_, open)| *open > 0).collect(),
            backends: upstreams.into_iter().flat_map(of_upstream).filter(|it| it.2 > 0).collect(),
        }
    }

    /// Connections of this process that may still want a backend: those that are being connected may want another one.
    fn without_backend(
        &self,
        (frontends, offers): (&[(String, usize)], &[Offer]),
        upstreams: &[Arc<Upstream>],
    ) -> usize {
        let before = self.before.counted();
        let is_served_here =
            |name: &String| offers.iter().any(|it| it.frontend == *name && !it.is_proxied);
        let proxied = frontends.iter().filter(|(name, _)| !is_served_here(name));
        let here = |(name, open): &(String, usize)| {
            open.saturating_sub(before.frontends.get(name).copied().unwrap_or_default())
        };
        let endpoints = upstreams.iter().flat_map(|upstream| upstream.endpoints());
        let connected: usize = endpoints.map(|endpoint| endpoint.connections().open).sum();
        let proxied: usize = proxied.map(here).sum();
        (proxied + before.places).saturating_sub(connected)
    }

    /// No other process counts the connections of this one any more.
    pub fn end_sharing(&self) {
        self.upstreams().iter().for_each(|upstream| upstream.widen());
    }

    /// Counts connections that another process still has as if they were here: limits hold for both together.
    pub fn reserve(&self, reserved: &mut Reserved, counts: &OpenCounts) {
        reserved.process.set(counts.process, &self.shared.connection_limit);
        self.before.set_open(counts.process);
        let control = self.control.lock();
        for (name, count) in reserved.missing_in(counts) {
            if let Some((_, limit)) = control.limit_of(&name) {
                reserved.frontends.entry(name).or_default().set(count, &limit);
            }
        }
        drop(control);
        let upstreams = self.upstreams();
        let mut before = std::mem::take(&mut reserved.leases);
        for (upstream, address, count) in &counts.backends {
            let key = (upstream.clone(), address.clone());
            let mut leases = before.remove(&key).unwrap_or_default();
            let found = upstreams.iter().find(|it| it.name() == upstream);
            if let Some(found) = found {
                let more = count.saturating_sub(leases.len());
                leases.extend((0..more).filter_map(|_| found.lease_open(address)));
            }
            leases.truncate(*count);
            reserved.leases.insert(key, leases);
        }
        let mut counted = self.before.counted();
        counted.frontends = counts.frontends.iter().cloned().collect();
        counted.places = reserved.leases.values().map(Vec::len).sum();
        drop(counted);
        // Acceptors may wait for places that are free now, and nobody else tells them.
        self.shared.lifecycle.wake_all();
    }
}

/// Connections that another process still has, counted here. All are given back when this is dropped. And what it has
/// counted, as far as that is known here.
#[derive(Debug, Default)]
pub struct Reserved {
    process: Counted,
    frontends: HashMap<String, Counted>,
    leases: HashMap<(String, String), Vec<Lease>>,
    pub(in crate::server) heard: Figures,
}

impl Reserved {
    /// The counts of all frontends that are known of, those included that have none any more.
    fn missing_in(&self, counts: &OpenCounts) -> Vec<(String, usize)> {
        let gone = self.frontends.keys().filter(|known| {
            let is_it = |(name, _): &(String, usize)| name == *known;
            !counts.frontends.iter().any(is_it)
        });
        let gone = gone.map(|name| (name.clone(), 0));
        counts.frontends.iter().cloned().chain(gone).collect()
    }
}

/// Places under a limit.
#[derive(Debug, Default)]
struct Counted {
    count: usize,
    limit: Option<Arc<ConnectionLimit>>,
}

impl Counted {
    fn set(&mut self, count: usize, limit: &Arc<ConnectionLimit>) {
        // A frontend that was removed and is there again has another one.
        if let Some(other) = self.limit.as_ref().filter(|own| !Arc::ptr_eq(own, limit)) {
            other.release(std::mem::take(&mut self.count));
        }
        match count.checked_sub(self.count) {
            Some(more) => limit.take(more),
            None => limit.release(self.count - count),
        }
        self.count = count;
        self.limit = Some(Arc::clone(limit));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(limit) = &self.limit {
            limit.release(self.count);
        }
    }
}
