//! Backends that do not answer, and those that are full.

use std::num::NonZeroUsize;

use super::*;
use crate::upstream::EndpointCounter;

fn refused() -> Event {
    Event::Connected(Err(Errno::ECONNREFUSED))
}

#[test]
fn a_failed_connect_is_followed_by_one_to_another_backend() {
    let mut bench = Bench::new();
    let (key, first) = bench.dial();
    assert_eq!(operations(bench.on(key, Backend, refused())), [Close, Open]);
    let second = bench.opened(key);
    assert_ne!(first, second);
    assert_eq!(bench.on(key, Backend, Event::Connected(Ok(()))), [(Backend, all())]);
    assert_eq!(bench.count(Counter::ConnectFailures), 1);
    assert_eq!(bench.count(Counter::ConnectRetries), 1);
}

/// With one backend there is nobody else to try, whatever `retries` allows.
#[test]
fn a_retry_counts_when_it_is_made() {
    let view = upstream(|config| config.backends.truncate(1));
    let mut bench = Bench::with(settings(), vec![view], PrereadRules::default());
    for _ in 0..8 {
        let (key, _) = bench.dial();
        bench.on(key, Backend, refused());
        bench.receive_fails(key, Client, Errno::ECANCELED);
    }
    bench.all_ended(Counter::ClosedByConnectFailure);
    assert_eq!(bench.count(Counter::ConnectFailures), 8);
    assert_eq!(bench.count(Counter::ConnectRetries), 0);
}

/// It counts for the one that failed when the other is asked, and once, however long that waits.
#[test]
fn a_retry_that_waits_for_a_descriptor_counts_once() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    let lease = bench.proxy.table.get_mut(key).unwrap().lease.as_ref();
    let first = Arc::clone(lease.unwrap().endpoint());
    let away = || first.counters().get(EndpointCounter::RetriesAway);
    bench.on(key, Backend, refused());
    for _ in 0..3 {
        bench.on(key, Backend, Event::Opened(Err(Errno::EMFILE)));
        assert_eq!((bench.count(Counter::ConnectRetries), away()), (0, 0));
        assert_eq!(bench.pass(10), [(Backend, Open)]);
    }
    bench.opened(key);
    assert_eq!((bench.count(Counter::ConnectRetries), away()), (1, 1));
}

/// The one that was tried last, whatever has come of it; not one that was only chosen.
#[test]
fn the_backend_of_a_pair_is_the_one_tried_last() {
    let mut bench = Bench::new();
    let key = bench.accept();
    let last = |bench: &mut Bench| {
        let pair = bench.proxy.table.get_mut(key).unwrap();
        let errno = pair.detail.as_ref().and_then(|detail| detail.trouble.as_ref()?.errno);
        let backend = pair.last_backend().map(|backend| backend.address().to_string());
        (backend, pair.attempts, pair.failures, errno)
    };
    assert_eq!(last(&mut bench), (None, 0, 0, None));
    let first = bench.opened(key);
    assert_eq!(last(&mut bench), (Some(first.clone()), 1, 0, None));
    bench.on(key, Backend, refused());
    let refused = Some(Errno::ECONNREFUSED);
    assert_eq!(last(&mut bench), (Some(first), 1, 1, refused));
    let second = bench.opened(key);
    assert_eq!(last(&mut bench), (Some(second.clone()), 2, 1, refused));
    bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(last(&mut bench), (Some(second), 2, 1, refused));
}

/// A cancel of the proxy's own is its connect timeout.
#[test]
fn a_connect_that_took_too_long_has_the_errno_of_that() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    bench.pass(2200);
    bench.on(key, Backend, Event::Connected(Err(Errno::ECANCELED)));
    let pair = bench.proxy.table.get_mut(key).unwrap();
    assert_eq!(pair.trouble().errno, Some(Errno::ETIMEDOUT));
}

#[test]
fn when_no_connect_is_left_the_client_is_reset() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    bench.on(key, Backend, refused());
    bench.opened(key);
    let asked = bench.on(key, Backend, refused());
    assert_eq!(operations(asked), [Close, Asked::Cancel(Kind::Receive)]);
    assert_eq!(operations(bench.receive_fails(key, Client, Errno::ECANCELED)), [Reset]);
    bench.all_ended(Counter::ClosedByConnectFailure);
}

#[test]
fn no_backend_is_tried_twice() {
    let settings = ProxySettings { retries: 9, ..settings() };
    let mut bench = Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default());
    let (key, _) = bench.dial();
    bench.on(key, Backend, refused());
    bench.opened(key);
    bench.on(key, Backend, refused());
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.all_ended(Counter::ClosedByConnectFailure);
}

#[test]
fn a_connect_that_takes_too_long_is_given_up() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    assert_eq!(bench.pass(1900), []);
    assert_eq!(bench.pass(300), [(Backend, Asked::Cancel(Kind::Connect))]);
    let canceled = Event::Connected(Err(Errno::ECANCELED));
    assert_eq!(operations(bench.on(key, Backend, canceled)), [Close, Open]);
    bench.opened(key);
    bench.pass(2200);
    bench.on(key, Backend, Event::Connected(Err(Errno::ECANCELED)));
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.all_ended(Counter::ClosedByConnectTimeout);
}

#[test]
fn a_cancel_that_lost_the_race_is_a_connection() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    bench.pass(2200);
    assert_eq!(bench.on(key, Backend, Event::Connected(Ok(()))), [(Backend, all())]);
}

#[test]
fn without_descriptors_the_client_waits_for_one() {
    let mut bench = Bench::new();
    let key = bench.accept();
    assert_eq!(bench.on(key, Backend, Event::Opened(Err(Errno::EMFILE))), []);
    assert_eq!(bench.count(Counter::BackendNoDescriptor), 1);
    assert_eq!(bench.proxy.next_tick(bench.now, bench.millis()), Some(ROOM_INTERVAL));
    assert_eq!(bench.pass(10), [(Backend, Open)]);
    bench.opened(key);
    assert_eq!(bench.on(key, Backend, Event::Connected(Ok(()))), [(Backend, all())]);
}

#[test]
fn waiting_for_a_descriptor_has_an_end() {
    let mut bench = Bench::new();
    let key = bench.accept();
    for _ in 0..310 {
        if bench.on(key, Backend, Event::Opened(Err(Errno::EMFILE))).is_empty() {
            bench.pass(10);
        }
    }
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.all_ended(Counter::ClosedByQueueTimeout);
}

/// Two backends with room for one connection each, both taken.
fn full() -> (Bench, [Key; 2]) {
    let one = NonZeroUsize::new(1);
    let view = upstream(|config| config.max_connections = one);
    let mut bench = Bench::with(settings(), vec![view], PrereadRules::default());
    let keys = [bench.pair(), bench.pair()];
    (bench, keys)
}

#[test]
fn when_all_are_full_the_next_waits_for_room() {
    let (mut bench, [first, _]) = full();
    let asked = bench.adopt();
    let [(waiting, Client, ONCE)] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(bench.count(Counter::BackendQueued), 1);
    assert_eq!(bench.pass(10), []);
    bench.fin(first, Client);
    let asked = operations(bench.fin(first, Backend));
    assert_eq!(asked, [Close, Close]);
    assert_eq!(bench.pass(0), [(Backend, Open)]);
    bench.opened(waiting);
    assert_eq!(bench.count(Counter::BackendQueued), 1);
}

#[test]
fn the_queue_has_an_end() {
    let (mut bench, _) = full();
    for _ in 0..settings().queue {
        bench.adopt();
    }
    let asked = bench.adopt();
    let asked: Vec<_> = asked.into_iter().map(|(.., asked)| asked).collect();
    assert_eq!(asked, [Reset]);
    assert_eq!(bench.count(Counter::ClosedByQueueFull), 1);
}

#[test]
fn waiting_for_room_has_an_end() {
    let (mut bench, _) = full();
    bench.adopt();
    assert_eq!(bench.pass(2900), []);
    assert_eq!(bench.pass(300), [(Client, Asked::Cancel(Kind::Receive))]);
    assert_eq!(
        bench.proxy.next_tick(bench.now, bench.millis()).filter(|wait| *wait <= ROOM_INTERVAL),
        None
    );
}
