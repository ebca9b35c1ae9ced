//! From the outbox to the wire.

use super::*;

/// Longer than two sends.
static LONG: [u8; 150_000] = [9; 150_000];

#[test]
fn one_send_is_in_flight_at_a_time_and_small_input_joins_what_waits() {
    let mut bench = Bench::new(Script::default());
    let (key, asked) = bench.connect_with(b"one ");
    assert_eq!(asked, [Send(b"one ".to_vec()), many(BUDGET_BYTES - 4)]);
    assert_eq!(bench.input(key, true, b"two "), []);
    assert_eq!(bench.input(key, true, b"three"), []);
    assert_eq!(bench.sent(key, 4), [Send(b"two three".to_vec())]);
    assert_eq!(bench.sent(key, 9), []);
    assert_eq!(bench.pool.free(), BUFFERS, "an idle connection holds no buffer");
    assert_eq!((bench.count(Counter::Sends), bench.count(Counter::SentBytes)), (2, 13));
}

#[test]
fn pieces_of_all_kinds_leave_in_the_order_of_the_calls() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.write(b"<");
            outbox.echo(2..4);
            outbox.send_static(b"static");
            outbox.echo(0..4);
            outbox.echo(1..2);
            outbox.write(b">");
            Action::Continue
        },
        ..Script::default()
    });
    let (key, mut asked) = bench.connect_with(b"abcd");
    let mut wire = Vec::new();
    while let Some(Send(bytes)) = asked.into_iter().next() {
        wire.extend_from_slice(&bytes);
        asked = bench.sent(key, bytes.len());
    }
    assert_eq!(wire, b"<cdstaticabcdb>");
    assert_eq!(bench.pool.free(), BUFFERS);
}

#[test]
fn a_long_static_leaves_in_parts() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.send_static(&LONG);
            Action::Close
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    let part = vec![9; SEND_LIMIT_BYTES];
    assert_eq!(asked, [Send(part.clone())]);
    assert_eq!(bench.sent(key, SEND_LIMIT_BYTES), [Send(part)]);
    let rest = LONG.len() - 2 * SEND_LIMIT_BYTES;
    assert_eq!(bench.sent(key, SEND_LIMIT_BYTES), [SendAndClose(vec![9; rest])]);
    assert_eq!(bench.sent(key, rest), []);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn after_a_short_send_the_rest_follows() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"abcdef");
    assert_eq!(bench.sent(key, 2), [Send(b"cdef".to_vec())]);
    assert_eq!(bench.sent(key, 4), []);
}

#[test]
fn written_bytes_are_copied_once_and_fill_buffers() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.write(&[3; BUFFER_BYTES + 10]);
            Action::Continue
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked[0], Send(vec![3; BUFFER_BYTES + 10]));
    assert_eq!(bench.pool.free(), BUFFERS - 2);
    assert_eq!(bench.sent(key, BUFFER_BYTES + 10), []);
    assert_eq!(bench.pool.free(), BUFFERS);
}

#[test]
fn a_failed_send_ends_the_connection_after_the_receive_was_joined() {
    for errno in [Errno::EPIPE, Errno::ECONNRESET, Errno::ETIMEDOUT] {
        let mut bench = Bench::new(Script::default());
        let (key, _) = bench.connect_with(b"a");
        bench.input(key, true, b"b");
        assert_eq!(bench.send_fails(key, errno), [shut(Shutdown::Both)]);
        assert_eq!(bench.input(key, true, b"late"), []);
        assert_eq!(bench.end(key), [Close]);
        bench.ended(CloseReason::PeerReset);
    }
}

#[test]
fn a_reset_with_a_send_in_flight_joins_before_it_closes() {
    for sent in [Ok(1), Err(Errno::ECONNRESET)] {
        let mut bench = Bench::new(Script::default());
        let (key, _) = bench.connect_with(b"a");
        bench.input(key, true, b"b");
        let asked = bench.receive_fails(key, Errno::ECONNRESET);
        assert_eq!(asked, [shut(Shutdown::Both)]);
        assert_eq!(bench.pool.free(), BUFFERS - 1, "what is being sent stays");
        assert_eq!(bench.complete(key, false, Event::Sent(sent)), [Close]);
        bench.ended(CloseReason::PeerReset);
        assert_eq!(bench.count(Counter::ClosedByReset), 1);
    }
}

#[test]
fn a_reset_with_nothing_in_flight_closes_at_once() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.receive_fails(key, Errno::ECONNRESET), [Close]);
    bench.ended(CloseReason::PeerReset);
}
