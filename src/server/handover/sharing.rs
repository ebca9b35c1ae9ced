//! Limits that hold for two processes together, while one has taken the place of the other: each counts what the other
//! has. The new one alone accepts, so what the old one has of the process and of frontends only becomes less. But
//! connections that it still has may want a backend: it says how many places it keeps for them, and takes no more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Handle;
use super::super::figures::Figures;
use crate::connection::suspended::Place;
use crate::dispatch::{ConnectionLimit, FrontendId, InboxSender};
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

/// Most connections that another process is believed to have, under each limit.
const COUNT_MAX: usize = 1 << 20;

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
    /// That is what it has, and one more for each connection that may still want a backend: so many of those that are
    /// `in_transit`, off their threads, too, which may come back.
    pub fn share_limits(&self, in_transit: usize) -> OpenCounts {
        let frontends = self.control.lock().open_by_frontend();
        let waiting: usize = self.inboxes.iter().map(InboxSender::waiting).sum();
        let without_backend: u64 = self.blocks.iter().map(|(_, it)| it.without_backend()).sum();
        let spare = in_transit + waiting + usize::try_from(without_backend).unwrap_or(usize::MAX);
        // One that was removed and is there again has a name with another.
        let mut backends: BTreeMap<(String, String), usize> = BTreeMap::new();
        for upstream in self.all_upstreams() {
            for (address, most) in upstream.narrow(spare).into_iter().filter(|it| it.1 > 0) {
                *backends.entry((upstream.name().to_owned(), address)).or_default() += most;
            }
        }
        OpenCounts {
            process: self.open(),
            frontends: frontends.into_iter().filter(|(_, open)| *open > 0).collect(),
            backends: backends.into_iter().map(|((name, at), most)| (name, at, most)).collect(),
        }
    }

    /// Those included that a reload has removed and that have connections.
    fn all_upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams().into_iter().chain(self.control.lock().retired_upstreams()).collect()
    }

    /// No other process counts the connections of this one any more.
    pub fn end_sharing(&self) {
        self.all_upstreams().iter().for_each(|upstream| upstream.widen());
    }

    /// Counts connections that another process still has as if they were here: limits hold for both together.
    pub fn reserve(&self, reserved: &mut Reserved, counts: &OpenCounts) {
        let process = counts.process.min(COUNT_MAX);
        // Who asks meanwhile how many are open here may get more than there are, but not fewer.
        if process < reserved.process.count {
            self.before.set_open(process);
        }
        reserved.process.set(process, &self.shared.connection_limit);
        self.before.set_open(process);
        let control = self.control.lock();
        for (name, count) in reserved.missing_in(counts) {
            if let Some((_, limit)) = control.limit_of(&name) {
                let count = count.min(COUNT_MAX);
                reserved.frontends.entry(name).or_default().set(count, &limit);
            }
        }
        drop(control);
        let upstreams = self.upstreams();
        let mut before = std::mem::take(&mut reserved.leases);
        for (upstream, address, count) in &counts.backends {
            let (key, count) = ((upstream.clone(), address.clone()), (*count).min(COUNT_MAX));
            let mut leases = before.remove(&key).unwrap_or_default();
            let found = upstreams.iter().find(|it| it.name() == upstream);
            if let Some(found) = found {
                let more = count.saturating_sub(leases.len());
                leases.extend((0..more).filter_map(|_| found.lease_open(address)));
            }
            leases.truncate(count);
            reserved.leases.insert(key, leases);
        }
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
