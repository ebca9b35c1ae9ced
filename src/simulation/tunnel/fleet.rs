//! The backends as one server knows them: its upstreams, and what it counts and believes of each backend.

use std::collections::HashMap;
use std::sync::Arc;

use fastrand::Rng;

use super::draw::Plan;
use super::operator::Operator;
use super::{Backend, OPERATOR, Tunnels};
use crate::ring::simulated::Network;
use crate::upstream::{Endpoint, Lease, Upstream};

/// See the module.
pub(super) struct Fleet {
    /// The default first, then one for each route.
    pub(super) upstreams: Vec<Arc<Upstream>>,
    /// Those of all upstreams, in the order of the backends.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) operator: Operator,
    /// Places at each that are counted for another server.
    reserved: Vec<Vec<Lease>>,
}

impl Fleet {
    fn new(plan: &Plan, backends: &[Backend], network: &Network, rng: Rng) -> Self {
        let (mut upstreams, mut endpoints) = (Vec::new(), Vec::new());
        for number in 0..=plan.preambles.routes {
            let own = backends.iter().filter(|backend| backend.upstream == number);
            let addresses = own.map(|backend| backend.listener.address()).collect();
            let upstream = plan.upstream(number, addresses, network.now());
            endpoints.extend(upstream.endpoints().into_iter().map(|endpoint| (number, endpoint)));
            upstreams.push(upstream);
        }
        let operator = Operator::new(plan, &endpoints, rng);
        let endpoints: Vec<_> = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
        let reserved = endpoints.iter().map(|_| Vec::new()).collect();
        Self { upstreams, endpoints, operator, reserved }
    }

    /// Places of its own connections.
    pub(super) fn leased(&self) -> usize {
        let open: usize = self.endpoints.iter().map(|endpoint| endpoint.open()).sum();
        open - self.reserved.iter().map(Vec::len).sum::<usize>()
    }

    /// What it tells of its places at each endpoint, with so many pairs that have none.
    fn told(&self, spare: usize) -> Vec<usize> {
        let all: HashMap<String, usize> =
            self.upstreams.iter().flat_map(|upstream| upstream.narrow(spare)).collect();
        let told = |endpoint: &Arc<Endpoint>| all.get(&endpoint.address().to_string()).copied();
        self.endpoints.iter().map(|endpoint| told(endpoint).unwrap_or_default()).collect()
    }

    /// Places of its own connections at one endpoint.
    pub(super) fn leased_at(&self, endpoint: usize) -> usize {
        self.endpoints[endpoint].open() - self.reserved[endpoint].len()
    }
}

impl Tunnels {
    /// The backends as this server knows them.
    pub(super) fn fleet(&mut self, server: usize, network: &Network) -> &Fleet {
        if self.backends.is_empty() {
            self.build(network);
        }
        while self.fleets.len() <= server {
            let plan = self.plan.as_ref().expect("a plan is drawn first");
            let rng = Rng::with_seed(self.more.u64(..));
            let mut fleet = Fleet::new(plan, &self.backends, network, rng);
            if !self.fleets.is_empty() {
                let whom = OPERATOR + self.fleets.len() as u32;
                fleet.operator.plan(network, self.span, whom);
            }
            self.fleets.push(fleet);
        }
        &self.fleets[server]
    }

    /// A server counts so many connections to each backend as another one has or may get for so many pairs.
    pub(super) fn reserve_places(&mut self, server: usize, before: Option<(usize, usize)>) {
        if server >= self.fleets.len() {
            return;
        }
        let backends = self.fleets[server].endpoints.len();
        let told = |(before, spare): (usize, usize)| self.fleets[before].told(spare);
        let counts: Vec<usize> = before.map_or_else(|| vec![0; backends], told);
        let fleet = &mut self.fleets[server];
        fleet.operator.takes_over();
        for (place, count) in counts.into_iter().enumerate() {
            let upstream = &fleet.upstreams[self.backends[place].upstream];
            let leases = &mut fleet.reserved[place];
            let address = fleet.endpoints[place].address().to_string();
            let more = count.saturating_sub(leases.len());
            leases.extend((0..more).filter_map(|_| upstream.lease_open(&address)));
            leases.truncate(count);
        }
    }
}
