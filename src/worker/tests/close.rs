//! Close, abort and the peer's FIN: nothing in flight when the socket is closed, nothing lost.

use super::*;

fn closing() -> Script {
    Script {
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            if input.bytes().ends_with(b".") { Action::Close } else { Action::Continue }
        },
        ..Script::default()
    }
}

#[test]
fn an_answer_with_nothing_else_in_flight_leaves_together_with_the_fin() {
    for result in [Ok(2), Err(Errno::EPIPE)] {
        let mut bench = Bench::new(closing());
        let (key, asked) = bench.connect_with(b"a.");
        assert_eq!(asked, [SendAndClose(b"a.".to_vec())]);
        assert_eq!(bench.worker.open(), 1);
        let reason =
            if result.is_ok() { CloseReason::ServiceClosed } else { CloseReason::PeerReset };
        assert_eq!(bench.complete(key, false, Event::Sent(result)), []);
        bench.ended(reason);
    }
}

#[test]
fn closing_without_an_answer_closes_at_once() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Close, ..Script::default() });
    assert_eq!(bench.connect_with(b"a").1, [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn with_a_receive_in_flight_the_answer_is_sent_then_the_receive_joined_then_closed() {
    let mut bench = Bench::new(closing());
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    assert_eq!(bench.input(key, true, b"b."), [Send(b"b.".to_vec())]);
    assert_eq!(bench.input(key, true, b"late"), []);
    assert_eq!(bench.sent(key, 2), [shut(Shutdown::Both)]);
    assert_eq!(bench.input(key, true, b"later"), []);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_receive_that_ends_while_the_answer_waits_lets_the_fin_go_with_it() {
    let mut bench = Bench::new(closing());
    let (key, _) = bench.connect_with(b"a");
    assert_eq!(bench.input(key, true, b"b."), []);
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 1), [SendAndClose(b"b.".to_vec())]);
    assert_eq!(bench.sent(key, 2), []);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn several_pieces_are_sent_together_and_with_the_fin() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            // So large that nothing is put behind it.
            outbox.send_static(&[b'h'; 3000]);
            outbox.echo(0..input.bytes().len());
            Action::Close
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"body");
    assert_eq!(asked, [SendAndClose([&[b'h'; 3000][..], b"body"].concat())]);
    assert_eq!(bench.sent(key, 3004), []);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn input_behind_a_close_is_dropped() {
    let mut bench = Bench::new(closing());
    let (key, _) = bench.connect_with(b"a");
    bench.input(key, true, b".");
    assert_eq!(bench.input(key, false, b"more"), []);
    assert_eq!(bench.sent(key, 1), [SendAndClose(b".".to_vec())]);
}

#[test]
fn an_abort_drops_what_is_queued() {
    let mut bench = Bench::new(Script {
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            if input.bytes() == b"!" { Action::Abort } else { Action::Continue }
        },
        ..Script::default()
    });
    let (key, _) = bench.connect_with(b"a");
    bench.input(key, true, b"b");
    assert_eq!(bench.input(key, true, b"!"), [CancelReceive, CancelSend], "no FIN");
    assert_eq!(bench.pool.free(), BUFFERS - 1);
    assert_eq!(bench.send_fails(key, Errno::ECANCELED), []);
    assert_eq!(bench.receive_fails(key, Errno::ECANCELED), [Asked::Reset]);
    bench.ended(CloseReason::ServiceAborted);
}

#[test]
fn an_abort_with_nothing_in_flight_closes_at_once() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Abort, ..Script::default() });
    assert_eq!(bench.connect_with(b"a").1, [Close]);
    bench.ended(CloseReason::ServiceAborted);
}

#[test]
fn a_fin_without_a_word_closes() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::PeerClosed);
    assert_eq!(bench.count(Counter::ClosedByPeer), 1);
}

#[test]
fn a_fin_behind_input_closes_when_everything_is_sent() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"a");
    bench.input(key, true, b"b");
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 1), [SendAndClose(b"b".to_vec())]);
    assert_eq!(bench.sent(key, 1), []);
    bench.ended(CloseReason::PeerClosed);
}

#[test]
fn a_half_closed_session_may_have_the_last_word() {
    for action in [Action::Close, Action::Linger] {
        let half_closed = match action {
            Action::Close => |outbox: &mut Outbox| {
                outbox.write(b"bye");
                Action::Close
            },
            _ => |outbox: &mut Outbox| {
                outbox.write(b"bye");
                Action::Linger
            },
        };
        let mut bench = Bench::new(Script { half_closed, ..Script::default() });
        let key = bench.connect();
        assert_eq!(bench.end(key), [SendAndClose(b"bye".to_vec())], "{action:?}");
        assert_eq!(bench.sent(key, 3), []);
        bench.ended(CloseReason::PeerClosed);
    }
}

#[test]
fn a_half_closed_session_may_abort() {
    let mut bench = Bench::new(Script { half_closed: |_| Action::Abort, ..Script::default() });
    let key = bench.connect();
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceAborted);
}

#[test]
fn a_fin_is_no_news_to_a_session_that_is_over() {
    let mut bench =
        Bench::new(Script { half_closed: |_| panic!("the session is over"), ..closing() });
    let (key, _) = bench.connect_with(b"a");
    bench.input(key, true, b".");
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 1), [SendAndClose(b".".to_vec())]);
    bench.sent(key, 1);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn last_bytes_that_did_not_all_leave_mean_that_the_peer_has_gone() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.send_static(b"farewell");
            Action::Close
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [SendAndClose(b"farewell".to_vec())]);
    assert_eq!(bench.sent(key, 3), []);
    assert_eq!(bench.worker.open(), 0);
    assert_eq!(bench.count(Counter::ClosedByReset), 1);
    assert_eq!(bench.count(Counter::ClosedByService), 0);
}
