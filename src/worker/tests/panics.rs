//! A service that panics or overdoes it costs the one connection.

use super::*;

/// The other connection still works.
#[track_caller]
fn goes_on(bench: &mut Bench, other: Key) {
    assert_eq!(bench.input(other, false, b"ok")[0], Send(b"ok".to_vec()));
    bench.sent(other, 2);
    assert_eq!((bench.worker.open(), bench.pool.free()), (1, BUFFERS));
}

fn echo_or(word: &'static [u8], input: &Input<'_>, outbox: &mut Outbox) -> bool {
    outbox.echo(0..input.bytes().len());
    input.bytes() == word
}

#[test]
fn in_open() {
    let mut bench = Bench::new(Script {
        open: |connection| assert_ne!(connection.listener(), 0),
        ..Script::default()
    });
    let asked: Vec<_> = bench.adopt().into_iter().map(|(_, asked)| asked).collect();
    assert_eq!(asked, [Close]);
    assert_eq!((bench.worker.open(), bench.worker.take_closed()), (0, 1));
    assert_eq!((bench.count(Counter::Opened), bench.count(Counter::ClosedByPanic)), (1, 1));
    bench.sockets.clear();
    let other = bench.connect();
    goes_on(&mut bench, other);
}

#[test]
fn in_data() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            outbox.write(b"half an answer");
            assert!(!echo_or(b"!", input, outbox));
            outbox.clear();
            outbox.echo(0..input.bytes().len());
            Action::Continue
        },
        ..Script::default()
    });
    let (key, other) = (bench.connect(), bench.connect());
    bench.input(key, false, b"a");
    assert_eq!(bench.input(key, true, b"!"), [CancelReceive, CancelSend]);
    assert_eq!(bench.send_fails(key, Errno::ECANCELED), []);
    assert_eq!(bench.receive_fails(key, Errno::ECANCELED), [Asked::Reset]);
    assert_eq!(bench.told(), [], "a session that has panicked is not called again");
    assert_eq!(bench.count(Counter::ClosedByPanic), 1);
    goes_on(&mut bench, other);
}

#[test]
fn in_half_closed() {
    let mut bench =
        Bench::new(Script { half_closed: |_| panic!("on purpose"), ..Script::default() });
    let (key, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.end(key), [Close]);
    assert_eq!(bench.told(), []);
    goes_on(&mut bench, other);
}

#[test]
fn in_draining() {
    let mut bench = Bench::new(Script {
        draining: |outbox| {
            outbox.write(b"half an answer");
            panic!("on purpose")
        },
        ..Script::default()
    });
    let key = bench.connect();
    assert_eq!(bench.drain(), [(key, shut(Shutdown::Both))]);
    let other = bench.connect();
    assert_eq!(bench.end(key), [Close]);
    assert_eq!(bench.told(), []);
    goes_on(&mut bench, other);
}

#[test]
fn in_closed() {
    let mut bench = Bench::new(Script { closed: || panic!("on purpose"), ..Script::default() });
    let (key, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.end(key), [Close]);
    goes_on(&mut bench, other);
}

#[test]
fn an_answer_beyond_the_limit_costs_the_connection() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            if echo_or(b"!", input, outbox) {
                outbox.write(&vec![0; Outbox::LIMIT_BYTES + 1]);
            }
            Action::Continue
        },
        ..Script::default()
    });
    let (key, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.input(key, false, b"!"), [Asked::Reset]);
    assert_eq!(bench.told(), [(0, CloseReason::OutboxOverflow)]);
    assert_eq!(bench.count(Counter::ClosedByOverflow), 1);
    goes_on(&mut bench, other);
}

#[test]
fn an_answer_without_buffers_for_it_costs_the_connection() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            if echo_or(b"!", input, outbox) {
                outbox.write(&[0; (BUFFERS + 1) * BUFFER_BYTES]);
            }
            Action::Continue
        },
        ..Script::default()
    });
    let (key, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.input(key, false, b"!"), [Asked::Reset]);
    assert_eq!(bench.told(), [(0, CloseReason::OutboxOverflow)]);
    goes_on(&mut bench, other);
}

#[test]
fn a_range_that_is_not_in_the_input_costs_the_connection() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            if echo_or(b"!", input, outbox) {
                outbox.echo(1..2);
            }
            Action::Continue
        },
        half_closed: |outbox| {
            outbox.echo(0..1);
            Action::Close
        },
        ..Script::default()
    });
    let (key, half, other) = (bench.connect(), bench.connect(), bench.connect());
    assert_eq!(bench.input(key, false, b"!"), [Close]);
    assert_eq!(bench.end(half), [Close]);
    assert_eq!(bench.count(Counter::ClosedByPanic), 2);
    goes_on(&mut bench, other);
}
