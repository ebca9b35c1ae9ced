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
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::changes::{Changes, Socket};
use super::listener::SimulatedListener;
use super::scenario::{Accepting, Ending, Scenario};
use super::workload::{Moment, Workload};
use super::{Run, Summary};
use crate::connection::ThreadLimits;
use crate::dispatch::{
    ConnectionLimit, Dispatcher, Done, InboxSender, ListenerId, Parker, WorkerId, commands, inbox,
};
use crate::metrics::Block;
use crate::ring::simulated::{Network, Simulated};
use crate::ring::{Ring, Wait};
use crate::server::Phase;
use crate::server::command::Command;
use crate::server::connections::Connections;
use crate::server::event_loop::{EventLoop, Next, Parts, Shared};
use crate::server::lifecycle::{Lifecycle, Threads};
use crate::service::Service;
use crate::sys::Errno;

/// Most steps of a run. Far more than any run takes.
const STEPS_LIMIT: usize = 2_000_000;
/// Steps after which descriptors are looked at.
const SWEEP_EVERY: usize = 256;

/// Where a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Turn,
    Start(Next),
    /// Until then, or until something comes.
    Wait(Option<Duration>),
    Ended,
}

/// One thread of the server.
pub(super) struct Thread<S: Service> {
    pub(super) name: String,
    /// `None` once it has ended.
    pub(super) event_loop: Option<EventLoop<Simulated, S, SimulatedListener>>,
    pub(super) state: State,
    pub(super) block: Arc<Block>,
    /// Turns in vain, and when the first of them was.
    pub(super) in_vain: (usize, Duration),
    /// Index among the workers.
    pub(super) worker: Option<usize>,
}

/// See the module.
pub(super) struct Driver<P: Workload> {
    pub(super) network: Network,
    pub(super) scenario: Scenario,
    pub(super) workload: P,
    pub(super) threads: Vec<Thread<P::Service>>,
    pub(super) senders: Vec<InboxSender>,
    pub(super) shared: Shared,
    pub(super) changes: Changes<P::Service>,
    rng: Rng,
    pub(super) steps: usize,
    /// What wakes from threads depend on, as it was when they were looked for.
    woken_for: (Phase, bool),
}

impl<P: Workload> Driver<P> {
    pub(super) fn new(seed: u64, mut workload: P, run: Run) -> Self {
        let Run { trace, changes } = run;
        let mut rng = Rng::with_seed(seed);
        let mut scenario = Scenario::from_seed(&mut rng);
        workload.prepare(seed, &mut scenario);
        let network = Network::new(rng.u64(..), scenario.faults.clone());
        network.drive();
        network.allow_drops(false);
        if trace {
            network.trace();
            network.note("seed", || format!("{seed}: {scenario:?}"));
        }
        let acceptors = match scenario.accepting {
            Accepting::Dedicated | Accepting::FirstWorker => 1,
            Accepting::EachWorker => scenario.workers,
        };
        let shared = Shared {
            lifecycle: Arc::new(Lifecycle::new(scenario.drain_timeout, acceptors)),
            connection_limit: Arc::new(ConnectionLimit::new(scenario.max_connections)),
            queues: Arc::default(),
        };
        let changes = match changes {
            true => Changes::draw(seed, &scenario, workload.kinds()),
            false => Changes::none(&scenario, workload.kinds()),
        };
        let mut driver = Self {
            changes,
            network,
            scenario,
            workload,
            threads: Vec::new(),
            senders: Vec::new(),
            shared,
            rng,
            steps: 0,
            woken_for: (Phase::Serving, true),
        };
        let ports = driver.build();
        driver.invite(&ports);
        driver
    }

    /// Makes all threads. Returns the ports that they listen on, by the kind of what is there.
    fn build(&mut self) -> Vec<Vec<u16>> {
        let workers = self.scenario.workers;
        let accepting = self.scenario.accepting;
        let is_dedicated = accepting == Accepting::Dedicated;
        let dedicated = is_dedicated.then(|| "acceptor-0".to_owned());
        let names = (0..workers).map(|index| format!("worker-{index}")).chain(dedicated);
        let rings: Vec<(String, Simulated)> = names.map(|name| self.ring(name)).collect();
        let parker = |(_, ring): &(_, Simulated)| Parker::new(ring.address(), ring.waker());
        let all: Vec<Arc<Parker>> = rings.iter().map(parker).map(Arc::new).collect();
        let places = (0..rings.len()).filter(|place| accepting.accepts(*place, workers));
        let parkers = places.map(|place| Arc::clone(&all[place])).collect();
        let inboxes = all.iter().map(|parker| inbox(self.scenario.inbox, Arc::clone(parker)));
        let (senders, inboxes): (Vec<_>, Vec<_>) = inboxes.unzip();
        self.senders = senders[..workers].to_vec();
        self.shared.lifecycle.set_threads(Threads { all: all.clone(), accepting: parkers });
        let done = Done::new(rings.len());
        let mut ports = vec![Vec::new(); self.workload.kinds()];
        for (index, ((name, ring), inbox)) in rings.into_iter().zip(inboxes).enumerate() {
            let accepts = accepting.accepts(index, workers);
            let worker = (index < workers).then_some(index);
            let metrics = Arc::new(Block::default());
            let (sender, commands) = commands(Arc::clone(&all[index]));
            let sockets = if accepts { self.listeners(index) } else { Vec::new() };
            for (_, listener, socket) in &sockets {
                let kind = self.changes.frontends[usize::from(listener.frontend.0)].kind;
                ports[kind].push(socket.listener.port());
            }
            sender.send(self.first_commands(sockets), &done);
            self.changes.senders.push(sender);
            self.workload.watch(&metrics);
            let parts = Parts {
                accepts,
                dispatcher: self.dispatcher(worker),
                connections: self.connections(&ring, &metrics),
                inbox,
                commands,
                metrics: Arc::clone(&metrics),
                cpu_time: || Some(Duration::ZERO),
            };
            self.threads.push(Thread {
                name,
                event_loop: Some(EventLoop::new(ring, parts, self.shared.clone())),
                state: State::Turn,
                block: metrics,
                in_vain: (0, Duration::ZERO),
                worker,
            });
        }
        ports
    }

    fn connections(&self, ring: &Simulated, metrics: &Arc<Block>) -> Connections<P::Service> {
        let receive_credit = ring.capabilities().receive_credit;
        let limits = ThreadLimits { capacity: self.scenario.max_connections, receive_credit };
        Connections::new(limits, self.workload.splicing(), metrics, ring.now())
    }

    /// What a thread is told before it runs.
    fn first_commands(
        &mut self,
        sockets: Vec<Socket<Arc<SimulatedListener>>>,
    ) -> Vec<Command<P::Service, SimulatedListener>> {
        let mut commands = Vec::new();
        for frontend in &self.changes.frontends {
            let settings = self.workload.settings(&self.scenario, &self.network, frontend);
            commands.push(Command::Publish { frontend: frontend.id, settings });
        }
        for (_, listener, socket) in sockets {
            self.shared.lifecycle.sockets().add(listener, 1);
            let mut frontends = self.changes.frontends.iter();
            let frontend = frontends.find(|frontend| frontend.id == listener.frontend);
            let listen = frontend.map(|it| Command::Listen(it.listening(listener, socket)));
            commands.extend(listen);
        }
        commands
    }

    fn dispatcher(&self, home: Option<usize>) -> Dispatcher {
        Dispatcher::new(self.senders.clone(), self.scenario.policy, home.map(WorkerId))
    }

    fn ring(&self, name: String) -> (String, Simulated) {
        let ring = self.network.ring(&name, &self.scenario.sizes);
        (name, ring.expect("the machine has memory and descriptors"))
    }

    /// Binds the sockets of a thread that accepts.
    #[expect(clippy::arc_with_non_send_sync, reason = "real listeners are shared with handles")]
    fn listeners(&mut self, thread: usize) -> Vec<Socket<Arc<SimulatedListener>>> {
        let mut sockets = Vec::new();
        for frontend in &mut self.changes.frontends {
            for index in 0..self.scenario.listeners as u16 {
                let socket = SimulatedListener::new(&self.network, self.scenario.backlog);
                let socket = Arc::new(socket);
                let listener = ListenerId { frontend: frontend.id, index };
                frontend.sockets.push((thread, listener, Arc::downgrade(&socket)));
                sockets.push((thread, listener, socket));
            }
        }
        sockets
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
        ending.into_iter().chain(breaks).chain(self.changes.moments()).collect()
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
        ended && self.workload.is_over()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.workload.is_over() && self.shared.lifecycle.phase() == Phase::Serving {
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
        let moment = Moment { network: &self.network, scenario: &self.scenario, ending };
        self.workload.act(whom, moment)
    }

    /// Changes the server, if it is time and it does not end yet.
    fn change(&mut self, now: Duration) {
        while let Some(change) = self.changes.due(now) {
            if self.shared.lifecycle.phase() != Phase::Serving {
                continue;
            }
            self.network.note("controller", || format!("{change:?}"));
            let Self { changes, workload, scenario, network, .. } = self;
            changes.make(change, |frontend| workload.settings(scenario, network, frontend));
            self.poll_wakes();
        }
    }

    /// Does what has its moment.
    fn keep_time(&mut self, now: Duration) {
        self.change(now);
        match self.scenario.ending {
            Ending::StopAt(at) if now >= at => self.enter(Phase::Stopping),
            Ending::DrainThenStop(_, at) if now >= at => self.enter(Phase::Stopping),
            Ending::DrainAt(at) | Ending::DrainThenStop(at, _) if now >= at => {
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

    fn enter(&mut self, phase: Phase) {
        self.network.note("server", || format!("{phase:?}"));
        self.shared.lifecycle.enter(phase, self.network.now());
        self.look_for_wakes();
    }

    /// Wakes from threads cost a system call to see, so they are looked for when there may be some.
    fn look_for_wakes(&mut self) {
        let now = (self.shared.lifecycle.phase(), self.shared.lifecycle.is_accepting());
        if now != std::mem::replace(&mut self.woken_for, now) {
            self.poll_wakes();
        }
    }

    fn poll_wakes(&mut self) {
        for event_loop in self.threads.iter_mut().filter_map(|thread| thread.event_loop.as_mut()) {
            event_loop.ring().0.poll_wakes();
        }
    }

    /// Whether connections are ended without regard to what they do.
    pub(super) fn is_stopping(&self) -> bool {
        let drain_over =
            self.shared.lifecycle.drain_until().is_some_and(|end| self.network.now() >= end);
        drain_over || self.shared.lifecycle.phase() == Phase::Stopping
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
        self.check_thread(index)
    }
}

impl<S: Service> Thread<S> {
    /// Whether it can take a step.
    fn is_ready(&mut self, now: Duration) -> bool {
        match self.state {
            State::Ended => false,
            State::Turn | State::Start(_) => true,
            State::Wait(deadline) => {
                let ring = self.event_loop.as_mut().map(|event_loop| event_loop.ring().0);
                deadline.is_some_and(|deadline| deadline <= now)
                    || ring.is_some_and(|ring| ring.is_ready())
            }
        }
    }

    fn step(&mut self, network: &Network) -> Result<(), String> {
        let Some(event_loop) = &mut self.event_loop else { return Ok(()) };
        let failed = |failure| format!("{failure:?}");
        match self.state {
            State::Turn => {
                let next = event_loop.turn();
                network.note(&self.name, || format!("turn, then {next:?}"));
                self.state = State::Start(next);
            }
            State::Start(Next::Enter(wait)) => {
                let (ring, operations) = event_loop.ring();
                ring.start(operations);
                self.state = State::Wait(match wait {
                    Wait::No => Some(network.elapsed()),
                    Wait::For(duration) => Some(network.elapsed() + duration),
                    Wait::Forever => None,
                });
            }
            State::Start(Next::End) => {
                event_loop.enter(Wait::No).map_err(failed)?;
                self.end()?;
            }
            State::Wait(_) => {
                event_loop.enter(Wait::No).map_err(failed)?;
                self.state = State::Turn;
            }
            State::Ended => {}
        }
        Ok(())
    }

    /// The thread has ended, and must leave nothing behind.
    fn end(&mut self) -> Result<(), String> {
        self.state = State::Ended;
        let Some(mut event_loop) = self.event_loop.take() else { return Ok(()) };
        let completed = event_loop.completed();
        let (ring, _) = event_loop.ring();
        let (pending, buffers) = (ring.pending() + completed, ring.buffers());
        if pending > 0 {
            return Err(format!("it ended with {pending} operations in flight"));
        }
        if buffers.available() != buffers.count() {
            let lost = buffers.count() - buffers.available();
            return Err(format!("it ended without {lost} of its buffers"));
        }
        Ok(())
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
