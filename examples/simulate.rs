//! Simulates a whole server, seed after seed.
//!
//! ```text
//!   cargo run --release --example simulate -- --seeds 2000                  fresh seeds, all services
//!   cargo run --release --example simulate -- --seeds 500 --seed 7 --service echo
//!   cargo run --release --example simulate -- --seed 7 --service echo --trace    one seed, all of it
//! ```
//!
//! A failure prints the last events and the seed, and exits with 1. See docs/SIMULATION.md.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use uring_acceptor::service::http::Http;
use uring_acceptor::service::{Discard, Echo, Service};
use uring_acceptor::simulation::{
    Broken, Conversation, DiscardTalk, EchoTalk, HttpTalk, ProxySimulation, Simulation, Summary,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Echo,
    Http,
    Discard,
    Proxy,
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
        let simulation = Simulation::new(Arc::new(service), conversation);
        let replay = |seed| simulation.replay(seed);
        self.run(name, first, (&|seed| simulation.run(seed), &replay))
    }

    fn run(&self, name: &str, first: u64, (run, replay): (Run<'_>, Replay<'_>)) -> bool {
        if self.trace {
            let (result, trace) = replay(first);
            print!("{trace}");
            return result.map_err(|broken| eprintln!("seed {first}: {}", broken.what)).is_ok();
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
    if wanted(Choice::Proxy) {
        let (run, replay) = (|seed| ProxySimulation.run(seed), |seed| ProxySimulation.replay(seed));
        well &= arguments.run("proxy", first, (&run, &replay));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
