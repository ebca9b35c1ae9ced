//! Simulations of the services that are here.

use std::sync::Arc;

use super::*;
use crate::service::http::Http;
use crate::service::{Discard, Echo};

/// Seeds that have found something once, or are there for what they cover.
const STORED: &str = include_str!("../../../tests/seeds.txt");

/// Fresh seeds of each service.
const FRESH: u64 = 60;

fn run_all<S: Service, C: Conversation>(name: &str, service: S, conversation: C) {
    let simulation = Simulation::new(Arc::new(service), conversation);
    run_each(name, |seed| simulation.run(seed));
}

fn run_each(name: &str, run: impl Fn(u64) -> Result<Summary, Box<Broken>>) {
    let stored = STORED.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next().and_then(|seed| seed.parse().ok()))
    });
    let stored: Vec<u64> = stored.map(|seed| seed.expect("a line is: service seed why")).collect();
    let base = fastrand::u64(..1 << 48);
    println!("{name}: {} stored seeds, then {FRESH} from {base}", stored.len());
    for seed in stored.into_iter().chain(base..base + FRESH) {
        let summary = run(seed).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        assert!(summary.connections >= 50, "seed {seed}");
    }
}

#[test]
fn echo_holds_under_simulation() {
    run_all("echo", Echo, EchoTalk);
}

#[test]
fn discard_holds_under_simulation() {
    run_all("discard", Discard, DiscardTalk);
}

#[test]
fn http_holds_under_simulation() {
    run_all("http", Http::new(b"hello"), HttpTalk(b"hello"));
}

/// Who is slow is told so and ends, and who is not is never told.
#[test]
fn slow_clients_hold_under_simulation() {
    let talk = SlowHttpTalk::new(b"hello");
    let slow = Simulation::new(Arc::new(Http::new(b"hello")), &talk);
    run_each("slow", |seed| slow.run(seed));
    let slow = slow.with_upgrades();
    run_each("slow", |seed| slow.run(seed));
    assert!(talk.told() > FRESH as usize, "told {} times", talk.told());
}

#[test]
fn the_proxy_holds_under_simulation() {
    run_each("proxy", |seed| ProxySimulation::default().run(seed));
}

/// Sessions and pairs share threads, buffers and limits, and neither notices the other.
#[test]
fn frontends_of_several_protocols_hold_under_simulation() {
    run_each("mixed", |seed| MixedSimulation::default().run(seed));
}

/// No connection notices that the server is changed meanwhile.
#[test]
fn a_server_that_is_changed_holds_under_simulation() {
    let echo = Simulation::new(Arc::new(Echo), EchoTalk).with_changes();
    run_each("echo", |seed| echo.run(seed));
    let proxy = ProxySimulation::with_changes();
    run_each("proxy", |seed| proxy.run(seed));
    let mixed = MixedSimulation::with_changes();
    run_each("mixed", |seed| mixed.run(seed));
}

/// No connection notices that another server takes the place of the one that it is with.
#[test]
fn a_server_that_is_replaced_holds_under_simulation() {
    let echo = Simulation::new(Arc::new(Echo), EchoTalk).with_upgrades();
    run_each("echo", |seed| echo.run(seed));
    let http = Simulation::new(Arc::new(Http::new(b"hello")), HttpTalk(b"hello")).with_upgrades();
    run_each("http", |seed| http.run(seed));
    let proxy = ProxySimulation::with_upgrades();
    run_each("proxy", |seed| proxy.run(seed));
    let mixed = MixedSimulation::with_upgrades();
    run_each("mixed", |seed| mixed.run(seed));
}

/// Who is refused is over a limit, who is over a limit is refused, and all that is counted is taken back.
#[test]
fn rules_by_source_hold_under_simulation() {
    let echo = Simulation::new(Arc::new(Echo), EchoTalk).with_rules();
    run_each("rules", |seed| echo.run(seed));
    let http = Simulation::new(Arc::new(Http::new(b"hello")), HttpTalk(b"hello")).with_rules();
    run_each("rules", |seed| http.run(seed));
}

#[test]
fn the_same_seed_with_rules_is_the_same_run() {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk).with_rules();
    for seed in 0..5 {
        assert_eq!(simulation.replay(seed), simulation.replay(seed), "seed {seed}");
    }
}

/// What connections move for: most seeds have some that do.
#[test]
fn connections_move_under_simulation() {
    let proxy = ProxySimulation::with_upgrades();
    let moved = |seed| {
        let (result, trace) = proxy.replay(seed);
        assert_eq!(result.err(), None, "seed {seed}");
        trace.contains("resumed: true")
    };
    let moving = (0..40).filter(|seed| moved(*seed)).count();
    assert!(moving >= 20, "connections moved in {moving} of 40 seeds");
}

#[test]
fn the_same_seed_with_upgrades_is_the_same_run() {
    let simulation = MixedSimulation::with_upgrades();
    for seed in 0..5 {
        assert_eq!(simulation.replay(seed), simulation.replay(seed), "seed {seed}");
    }
}

#[test]
fn the_same_seed_of_the_proxy_is_the_same_run() {
    for seed in 0..5 {
        let (first, second) =
            (ProxySimulation::default().replay(seed), ProxySimulation::default().replay(seed));
        assert!(first.1.lines().count() > 100);
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk);
    for seed in 0..5 {
        let (first, second) = (simulation.replay(seed), simulation.replay(seed));
        assert!(first.1.lines().count() > 100);
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(simulation.replay(1).1, simulation.replay(2).1);
}

#[test]
fn messages_hold_under_simulation() {
    let messages = MessageSimulation::default();
    run_each("messages", |seed| messages.run(seed));
    let changes = MessageSimulation::with_changes();
    run_each("messages", |seed| changes.run(seed));
}

#[test]
fn the_same_seed_with_messages_is_the_same_run() {
    let messages = MessageSimulation::default();
    let (one, other) = (messages.replay(7), messages.replay(7));
    assert!(one.0.is_ok());
    assert_eq!(one, other);
}
