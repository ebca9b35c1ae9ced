//! Endpoints keep their identity while backends come and go.

use super::*;

fn names(upstream: &Upstream) -> Vec<String> {
    upstream.endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect()
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

#[test]
fn all_kinds_of_backends_become_endpoints() {
    let texts = ["10.0.0.1:1", "[::1]:2", "unix:/run/a.sock"];
    let upstream = upstream(config(&texts));
    assert_eq!(names(&upstream), texts);
    let mut view = upstream.view();
    let leases: Vec<_> = (0..3).map(|_| pick(&mut view)).collect();
    let path = leases[2].address().as_pathname();
    assert_eq!(path, Some(std::path::Path::new("/run/a.sock")));
}

#[test]
fn a_draining_backend_gets_nothing_new_and_keeps_what_it_has() {
    let upstream = upstream(config(&["10.0.0.1:1", "10.0.0.2:1"]));
    let mut view = upstream.view();
    let old = pick(&mut view);
    let drained = target(&address(&old));
    upstream.set_draining(&drained, true).unwrap();
    for _ in 0..5 {
        assert_ne!(pick(&mut view).endpoint().id(), old.endpoint().id());
    }
    assert_eq!(old.endpoint().open(), 1);
    assert_eq!(old.endpoint().state(Instant::now()), EndpointState::Draining);
    assert_eq!(upstream.endpoints().len(), 2, "it is still shown");
    upstream.set_draining(&drained, false).unwrap();
    let ids = [pick(&mut view), pick(&mut view), pick(&mut view)].map(|one| one.endpoint().id());
    assert!(ids.contains(&old.endpoint().id()));
}

#[test]
fn draining_everything_leaves_nothing_and_unknown_backends_are_named() {
    let upstream = upstream(config(&["10.0.0.1:1"]));
    let mut view = upstream.view();
    upstream.set_draining(&target("10.0.0.1:1"), true).unwrap();
    assert_eq!(view.pick(None, &[]).unwrap_err(), NoBackend::NoneLeft);
    let error = upstream.set_draining(&target("10.0.0.9:1"), true).unwrap_err();
    assert!(error.to_string().contains("no backend 10.0.0.9:1"), "{error}");
}

#[test]
fn a_new_list_keeps_what_stays() {
    let upstream = upstream(config(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]));
    let mut view = upstream.view();
    let mut leases: Vec<_> = (0..3).map(|_| pick(&mut view)).collect();
    leases[1].connected();
    upstream.set_draining(&target("10.0.0.3:1"), true).unwrap();
    let new = backends(&["10.0.0.4:1", "10.0.0.3:1", "10.0.0.2:1,weight=5"]);
    upstream.replace_backends(&new).unwrap();
    let endpoints = upstream.endpoints();
    assert_eq!(names(&upstream), ["10.0.0.4:1", "10.0.0.3:1", "10.0.0.2:1", "10.0.0.1:1"]);
    let kept = &endpoints[2];
    assert_eq!(kept.id(), leases[1].endpoint().id());
    assert_eq!((kept.open(), kept.weight()), (1, 5));
    assert_eq!(kept.counters().get(EndpointCounter::Connects), 1);
    let states: Vec<_> = endpoints.iter().map(|one| one.state(Instant::now())).collect();
    use EndpointState::{Draining, Unknown, Up};
    assert_eq!(states, [Unknown, Draining, Up, Draining]);
    drop(leases);
    assert_eq!(names(&upstream).len(), 3, "what is gone and empty is not shown");
}

#[test]
fn one_that_comes_back_while_it_has_connections_is_the_same() {
    let upstream = upstream(config(&["10.0.0.1:1"]));
    let mut view = upstream.view();
    let lease = pick(&mut view);
    upstream.replace_backends(&backends(&["10.0.0.2:1"])).unwrap();
    assert_eq!(address(&pick(&mut view)), "10.0.0.2:1");
    upstream.replace_backends(&backends(&["10.0.0.1:1"])).unwrap();
    assert_eq!(pick(&mut view).endpoint().id(), lease.endpoint().id());
}

#[test]
fn a_wrong_list_changes_nothing() {
    let upstream = upstream(config(&["10.0.0.1:1"]));
    for wrong in [&[][..], &["10.0.0.2:1", "10.0.0.2:1"], &["nowhere.example:1"]] {
        upstream.replace_backends(&backends(wrong)).unwrap_err();
        assert_eq!(names(&upstream), ["10.0.0.1:1"]);
    }
}

#[test]
fn a_list_that_changes_while_workers_pick_is_seen_by_all() {
    let upstream = upstream(config(&["10.0.0.1:1"]));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut view = upstream.view();
                eventually(DEADLINE, || address(&pick(&mut view)) == "10.0.0.99:1");
            });
        }
        for number in 2..100 {
            upstream.replace_backends(&backends(&[&format!("10.0.0.{number}:1")])).unwrap();
        }
    });
}

/// It was counted against the limit elsewhere, before the endpoint was full, down or gone.
#[test]
fn a_connection_that_is_open_already_is_counted_whatever_its_endpoint_is_doing() {
    let full = UpstreamConfig {
        max_connections: NonZeroUsize::new(1),
        ..config(&["10.0.0.1:1", "unix:@b", "unix:/run/c.sock"])
    };
    let upstream = upstream(full);
    let gone = upstream.endpoints()[0].clone();
    let mut view = upstream.view();
    let picked = pick(&mut view);
    assert_eq!(picked.endpoint().id(), gone.id());
    let another = upstream.lease_open("10.0.0.1:1").unwrap();
    assert_eq!(gone.connections(), Connections { open: 1, connecting: 1 });
    upstream
        .replace_backends(&["unix:@b", "unix:/run/c.sock"].map(|it| it.parse().unwrap()))
        .unwrap();
    let third = upstream.lease_open("10.0.0.1:1").unwrap();
    assert_eq!(third.endpoint().id(), gone.id());
    drop(picked);
    assert_eq!(gone.connections(), Connections { open: 2, connecting: 0 });
    drop((another, third));
    assert_eq!(gone.open(), 0);
    assert_eq!(gone.counters().get(EndpointCounter::Connects), 0);
    for address in ["unix:@b", "unix:/run/c.sock"] {
        assert_eq!(upstream.lease_open(address).unwrap().endpoint().address().to_string(), address);
    }
    for nobody in ["name.example:1", "", "unix:"] {
        assert!(upstream.lease_open(nobody).is_none(), "{nobody}");
    }
    // The process before has resolved a name otherwise: if the address comes here too, it has that connection.
    let unknown = upstream.lease_open("10.0.0.2:1").unwrap();
    assert_eq!(unknown.endpoint().state(Instant::now()), EndpointState::Draining);
    upstream.replace_backends(&["10.0.0.2:1".parse().unwrap()]).unwrap();
    assert_eq!(upstream.endpoints()[0].id(), unknown.endpoint().id());
    assert!(upstream.view().pick(None, &[]).is_err(), "it has its only place");
    drop(unknown);
    assert!(upstream.view().pick(None, &[]).is_ok());
}
