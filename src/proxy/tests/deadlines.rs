//! Pairs on which nothing happens.

use super::*;
use crate::upstream::EndpointCounter;

#[test]
fn an_idle_pair_is_closed() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.pass(4000);
    bench.input(key, Backend, b"x");
    bench.sent(key, Client, 1);
    assert_eq!(bench.pass(4500), []);
    let both = shut(Shutdown::Both);
    assert_eq!(bench.pass(800), [(Client, both), (Backend, shut(Shutdown::Both))]);
    bench.fin(key, Client);
    assert_eq!(operations(bench.fin(key, Backend)), [Close, Close]);
    bench.all_ended(Counter::ClosedByIdleTimeout);
}

#[test]
fn an_idle_pair_that_owes_bytes_is_reset() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.input(key, Backend, b"never read");
    let asked = operations(bench.pass(5500));
    let cancel = |kind| Asked::Cancel(kind);
    assert_eq!(asked, [cancel(Kind::Send), cancel(Kind::Receive), cancel(Kind::Receive)]);
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.receive_fails(key, Backend, Errno::ECANCELED);
    let asked = bench.on(key, Client, Event::Sent(Err(Errno::ECANCELED)));
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByIdleTimeout);
}

/// Two seconds for a send, five for a pair on which nothing happens.
fn stalling() -> Bench {
    let mut settings = settings();
    settings.timeouts.write_stall = Duration::from_millis(2000);
    Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default())
}

/// What the backend's counters say of deadlines.
fn blamed(bench: &mut Bench, key: Key) -> u64 {
    let lease = bench.proxy.table.get_mut(key).unwrap().lease.as_ref().unwrap();
    lease.endpoint().counters().get(EndpointCounter::Timeouts)
}

/// One end takes nothing, while what it says itself is taken at once.
#[track_caller]
fn expect_stall(deaf: End, blame: u64) {
    let mut bench = stalling();
    let key = bench.pair();
    let other = if deaf == Client { Backend } else { Client };
    bench.input(key, other, b"never read");
    for _ in 0..4 {
        assert_eq!(bench.pass(450), []);
        bench.input(key, deaf, b"x");
        bench.sent(key, other, 1);
    }
    let cancel = |end, kind| (end, Asked::Cancel(kind));
    let mut asked = bench.pass(300);
    asked.sort_by_key(|(end, asked)| format!("{:?}{asked:?}", *end == other));
    let receive = Kind::Receive;
    assert_eq!(asked, [cancel(deaf, receive), cancel(deaf, Kind::Send), cancel(other, receive)]);
    assert_eq!(blamed(&mut bench, key), blame);
    bench.receive_fails(key, Client, Errno::ECANCELED);
    bench.receive_fails(key, Backend, Errno::ECANCELED);
    let asked = bench.on(key, deaf, Event::Sent(Err(Errno::ECANCELED)));
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByWriteStall);
}

#[test]
fn a_client_that_takes_nothing_ends_even_a_busy_pair() {
    expect_stall(Client, 0);
}

#[test]
fn a_backend_that_takes_nothing_ends_even_a_busy_pair() {
    expect_stall(Backend, 1);
}

/// Each send has the whole time, however many come one after the other.
#[test]
fn whoever_takes_a_piece_in_time_is_no_stall() {
    let mut bench = stalling();
    let key = bench.pair();
    for _ in 0..3 {
        bench.input(key, Backend, &[7; 3000]);
    }
    for _ in 0..3 {
        assert_eq!(bench.pass(1900), []);
        bench.sent(key, Client, 3000);
    }
    // Nothing is being sent any more: the pair is idle and no more.
    assert_eq!(bench.pass(4500), []);
    assert_eq!(operations(bench.pass(800)), [shut(Shutdown::Both), shut(Shutdown::Both)]);
    bench.fin(key, Client);
    bench.fin(key, Backend);
    bench.all_ended(Counter::ClosedByIdleTimeout);
}

/// The time of a send begins with it, not with what was sent before.
#[test]
fn a_send_after_a_long_silence_has_its_whole_time() {
    let mut bench = stalling();
    let key = bench.pair();
    bench.input(key, Backend, b"early");
    bench.sent(key, Client, 5);
    assert_eq!(bench.pass(4000), []);
    bench.input(key, Backend, b"late");
    assert_eq!(bench.pass(1900), []);
    assert_eq!(bench.pass(300).len(), 3);
}

#[test]
fn a_half_closed_pair_has_less_time() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.fin(key, Client);
    assert_eq!(bench.pass(3900), []);
    assert_eq!(bench.pass(400), [(Backend, Asked::Cancel(Kind::Receive))]);
    assert_eq!(operations(bench.receive_fails(key, Backend, Errno::ECANCELED)), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByHalfClosedTimeout);
}

#[test]
fn a_lifetime_ends_even_a_busy_pair() {
    let mut settings = settings();
    settings.timeouts.lifetime = Some(Duration::from_millis(3000));
    let mut bench = Bench::with(settings, vec![upstream(|_| {})], PrereadRules::default());
    let key = bench.pair();
    for _ in 0..3 {
        bench.pass(900);
        bench.input(key, Backend, b"x");
        bench.sent(key, Client, 1);
    }
    assert_eq!(operations(bench.pass(500)), [shut(Shutdown::Both), shut(Shutdown::Both)]);
    bench.fin(key, Client);
    bench.fin(key, Backend);
    bench.all_ended(Counter::ClosedByLifetime);
}

/// None before nine tenths of it, none after all of it, and not all at once.
#[test]
fn lifetimes_differ() {
    let most = Duration::from_secs(1000);
    let key = |slot| Key { slot, generation: crate::ring::Generation::FIRST };
    let all: Vec<_> = (0..1000).map(|slot| lifetime(most, lifetime_share(key(slot)))).collect();
    assert!(all.iter().all(|it| (most * 9 / 10..=most).contains(it)));
    // Of ten parts of this tenth each has its share.
    for part in 0..10 {
        let from = most * 9 / 10 + most / 100 * part;
        let count = all.iter().filter(|it| (from..from + most / 100).contains(it)).count();
        assert!((50..200).contains(&count), "{count} in part {part}");
    }
}

/// Whether it had turns meanwhile or not.
#[test]
fn a_proxy_that_was_idle_for_a_month_looks_at_its_next_pair_in_time() {
    const DAY: u64 = 24 * 3600 * 1000;
    for (days, has_turns) in [(1, true), (30, true), (1, false), (30, false)] {
        let mut bench = Bench::new();
        match has_turns {
            true => drop(bench.pass(days * DAY)),
            false => bench.now += Duration::from_millis(days * DAY),
        }
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        let accepted = Accepted::new(null(), listener, bench.now);
        assert!(bench.limit.admit());
        let version = bench.version;
        bench.act(|proxy, cx| {
            proxy.adopt(accepted, version, cx);
            let wait = proxy.next_tick(cx.now, cx.millis).expect("a pair has a deadline");
            assert!(wait > Duration::ZERO && wait < Duration::from_secs(20), "{wait:?}");
        });
    }
}
