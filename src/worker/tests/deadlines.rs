//! Deadlines: which one runs, what puts it off, and what the service is told.

use super::*;

/// How late a deadline may be noticed: two ticks of the wheel.
const LATE_MS: u64 = 70;

fn awaiting() -> Script {
    Script { data: |_, _| Action::Await, ..Script::default() }
}

fn silent() -> Script {
    Script { data: |_, _| Action::Continue, ..Script::default() }
}

/// Holds that nothing happens for `millis`, looking every now and then, and that it does right after.
#[track_caller]
fn expires(bench: &mut Bench, key: Key, millis: u64, expected: Asked) {
    expires_with(bench, key, millis, [expected]);
}

/// It is in the middle of an answer: a FIN would say that this was all.
#[track_caller]
fn expires_in_an_answer(bench: &mut Bench, key: Key, millis: u64) {
    expires_with(bench, key, millis, [CancelReceive, CancelSend]);
}

#[track_caller]
fn expires_with<const N: usize>(bench: &mut Bench, key: Key, millis: u64, expected: [Asked; N]) {
    for step in [millis / 2, millis - millis / 2 - 1] {
        assert_eq!(bench.pass(step), []);
    }
    assert_eq!(bench.pass(1 + LATE_MS), expected.map(|asked| (key, asked)));
}

#[test]
fn the_first_byte() {
    let mut bench = Bench::new(silent());
    let key = bench.connect();
    expires(&mut bench, key, 1000, shut(Shutdown::Both));
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::FirstByteTimeout);
    assert_eq!(bench.count(Counter::ClosedByFirstByteTimeout), 1);
}

#[test]
fn idleness_counts_from_the_last_progress() {
    let mut bench = Bench::new(silent());
    let (key, _) = bench.connect_with(b"a");
    bench.pass(2500);
    assert_eq!(bench.input(key, true, b"b"), []);
    expires(&mut bench, key, 3000, shut(Shutdown::Both));
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::IdleTimeout);
    assert_eq!(bench.count(Counter::ClosedByIdleTimeout), 1);
}

#[test]
fn awaiting_is_no_progress() {
    let mut bench = Bench::new(awaiting());
    let key = bench.connect();
    bench.pass(500);
    bench.input(key, false, b"a");
    bench.pass(2000);
    assert_eq!(bench.input(key, true, b"b"), []);
    expires(&mut bench, key, 500, shut(Shutdown::Both));
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::IdleTimeout);
}

#[test]
fn output_that_is_taken_is_progress() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"a");
    bench.pass(1500);
    assert_eq!(bench.sent(key, 1), []);
    expires(&mut bench, key, 3000, shut(Shutdown::Both));
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::IdleTimeout);
}

#[test]
fn a_peer_that_takes_nothing() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"a");
    expires_in_an_answer(&mut bench, key, 2000);
    assert_eq!(bench.send_fails(key, Errno::ECANCELED), []);
    assert_eq!(bench.receive_fails(key, Errno::ECANCELED), [Asked::Reset]);
    bench.ended(CloseReason::WriteStall);
    assert_eq!(bench.count(Counter::ClosedByWriteStall), 1);
}

/// Otherwise one byte now and then would keep a stalled connection for as long as the budget lasts.
#[test]
fn a_peer_that_takes_nothing_is_not_excused_by_what_it_sends() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"a");
    bench.pass(1500);
    assert_eq!(bench.input(key, true, b"b"), []);
    expires_in_an_answer(&mut bench, key, 500);
}

#[test]
fn a_stalled_last_send_is_cancelled() {
    for result in [Err(Errno::ECANCELED), Ok(1)] {
        let mut bench = Bench::new(Script {
            data: |input, outbox| {
                outbox.echo(0..input.bytes().len());
                Action::Close
            },
            ..Script::default()
        });
        let (key, asked) = bench.connect_with(b"a");
        assert_eq!(asked, [SendAndClose(b"a".to_vec())]);
        expires(&mut bench, key, 2000, CancelSend);
        assert_eq!(bench.pool.free(), BUFFERS - 1, "the kernel may still read it");
        assert_eq!(bench.pass(10_000), [], "once is enough");
        assert_eq!(bench.complete(key, false, Event::Sent(result)), []);
        bench.ended(CloseReason::WriteStall);
    }
}

#[test]
fn a_half_closed_connection_is_idle_when_nothing_is_sent() {
    let mut bench = Bench::new(Script { half_closed: |_| Action::Continue, ..silent() });
    let (key, _) = bench.connect_with(b"a");
    bench.end(key);
    expires(&mut bench, key, 3000, Close);
    bench.ended(CloseReason::IdleTimeout);
}

#[test]
fn a_starved_connection_has_its_deadline_too() {
    let mut bench = Bench::new(silent());
    let key = bench.connect();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(key, Errno::ENOBUFS);
    expires(&mut bench, key, 1000, Close);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    bench.ended(CloseReason::FirstByteTimeout);
}

#[test]
fn each_connection_has_its_own() {
    let mut bench = Bench::new(silent());
    let first = bench.connect();
    bench.pass(600);
    let second = bench.connect();
    assert_eq!(bench.pass(400 + LATE_MS), [(first, shut(Shutdown::Both))]);
    assert_eq!(bench.pass(600), [(second, shut(Shutdown::Both))]);
}

#[test]
fn the_next_tick_is_no_later_than_the_deadline_and_none_without_connections() {
    let mut bench = Bench::new(silent());
    assert_eq!(bench.next_tick(), None);
    let key = bench.connect();
    let mut asked = Vec::new();
    let start = bench.now;
    let mut looks = 0;
    while asked.is_empty() {
        let wait = bench.next_tick().expect("a connection has a deadline");
        assert!(!wait.is_zero(), "a thread would spin");
        bench.now += wait;
        asked = bench.tick();
        looks += 1;
    }
    assert_eq!(asked, [(key, shut(Shutdown::Both))]);
    assert!(bench.now - start <= Duration::from_millis(1000 + LATE_MS) && looks < 5, "{looks}");
    bench.end(key);
    assert_eq!(bench.next_tick(), None);
}

/// Milliseconds are counted in 32 bits, which is 49 days; a server runs longer.
#[test]
fn deadlines_outlive_the_wrap_of_the_clock() {
    let mut bench = Bench::new(silent());
    for days in [20, 29, 1, 30, 49, 100] {
        bench.pass(days * 86_400_000);
        let key = bench.connect();
        expires(&mut bench, key, 1000, shut(Shutdown::Both));
        assert_eq!(bench.end(key), [Close], "{days} days later");
    }
}

#[test]
fn a_connection_lives_across_the_wrap_of_the_clock() {
    let mut bench = Bench::new(silent());
    // Without a turn.
    bench.now += Duration::from_millis(u64::from(u32::MAX) - 2000);
    let (key, _) = bench.connect_with(b"a");
    expires(&mut bench, key, 3000, shut(Shutdown::Both));
}
