//! Linger: our FIN first, then what the peer still sends is dropped, within limits.

use super::*;

fn refusing() -> Script {
    Script {
        data: |input, outbox| {
            outbox.send_static(b"no");
            if input.bytes() == b"?" { Action::Continue } else { Action::Linger }
        },
        ..Script::default()
    }
}

/// A connection whose answer and FIN are out, with a receive in flight.
#[track_caller]
fn lingering() -> (Bench, Key) {
    let mut bench = Bench::new(refusing());
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [Send(b"no".to_vec())]);
    assert_eq!(bench.sent(key, 2), [shut(Shutdown::Write), many(BUDGET_BYTES)]);
    (bench, key)
}

#[test]
fn the_answer_then_the_fin_then_input_is_dropped_until_the_fin() {
    let (mut bench, key) = lingering();
    assert_eq!(bench.input(key, true, &[1; 4000]), []);
    assert_eq!(bench.input(key, false, &[2; 4000]), [many(BUDGET_BYTES)]);
    assert_eq!(bench.pool.free(), BUFFERS);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_peer_that_goes_on_sending_is_closed_on_at_the_limit() {
    let (mut bench, key) = lingering();
    let limit = 1024 * 1024;
    let mut left = limit;
    while left > BUFFER_BYTES {
        assert_eq!(bench.input(key, true, &[1; BUFFER_BYTES]), []);
        left -= BUFFER_BYTES;
    }
    assert_eq!(bench.input(key, true, &vec![1; left]), [shut(Shutdown::Both)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_peer_that_is_silent_is_closed_on_at_the_deadline() {
    let (mut bench, key) = lingering();
    assert_eq!(bench.pass(450), []);
    assert_eq!(bench.pass(100), [(key, shut(Shutdown::Both))]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn input_does_not_put_the_deadline_off() {
    let (mut bench, key) = lingering();
    bench.pass(400);
    assert_eq!(bench.input(key, true, b"still here"), []);
    assert_eq!(bench.pass(150), [(key, shut(Shutdown::Both))]);
}

#[test]
fn without_an_answer_the_fin_goes_at_once() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Linger, ..Script::default() });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [shut(Shutdown::Write), many(BUDGET_BYTES)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_receive_in_flight_goes_on_while_lingering() {
    let mut bench = Bench::new(refusing());
    let (key, _) = bench.connect_with(b"?");
    assert_eq!(bench.input(key, true, b"a"), []);
    assert_eq!(bench.sent(key, 2), [Send(b"no".to_vec())]);
    assert_eq!(bench.input(key, true, b"dropped"), []);
    assert_eq!(bench.sent(key, 2), [shut(Shutdown::Write)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

/// The peer's FIN may come while the refusal is still being sent: then there is nothing to wait for.
#[test]
fn a_fin_that_came_before_ours_ends_the_linger() {
    let mut bench = Bench::new(refusing());
    let (key, _) = bench.connect_with(b"?");
    assert_eq!(bench.input(key, true, b"a"), []);
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 2), [SendAndClose(b"no".to_vec())]);
    assert_eq!(bench.sent(key, 2), []);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_reset_ends_the_linger() {
    let (mut bench, key) = lingering();
    assert_eq!(bench.receive_fails(key, Errno::ECONNRESET), [Close]);
    bench.nothing_left();
}

#[test]
fn a_starved_linger_goes_on_when_there_are_buffers() {
    let (mut bench, key) = lingering();
    assert_eq!(bench.receive_fails(key, Errno::ENOBUFS), []);
    assert_eq!(bench.tick(), [(key, many(BUDGET_BYTES))]);
}
