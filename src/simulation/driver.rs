//! Steps of threads, network and clients, in an order that the seed decides.
//!
//! ```text
//!   thread:  turn --> start --> wait --> enter --> turn ...
//!              |        |        |         |
//!              +--------+--------+---------+---- between any two, others take their steps
//! ```
//!
//! Between `turn` and `start` a thread has announced that it is parked, and what it asked for is not
//! known to anybody yet; between `start` and `enter` it sleeps, or is slow to wake up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;

use super::changes::{Change, Changes};
use super::scenario::{Ending, Scenario};
use super::server::Server;
use super::sources::SourceRules;
use super::thread::{State, Thread, text_of};
use super::upgrade::Upgrades;
use super::workload::{Moment, Workload};
use super::{Run, Summary};
use crate::ring::simulated::Network;
use crate::server::Phase;
use crate::service::Service;
use crate::sys::Errno;

/// Most steps of a run. Far more than any run takes.
const STEPS_LIMIT: usize = 2_000_000;
/// Steps after which descriptors are looked at.
const SWEEP_EVERY: usize = 256;

/// See the module.
pub(super) struct Driver<P: Workload> {
    pub(super) network: Network,
    pub(super) scenario: Scenario,
    pub(super) workload: P,
    pub(super) threads: Vec<Thread<P::Service>>,
    pub(super) servers: Vec<Server<P::Service>>,
    pub(super) upgrades: Upgrades,
    pub(super) rules: Option<SourceRules>,
    rng: Rng,
    pub(super) steps: usize,
}

impl<P: Workload> Driver<P> {
    pub(super) fn new(seed: u64, mut workload: P, run: Run) -> Self {
        let Run { trace, changes, upgrades, rules } = run;
        let mut rng = Rng::with_seed(seed);
        let mut scenario = Scenario::from_seed(&mut rng);
        workload.prepare(seed, &mut scenario);
        let mut rules = rules.then(|| SourceRules::draw(seed, &mut scenario));
        let network = Network::new(rng.u64(..), scenario.faults.clone());
        network.drive();
        network.allow_drops(false);
        if trace {
            network.trace();
            network.note("seed", || format!("{seed}: {scenario:?}"));
        }
        let mut changes = match changes {
            true => Changes::draw(seed, &scenario, workload.kinds()),
            false => Changes::none(&scenario, workload.kinds()),
        };
        if let Some(rules) = &mut rules {
            rules.begin(&network);
            changes.admit(rules.admission(), rules.moments());
        }
        let upgrades = match upgrades {
            true => Upgrades::draw(seed, &mut scenario, workload.kinds()),
            false => Upgrades::none(),
        };
        upgrades.limit(&changes.frontends);
        let mut driver = Self {
            network,
            scenario,
            workload,
            threads: Vec::new(),
            servers: Vec::new(),
            upgrades,
            rules,
            rng,
            steps: 0,
        };
        let workers = driver.scenario.workers;
        let ports = driver.add_server(changes, (workers, true));
        driver.invite(&ports);
        driver
    }

    fn invite(&mut self, ports: &[Vec<u16>]) {
        self.workload.invite(&self.network, &self.scenario, ports, &mut self.rng);
        // Not clients, but moments at which something has to be done.
        for moment in self.moments() {
            self.network.call_at(moment, u32::MAX);
        }
    }

    fn moments(&self) -> Vec<Duration> {
        let ending = match self.scenario.ending {
            Ending::RunOut => vec![],
            Ending::DrainAt(at) | Ending::StopAt(at) => vec![at],
            Ending::DrainThenStop(drain, stop) => vec![drain, stop],
        };
        let breaks = self.scenario.breaks_at;
        let upgrades = self.upgrades.moments();
        ending
            .into_iter()
            .chain(breaks)
            .chain(upgrades)
            .chain(self.servers[0].changes.moments())
            .collect()
    }

    pub(super) fn take_trace(&self) -> String {
        self.network.take_trace()
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<Summary, String> {
        while !self.is_over() {
            self.steps += 1;
            self.step()?;
            self.check_step()?;
            if self.steps.is_multiple_of(SWEEP_EVERY) {
                self.network.sweep();
            }
            if self.steps > STEPS_LIMIT {
                return Err(format!("no end after {STEPS_LIMIT} steps"));
            }
        }
        self.check_end()?;
        Ok(Summary {
            connections: self.scenario.connections,
            heard_bytes: self.workload.heard_bytes(),
            steps: self.steps,
            elapsed: self.network.elapsed(),
        })
    }

    fn is_over(&self) -> bool {
        let ended = self.threads.iter().all(|thread| thread.state == State::Ended);
        ended && self.workload.is_over() && self.upgrades.is_idle()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.workload.is_over() && self.servers.iter().any(|it| it.phase() == Phase::Serving) {
            self.enter(Phase::Draining);
        }
        let now = self.network.elapsed();
        let due = self.network.next_due();
        let ready: Vec<usize> =
            (0..self.threads.len()).filter(|index| self.threads[*index].is_ready(now)).collect();
        let jump = Duration::from_millis(2);
        let network_first = match due {
            Some(due) if ready.is_empty() => {
                self.first_deadline().is_none_or(|deadline| due <= deadline)
            }
            Some(due) if due <= now => self.rng.u8(0..3) == 0,
            // The threads are slow.
            Some(due) => due < now + jump && self.rng.u8(0..32) == 0,
            None => false,
        };
        if network_first {
            if due.is_some_and(|due| due > now) && ready.is_empty() {
                self.check_quiet()?;
            }
            return self.run_network();
        }
        if let Some(index) = ready.get(self.rng.usize(0..ready.len().max(1))) {
            let nanos = [0, 0, 0, 100, 1000][self.rng.usize(0..5)];
            self.network.pass(Duration::from_nanos(nanos));
            return self.step_thread(*index);
        }
        self.check_quiet()?;
        match self.first_deadline() {
            Some(deadline) => self.network.pass(deadline.saturating_sub(now)),
            None => return Err(self.stuck()),
        }
        Ok(())
    }

    pub(super) fn first_deadline(&self) -> Option<Duration> {
        let deadlines = self.threads.iter().filter_map(|thread| match thread.state {
            State::Wait(deadline) => deadline,
            _ => None,
        });
        deadlines.min()
    }

    fn run_network(&mut self) -> Result<(), String> {
        let ending = self.is_stopping();
        let Some(whom) = self.network.run_next() else { return Ok(()) };
        if whom == u32::MAX {
            self.keep_time(self.network.elapsed());
            return Ok(());
        }
        let held = self.upgrades.held();
        let moment = Moment { network: &self.network, scenario: &self.scenario, ending, held };
        self.workload.act(whom, moment)
    }

    /// Changes the server, if it is time and it does not end yet.
    fn change(&mut self, now: Duration) {
        while let Some(change) = self.servers[0].changes.due(now) {
            if self.servers[0].phase() != Phase::Serving {
                continue;
            }
            self.network.note("controller", || format!("{change:?}"));
            let Self { servers, workload, scenario, network, rules, .. } = self;
            if let Some(rules) = rules.as_mut().filter(|_| change == Change::Admit) {
                servers[0].changes.replace_admission(rules.next(network));
            }
            servers[0]
                .changes
                .make(change, |frontend| workload.settings(scenario, network, frontend));
            self.poll_wakes();
        }
    }

    /// Does what has its moment.
    fn keep_time(&mut self, now: Duration) {
        self.change(now);
        self.upgrade(now);
        match self.scenario.ending {
            Ending::StopAt(at) if now >= at => self.enter(Phase::Stopping),
            Ending::DrainThenStop(_, at) if now >= at => self.enter(Phase::Stopping),
            Ending::DrainAt(at) | Ending::DrainThenStop(at, _)
                if now >= at && self.upgrades.is_idle() =>
            {
                self.enter(Phase::Draining);
            }
            _ => {}
        }
        if self.scenario.breaks_at.is_some_and(|at| now >= at) {
            self.scenario.breaks_at = None;
            for event_loop in self.threads.iter().filter_map(|one| one.event_loop.as_ref()) {
                let broken = event_loop.listeners().iter().skip(1);
                broken.for_each(|it| it.listening.socket.listener.break_with(Errno::EINVAL));
            }
        }
    }

    /// All servers enter a phase.
    fn enter(&mut self, phase: Phase) {
        for server in 0..self.servers.len() {
            self.enter_one(server, phase);
        }
    }

    pub(super) fn enter_one(&mut self, server: usize, phase: Phase) {
        if self.servers.len() > 1 && self.servers[server].phase() >= phase {
            return;
        }
        self.network.note(&server_name(server), || format!("{phase:?}"));
        self.servers[server].shared.lifecycle.enter(phase, self.network.now());
        self.look_for_wakes();
    }

    /// Wakes from threads cost a system call to see, so they are looked for when there may be some.
    fn look_for_wakes(&mut self) {
        let mut some = false;
        for server in &mut self.servers {
            let now = (server.phase(), server.shared.lifecycle.is_accepting());
            some |= now != std::mem::replace(&mut server.woken_for, now);
        }
        if some || P::Service::MESSAGES > 0 {
            self.poll_wakes();
        }
    }

    pub(super) fn poll_wakes(&mut self) {
        for event_loop in self.threads.iter_mut().filter_map(|thread| thread.event_loop.as_mut()) {
            event_loop.ring().0.poll_wakes();
        }
    }

    /// Whether connections are ended without regard to what they do.
    pub(super) fn is_stopping(&self) -> bool {
        let now = self.network.now();
        let stops = |server: &Server<P::Service>| {
            let drain_over = server.shared.lifecycle.drain_until().is_some_and(|end| now >= end);
            drain_over || server.phase() == Phase::Stopping
        };
        self.servers.iter().any(stops)
    }

    fn step_thread(&mut self, index: usize) -> Result<(), String> {
        let stopping = self.is_stopping();
        self.network.allow_drops(stopping);
        let thread = &mut self.threads[index];
        let network = &self.network;
        let stepped = catch_unwind(AssertUnwindSafe(|| thread.step(network)));
        let name = thread.name.clone();
        match stepped {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(format!("{name}: {why}")),
            Err(panic) => return Err(format!("{name} panicked: {}", text_of(panic.as_ref()))),
        }
        self.look_for_wakes();
        if stopping {
            // What it drops is closed at once.
            self.network.sweep();
        }
        self.follow_upgrade()?;
        self.check_sources(index)?;
        self.check_thread(index)
    }
}

fn server_name(server: usize) -> String {
    if server == 0 { "server".to_owned() } else { format!("server {server}") }
}
