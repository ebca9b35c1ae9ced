//! Simulates a whole server, seed after seed.
//!
//! ```text
//!   cargo run --release --example simulate -- --seeds 2000                  fresh seeds, all services
//!   cargo run --release --example simulate -- --seeds 500 --seed 7 --service echo
//!   cargo run --release --example simulate -- --seed 7 --service echo --trace    one seed, all of it
//!   cargo run --release --example simulate -- --seeds 500 --rules                rules by source
//!   cargo run --release --example simulate -- --digest --seed 1 --seeds 200      one number for all that happens
//! ```
//!
//! A failure prints the last events and the seed, and exits with 1. See docs/SIMULATION.md.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use uring_acceptor::service::http::Http;
use uring_acceptor::service::{Discard, Echo, Service};
use uring_acceptor::simulation::{
    Broken, Conversation, DiscardTalk, EchoTalk, HttpTalk, MessageSimulation, MixedSimulation,
    ProxySimulation, Simulation, Summary,
};

/// What HTTP clients are answered.
const BODY: &[u8] = b"hello";

#[derive(Debug, Parser)]
#[command(about = "Simulates a whole server, seed after seed")]
struct Arguments {
    /// How many seeds, for each service.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed; a random one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// One service; all of them by default.
    #[arg(long)]
    service: Option<Choice>,
    /// Prints all events of the first seed.
    #[arg(long)]
    trace: bool,
    /// Prints one hash over the events of the stored seeds and of these: a change that moves code and
    /// decides nothing leaves it as it is.
    #[arg(long, conflicts_with = "trace")]
    digest: bool,
    /// Changes the server while it runs: new settings, listeners that move, a frontend that is removed.
    #[arg(long)]
    changes: bool,
    /// Has other servers take its place while it runs, one or two in turn, some of which fail to.
    #[arg(long, conflicts_with = "changes")]
    upgrades: bool,
    /// Has clients of services come from a handful of sources, with rules about these that change while it runs.
    #[arg(long, conflicts_with_all = ["changes", "upgrades"])]
    rules: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Echo,
    Http,
    Discard,
    Proxy,
    /// Several of these on the same threads.
    Mixed,
    /// Sessions that tell each other something, wait for it, and stream; without upgrades and rules.
    Messages,
}

type Outcome = Result<Summary, Box<Broken>>;
type Run<'a> = &'a dyn Fn(u64) -> Outcome;
type Replay<'a> = &'a dyn Fn(u64) -> (Outcome, String);

impl Arguments {
    fn simulate<S: Service, C: Conversation>(
        &self,
        name: &str,
        first: u64,
        (service, conversation): (S, C),
    ) -> bool {
        let mut simulation = Simulation::new(Arc::new(service), conversation);
        if self.changes {
            simulation = simulation.with_changes();
        }
        if self.upgrades {
            simulation = simulation.with_upgrades();
        }
        if self.rules {
            simulation = simulation.with_rules();
        }
        let replay = |seed| simulation.replay(seed);
        self.run(name, first, (&|seed| simulation.run(seed), &replay))
    }

    fn run(&self, name: &str, first: u64, (run, replay): (Run<'_>, Replay<'_>)) -> bool {
        if self.trace {
            let (result, trace) = replay(first);
            print!("{trace}");
            return result.map_err(|broken| eprintln!("seed {first}: {}", broken.what)).is_ok();
        }
        if self.digest {
            return digest(name, stored(name).into_iter().chain(first..first + self.seeds), replay);
        }
        let (start, mut connections, mut steps) = (Instant::now(), 0, 0);
        for seed in first..first + self.seeds {
            match run(seed) {
                Ok(summary) => {
                    connections += summary.connections;
                    steps += summary.steps;
                }
                Err(broken) => {
                    eprintln!("{broken}");
                    eprintln!("again: --service {name} --seed {seed} --trace");
                    return false;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = self.seeds as f64 / seconds;
        println!(
            "{name}: {} seeds from {first} in {seconds:.1} s: {rate:.0} seeds/s, \
             {connections} connections, {steps} steps",
            self.seeds
        );
        true
    }
}

/// Seeds that have found something once.
const STORED: &str = include_str!("../tests/seeds.txt");

fn stored(service: &str) -> Vec<u64> {
    let seed = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(service)).then(|| words.next()?.parse().ok()).flatten()
    };
    STORED.lines().filter_map(seed).collect()
}

/// The first line of a trace tells the scenario by the names of its fields, which may change.
fn digest(name: &str, seeds: impl Iterator<Item = u64>, replay: Replay<'_>) -> bool {
    let (mut hasher, mut count, mut lines) = (DefaultHasher::new(), 0, 0);
    for seed in seeds {
        let (result, trace) = replay(seed);
        let events = trace.split_once('\n').map_or("", |(_, events)| events);
        (seed, result.is_ok(), events).hash(&mut hasher);
        count += 1;
        lines += events.lines().count();
    }
    println!("{name}: {:016x} of {lines} events of {count} seeds", hasher.finish());
    true
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
    let wanted = |choice| arguments.service.is_none_or(|service| service == choice);
    let mut well = true;
    if wanted(Choice::Echo) {
        well &= arguments.simulate("echo", first, (Echo, EchoTalk));
    }
    if wanted(Choice::Http) {
        well &= arguments.simulate("http", first, (Http::new(BODY), HttpTalk(BODY)));
    }
    if wanted(Choice::Discard) {
        well &= arguments.simulate("discard", first, (Discard, DiscardTalk));
    }
    if wanted(Choice::Proxy) && !arguments.rules {
        let proxy = match (arguments.changes, arguments.upgrades) {
            (true, _) => ProxySimulation::with_changes(),
            (_, true) => ProxySimulation::with_upgrades(),
            _ => ProxySimulation::default(),
        };
        let (run, replay) = (|seed| proxy.run(seed), |seed| proxy.replay(seed));
        well &= arguments.run("proxy", first, (&run, &replay));
    }
    if wanted(Choice::Mixed) && !arguments.rules {
        let mixed = match (arguments.changes, arguments.upgrades) {
            (true, _) => MixedSimulation::with_changes(),
            (_, true) => MixedSimulation::with_upgrades(),
            _ => MixedSimulation::default(),
        };
        let (run, replay) = (|seed| mixed.run(seed), |seed| mixed.replay(seed));
        well &= arguments.run("mixed", first, (&run, &replay));
    }
    if wanted(Choice::Messages) && !arguments.rules && !arguments.upgrades {
        let messages = match arguments.changes {
            true => MessageSimulation::with_changes(),
            false => MessageSimulation::default(),
        };
        let (run, replay) = (|seed| messages.run(seed), |seed| messages.replay(seed));
        well &= arguments.run("messages", first, (&run, &replay));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
