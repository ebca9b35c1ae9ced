//! Names that resolve, to other addresses, or not.

use std::sync::mpsc;

use super::*;

/// What the resolver answers; `None` is a failure.
type Answer = Arc<Mutex<Option<Vec<SocketAddr>>>>;

fn answer(hosts: &[u8]) -> Option<Vec<SocketAddr>> {
    Some(hosts.iter().map(|host| SocketAddr::from(([10, 0, 0, *host], 80))).collect())
}

fn resolver(answer: &Answer) -> Box<Resolve> {
    let answer = Arc::clone(answer);
    Box::new(move |_, _| answer.lock().unwrap().clone().ok_or_else(|| io::Error::other("no DNS")))
}

fn start(hosts: &[u8]) -> (Arc<Upstream>, Answer) {
    let answer = Arc::new(Mutex::new(answer(hosts)));
    let config = config(&["api.example:80"]);
    (Upstream::without_threads(config, resolver(&answer)).unwrap(), answer)
}

fn refresh(upstream: &Arc<Upstream>, of: &Answer, new: Option<Vec<SocketAddr>>) {
    *of.lock().unwrap() = new;
    upstream.refresh_name(&"api.example:80".parse().unwrap());
}

fn hosts(upstream: &Upstream) -> Vec<u8> {
    let host = |endpoint: &Arc<Endpoint>| match endpoint.address() {
        EndpointAddress::Tcp(SocketAddr::V4(address)) => address.ip().octets()[3],
        other => panic!("{other}"),
    };
    upstream.members().serving().iter().map(host).collect()
}

#[test]
fn each_address_of_a_name_is_an_endpoint_and_each_only_once() {
    let (upstream, _) = start(&[2, 1, 2]);
    assert_eq!(hosts(&upstream), [1, 2]);
    assert_eq!(upstream.endpoints()[0].to_string(), "api.example:80 (10.0.0.1:80)");
}

#[test]
fn an_address_that_two_backends_share_is_one_endpoint() {
    let config = config(&["10.0.0.1:80,weight=7", "api.example:80"]);
    let answer = Arc::new(Mutex::new(answer(&[1, 2])));
    let upstream = Upstream::without_threads(config, resolver(&answer)).unwrap();
    assert_eq!(hosts(&upstream), [1, 2]);
    assert_eq!(upstream.endpoints()[0].weight(), 7);
}

#[test]
fn a_name_that_does_not_resolve_at_the_start_is_named() {
    for nothing in [None, answer(&[])] {
        let resolve = resolver(&Arc::new(Mutex::new(nothing)));
        let error = Upstream::without_threads(config(&["api.example:80"]), resolve).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("api.example:80 cannot be resolved"), "{text}");
        assert!(text.contains("getent ahosts api.example"), "{text}");
    }
}

#[test]
fn the_last_good_answer_is_kept() {
    let (upstream, of) = start(&[1, 2]);
    for nothing in [None, answer(&[])] {
        refresh(&upstream, &of, nothing);
        assert_eq!(hosts(&upstream), [1, 2]);
    }
    assert_eq!((upstream.lookups(), upstream.lookup_failures()), (2, 2));
    refresh(&upstream, &of, answer(&[3]));
    assert_eq!(hosts(&upstream), [3]);
    assert_eq!((upstream.lookups(), upstream.lookup_failures()), (3, 2));
}

#[test]
fn endpoints_live_as_long_as_their_address() {
    let (upstream, of) = start(&[1, 2]);
    let mut view = upstream.view();
    let leases = [pick(&mut view), pick(&mut view)];
    let now = Instant::now();
    refresh(&upstream, &of, answer(&[2, 3]));
    let mut second = None;
    for lease in &leases {
        let stays = lease.endpoint().address().to_string() == "10.0.0.2:80";
        let state = lease.endpoint().state(now);
        assert_eq!(state, if stays { EndpointState::Unknown } else { EndpointState::Draining });
        assert_eq!(lease.endpoint().open(), 1);
        second = second.or(stays.then(|| lease.endpoint().id()));
    }
    assert_eq!(hosts(&upstream), [2, 3]);
    assert_eq!(Some(upstream.endpoints()[0].id()), second);
    assert!((0..10).all(|_| address(&pick(&mut view)) != "10.0.0.1:80"));
}

#[test]
fn the_order_of_an_answer_changes_nothing() {
    let (upstream, of) = start(&[1, 2, 3]);
    let generation = upstream.generation();
    refresh(&upstream, &of, answer(&[3, 1, 2]));
    assert_eq!(upstream.generation(), generation);
}

#[test]
fn failures_are_logged_once_a_minute() {
    let start = Instant::now();
    let mut lookup = resolver::Lookup::default();
    let seconds = |seconds| start + Duration::from_secs(seconds);
    assert!(lookup.failed(seconds(0)));
    assert!(!lookup.failed(seconds(59)));
    assert!(lookup.failed(seconds(60)));
    assert!(lookup.succeeded());
    assert!(!lookup.succeeded());
    assert!(lookup.failed(seconds(61)), "a new failure after a success");
}

#[test]
fn the_thread_looks_again_and_ends_with_the_registry() {
    let of = Arc::new(Mutex::new(answer(&[1])));
    let mut config = config(&["api.example:80"]);
    config.resolve_interval = Duration::from_millis(100);
    let Running { registry, upstream } = Running::start(config, resolver(&of));
    *of.lock().unwrap() = answer(&[1, 2]);
    eventually(DEADLINE, || hosts(&upstream) == [1, 2]);
    drop(registry);
    // One that was in a lookup is left to itself, and ends behind it.
    eventually(DEADLINE, || Arc::strong_count(&upstream) == 1);
}

/// getaddrinfo(3) may take half a minute when no server answers.
#[test]
fn a_lookup_under_way_does_not_hold_up_the_end() {
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let state = Mutex::new((0, released));
    let resolve = move |_: &str, _: u16| {
        let mut state = state.lock().unwrap();
        state.0 += 1;
        if state.0 > 1 {
            entered.send(()).unwrap();
            let _ = state.1.recv_timeout(DEADLINE);
            return Ok(answer(&[9]).unwrap());
        }
        Ok(answer(&[1]).unwrap())
    };
    let mut config = config(&["api.example:80"]);
    config.resolve_interval = Duration::from_millis(100);
    let Running { registry, upstream } = Running::start(config, Box::new(resolve));
    is_in.recv_timeout(DEADLINE).unwrap();
    drop(registry);
    assert!(Arc::strong_count(&upstream) > 1, "the lookup was not waited for");
    release.send(()).unwrap();
    eventually(DEADLINE, || Arc::strong_count(&upstream) == 1);
    assert_eq!(hosts(&upstream), [1], "what comes after the end changes nothing");
}

/// Nobody would look names up any more.
#[test]
fn a_resolver_that_panics_raises_the_alarm() {
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let resolve = move |_: &str, _| {
        // The first look is that of the start.
        assert!(!asked.swap(true, Ordering::Relaxed), "on purpose");
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], 80))])
    };
    let mut config = config(&["api.example:80"]);
    config.resolve_interval = *UpstreamConfig::RESOLVE_INTERVAL.start();
    let running = Running::start(config, Box::new(resolve));
    let alarm = running.registry.alarm();
    eventually(DEADLINE, || alarm.raised().is_some());
    assert_eq!(alarm.raised().as_deref(), Some("resolve"));
}
