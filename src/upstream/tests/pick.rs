//! Picks and leases.

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;

const ALL: [&str; 3] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"];

#[test]
fn a_lease_is_counted_from_pick_to_drop() {
    let upstream = upstream(config(&ALL[..1]));
    let mut view = upstream.view();
    let endpoint = Arc::clone(&upstream.endpoints()[0]);
    let leases = [pick(&mut view), pick(&mut view)];
    assert_eq!(endpoint.open(), 2);
    assert_eq!(leases[0].address().as_socket(), Some("10.0.0.1:1".parse().unwrap()));
    drop(leases);
    assert_eq!(endpoint.open(), 0);
}

#[test]
fn the_views_of_several_workers_begin_at_different_endpoints() {
    for balance in [Balance::LeastConnections, Balance::RoundRobin] {
        let upstream = upstream(UpstreamConfig { balance, ..config(&ALL) });
        let mut first: Vec<_> = (0..3).map(|_| address(&pick(&mut upstream.view()))).collect();
        first.sort_unstable();
        assert_eq!(first, ALL, "{balance:?}");
    }
}

#[test]
fn leases_spread_over_workers_by_the_load_of_all() {
    let upstream = upstream(config(&["10.0.0.1:1,weight=2", "10.0.0.2:1", "10.0.0.3:1"]));
    let mut views = [upstream.view(), upstream.view()];
    let _leases: Vec<_> = (0..40).map(|number| pick(&mut views[number % 2])).collect();
    let open: Vec<_> = upstream.endpoints().iter().map(|endpoint| endpoint.open()).collect();
    assert_eq!(open, [20, 10, 10]);
}

#[test]
fn one_client_stays_with_one_endpoint_whichever_worker_has_it() {
    let config = UpstreamConfig { balance: Balance::SourceHash, ..config(&ALL) };
    let upstream = upstream(config);
    let (mut one, mut other) = (upstream.view(), upstream.view());
    for number in 0..50 {
        let source = Some(std::net::Ipv4Addr::from(number).into());
        let chosen = address(&one.pick(source, &[]).unwrap());
        assert_eq!(address(&other.pick(source, &[]).unwrap()), chosen);
    }
    let picks: Vec<_> = (0..3).map(|_| pick(&mut one)).collect();
    let open = upstream.endpoints().iter().map(|endpoint| endpoint.open()).max();
    assert_eq!(open, Some(1), "clients without an address spread by load: {picks:?}");
}

#[test]
fn what_was_tried_is_not_picked_again() {
    let upstream = upstream(config(&ALL));
    let mut view = upstream.view();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let lease = view.pick(None, &tried).unwrap();
        assert!(!tried.contains(&lease.endpoint().id()));
        tried.push(lease.endpoint().id());
    }
    assert_eq!(view.pick(None, &tried).unwrap_err(), NoBackend::NoneLeft);
}

fn with_maximum(texts: &[&str], max: usize) -> Arc<Upstream> {
    let max_connections = NonZeroUsize::new(max);
    upstream(UpstreamConfig { max_connections, ..config(texts) })
}

#[test]
fn full_endpoints_are_passed_over_and_when_all_are_full_it_says_so() {
    for balance in ["least-connections", "round-robin", "random", "source-hash"] {
        let max_connections = NonZeroUsize::new(2);
        let balance = balance.parse().unwrap();
        let upstream = upstream(UpstreamConfig { balance, max_connections, ..config(&ALL) });
        let mut view = upstream.view();
        let source = Some("10.1.2.3".parse().unwrap());
        let mut leases: Vec<_> = (0..6).map(|_| view.pick(source, &[]).unwrap()).collect();
        assert_eq!(view.pick(source, &[]).unwrap_err(), NoBackend::AllFull, "{balance:?}");
        let returned = address(&leases.pop().unwrap());
        assert_eq!(address(&view.pick(source, &[]).unwrap()), returned, "{balance:?}");
    }
}

#[test]
fn full_and_tried_together_are_full() {
    let upstream = with_maximum(&ALL[..2], 1);
    let mut view = upstream.view();
    let full = pick(&mut view);
    let tried: Vec<_> = upstream.endpoints().iter().map(|endpoint| endpoint.id()).collect();
    let other = tried.iter().find(|id| **id != full.endpoint().id()).unwrap();
    assert_eq!(view.pick(None, &[*other]).unwrap_err(), NoBackend::AllFull);
    assert_eq!(view.pick(None, &tried).unwrap_err(), NoBackend::NoneLeft);
}

/// In each round 8 threads want 24 places of the 15, all at once.
#[test]
fn the_maximum_is_exact_with_many_threads() {
    const THREADS: usize = 8;
    const MAX: usize = 5;
    let upstream = with_maximum(&ALL, MAX);
    let step = Barrier::new(THREADS);
    let round = |view: &mut View| {
        step.wait();
        let leases: Vec<_> = (0..3).map(|_| view.pick(None, &[])).collect();
        step.wait();
        let open: Vec<_> = upstream.endpoints().iter().map(|endpoint| endpoint.open()).collect();
        step.wait();
        (open, leases.into_iter().filter_map(Result::ok).count())
    };
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut view = upstream.view();
                for _ in 0..500 {
                    let (open, leases) = round(&mut view);
                    taken.fetch_add(leases, Ordering::Relaxed);
                    // A panic would leave the others at the barrier.
                    if open != [MAX; 3] {
                        taken.store(usize::MAX / 2, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 500 * 3 * MAX);
    assert!(upstream.endpoints().iter().all(|endpoint| endpoint.open() == 0));
}

#[test]
fn failures_in_a_row_eject_for_a_time_that_grows() {
    let upstream = upstream(config(&ALL[..2]));
    let (mut view, start) = (upstream.view(), Instant::now());
    let good = upstream.endpoints()[1].id();
    let picks_bad = |view: &mut View, now| view.pick_at(now, None, &[good]).is_ok();
    for (after, span) in [(0, 1000), (1000, 2000), (3000, 4000)] {
        let now = start + Duration::from_millis(after);
        let failures = if after == 0 { 3 } else { 1 };
        for _ in 0..failures {
            let lease = view.pick_at(now, None, &[good]).unwrap();
            lease.connect_failed_at(now, Errno::ETIMEDOUT);
        }
        let end = now + Duration::from_millis(span);
        assert!(!picks_bad(&mut view, end - Duration::from_millis(1)), "after {after} ms");
        assert!(picks_bad(&mut view, end), "after {after} ms");
    }
    let counters =
        |place: usize| upstream.endpoints()[place].counters().get(EndpointCounter::Ejections);
    assert_eq!([counters(0), counters(1)], [3, 0]);
    let now = start + Duration::from_millis(7000);
    view.pick_at(now, None, &[good]).unwrap().connected();
    let lease = view.pick_at(now, None, &[good]).unwrap();
    lease.connect_failed_at(now, Errno::ETIMEDOUT);
    assert!(picks_bad(&mut view, now), "one failure after a success is not enough");
}

#[test]
fn no_more_than_half_are_ejected() {
    let upstream = upstream(config(&ALL));
    let (mut view, now) = (upstream.view(), Instant::now());
    fail(&mut view, now, 30);
    let out =
        states(&upstream, now).iter().filter(|state| **state == EndpointState::Ejected).count();
    assert_eq!(out, 1);
    let withheld =
        |endpoint: &Arc<Endpoint>| endpoint.counters().get(EndpointCounter::EjectionsWithheld);
    assert!(upstream.endpoints().iter().map(withheld).sum::<u64>() > 0);
}

#[test]
fn a_shortage_of_this_machine_ejects_nobody() {
    let upstream = upstream(config(&ALL));
    let (mut view, now) = (upstream.view(), Instant::now());
    for _ in 0..30 {
        let lease = view.pick_at(now, None, &[]).unwrap();
        lease.connect_failed_at(now, Errno::EADDRNOTAVAIL);
    }
    assert_eq!(states(&upstream, now), [EndpointState::Unknown; 3]);
}

/// All ejected, and the policy for that.
fn all_out(when_all_out: WhenAllOut) -> (Arc<Upstream>, Instant) {
    let mut config = UpstreamConfig { when_all_out, ..config(&ALL) };
    config.passive.ejected_percent_max = 100;
    config.passive.failures = NonZeroU32::new(1);
    let upstream = upstream(config);
    let now = Instant::now();
    fail(&mut upstream.view(), now, 3);
    assert_eq!(states(&upstream, now), [EndpointState::Ejected; 3]);
    (upstream, now)
}

#[test]
fn with_all_out_connections_are_refused_or_tried_on_all() {
    let (refusing, now) = all_out(WhenAllOut::Refuse);
    assert_eq!(refusing.view().pick_at(now, None, &[]).unwrap_err(), NoBackend::AllOut);
    let later = now + Duration::from_secs(1);
    assert!(refusing.view().pick_at(later, None, &[]).is_ok(), "its time is over");

    let (trying, now) = all_out(WhenAllOut::TryAll);
    let mut view = trying.view();
    let mut leases: Vec<_> = (0..3).map(|_| view.pick_at(now, None, &[]).unwrap()).collect();
    leases.sort_by_key(address);
    assert_eq!(leases.iter().map(address).collect::<Vec<_>>(), ALL);
    assert_eq!(trying.fail_open_picks(), 3);
    let tried: Vec<_> = leases.iter().map(|lease| lease.endpoint().id()).collect();
    assert_eq!(view.pick_at(now, None, &tried).unwrap_err(), NoBackend::NoneLeft);
}

#[test]
fn what_fails_while_all_are_out_does_not_prolong_it() {
    let (upstream, now) = all_out(WhenAllOut::TryAll);
    fail(&mut upstream.view(), now + Duration::from_millis(500), 20);
    assert_eq!(states(&upstream, now + Duration::from_secs(1)), [EndpointState::Failing; 3]);
}

#[test]
fn an_endpoint_that_is_back_starts_slowly() {
    let mut config = UpstreamConfig { slow_start: Duration::from_secs(10), ..config(&ALL[..2]) };
    config.balance = Balance::RoundRobin;
    config.passive.failures = NonZeroU32::new(1);
    let upstream = upstream(config);
    let mut view = upstream.view();
    let now = Instant::now();
    fail(&mut view, now, 1);
    let back = now + Duration::from_secs(1);
    let slow = upstream.endpoints().iter().position(|one| one.state(now) == EndpointState::Ejected);
    let slow = upstream.endpoints()[slow.unwrap()].id();
    // Of 120 picks, half of its weight is 40 and the whole is 60.
    for (age, expected) in [(0, 0..=1), (5, 39..=41), (10, 59..=61), (20, 60..=60)] {
        let now = back + Duration::from_secs(age);
        let picks = (0..120).map(|_| view.pick_at(now, None, &[]).unwrap().endpoint().id());
        let picks = picks.filter(|id| *id == slow).count();
        assert!(expected.contains(&picks), "{picks} of 120 after {age} s");
    }
}

/// Before anything has been tried nothing is known; what is being tried is told apart from what is open.
#[test]
fn an_endpoint_is_up_when_a_connect_or_a_check_has_succeeded() {
    let upstream = upstream(config(&["10.0.0.1:1"]));
    let (mut view, now) = (upstream.view(), Instant::now());
    let state = || states(&upstream, now)[0];
    let connections = || upstream.endpoints()[0].connections();
    assert_eq!(state(), EndpointState::Unknown);
    let mut lease = pick(&mut view);
    assert_eq!(
        (state(), connections()),
        (EndpointState::Unknown, Connections { open: 0, connecting: 1 })
    );
    lease.connect_failed_at(now, Errno::ETIMEDOUT);
    assert_eq!(state(), EndpointState::Failing);
    lease.connected();
    lease.connected();
    assert_eq!(
        (state(), connections()),
        (EndpointState::Up, Connections { open: 1, connecting: 0 })
    );
    drop((lease, pick(&mut view)));
    assert_eq!(
        (state(), connections()),
        (EndpointState::Up, Connections { open: 0, connecting: 0 })
    );

    let mut checked = config(&["10.0.0.1:1"]);
    checked.active.check = ActiveCheck::Connect;
    let upstream = super::upstream(checked);
    upstream.check_ended(&upstream.endpoints()[0], Ok(()), now);
    assert_eq!(states(&upstream, now), [EndpointState::Up]);
}
