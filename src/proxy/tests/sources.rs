//! Local addresses that backends are connected from, and what happens when one has no port left.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use socket2::Domain;

use super::*;
use crate::sys;
use crate::upstream::EndpointCounter;

fn no_port() -> Event {
    Event::Connected(Err(Errno::EADDRNOTAVAIL))
}

/// A proxy to so many backends, with these sources; one failure ejects a backend.
fn bench(backends: usize, sources: &[&str]) -> Bench {
    let view = upstream(|config| {
        config.backends.truncate(backends);
        config.sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        config.passive = PassiveHealth::default();
        config.passive.failures = std::num::NonZeroU32::new(1);
        config.passive.ejected_percent_max = 100;
    });
    Bench::with(settings(), vec![view], PrereadRules::default())
}

/// A socket comes; returns the local address that it is bound to, if its connect is asked for.
#[track_caller]
fn dial_from(bench: &mut Bench, key: Key) -> Option<IpAddr> {
    let socket = sys::stream_socket(Domain::IPV4).unwrap();
    let copy = socket.try_clone().unwrap();
    match &bench.on(key, Backend, Event::Opened(Ok(socket)))[..] {
        [(Backend, Asked::Connect(_))] => {
            let local = sys::local_address(copy.as_fd()).unwrap().unwrap();
            assert_eq!(local.port(), 0, "no port is taken before the connect");
            Some(local.ip())
        }
        [(_, Close), (Backend, Open)] => None,
        other => panic!("{other:?}"),
    }
}

fn host(last: u8) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
}

#[test]
fn sources_take_turns() {
    let mut bench = bench(2, &["127.0.0.2", "127.0.0.3"]);
    for last in [2, 3, 2, 3] {
        let key = bench.accept();
        assert_eq!(dial_from(&mut bench, key), host(last));
        bench.on(key, Backend, Event::Connected(Ok(())));
    }
}

#[test]
fn without_a_port_the_next_source_is_tried_and_no_backend_is_blamed() {
    let mut bench = bench(1, &["127.0.0.2", "127.0.0.3"]);
    let key = bench.accept();
    assert_eq!(dial_from(&mut bench, key), host(2));
    assert_eq!(operations(bench.on(key, Backend, no_port())), [Close, Open]);
    assert_eq!(dial_from(&mut bench, key), host(3));
    assert_eq!(bench.on(key, Backend, Event::Connected(Ok(()))), [(Backend, all())]);
    let counts = [Counter::BackendNoPort, Counter::ConnectFailures, Counter::ConnectRetries];
    assert_eq!(counts.map(|counter| bench.count(counter)), [1, 0, 0]);
    let pair = bench.proxy.table.get_mut(key).unwrap();
    assert_eq!((pair.attempts, pair.failures), (1, 0));
    // The first one rests for a while, then it has its turn again.
    for (pause, last) in [(0, 3), (0, 3), (200, 2)] {
        bench.pass(pause);
        let key = bench.accept();
        assert_eq!(dial_from(&mut bench, key), host(last));
    }
}

#[test]
fn without_a_port_another_backend_is_tried() {
    let mut bench = bench(2, &[]);
    let (key, first) = bench.dial();
    let lease = bench.proxy.table.get_mut(key).unwrap().lease.as_ref();
    let endpoint = Arc::clone(lease.unwrap().endpoint());
    assert_eq!(operations(bench.on(key, Backend, no_port())), [Close, Open]);
    assert_ne!(bench.opened(key), first);
    assert_eq!(bench.count(Counter::BackendNoPort), 1);
    assert_eq!(endpoint.counters().get(EndpointCounter::ConnectsLocal), 1);
    assert_eq!(endpoint.counters().get(EndpointCounter::Ejections), 0);
    assert_eq!(endpoint.open(), 0);
}

/// Also not when it may try now and then: what is tried in vain does not prolong it.
#[test]
fn a_wait_for_a_port_has_an_end() {
    let mut bench = bench(1, &[]);
    let (key, _) = bench.dial();
    assert_eq!(operations(bench.on(key, Backend, no_port())), [Close]);
    let mut tries = 0;
    for _ in 0..320 {
        let asked = bench.pass(10);
        match asked[..] {
            [] => {}
            [(Backend, Open)] => {
                tries += 1;
                bench.opened(key);
                assert_eq!(operations(bench.on(key, Backend, no_port())), [Close]);
            }
            [(Client, Asked::Cancel(Kind::Receive))] => break,
            _ => panic!("{asked:?}"),
        }
    }
    assert!((20..=30).contains(&tries), "{tries} tries in three seconds");
    let pair = bench.proxy.table.get_mut(key).unwrap();
    assert_eq!((pair.attempts, pair.failures), (0, 0));
    assert_eq!(pair.trouble().errno, Some(Errno::EADDRNOTAVAIL));
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.all_ended(Counter::ClosedByQueueTimeout);
    assert_eq!(bench.count(Counter::BackendNoPort), 1);
}

/// Two pairs that had no port: the pause is over, and the first tries again.
fn two_without_a_port() -> (Bench, [Key; 2]) {
    let mut bench = bench(1, &[]);
    let (first, _) = bench.dial();
    bench.on(first, Backend, no_port());
    let second = bench.adopt()[0].0;
    assert_eq!(bench.pass(100), [(Backend, Open)]);
    bench.opened(first);
    (bench, [first, second])
}

/// Each search in vain takes the kernel a millisecond, so those that wait do not all try.
#[test]
fn of_those_that_wait_one_tries_and_the_next_when_it_has_a_port() {
    let (mut bench, [first, second]) = two_without_a_port();
    assert_eq!(bench.pass(10), []);
    let asked = bench.on(first, Backend, Event::Connected(Ok(())));
    assert_eq!(operations(asked), [Open, all()]);
    bench.opened(second);
}

#[test]
fn an_address_that_is_none_of_this_machine_is_passed_over() {
    // TEST-NET-1: nobody has it.
    let mut bench = bench(1, &["192.0.2.1", "127.0.0.3"]);
    let key = bench.accept();
    assert_eq!(dial_from(&mut bench, key), None);
    assert_eq!(dial_from(&mut bench, key), host(3));
    bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(bench.count(Counter::ConnectFailures), 0);
    let pair = bench.proxy.table.get_mut(key).unwrap();
    assert_eq!((pair.attempts, pair.failures), (1, 0));
}

/// Of a name that is known only when it is resolved.
#[test]
fn a_backend_of_another_address_family_is_no_failure_of_its_own() {
    let mut config = UpstreamConfig::new(vec!["name.example:1".parse().unwrap()]);
    config.sources = vec!["::1".parse().unwrap()];
    config.passive.failures = std::num::NonZeroU32::new(1);
    config.passive.ejected_percent_max = 100;
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let resolve = Box::new(move |_: &str, _: u16| Ok(vec![address]));
    let upstream = Upstream::without_threads(config, resolve).unwrap();
    let endpoint = Arc::clone(&upstream.endpoints()[0]);
    let mut bench = Bench::with(settings(), vec![upstream], PrereadRules::default());
    let asked: Vec<_> = bench.adopt().into_iter().map(|(.., asked)| asked).collect();
    assert_eq!(asked, [Reset]);
    bench.all_ended(Counter::ClosedByConnectFailure);
    assert_eq!(endpoint.counters().get(EndpointCounter::Ejections), 0);
}

/// Also when those that it can reach have connections and it has none.
#[test]
fn a_backend_of_another_address_family_comes_last() {
    let mut config = UpstreamConfig::new(vec!["name.example:1".parse().unwrap()]);
    config.sources = vec!["127.0.0.2".parse().unwrap()];
    let addresses = ["127.0.0.1:1", "[::1]:1"].map(|text| text.parse().unwrap());
    let resolve = Box::new(move |_: &str, _: u16| Ok(addresses.to_vec()));
    let mut view = Upstream::without_threads(config, resolve).unwrap().view();
    let leases: Vec<_> = (0..4).map(|_| view.pick(None, &[]).unwrap()).collect();
    assert!(leases.iter().all(|lease| lease.address().as_socket() == Some(addresses[0])));
    let last = view.pick(None, &[leases[0].endpoint().id()]).unwrap();
    assert_eq!(last.address().as_socket(), Some(addresses[1]));
}

/// It is on the other machine of a pair, and net.ipv4.ip_nonlocal_bind lets sockets be bound to it.
#[test]
fn a_source_that_cannot_reach_the_backend_is_passed_over() {
    let mut bench = bench(1, &["127.0.0.2", "127.0.0.3"]);
    let key = bench.accept();
    assert_eq!(dial_from(&mut bench, key), host(2));
    let asked = bench.on(key, Backend, Event::Connected(Err(Errno::EINVAL)));
    assert_eq!(operations(asked), [Close, Open]);
    assert_eq!(dial_from(&mut bench, key), host(3));
    bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(bench.count(Counter::ConnectFailures), 0);
}

/// A full queue does not turn away the one that has tried for those that wait, nor does it go to the end.
#[test]
fn who_tries_for_those_that_wait_keeps_its_place() {
    let (mut bench, [first, second]) = two_without_a_port();
    bench.on(first, Backend, no_port());
    assert_eq!(bench.proxy.waiting, [first, second]);
}
