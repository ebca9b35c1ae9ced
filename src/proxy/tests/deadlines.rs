//! Pairs on which nothing happens.

use super::*;

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
    let mut bench = Bench::with(settings, vec![upstream(|_| {})], Greetings::default());
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
