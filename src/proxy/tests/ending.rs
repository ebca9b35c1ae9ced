//! FINs, resets, and the end.

use super::*;

#[test]
fn bytes_and_fin_of_one_turn_leave_together() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let bytes = bench.bytes(b"farewell");
    let fin = Event::Received(Ok(Received::End));
    let asked = bench.all_of([(key, Backend, true, bytes), (key, Backend, false, fin)]);
    assert_eq!(asked, [(Client, SendLast(b"farewell".to_vec()))]);
    assert_eq!(bench.sent(key, Client, 8), [(Client, shut(Shutdown::Write))]);
    // The other direction lives on.
    let asked = bench.last_input(key, Client, b"still");
    assert_eq!(asked, [(Client, many(BUDGET_BYTES - 5)), (Backend, Send(b"still".to_vec()))]);
    assert_eq!(bench.sent(key, Backend, 5), []);
    assert_eq!(operations(bench.fin(key, Client)), [Close, Close]);
    bench.all_ended(Counter::ClosedByBackend);
}

#[test]
fn a_fin_is_passed_on_when_everything_before_it_is_sent() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.input(key, Backend, b"first");
    bench.input(key, Backend, &[7; 3000]);
    assert_eq!(bench.fin(key, Backend), []);
    assert_eq!(bench.sent(key, Client, 5), [(Client, SendLast(vec![7; 3000]))]);
    assert_eq!(bench.sent(key, Client, 3000), [(Client, shut(Shutdown::Write))]);
    assert_eq!(operations(bench.fin(key, Client)), [Close, Close]);
    bench.all_ended(Counter::ClosedByBackend);
}

#[test]
fn a_client_that_ends_first_is_told_by_its_fin() {
    let mut bench = Bench::new();
    let key = bench.pair();
    assert_eq!(bench.fin(key, Client), [(Backend, shut(Shutdown::Write))]);
    assert_eq!(bench.input(key, Backend, b"answer"), [(Client, Send(b"answer".to_vec()))]);
    assert_eq!(bench.sent(key, Client, 6), []);
    assert_eq!(operations(bench.fin(key, Backend)), [Close, Close]);
    bench.all_ended(Counter::ClosedByPeer);
}

#[test]
fn two_fins_in_one_turn_need_no_shutdown() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let fin = || Event::Received(Ok(Received::End));
    let asked = bench.all_of([(key, Client, false, fin()), (key, Backend, false, fin())]);
    assert_eq!(operations(asked), [Close, Close]);
    bench.all_ended(Counter::ClosedByPeer);
}

#[test]
fn a_fin_before_the_backend_is_there_waits_for_it() {
    let mut bench = Bench::new();
    let (key, _) = bench.dial();
    bench.last_input(key, Client, b"all");
    assert_eq!(bench.fin(key, Client), []);
    let asked = bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, SendLast(b"all".to_vec())), (Backend, all())]);
    assert_eq!(bench.sent(key, Backend, 3), [(Backend, shut(Shutdown::Write))]);
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let asked = bench.receive_fails(key, Client, Errno::ECONNRESET);
    assert_eq!(asked, [(Backend, Asked::Cancel(Kind::Receive))]);
    // Closed only when its receive has ended.
    let asked = bench.receive_fails(key, Backend, Errno::ECANCELED);
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByReset);
}

#[test]
fn a_reset_of_the_backend_drops_what_waits() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.input(key, Backend, b"in flight");
    bench.input(key, Backend, b"waits");
    let mut asked = bench.receive_fails(key, Backend, Errno::ECONNRESET);
    asked.sort_by_key(|(_, asked)| format!("{asked:?}"));
    let cancel = |kind| (Client, Asked::Cancel(kind));
    assert_eq!(asked, [cancel(Kind::Receive), cancel(Kind::Send)]);
    assert_eq!(bench.receive_fails(key, Client, Errno::ECANCELED), []);
    // A cancel may lose the race.
    assert_eq!(operations(bench.sent(key, Client, 9)), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByBackendReset);
}

#[test]
fn a_send_that_fails_ends_the_pair() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.last_input(key, Client, b"x");
    bench.on(key, Backend, Event::Sent(Err(Errno::EPIPE)));
    bench.receive_fails(key, Client, Errno::ECANCELED);
    let asked = bench.receive_fails(key, Backend, Errno::ECANCELED);
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByBackendReset);
}

/// The receive of an end is cancelled, perhaps others, and nothing else is done.
#[track_caller]
fn only_cancels(asked: &[(End, Asked)], end: End) {
    let cancel = Asked::Cancel(Kind::Receive);
    assert!(asked.iter().all(|(_, what)| *what == cancel), "{asked:?}");
    assert!(asked.contains(&(end, cancel)), "{asked:?}");
}

/// The kernel tells of a reset once. A send that has got some bytes away does not say so, and the receive
/// finds an end: no end may be made of that.
#[test]
fn a_short_send_and_an_end_are_a_reset() {
    for end_first in [false, true] {
        let mut bench = Bench::new();
        let key = bench.pair();
        bench.last_input(key, Client, b"abcdef");
        let short = (key, Backend, false, Event::Sent(Ok(4)));
        let end = (key, Backend, false, Event::Received(Ok(Received::End)));
        let asked = bench.all_of(if end_first { [end, short] } else { [short, end] });
        only_cancels(&asked, Client);
        let asked = bench.receive_fails(key, Client, Errno::ECANCELED);
        assert_eq!(operations(asked), [Reset, Reset]);
        bench.all_ended(Counter::ClosedByBackendReset);
    }
}

/// The same with a send that says so.
#[test]
fn a_failed_send_and_an_end_are_a_reset() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.input(key, Backend, b"abcdef");
    let failed = (key, Client, false, Event::Sent(Err(Errno::ECONNRESET)));
    let end = (key, Client, false, Event::Received(Ok(Received::End)));
    only_cancels(&bench.all_of([failed, end]), Backend);
    let asked = bench.receive_fails(key, Backend, Errno::ECANCELED);
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByReset);
}

#[test]
fn a_stop_ends_every_pair_wherever_it_is() {
    let mut bench = Bench::new();
    let opening = bench.accept();
    let (connecting, _) = bench.dial();
    let forwarding = bench.pair();
    let asked = bench.act(|proxy, cx| proxy.stop(cx));
    let of = |key| asked.iter().filter(move |(other, ..)| *other == key).map(|(_, _, what)| what);
    let both = shut(Shutdown::Both);
    assert_eq!(of(opening).collect::<Vec<_>>(), [&both]);
    assert_eq!(of(connecting).collect::<Vec<_>>(), [&Asked::Cancel(Kind::Connect), &both]);
    assert_eq!(of(forwarding).collect::<Vec<_>>(), [&both, &both]);
    for key in [opening, connecting, forwarding] {
        bench.fin(key, Client);
    }
    assert_eq!(operations(bench.on(opening, Backend, Event::Opened(Ok(null())))), [Close, Close]);
    let canceled = Event::Connected(Err(Errno::ECANCELED));
    assert_eq!(operations(bench.on(connecting, Backend, canceled)), [Close, Close]);
    assert_eq!(operations(bench.fin(forwarding, Backend)), [Close, Close]);
    bench.all_ended(Counter::ClosedByStop);
}

/// Each when its turn comes; one that is in use then goes on.
#[test]
fn a_drain_that_is_spread_ends_idle_pairs_one_after_the_other() {
    let mut bench = Bench::new();
    let [first, waits, last, half, answered] = [(); 5].map(|()| bench.pair());
    // A backend that thinks, and one whose client has said all it has to say.
    for key in [waits, half, answered] {
        bench.input(key, Client, b"x");
        bench.sent(key, Backend, 1);
    }
    bench.fin(half, Client);
    bench.input(answered, Backend, b"x");
    bench.sent(answered, Client, 1);
    let spread = Duration::from_millis(800);
    bench.now += Duration::from_millis(1500);
    assert_eq!(bench.act(|proxy, cx| proxy.drain(None, spread, cx)), []);
    let mut ended = Vec::new();
    for _ in 0..8 {
        bench.now += spread / 8;
        let asked = bench.act(|_, _| {});
        assert!(asked.is_empty() || asked.len() == 2, "{asked:?}");
        ended.extend(asked.first().map(|(key, ..)| *key));
        assert!(asked.iter().all(|(.., asked)| *asked == shut(Shutdown::Both)), "{asked:?}");
    }
    assert_eq!(ended, [first, answered, last]);
    // It came after the drain began.
    bench.pair();
    assert_eq!(bench.pass(1400), []);
    for key in ended {
        bench.fin(key, Client);
        assert_eq!(operations(bench.fin(key, Backend)), [Close, Close]);
    }
    assert_eq!((bench.count(Counter::ClosedByDrain), bench.proxy.open()), (3, 3));
}

/// One that has just spoken is not.
#[test]
fn a_pair_is_idle_after_a_while() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.input(key, Backend, b"x");
    bench.sent(key, Client, 1);
    let drain = |proxy: &mut Proxy, cx: &mut LoopContext<'_>| proxy.drain(None, Duration::ZERO, cx);
    bench.now += Duration::from_millis(900);
    assert_eq!(bench.act(drain), []);
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.act(drain).len(), 2);
}

#[test]
fn what_completes_after_the_end_is_reclaimed() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.fin(key, Client);
    bench.fin(key, Backend);
    assert_eq!(bench.last_input(key, Client, b"late"), []);
    assert_eq!(bench.count(Counter::Stale), 1);
    bench.all_ended(Counter::ClosedByPeer);
}

#[test]
fn a_starved_end_is_not_asked_again_once_its_pair_is_ending() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(key, Client, Errno::ENOBUFS);
    let stopped = bench.act(|proxy, cx| proxy.stop(cx));
    let stopped = stopped.into_iter().map(|(_, end, asked)| (end, asked)).collect::<Vec<_>>();
    // What its client may have sent is lost, so this is no regular end.
    assert_eq!(stopped, [(Backend, Asked::Cancel(Kind::Receive))]);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.pass(1), []);
    let asked = bench.receive_fails(key, Backend, Errno::ECANCELED);
    assert_eq!(operations(asked), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByStop);
}
