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
mod fleet;
mod homes;
mod judge;
mod operator;
mod peer;
mod preamble;
mod prefix;
mod wire;

use std::collections::HashMap;
use std::num::NonZeroUsize;
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
use crate::upstream::{EndpointCounter, Lease};
use draw::{Plan, State};
use fleet::Fleet;
use homes::Homes;
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
    /// The backends as each server knows them.
    fleets: Vec<Fleet>,
    backends: Vec<Backend>,
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
    /// Within which clients come.
    span: Duration,
    /// Whether a server has died, with what it would have counted.
    any_died: bool,
}

impl Tunnels {
    pub(super) fn new() -> Self {
        Self {
            plan: None,
            fleets: Vec::new(),
            backends: Vec::new(),
            homes: Homes::default(),
            blocks: Vec::new(),
            prefixes: Rc::new([]),
            clients: Vec::new(),
            served: Vec::new(),
            links: HashMap::new(),
            rng: Rng::with_seed(0),
            more: Rng::with_seed(0),
            room_since: None,
            span: Duration::ZERO,
            any_died: false,
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

    /// Makes the backends.
    fn build(&mut self, network: &Network) {
        let plan = self.plan.as_ref().expect("a plan is drawn first");
        for (upstream, state) in plan.states.iter().copied() {
            let listener = network.listen(plan.backlog);
            listener.watch(BACKENDS + self.backends.len() as u32);
            state.apply(&listener);
            self.backends.push(Backend { upstream, listener, state, takes_at: Duration::ZERO });
        }
    }

    /// Whether servers may know different backends: then a pair that has moved is at one that nobody counts.
    fn may_differ(&self) -> bool {
        self.plan().moves && self.fleets.len() > 1
    }

    fn check_counters(&self) -> Result<(), String> {
        if self.any_died || self.may_differ() {
            return Ok(());
        }
        for (index, endpoint) in self.fleets[0].endpoints.iter().enumerate() {
            let own = |peer: &&Peer| peer.place == Place::Backend(index);
            let (mut heard, mut said, mut heard_back, mut said_to) = (0, 0, 0, 0);
            for peer in self.served.iter().filter(own) {
                heard += peer.heard as u64;
                said += peer.said as u64;
                let Some(client) = self.links.get(&peer.number) else { continue };
                heard_back += self.clients[*client as usize].heard as u64;
                said_to += self.clients[*client as usize].said as u64;
            }
            let count = |counter| {
                let each =
                    self.fleets.iter().map(|fleet| fleet.endpoints[index].counters().get(counter));
                each.sum::<u64>()
            };
            let (to, from) = (count(EndpointCounter::BytesTo), count(EndpointCounter::BytesFrom));
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
        let upstreams = self.fleet(frontend.server, network).upstreams.clone();
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
            patience: None,
            preread,
            upstreams,
            log: None,
            frontend: frontend.id,
            limit: Arc::clone(&frontend.limit),
            admission: Arc::default(),
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
        self.span = scenario.span;
        if let Some(fleet) = self.fleets.first_mut() {
            fleet.operator.plan(network, scenario.span, OPERATOR);
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
        if (OPERATOR..SERVED).contains(&whom) {
            let Fleet { operator, upstreams, .. } = &mut self.fleets[(whom - OPERATOR) as usize];
            return operator.act(upstreams, moment.network);
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
        for fleet in &mut self.fleets {
            fleet.operator.check_step(now)?;
        }
        if self.plan().balance == Balance::SourceHash {
            let fleets = self.fleets.iter().map(|fleet| fleet.endpoints.iter().map(Arc::as_ref));
            self.homes.look(fleets, now);
        }
        Ok(())
    }

    fn check_places(&self, live: &[usize], twice: &[&Lease]) -> Result<(), String> {
        let Some(most) = self.plan().max_connections else { return Ok(()) };
        if self.may_differ() {
            return Ok(());
        }
        for (place, endpoint) in self.fleets[0].endpoints.iter().enumerate() {
            let of = |server: &usize| self.fleets[*server].leased_at(place);
            let is_there = |lease: &&&Lease| lease.endpoint().address() == endpoint.address();
            let twice = twice.iter().filter(is_there).count();
            let open: Vec<usize> = live.iter().map(of).collect();
            if open.iter().sum::<usize>() > most + twice {
                let address = endpoint.address();
                return Err(format!(
                    "{address} has {open:?} connections of servers {live:?}, {twice} of them of two; {most} are allowed"
                ));
            }
        }
        Ok(())
    }

    fn check_quiet(&mut self, pairs: &[usize], moment: Moment<'_>) -> Result<bool, String> {
        let leased: usize = self.fleets.iter().map(Fleet::leased).sum();
        let all: usize = pairs.iter().sum();
        if leased > all {
            return Err(format!("{all} pairs have {leased} places at backends"));
        }
        self.judge_asked()?;
        let plan = self.plan();
        let most = plan.max_connections.and_then(NonZeroUsize::new);
        let patience = if plan.lacks_ports { PORT_PATIENCE } else { ROOM_PATIENCE };
        // In a server whose place another one has taken they have no more than it has kept for them.
        let lacking =
            self.fleets.iter().zip(pairs).filter(|(fleet, pairs)| fleet.leased() < **pairs);
        let mut endpoints = lacking.flat_map(|(fleet, _)| &fleet.endpoints);
        let room = endpoints.all(|endpoint| !endpoint.is_full(most));
        let may_lack = self.may_differ();
        let now = moment.network.elapsed();
        if leased == all || !room || plan.greets || plan.preambles.are_read() || may_lack {
            self.room_since = None;
        } else if now > *self.room_since.get_or_insert(now) + patience {
            let without = all - leased;
            return Err(format!("{without} pairs have no backend although each has room"));
        }
        Ok(leased < all || moment.network.is_sending())
    }

    fn reserve(&mut self, server: usize, before: Option<(usize, usize)>) {
        self.reserve_places(server, before);
    }

    fn ends_sharing(&mut self, server: usize) {
        if let Some(fleet) = self.fleets.get(server) {
            fleet.upstreams.iter().for_each(|upstream| upstream.widen());
        }
    }

    fn takes_over(&mut self, server: usize) {
        if let Some(fleet) = self.fleets.get_mut(server) {
            fleet.operator.takes_over();
        }
    }

    fn dies(&mut self) {
        self.any_died = true;
    }

    fn check_end(&mut self) -> Result<(), String> {
        // Their descriptors are nobody's fault.
        self.backends.clear();
        for fleet in &self.fleets {
            if let Some(place) = (0..fleet.endpoints.len()).find(|it| fleet.leased_at(*it) > 0) {
                let (left, endpoint) = (fleet.leased_at(place), &fleet.endpoints[place]);
                return Err(format!("{left} places at {endpoint:?} were not given back"));
            }
            fleet.operator.check_end()?;
        }
        self.judge_reasons()?;
        self.check_counters()
    }
}
