//! What happens to backends from outside: checks pass and fail, the operator drains them, takes them
//! away and brings them back. And who may get connections then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::draw::Plan;
use crate::config::upstream::{Backend, WhenAllOut};
use crate::ring::simulated::Network;
use crate::upstream::{Endpoint, EndpointCounter, EndpointState, Upstream};

/// How much of an upstream may be ejected, by default.
const EJECTED_PERCENT_MAX: usize = 50;

fn ejections(endpoint: &Endpoint) -> u64 {
    endpoint.counters().get(EndpointCounter::Ejections)
}

/// Whether it may be picked, whatever others are.
fn is_well(state: EndpointState) -> bool {
    matches!(state, EndpointState::Unknown | EndpointState::Up | EndpointState::Failing)
}

/// Most things that happen in one run.
const MOST: usize = 60;

/// An endpoint, and what has been done to it.
struct Known {
    endpoint: Arc<Endpoint>,
    upstream: usize,
    is_up: bool,
    /// Checks in a row that say otherwise.
    row: u32,
    /// Checks that passed and that failed, and how often it came up and went down.
    counted: [u64; 4],
    is_member: bool,
    drains: bool,
    /// As they were after the last step.
    open: usize,
    was_well: bool,
    ejections: u64,
}

impl Known {
    fn serves(&self) -> bool {
        self.is_member && !self.drains
    }
}

/// See the module.
pub(super) struct Operator {
    rng: Rng,
    checks: Option<(u32, u32)>,
    moves: bool,
    when_all_out: WhenAllOut,
    known: Vec<Known>,
    /// Whether there ever was nobody of an upstream to connect to.
    pub(super) ever_out: bool,
    /// Whether connections of another server came to this one since the last look.
    takes_over: bool,
}

impl Operator {
    pub(super) fn new(plan: &Plan, endpoints: &[(usize, Arc<Endpoint>)], rng: Rng) -> Self {
        // Nothing is known yet: the first check that fails is enough.
        let row = plan.checks.map_or(0, |(_, fall)| fall - 1);
        let known = |(upstream, endpoint): &(usize, Arc<Endpoint>)| Known {
            endpoint: Arc::clone(endpoint),
            upstream: *upstream,
            is_up: true,
            row,
            counted: [0; 4],
            is_member: true,
            drains: false,
            open: 0,
            was_well: true,
            ejections: 0,
        };
        Self {
            rng,
            checks: plan.checks,
            moves: plan.moves,
            when_all_out: plan.when_all_out,
            known: endpoints.iter().map(known).collect(),
            ever_out: false,
            takes_over: false,
        }
    }

    /// Plans when something happens, for some longer than clients come.
    pub(super) fn plan(&mut self, network: &Network, span: Duration, whom: u32) {
        if self.checks.is_none() && !self.moves {
            return;
        }
        let now = network.elapsed();
        for _ in 0..self.rng.usize(1..=MOST) {
            network.call_at(now + span.mul_f64(self.rng.f64() * 1.5), whom);
        }
    }

    /// Connections of another server come to this one: whoever they are with may have more of them.
    pub(super) fn takes_over(&mut self) {
        self.takes_over = true;
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// It was refused, or done although it cannot be.
    pub(super) fn act(
        &mut self,
        upstreams: &[Arc<Upstream>],
        network: &Network,
    ) -> Result<(), String> {
        let index = self.rng.usize(0..self.known.len());
        let upstream = &upstreams[self.known[index].upstream];
        match self.checks {
            Some(rules) if !self.moves || self.rng.u8(0..4) > 0 => {
                self.check(index, rules, upstream, network);
                Ok(())
            }
            _ if self.rng.bool() => self.drain(index, upstream, network),
            _ => self.replace(self.known[index].upstream, upstream, network),
        }
    }

    fn check(
        &mut self,
        index: usize,
        (rise, fall): (u32, u32),
        upstream: &Upstream,
        network: &Network,
    ) {
        let known = &mut self.known[index];
        // A row mostly goes on.
        let agrees = if self.rng.bool() { known.row == 0 } else { self.rng.bool() };
        let passes = agrees == known.is_up;
        let outcome = if passes { Ok(()) } else { Err("the simulation says so".into()) };
        network.note("operator", || format!("a check of backend {index}: {outcome:?}"));
        upstream.check_ended(&known.endpoint, outcome, network.now());
        known.counted[usize::from(!passes)] += 1;
        if passes == known.is_up {
            // Only a row of failures counts while it is up, only one of successes while it is down.
            known.row = 0;
            return;
        }
        known.row += 1;
        if known.row >= if known.is_up { fall } else { rise } {
            (known.is_up, known.row) = (passes, 0);
            known.counted[if passes { 2 } else { 3 }] += 1;
        }
    }

    fn drain(
        &mut self,
        index: usize,
        upstream: &Arc<Upstream>,
        network: &Network,
    ) -> Result<(), String> {
        let known = &mut self.known[index];
        let drains = !known.drains;
        network.note("operator", || format!("backend {index} drains: {drains}"));
        let done = upstream.set_draining(known.endpoint.target(), drains);
        if done.is_ok() != known.is_member {
            return Err(format!("backend {index} is told to drain: {done:?}"));
        }
        known.drains = known.is_member && drains;
        Ok(())
    }

    /// Some of the backends of one upstream are those that there are from now on.
    fn replace(
        &mut self,
        number: usize,
        upstream: &Arc<Upstream>,
        network: &Network,
    ) -> Result<(), String> {
        let all = (0..self.known.len()).filter(|index| self.known[*index].upstream == number);
        let mut chosen: Vec<usize> = all.collect();
        self.rng.shuffle(&mut chosen);
        chosen.truncate(self.rng.usize(1..=chosen.len()));
        network.note("operator", || format!("upstream {number} has backends {chosen:?}"));
        let backends: Vec<Backend> = chosen
            .iter()
            .map(|index| {
                let (target, weight) = (self.known[*index].endpoint.target(), self.rng.u8(1..=3));
                format!("{target},weight={weight}").parse().expect("it is a backend")
            })
            .collect();
        upstream.replace_backends(&backends).map_err(|error| error.to_string())?;
        for (index, known) in self.known.iter_mut().enumerate() {
            if known.upstream == number {
                known.is_member = chosen.contains(&index);
                // Whoever comes back does not drain any more.
                known.drains &= known.is_member;
            }
        }
        Ok(())
    }

    /// Whether each endpoint is what it has to be, and only those have got connections that may.
    ///
    /// # Errors
    /// Which is not, and which has.
    pub(super) fn check_step(&mut self, now: Instant) -> Result<(), String> {
        let states: Vec<EndpointState> =
            self.known.iter().map(|known| known.endpoint.state(now)).collect();
        for (index, (known, state)) in self.known.iter().zip(&states).enumerate() {
            let right = match state {
                EndpointState::Draining => !known.serves(),
                EndpointState::Down => known.serves() && !known.is_up,
                EndpointState::Unknown
                | EndpointState::Up
                | EndpointState::Failing
                | EndpointState::Ejected => known.serves() && known.is_up,
            };
            if !right {
                let (up, serves) = (known.is_up, known.serves());
                return Err(format!("backend {index} is {state:?}; up: {up}, serves: {serves}"));
            }
            let is_well = is_well(*state);
            let more = known.endpoint.open() > known.open && !self.takes_over;
            if more && !(known.was_well || is_well) {
                self.may_get_connections(index, &states)?;
            }
        }
        for number in 0..=self.known.iter().map(|known| known.upstream).max().unwrap_or(0) {
            self.check_upstream(number, &states)?;
        }
        for (known, state) in self.known.iter_mut().zip(&states) {
            known.open = known.endpoint.open();
            known.was_well = is_well(*state);
            known.ejections = ejections(&known.endpoint);
        }
        self.takes_over = false;
        Ok(())
    }

    /// Not more are ejected than may be, and whether there is somebody to connect to.
    fn check_upstream(&mut self, number: usize, states: &[EndpointState]) -> Result<(), String> {
        let of = |(known, _): &(&Known, &EndpointState)| known.upstream == number && known.serves();
        let serving = || self.known.iter().zip(states).filter(of);
        let may_take = |(known, state): (&Known, &EndpointState)| {
            let is_well = known.was_well && is_well(*state);
            is_well || self.when_all_out == WhenAllOut::TryAll
        };
        let is_out = !serving().any(may_take);
        let ejected = serving().filter(|(_, state)| **state == EndpointState::Ejected).count();
        let another = serving().any(|(known, _)| ejections(&known.endpoint) > known.ejections);
        let all = serving().count();
        self.ever_out |= is_out;
        if another && ejected * 100 > all * EJECTED_PERCENT_MAX {
            return Err(format!("of {all} backends of upstream {number}, {ejected} are ejected"));
        }
        Ok(())
    }

    /// One that was not well during the whole step has got a connection.
    fn may_get_connections(&self, index: usize, states: &[EndpointState]) -> Result<(), String> {
        let (state, upstream) = (states[index], self.known[index].upstream);
        if state == EndpointState::Draining {
            return Err(format!("backend {index} has got a connection and drains or is gone"));
        }
        if self.when_all_out == WhenAllOut::Refuse {
            return Err(format!("backend {index} has got a connection and is {state:?}"));
        }
        let others = self.known.iter().zip(states);
        let well = others.enumerate().find(|(_, (known, state))| {
            let is_well = known.was_well && is_well(**state);
            known.upstream == upstream && is_well
        });
        match well {
            Some((other, _)) => Err(format!(
                "backend {index} has got a connection and is {state:?}, although {other} is up"
            )),
            None => Ok(()),
        }
    }

    /// # Errors
    /// A counter that is not what was counted here.
    pub(super) fn check_end(&self) -> Result<(), String> {
        let counters = [
            EndpointCounter::ChecksPassed,
            EndpointCounter::ChecksFailed,
            EndpointCounter::CameUp,
            EndpointCounter::WentDown,
        ];
        for (index, known) in self.known.iter().enumerate() {
            let counted = counters.map(|counter| known.endpoint.counters().get(counter));
            if counted != known.counted {
                let right = known.counted;
                return Err(format!("checks of backend {index}: {counted:?}, not {right:?}"));
            }
        }
        Ok(())
    }
}
