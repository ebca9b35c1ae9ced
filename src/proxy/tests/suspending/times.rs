//! What is left of deadlines.

use super::*;
use crate::upstream::EndpointCounter;

/// Two seconds for a send, five for a pair on which nothing happens.
fn stalling() -> Bench {
    let mut settings = settings();
    settings.timeouts.write_stall = Duration::from_millis(2000);
    Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default())
}

#[test]
fn who_takes_nothing_is_ended_when_it_would_have_been() {
    let (mut bench, mut other) = (stalling(), stalling());
    let key = bench.pair();
    bench.input(key, Client, b"never read");
    for _ in 0..3 {
        bench.pass(500);
    }
    bench.suspend(key).unwrap();
    bench.all_of([(key, Client, false, cancelled()), (key, Backend, false, cancelled())]);
    // Some of it had gone: when, nobody knows.
    bench.sent(key, Backend, 6);
    let suspended = bench.taken();
    let stalled = record(&suspended).sides[1].stalled.unwrap();
    assert_eq!((stalled.as_millis(), record(&suspended).idle.as_millis()), (1500, 1500));
    let (key, asked) = other.resume_told(suspended);
    assert!(asked.contains(&(Backend, Send(b"read".to_vec()))), "{asked:?}");
    assert_eq!(other.pass(450), []);
    assert_eq!(operations(other.pass(100)).len(), 3);
    let timeouts = other.proxy.versions.get(other.version).settings.upstreams[0].endpoints();
    let count = |counter| timeouts.iter().map(|it| it.counters().get(counter)).sum::<u64>();
    assert_eq!(count(EndpointCounter::Timeouts), 1);
    assert_eq!(other.proxy.table.get(key).unwrap().ended, Ended::WriteStall);
}

/// What comes while it is being suspended has not been waiting before.
#[test]
fn what_was_never_sent_is_no_stall() {
    let mut bench = stalling();
    let key = bench.pair();
    bench.pass(4000);
    bench.suspend(key).unwrap();
    bench.on(key, Client, cancelled());
    bench.last_input(key, Backend, b"late");
    let suspended = bench.taken();
    assert_eq!(record(&suspended).sides[0].stalled, Some(Duration::ZERO));
}

#[test]
fn what_is_left_of_each_deadline_stays() {
    let make = || {
        let mut settings = settings();
        settings.timeouts.lifetime = Some(Duration::from_secs(10));
        Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default())
    };
    let (mut bench, mut other) = (make(), make());
    // Other places have other shares of a lifetime.
    let _ = [(); 3].map(|()| other.pair());
    other.act(|proxy, cx| proxy.stop(cx));
    let key = bench.pair();
    let share = bench.proxy.table.get(key).unwrap().lifetime_share;
    bench.pass(3000);
    let suspended = bench.suspended(key);
    let (key, _) = other.resume_told(suspended);
    let pair = other.proxy.table.get(key).unwrap();
    assert_eq!(pair.lifetime_share, share);
    let settings = &other.proxy.versions.get(other.version).settings;
    let (due, _) = deadline(pair, &settings.timeouts).unwrap();
    assert_eq!(due.since(other.millis()), Duration::from_millis(2000));
    // A FIN begins another one.
    other.fin(key, Client);
    other.pass(3500);
    assert_eq!(other.suspend(key).unwrap(), [(Backend, RECEIVE)]);
    other.on(key, Backend, cancelled());
    let suspended = other.taken();
    let (key, _) = bench.resume_told(suspended);
    assert_eq!(bench.pass(450), []);
    assert_eq!(operations(bench.pass(100)).len(), 1);
    assert_eq!(bench.proxy.table.get(key).unwrap().ended, Ended::HalfClosed);
}

#[test]
fn what_is_left_of_the_time_for_a_header_stays() {
    let (mut bench, mut other) = (routed(), routed());
    let (_client, socket) = client();
    let key = bench.adopt_socket(socket)[0].0;
    bench.pass(600);
    bench.suspend(key).unwrap();
    bench.on(key, Client, cancelled());
    let suspended = bench.taken();
    let (key, _) = other.resume_told(suspended);
    assert_eq!(other.pass(380), []);
    assert_eq!(other.pass(40), [(Client, RECEIVE)]);
    other.on(key, Client, cancelled());
    other.all_ended(Counter::ClosedByFirstByteTimeout);
}
