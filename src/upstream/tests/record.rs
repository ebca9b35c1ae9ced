//! What a process tells of its upstreams, and what the one makes of it that takes its place.

use super::super::record::UpstreamRecord;
use super::*;
use crate::config::upstream::Weight;

const S: Duration = Duration::from_secs(1);
const FOUR: [&str; 4] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn checked() -> UpstreamConfig {
    let active = ActiveHealth { check: ActiveCheck::Connect, ..ActiveHealth::default() };
    UpstreamConfig { active, slow_start: 10 * S, ..config(&FOUR) }
}

fn of(config: UpstreamConfig, start: Instant) -> Arc<Upstream> {
    Upstream::without_threads_from(config, Box::new(no_names), start).unwrap()
}

/// As it comes out of a message, which has more in it than this version knows.
fn told(record: &UpstreamRecord) -> UpstreamRecord {
    let mut value = serde_json::to_value(record).unwrap();
    value["of-another-version"] = serde_json::json!(1);
    value["settings"]["of-another-version"] = serde_json::json!("1");
    serde_json::from_value(value).unwrap()
}

fn differences(upstream: &Upstream) -> Vec<String> {
    upstream.differences().iter().map(ToString::to_string).collect()
}

/// Fails connects to one endpoint until it is ejected.
fn eject(upstream: &Arc<Upstream>, place: usize, now: Instant) {
    let all = upstream.endpoints();
    let endpoint = &all[place];
    let others = all.iter().map(|it| it.id()).filter(|id| *id != endpoint.id());
    let tried: Vec<EndpointId> = others.collect();
    while endpoint.state(now) != EndpointState::Ejected {
        let lease = upstream.view().pick_at(now, None, &tried).unwrap();
        lease.connect_failed_at(now, Errno::ECONNREFUSED);
    }
}

#[test]
fn endpoints_are_in_the_next_process_as_they_were() {
    let (start, now) = (Instant::now(), Instant::now() + 100 * S);
    let old = of(checked(), start);
    eject(&old, 0, now);
    old.check_ended(&old.endpoints()[1], Err("refused".to_owned()), now);
    old.check_ended(&old.endpoints()[1], Ok(()), now);
    old.check_ended(&old.endpoints()[2], Ok(()), now);
    let expected =
        [EndpointState::Ejected, EndpointState::Down, EndpointState::Up, EndpointState::Unknown];
    assert_eq!(states(&old, now), expected);
    // It has checked on its own before it was told, and counted that.
    let new = of(checked(), now);
    new.check_ended(&new.endpoints()[3], Err("refused".to_owned()), now);
    let record = told(&old.record(now + S / 2));
    assert_eq!(new.restore(&record, now + S / 2), [""; 0]);
    assert_eq!(states(&new, now + S / 2), expected);
    assert_eq!(new.endpoints()[3].counters().get(EndpointCounter::WentDown), 0);
    assert_eq!(new.record(now + S / 2), old.record(now + S / 2));
    // The ejection ends when it would have, and the next one is as long as it would have been.
    assert_eq!(states(&new, now + S)[0], EndpointState::Failing);
    for upstream in [&old, &new] {
        eject(upstream, 0, now + S);
        assert_eq!(states(upstream, now + 3 * S - S / 10)[0], EndpointState::Ejected);
        assert_eq!(states(upstream, now + 3 * S)[0], EndpointState::Failing);
        // One success was told before, so one more is enough.
        upstream.check_ended(&upstream.endpoints()[1], Ok(()), now + S);
        assert_eq!(states(upstream, now + S)[1], EndpointState::Up);
    }
}

#[test]
fn a_slow_start_goes_on() {
    let (start, now) = (Instant::now(), Instant::now() + 100 * S);
    let old = of(checked(), start);
    old.check_ended(&old.endpoints()[0], Err("refused".to_owned()), now);
    old.check_ended(&old.endpoints()[0], Ok(()), now);
    old.check_ended(&old.endpoints()[0], Ok(()), now);
    let new = of(checked(), now + 2 * S);
    new.restore(&told(&old.record(now + 3 * S)), now + 3 * S);
    for second in [3, 5, 11] {
        let weights = [&old, &new].map(|upstream| {
            let since_start = upstream.common().since_start(now + second * S);
            upstream.endpoints()[0].candidate(0, since_start, 10 * S).weight
        });
        assert_eq!(weights[0], weights[1], "after {second} s");
        assert_eq!(weights[0] == old.endpoints()[1].candidate(0, S, 10 * S).weight, second > 10);
    }
}

fn changed_by_hand() -> Arc<Upstream> {
    let old = upstream(config(&FOUR));
    old.add_backend("10.0.0.9:1,weight=2".parse().unwrap()).unwrap();
    old.set_weight(&target(FOUR[0]), Weight::new(7).unwrap()).unwrap();
    old.set_draining(&target(FOUR[1]), true).unwrap();
    old.force_state(&target(FOUR[2]), Forced::Down).unwrap();
    old.force_state(&target("10.0.0.9:1"), Forced::Up).unwrap();
    old.remove_backend(&target(FOUR[3])).unwrap();
    old
}

#[test]
fn what_was_done_by_hand_stays_with_the_same_configuration() {
    let old = changed_by_hand();
    let new = upstream(config(&FOUR));
    let lines = new.restore(&told(&old.record(Instant::now())), Instant::now());
    let expected = differences(&old);
    assert_eq!(expected.len(), 6);
    assert_eq!(differences(&new), expected);
    assert_eq!(states(&new, Instant::now()), states(&old, Instant::now()));
    let told = expected.iter().map(|what| format!("upstream default: still by hand: {what}"));
    assert_eq!(lines, told.collect::<Vec<_>>());
    let picked: Vec<String> = (0..9).map(|_| address(&pick(&mut new.view()))).collect();
    assert!(picked.iter().all(|it| ["10.0.0.1:1", "10.0.0.9:1"].contains(&it.as_str())));
}

#[test]
fn what_was_done_by_hand_ends_with_another_configuration() {
    let old = changed_by_hand();
    let others = [
        UpstreamConfig { resolve_interval: S, ..config(&FOUR) },
        config(&["10.0.0.1:1", "10.0.0.2:1,weight=3"]),
    ];
    for other in others {
        let new = upstream(other);
        let lines = new.restore(&told(&old.record(Instant::now())), Instant::now());
        assert_eq!(differences(&new), [""; 0]);
        assert!(
            lines.len() == 6
                && lines.iter().all(|it| it.contains("overruled by the configuration: backend"))
        );
        assert_eq!(states(&new, Instant::now())[0], EndpointState::Unknown);
    }
}

/// Its limit holds, and whoever resumes a connection finds it.
#[test]
fn what_has_only_connections_left_is_known_as_long_as_it_has_them() {
    let old = upstream(config(&FOUR));
    let leases = [(); 4].map(|()| pick(&mut old.view()));
    let new = upstream(config(&FOUR[..1]));
    new.restore(&told(&old.record(Instant::now())), Instant::now());
    assert!(new.lease_open(FOUR[0]).is_some());
    let moved = new.lease_open(FOUR[1]).expect("it is known");
    let shown: Vec<String> = new.endpoints().iter().map(|it| it.address().to_string()).collect();
    assert_eq!(shown, FOUR[..2]);
    assert_eq!(states(&new, Instant::now())[1], EndpointState::Draining);
    drop(moved);
    assert_eq!(new.endpoints().len(), 1);
    drop(leases);
}

#[test]
fn a_name_without_an_answer_has_the_one_of_the_process_before() {
    let found = || vec!["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
    let resolve = move |_: &str, _: u16| Ok::<_, io::Error>(found());
    let configs = [config(&["api.example:80"])];
    let old = Upstream::without_threads(configs[0].clone(), Box::new(resolve)).unwrap();
    let registry = UpstreamRegistry::with_resolver(Box::new(no_names));
    assert!(registry.prepare(&configs).is_err());
    registry.know(&old.names());
    apply(&registry, &configs);
    let new = registry.get("default").unwrap();
    let hosts = |upstream: &Upstream| -> Vec<String> {
        upstream.endpoints().iter().map(ToString::to_string).collect()
    };
    assert_eq!(hosts(&new), ["api.example:80 (10.0.0.1:80)", "api.example:80 (10.0.0.2:80)"]);
    assert_eq!(hosts(&new), hosts(&old));
    // It was for the start.
    assert!(registry.prepare(&[config(&["api.example:81"])]).is_err());
    let other = UpstreamConfig { name: "other".to_owned(), ..config(&["api.example:80"]) };
    assert!(registry.prepare(&[configs[0].clone(), other]).is_err());
}

/// An answer of now is newer.
#[test]
fn a_name_with_an_answer_has_that() {
    let resolve = |host: u8| {
        Box::new(move |_: &str, _: u16| Ok::<_, io::Error>(vec![([10, 0, 0, host], 80).into()]))
    };
    let of_name = config(&["api.example:80"]);
    let old = Upstream::without_threads(of_name.clone(), resolve(1)).unwrap();
    let registry = UpstreamRegistry::with_resolver(resolve(2));
    registry.know(&old.names());
    apply(&registry, &[of_name]);
    let new = registry.get("default").unwrap();
    new.restore(&told(&old.record(Instant::now())), Instant::now());
    assert_eq!(new.endpoints()[0].address().to_string(), "10.0.0.2:80");
    assert_eq!(new.endpoints().len(), 1);
}
