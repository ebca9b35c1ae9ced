//! Who is at the other ends of a server's connections, and how its threads serve them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::changes::Frontend;
use super::client::{Circumstances, Client};
use super::conversation::Conversation;
use super::scenario::Scenario;
use crate::metrics::Block;
use crate::proxy::Splicing;
use crate::ring::simulated::Network;
use crate::server::connections::Settings;
use crate::service::Service;
use crate::upstream::Lease;
use crate::worker::SessionSettings;

/// What is known when somebody acts or is looked at.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) network: &'a Network,
    pub(super) scenario: &'a Scenario,
    /// Whether the server ends connections that are not idle.
    pub(super) ending: bool,
    /// For how long, all in all, connections may have been on no thread: deadlines stand still then.
    pub(super) held: Duration,
}

/// Deadlines count whole milliseconds.
const SLACK: Duration = Duration::from_millis(2);
/// How long a connection that is to move may take to become quiet; if it does not, it goes on or ends.
const QUIETING: Duration = Duration::from_millis(60);

impl Moment<'_> {
    /// How much sooner than after its deadline a connection may seem to end: what is cancelled so that it can move counts
    /// as the beginning of the end, if that comes next.
    pub(super) fn slack(&self) -> Duration {
        match self.held {
            Duration::ZERO => SLACK,
            _ => SLACK + QUIETING + self.scenario.faults.latest * 2,
        }
    }
}

/// How late a deadline of two seconds may be noticed by a thread that does not wait for anything.
const LATE: Duration = Duration::from_millis(300);
const LIMITS_SEED: u64 = 0x510d_0000_0000_0016;

/// See the module.
pub(super) trait Workload {
    /// What answers where nothing is passed on.
    type Service: Service;

    /// Draws what a seed decides besides the scenario, and changes that where it has to.
    fn prepare(&mut self, _seed: u64, _scenario: &mut Scenario) {}

    /// How many kinds of frontends there are, one or more; the first frontends are one of each.
    fn kinds(&self) -> usize {
        1
    }

    /// What the connections of a frontend go by.
    fn settings(
        &mut self,
        scenario: &Scenario,
        network: &Network,
        frontend: &Frontend,
    ) -> Settings<Self::Service>;

    /// When threads splice.
    fn splicing(&self) -> Splicing {
        Splicing { pipes: 0, patience: 1 }
    }

    /// Is shown what a thread counts.
    fn watch(&mut self, _block: &Arc<Block>) {}

    /// Plans when who comes, and to which of the ports of each kind.
    fn invite(&mut self, network: &Network, scenario: &Scenario, ports: &[Vec<u16>], rng: &mut Rng);

    /// Lets somebody do what is due.
    ///
    /// # Errors
    /// What the server has done wrong.
    fn act(&mut self, whom: u32, moment: Moment<'_>) -> Result<(), String>;

    /// Whether no client has anything to do any more.
    fn is_over(&self) -> bool;

    /// The clients that are not through.
    fn waiting(&self) -> Vec<String>;

    /// Bytes that clients have heard.
    fn heard_bytes(&self) -> usize;

    /// After every step.
    fn check_step(&mut self, _now: Instant) -> Result<(), String> {
        Ok(())
    }

    /// When all threads wait; each server has so many `pairs` of a proxy. Returns whether one of them may well
    /// have bytes unread although nobody has asked for them.
    fn check_quiet(&mut self, _pairs: &[usize], _moment: Moment<'_>) -> Result<bool, String> {
        Ok(false)
    }

    /// The limits of backends, for the connections of all these servers together, less those that two have.
    fn check_places(&self, _live: &[usize], _twice: &[&Lease]) -> Result<(), String> {
        Ok(())
    }

    /// A server counts what the one before it still has at backends, or may get for so many connections that have none;
    /// nothing if that is none.
    fn reserve(&mut self, _server: usize, _before: Option<(usize, usize)>) {}

    /// No server counts any more what this one has at backends.
    fn ends_sharing(&mut self, _server: usize) {}

    /// A server is about to go on with connections that another one has made.
    fn takes_over(&mut self, _server: usize) {}

    /// A server has died, and with it what it would have counted.
    fn dies(&mut self) {}

    /// When everything has ended.
    fn check_end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A service and clients that talk to it.
pub(super) struct Conversing<'a, S, C> {
    service: Arc<S>,
    conversation: &'a C,
    clients: Vec<Client>,
    /// The number of the first client.
    first: u32,
}

impl<'a, S: Service, C: Conversation> Conversing<'a, S, C> {
    pub(super) fn new(service: Arc<S>, conversation: &'a C) -> Self {
        Self { service, conversation, clients: Vec::new(), first: 0 }
    }

    /// Numbers its clients from here.
    pub(super) fn numbered_from(self, first: u32) -> Self {
        Self { first, ..self }
    }
}

impl<S: Service, C: Conversation> Workload for Conversing<'_, S, C> {
    type Service = S;

    /// Draws apart, so that the scenario of a seed is the one that it is without limits.
    fn prepare(&mut self, seed: u64, scenario: &mut Scenario) {
        let mut rng = Rng::with_seed(seed ^ LIMITS_SEED);
        scenario.timeouts.requests = self.conversation.limits(&mut rng);
    }

    fn settings(&mut self, scenario: &Scenario, _: &Network, frontend: &Frontend) -> Settings<S> {
        Settings::Sessions(Arc::new(SessionSettings {
            service: Arc::clone(&self.service),
            budget_bytes: scenario.budget_bytes,
            timeouts: scenario.timeouts.clone(),
            frontend: frontend.id,
            patience: None,
            trusted: Vec::new(),
            limit: Arc::clone(&frontend.limit),
            admission: Arc::clone(&frontend.admission),
            times: Arc::default(),
            log: None,
        }))
    }

    fn invite(
        &mut self,
        network: &Network,
        scenario: &Scenario,
        ports: &[Vec<u16>],
        rng: &mut Rng,
    ) {
        for number in self.first..self.first + scenario.connections as u32 {
            let client = Client::new(number, &ports[0], scenario, self.conversation, rng);
            network.call_at(client.start(), number);
            self.clients.push(client);
        }
    }

    fn check_step(&mut self, _now: Instant) -> Result<(), String> {
        self.conversation.check(false)
    }

    fn check_quiet(&mut self, _pairs: &[usize], _moment: Moment<'_>) -> Result<bool, String> {
        Ok(self.conversation.pauses())
    }

    fn check_end(&mut self) -> Result<(), String> {
        self.conversation.check(true)
    }

    fn act(&mut self, whom: u32, moment: Moment<'_>) -> Result<(), String> {
        let timeouts = &moment.scenario.timeouts;
        let shortest: Duration = timeouts.first_byte.min(timeouts.idle).min(timeouts.write_stall);
        let now = moment.network.elapsed();
        let stalls_before = match moment.held {
            Duration::ZERO => None,
            _ => now.checked_sub(timeouts.write_stall),
        };
        let circumstances = Circumstances {
            ending: moment.ending,
            shortest,
            slack: moment.slack(),
            late: LATE + moment.scenario.faults.latest * 4,
            stays: moment.held.is_zero(),
            limits: timeouts.requests,
            stalls_before,
            refuses: !moment.scenario.sources.is_empty(),
        };
        self.clients[(whom - self.first) as usize].act(
            moment.network,
            self.conversation,
            circumstances,
        )
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(Client::is_over)
    }

    fn waiting(&self) -> Vec<String> {
        self.clients.iter().filter(|client| !client.is_over()).map(Client::describe).collect()
    }

    fn heard_bytes(&self) -> usize {
        self.clients.iter().map(Client::heard).sum()
    }
}
