//! A proxy between clients and backends that both know what they have to hear.
//!
//! ```text
//!   client c  -- c, then the stream of c -->  proxy  --------------------------->  connection b
//!             <---------------------------           <-- b, then the stream of b --
//! ```
//!
//! The first four bytes name who speaks; every byte after them is a function of who and where. So an
//! end knows whom it is joined to, and one look tells whether a byte is missing, twice or strange.
//! What a client may say before its name is in [`preamble`], what a backend hears of that in [`prefix`].

mod draw;
mod homes;
mod judge;
mod operator;
mod peer;
mod preamble;
mod prefix;
mod wire;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::changes::Frontend;
use super::scenario::Scenario;
use super::workload::{Moment, Workload};
use crate::config::upstream::Balance;
use crate::metrics::Block;
use crate::proxy::{PrereadRules, ProxySettings, Splicing};
use crate::ring::simulated::{Listener, Network};
use crate::server::connections::Settings;
use crate::service::Echo;
use crate::upstream::{Endpoint, EndpointCounter, Upstream};
use draw::{Plan, State};
use homes::Homes;
use operator::Operator;
use peer::{Peer, Place};
use prefix::ExpectedPrefix;

/// Who is called: clients count from zero, these from here.
const BACKENDS: u32 = 1 << 16;
const OPERATOR: u32 = 1 << 18;
const SERVED: u32 = 1 << 20;

/// Chosen so that the seeds which were stored before there was more are the runs that they were.
const MORE: u64 = 0x5eed_0000_0000_3e01;

/// For how long a pair may be without a backend while each has room.
const ROOM_PATIENCE: Duration = Duration::from_millis(300);
/// The same where local ports run out: behind a connect in vain, others to the same backend are made one by one.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// A backend: where it listens and what becomes of who comes.
struct Backend {
    upstream: usize,
    listener: Listener,
    state: State,
    /// When a connection may be taken out of the queue.
    takes_at: Duration,
}

/// See the module.
pub(super) struct Tunnels {
    plan: Option<Plan>,
    /// The default first, then one for each route.
    upstreams: Vec<Arc<Upstream>>,
    /// Those of all upstreams, in the order of the backends.
    endpoints: Vec<Arc<Endpoint>>,
    backends: Vec<Backend>,
    operator: Option<Operator>,
    homes: Homes,
    /// Counters of the workers.
    blocks: Vec<Arc<Block>>,
    /// What a connection of a backend may hear first.
    prefixes: Rc<[Vec<u8>]>,
    clients: Vec<Peer>,
    served: Vec<Peer>,
    /// Which connection of a backend a client was joined to, and the other way round.
    links: HashMap<u32, u32>,
    rng: Rng,
    /// For what was not always drawn.
    more: Rng,
    /// Since when pairs have been without a backend although each has room.
    room_since: Option<Duration>,
}

impl Tunnels {
    pub(super) fn new() -> Self {
        Self {
            plan: None,
            upstreams: Vec::new(),
            endpoints: Vec::new(),
            backends: Vec::new(),
            operator: None,
            homes: Homes::default(),
            blocks: Vec::new(),
            prefixes: Rc::new([]),
            clients: Vec::new(),
            served: Vec::new(),
            links: HashMap::new(),
            rng: Rng::with_seed(0),
            more: Rng::with_seed(0),
            room_since: None,
        }
    }

    fn plan(&self) -> &Plan {
        self.plan.as_ref().expect("a plan is drawn first")
    }

    /// Takes those that have connected to a backend out of its queue, if it is time.
    fn serve(&mut self, index: usize, network: &Network) {
        let now = network.elapsed();
        let whom = BACKENDS + index as u32;
        let backend = &mut self.backends[index];
        if let State::Flaps(every) = backend.state {
            let is_down = (now.as_micros() / every.as_micros().max(1)) % 2 == 1;
            backend.listener.refuse(is_down);
        }
        let pause = if let State::Slow(pause) = backend.state { pause } else { Duration::ZERO };
        while now >= backend.takes_at
            && let Some(remote) = backend.listener.take_remote()
        {
            let number = SERVED + self.served.len() as u32;
            let windows = (self.rng.usize(64..8000), self.rng.usize(64..8000));
            remote.watch(number, windows);
            let prefix = ExpectedPrefix::one_of(Rc::clone(&self.prefixes));
            let mut peer = Peer::served(number, (index, prefix), now, &mut self.rng);
            peer.windows = windows;
            peer.take(remote);
            self.served.push(peer);
            network.call_at(now, number);
            if !pause.is_zero() {
                backend.takes_at = now + pause;
                network.call_at(backend.takes_at, whom);
            }
        }
    }

    fn peer(&mut self, whom: u32) -> &mut Peer {
        if whom >= SERVED {
            &mut self.served[(whom - SERVED) as usize]
        } else {
            &mut self.clients[whom as usize]
        }
    }

    /// Notes that one has heard the other's name.
    fn link(&mut self, whom: u32) -> Result<(), String> {
        let Some(partner) = self.peer(whom).partner() else { return Ok(()) };
        let is_served = |number: u32| number >= SERVED;
        let known = if is_served(partner) {
            ((partner - SERVED) as usize) < self.served.len()
        } else {
            (partner as usize) < self.clients.len()
        };
        if !known || is_served(whom) == is_served(partner) {
            return Err(format!("{} hears {partner}, who is nobody", self.peer(whom).describe()));
        }
        for (one, other) in [(whom, partner), (partner, whom)] {
            let before = *self.links.entry(one).or_insert(other);
            if before != other {
                let who = self.peer(one).describe();
                return Err(format!("{who} is joined to {before} and to {other}"));
            }
        }
        self.judge_joined(whom.min(partner), whom.max(partner))
    }

    /// Makes the backends and the upstreams that they belong to.
    fn build(&mut self, network: &Network) {
        let plan = self.plan.as_ref().expect("a plan is drawn first");
        for (upstream, state) in plan.states.iter().copied() {
            let listener = network.listen(plan.backlog);
            listener.watch(BACKENDS + self.backends.len() as u32);
            state.apply(&listener);
            self.backends.push(Backend { upstream, listener, state, takes_at: Duration::ZERO });
        }
        let mut endpoints = Vec::new();
        for number in 0..=plan.preambles.routes {
            let own = self.backends.iter().filter(|backend| backend.upstream == number);
            let addresses = own.map(|backend| backend.listener.address()).collect();
            let upstream = plan.upstream(addresses, network.now());
            endpoints.extend(upstream.endpoints().into_iter().map(|endpoint| (number, endpoint)));
            self.upstreams.push(upstream);
        }
        let rng = Rng::with_seed(self.more.u64(..));
        self.operator = Some(Operator::new(plan, &endpoints, rng));
        self.endpoints = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
    }

    fn check_counters(&self) -> Result<(), String> {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let own = |peer: &&Peer| peer.place == Place::Backend(index);
            let (mut heard, mut said, mut heard_back, mut said_to) = (0, 0, 0, 0);
            for peer in self.served.iter().filter(own) {
                heard += peer.heard as u64;
                said += peer.said as u64;
                let Some(client) = self.links.get(&peer.number) else { continue };
                heard_back += self.clients[*client as usize].heard as u64;
                said_to += self.clients[*client as usize].said as u64;
            }
            let counters = endpoint.counters();
            let to = counters.get(EndpointCounter::BytesTo);
            let from = counters.get(EndpointCounter::BytesFrom);
            if to < heard || from < heard_back || from > said {
                return Err(format!(
                    "{endpoint:?} has heard {heard} of {said_to} and said {said}, of which \
                     {heard_back} arrived, but is counted with {to} and {from}"
                ));
            }
        }
        Ok(())
    }
}

impl Workload for Tunnels {
    /// It is never asked.
    type Service = Echo;

    fn prepare(&mut self, seed: u64, scenario: &mut Scenario) {
        // Apart from the scenario's, so that that of a service stays what it was.
        self.rng = Rng::with_seed(seed ^ 0x5ca1_ab1e);
        let mut plan = Plan::draw(&mut self.rng, scenario);
        scenario.extra = plan.extra();
        self.more = Rng::with_seed(seed.wrapping_mul(MORE) ^ MORE);
        plan.draw_more(&mut self.more);
        self.plan = Some(plan);
    }

    fn watch(&mut self, block: &Arc<Block>) {
        self.blocks.push(Arc::clone(block));
    }

    fn splicing(&self) -> Splicing {
        self.plan().splicing
    }

    fn settings(
        &mut self,
        scenario: &Scenario,
        network: &Network,
        frontend: &Frontend,
    ) -> Settings<Echo> {
        if self.upstreams.is_empty() {
            self.build(network);
        }
        let plan = self.plan();
        let preread = PrereadRules {
            trusted: plan.preambles.trusted(),
            send: plan.send,
            routes: plan.routes(),
            balances_by_source: plan.balance == Balance::SourceHash,
        };
        Settings::Pairs(Arc::new(ProxySettings {
            budget_bytes: scenario.budget_bytes,
            nodelay: false,
            retries: plan.retries,
            queue: plan.queue,
            splice: true,
            timeouts: plan.timeouts.clone(),
            preread,
            upstreams: self.upstreams.clone(),
            log: None,
            frontend: frontend.id,
            limit: Arc::clone(&frontend.limit),
            times: Arc::default(),
        }))
    }

    fn invite(
        &mut self,
        network: &Network,
        scenario: &Scenario,
        ports: &[Vec<u16>],
        rng: &mut Rng,
    ) {
        let ports = &ports[0];
        for number in 0..scenario.connections as u32 {
            let port = ports[rng.usize(0..ports.len())];
            let start = scenario.span.mul_f64(rng.f64());
            let mut client = Peer::client(number, port, start, rng);
            let plan = self.plan.as_mut().expect("a plan is drawn first");
            client.begin_with(plan.preambles.of(number, port, plan.send));
            self.clients.push(client);
            network.call_at(start, number);
        }
        self.prefixes =
            self.clients.iter().filter_map(|client| client.preamble.prefix.clone()).collect();
        if let Some(operator) = &mut self.operator {
            operator.plan(network, scenario.span, OPERATOR);
        }
        // A backend that flaps is called at each change, for as long as clients come.
        for (index, backend) in self.backends.iter().enumerate() {
            let State::Flaps(every) = backend.state else { continue };
            for change in 1..200 {
                network.call_at(every * change, BACKENDS + index as u32);
            }
        }
    }

    fn act(&mut self, whom: u32, moment: Moment<'_>) -> Result<(), String> {
        if whom == OPERATOR {
            let operator = self.operator.as_mut().expect("it was made with the backends");
            return operator.act(&self.upstreams, moment.network);
        }
        if (BACKENDS..SERVED).contains(&whom) {
            self.serve((whom - BACKENDS) as usize, moment.network);
            return Ok(());
        }
        if self.peer(whom).remote.is_none() {
            self.homes.comes(whom);
        }
        self.judge_patience(whom, moment)?;
        let end = self.peer(whom).act(moment.network)?;
        self.link(whom)?;
        match end {
            Some(end) => self.judge(whom, end, moment),
            None => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(|client| client.over)
    }

    fn waiting(&self) -> Vec<String> {
        self.clients.iter().filter(|client| !client.over).map(Peer::describe).collect()
    }

    fn heard_bytes(&self) -> usize {
        self.clients.iter().map(|client| client.heard).sum()
    }

    fn check_step(&mut self, now: Instant) -> Result<(), String> {
        if let Some(operator) = &mut self.operator {
            operator.check_step(now)?;
        }
        if self.plan().balance == Balance::SourceHash {
            self.homes.look(self.endpoints.iter().map(Arc::as_ref), now);
        }
        let Some(most) = self.plan().max_connections else { return Ok(()) };
        match self.endpoints.iter().find(|endpoint| endpoint.open() > most) {
            Some(full) => Err(format!("{full:?} has more than {most} connections")),
            None => Ok(()),
        }
    }

    fn check_quiet(&mut self, pairs: usize, moment: Moment<'_>) -> Result<bool, String> {
        let leased: usize = self.endpoints.iter().map(|endpoint| endpoint.open()).sum();
        if leased > pairs {
            return Err(format!("{pairs} pairs have {leased} places at backends"));
        }
        self.judge_asked()?;
        let plan = self.plan();
        let most = plan.max_connections.unwrap_or(usize::MAX);
        let patience = if plan.lacks_ports { PORT_PATIENCE } else { ROOM_PATIENCE };
        let room = self.endpoints.iter().all(|endpoint| endpoint.open() < most);
        let now = moment.network.elapsed();
        if leased == pairs || !room || plan.greets || plan.preambles.are_read() {
            self.room_since = None;
        } else if now > *self.room_since.get_or_insert(now) + patience {
            let without = pairs - leased;
            return Err(format!("{without} pairs have no backend although each has room"));
        }
        Ok(leased < pairs || moment.network.is_sending())
    }

    fn check_end(&mut self) -> Result<(), String> {
        // Their descriptors are nobody's fault.
        self.backends.clear();
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.open() > 0) {
            let left = endpoint.open();
            return Err(format!("{left} places at {endpoint:?} were not given back"));
        }
        if let Some(operator) = &self.operator {
            operator.check_end()?;
        }
        self.judge_reasons()?;
        self.check_counters()
    }
}
