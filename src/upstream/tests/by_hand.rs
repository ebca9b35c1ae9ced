//! What the operator does by hand, and how the file wins again.

use super::*;
use crate::config::upstream::Weight;

const BOTH: [&str; 2] = ["10.0.0.1:1", "10.0.0.2:1"];

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn differences(upstream: &Upstream) -> Vec<String> {
    upstream.differences().iter().map(Difference::to_string).collect()
}

#[test]
fn what_was_done_by_hand_is_told_and_ended_by_the_next_configuration() {
    let running = Running::start(config(&BOTH), Box::new(no_names));
    let upstream = &running.upstream;
    assert_eq!(differences(upstream), [""; 0]);
    upstream.add_backend("10.0.0.3:1,weight=2".parse().unwrap()).unwrap();
    upstream.set_weight(&target(BOTH[0]), Weight::new(7).unwrap()).unwrap();
    upstream.set_draining(&target(BOTH[0]), true).unwrap();
    upstream.force_state(&target("10.0.0.3:1"), Forced::Up).unwrap();
    upstream.remove_backend(&target(BOTH[1])).unwrap();
    let expected = [
        "backend 10.0.0.1:1 has weight 7 in place of 1",
        "backend 10.0.0.1:1 drains",
        "backend 10.0.0.2:1 was removed",
        "backend 10.0.0.3:1,weight=2 was added",
        "backend 10.0.0.3:1 is forced up",
    ];
    assert_eq!(differences(upstream), expected);
    let told = apply(&running.registry, &[config(&BOTH)]);
    let expected = expected.map(|line| format!("upstream default: by hand no more: {line}"));
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    assert_eq!(differences(upstream), [""; 0]);
    let endpoints = upstream.endpoints();
    let now: Vec<_> = endpoints.iter().map(|one| (one.to_string(), one.weight())).collect();
    assert_eq!(now, BOTH.map(|text| (text.to_owned(), 1)));
    assert_eq!(states(upstream, Instant::now()), [EndpointState::Unknown; 2]);
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason_and_changes_nothing() {
    let upstream = upstream(config(&BOTH[..1]));
    let (here, nowhere) = (target(BOTH[0]), target("10.0.0.9:1"));
    let backend = |text: &str| text.parse::<Backend>().unwrap();
    let table = [
        (upstream.add_backend(backend("10.0.0.1:1,weight=2")), "given twice"),
        (upstream.add_backend(backend("api.example:1")), "cannot be resolved"),
        (upstream.remove_backend(&here), "the last one"),
        (upstream.remove_backend(&nowhere), "no backend 10.0.0.9:1"),
        (upstream.set_weight(&nowhere, Weight::default()), "no backend 10.0.0.9:1"),
        (upstream.set_draining(&nowhere, true), "no backend 10.0.0.9:1"),
        (upstream.force_state(&nowhere, Forced::Down), "no backend 10.0.0.9:1"),
    ];
    for (outcome, expected) in table {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(differences(&upstream), [""; 0]);
    let many = (1..=UpstreamConfig::BACKENDS_MAX).map(|port| backend(&format!("10.0.0.1:{port}")));
    let many: Vec<_> = many.collect();
    upstream.replace_backends(&many).unwrap();
    let error = upstream.add_backend(backend("10.0.0.2:1")).unwrap_err().to_string();
    assert!(error.contains("1025 backends"), "{error}");
}

#[test]
fn one_that_is_forced_down_gets_nothing_even_when_all_are_out() {
    let upstream = upstream(config(&BOTH));
    let mut view = upstream.view();
    let lease = pick(&mut view);
    let down = target(&address(&lease));
    upstream.force_state(&down, Forced::Down).unwrap();
    assert_eq!(lease.endpoint().state(Instant::now()), EndpointState::Down);
    assert!((0..5).all(|_| address(&pick(&mut view)) != down.to_string()));
    for text in BOTH {
        upstream.force_state(&target(text), Forced::Down).unwrap();
    }
    assert_eq!(view.pick(None, &[]).unwrap_err(), NoBackend::NoneLeft);
    upstream.force_state(&down, Forced::Auto).unwrap();
    assert_eq!(address(&pick(&mut view)), down.to_string());
    assert_eq!(lease.endpoint().open(), 1);
}

#[test]
fn one_that_is_forced_up_is_picked_whatever_checks_and_connections_say() {
    let mut config = config(&BOTH[..1]);
    config.active.check = ActiveCheck::Connect;
    config.passive.ejected_percent_max = 100;
    config.when_all_out = WhenAllOut::Refuse;
    let upstream = upstream(config);
    let (mut view, now) = (upstream.view(), Instant::now());
    let endpoint = Arc::clone(&upstream.endpoints()[0]);
    upstream.check_ended(&endpoint, Err("it is down".into()), now);
    assert_eq!(view.pick_at(now, None, &[]).unwrap_err(), NoBackend::AllOut);
    upstream.force_state(endpoint.target(), Forced::Up).unwrap();
    fail(&mut view, now, 5);
    assert_eq!(endpoint.state(now), EndpointState::Up);
    assert_eq!(endpoint.counters().get(EndpointCounter::Ejections), 0);
    upstream.force_state(endpoint.target(), Forced::Auto).unwrap();
    assert_eq!(endpoint.state(now), EndpointState::Down, "checks say so still");
    assert_eq!(view.pick_at(now, None, &[]).unwrap_err(), NoBackend::AllOut);
}
