//! Deterministic simulation of a whole server.
//!
//! Acceptors, dispatcher, workers and a service run on the [simulated engine](crate::ring::simulated)
//! in one thread, against clients that behave well and badly. A seed decides everything: the
//! configuration, the order in which threads take their steps, what the kernel does, what the
//! clients do. After every step invariants are checked; at the end nothing may be left. The same
//! seed is the same run.
//!
//! ```
//! use std::sync::Arc;
//! use uring_acceptor::service::Echo;
//! use uring_acceptor::simulation::{EchoTalk, Simulation};
//!
//! let simulation = Simulation::new(Arc::new(Echo), EchoTalk);
//! let summary = simulation.run(1).unwrap_or_else(|broken| panic!("{broken}"));
//! assert!(summary.connections >= 50);
//! ```
//!
//! A protocol of one's own needs a [`Conversation`]: what its clients say, and which answers are
//! right. `docs/SIMULATION.md` says what is covered and what is not.

mod changes;
mod client;
mod conversation;
mod driver;
mod invariants;
mod listener;
mod messages;
mod mixed;
mod scenario;
mod server;
mod slow;
mod sources;
mod thread;
mod tunnel;
mod upgrade;
mod workload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use conversation::{Conversation, DiscardTalk, EchoTalk, HttpTalk, Judgement, Pace};
use driver::Driver;
pub use messages::MessageSimulation;
use mixed::Mixed;
pub use slow::SlowHttpTalk;
use tunnel::Tunnels;
use workload::{Conversing, Workload};

use crate::service::Service;

/// Lines of the trace that a failure shows.
const SHOWN_LINES: usize = 60;

/// How a seed is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Run {
    /// Whether events are noted.
    trace: bool,
    /// Whether the server is changed meanwhile.
    changes: bool,
    /// Whether other servers take its place meanwhile.
    upgrades: bool,
    /// Whether there are rules by source.
    rules: bool,
}

/// A service and how its clients talk to it.
#[derive(Debug)]
pub struct Simulation<S, C> {
    service: Arc<S>,
    conversation: C,
    run: Run,
}

/// What a run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Clients.
    pub connections: usize,
    /// Bytes that clients heard.
    pub heard_bytes: usize,
    /// Steps of threads, network and clients.
    pub steps: usize,
    /// Virtual time from the start to the end.
    pub elapsed: Duration,
}

/// Something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The seed, which repeats it.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
    /// What happened before, one event a line: virtual time, thread, connection.
    pub trace: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.trace.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        writeln!(formatter, "{}", shown.join("\n"))?;
        write!(formatter, "seed {}: {}", self.seed, self.what)
    }
}

impl<S: Service, C: Conversation> Simulation<S, C> {
    /// Simulates `service` with clients that talk like this.
    pub fn new(service: Arc<S>, conversation: C) -> Self {
        Self { service, conversation, run: Run::default() }
    }

    /// Changes the server while it runs: new settings, listeners that move, a frontend that is removed.
    #[must_use]
    pub fn with_changes(mut self) -> Self {
        self.run.changes = true;
        self
    }

    /// Has other servers take its place while it runs, one or two in turn, some of which fail to.
    #[must_use]
    pub fn with_upgrades(mut self) -> Self {
        self.run.upgrades = true;
        self
    }

    /// Has clients come from a handful of sources, and rules about these, which change while it runs. To be used without
    /// other changes and without upgrades.
    #[must_use]
    pub fn with_rules(mut self) -> Self {
        self.run.rules = true;
        self
    }

    /// Runs a seed. One that fails is run again with a trace.
    ///
    /// # Errors
    /// What went wrong, with the events before it.
    pub fn run(&self, seed: u64) -> Result<Summary, Box<Broken>> {
        run(seed, self.run, || Conversing::new(Arc::clone(&self.service), &self.conversation))
    }

    /// Runs a seed with a whole trace.
    pub fn replay(&self, seed: u64) -> (Result<Summary, Box<Broken>>, String) {
        replay(seed, self.run, Conversing::new(Arc::clone(&self.service), &self.conversation))
    }
}

/// The proxy, with clients on one side and backends that fail in every way on the other.
#[derive(Debug, Default)]
pub struct ProxySimulation {
    run: Run,
}

impl ProxySimulation {
    /// Changes the server while it runs: new settings, listeners that move, a frontend that is removed.
    #[must_use]
    pub fn with_changes() -> Self {
        Self { run: Run { changes: true, ..Run::default() } }
    }

    /// Has other servers take its place while it runs, one or two in turn, some of which fail to.
    #[must_use]
    pub fn with_upgrades() -> Self {
        Self { run: Run { upgrades: true, ..Run::default() } }
    }

    /// Runs a seed. One that fails is run again with a trace.
    ///
    /// # Errors
    /// What went wrong, with the events before it.
    pub fn run(&self, seed: u64) -> Result<Summary, Box<Broken>> {
        run(seed, self.run, Tunnels::new)
    }

    /// Runs a seed with a whole trace.
    pub fn replay(&self, seed: u64) -> (Result<Summary, Box<Broken>>, String) {
        replay(seed, self.run, Tunnels::new())
    }
}

/// A server with frontends of several protocols on the same threads: a proxy, and one to three services.
#[derive(Debug, Default)]
pub struct MixedSimulation {
    run: Run,
}

impl MixedSimulation {
    /// Changes the server while it runs: new settings, listeners that move, a frontend that is removed.
    #[must_use]
    pub fn with_changes() -> Self {
        Self { run: Run { changes: true, ..Run::default() } }
    }

    /// Has other servers take its place while it runs, one or two in turn, some of which fail to.
    #[must_use]
    pub fn with_upgrades() -> Self {
        Self { run: Run { upgrades: true, ..Run::default() } }
    }

    /// Runs a seed. One that fails is run again with a trace.
    ///
    /// # Errors
    /// What went wrong, with the events before it.
    pub fn run(&self, seed: u64) -> Result<Summary, Box<Broken>> {
        run(seed, self.run, Mixed::new)
    }

    /// Runs a seed with a whole trace.
    pub fn replay(&self, seed: u64) -> (Result<Summary, Box<Broken>>, String) {
        replay(seed, self.run, Mixed::new())
    }
}

fn run<P: Workload>(seed: u64, how: Run, workload: impl Fn() -> P) -> Result<Summary, Box<Broken>> {
    let result = Driver::new(seed, workload(), how).run();
    result.map_err(|first| {
        let (again, trace) = replay(seed, how, workload());
        again.err().unwrap_or_else(|| {
            let what = format!("{first}; and the same seed was another run: it held");
            Box::new(Broken { seed, what, trace })
        })
    })
}

fn replay<P: Workload>(seed: u64, how: Run, workload: P) -> (Result<Summary, Box<Broken>>, String) {
    let mut driver = Driver::new(seed, workload, Run { trace: true, ..how });
    let result = driver.run();
    let trace = driver.take_trace();
    let broken = |what| Box::new(Broken { seed, what, trace: trace.clone() });
    (result.map_err(broken), trace)
}

#[cfg(test)]
mod tests;
