//! What happens while a connection is on its way off its thread, and what keeps it there.

use super::*;
use crate::connection::suspended::UNSENT_MAX_BYTES;

/// With a receive and a send in flight that are being cancelled.
#[track_caller]
fn leaving(script: Script) -> (Bench, Key) {
    let mut bench = Bench::new(script);
    let (key, _) = bench.connect_with(b"sent");
    assert_eq!(bench.suspend(key), [CancelReceive, CancelSend]);
    (bench, key)
}

/// It has ended here, and nobody can take it.
#[track_caller]
fn ended_here(bench: &mut Bench, reason: CloseReason) {
    assert_eq!(bench.worker.suspending(), 0);
    assert!(bench.worker.take_suspended().is_empty());
    bench.ended(reason);
}

#[test]
fn a_reset_ends_it() {
    let (mut bench, key) = leaving(Script::default());
    assert_eq!(bench.receive_fails(key, Errno::ECONNRESET), [shut(Shutdown::Both)]);
    assert_eq!(bench.worker.suspending(), 0);
    assert_eq!(bench.send_fails(key, CANCELLED), [Close]);
    ended_here(&mut bench, CloseReason::PeerReset);

    let (mut bench, key) = leaving(Script::default());
    assert_eq!(bench.send_fails(key, Errno::EPIPE), [shut(Shutdown::Both)]);
    assert_eq!(bench.receive_fails(key, CANCELLED), [Close]);
    ended_here(&mut bench, CloseReason::PeerReset);
}

/// An error of a receive or a send that nobody has cancelled is the peer's.
#[test]
fn a_cancel_of_somebody_else_is_a_failure() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.receive_fails(key, CANCELLED), [Close]);
    bench.ended(CloseReason::PeerReset);
}

#[test]
fn an_abort_ends_it() {
    let (mut bench, key) = leaving(obedient());
    assert_eq!(bench.input(key, false, b"a"), [], "what is in flight is cancelled already");
    assert_eq!(bench.send_fails(key, CANCELLED), [Asked::Reset]);
    ended_here(&mut bench, CloseReason::ServiceAborted);
}

#[test]
fn a_panic_over_what_comes_ends_it() {
    let script = Script {
        data: |input, outbox| {
            assert_ne!(input.bytes(), b"!");
            outbox.echo(0..input.bytes().len());
            Action::Continue
        },
        ..Script::default()
    };
    let (mut bench, key) = leaving(script);
    assert_eq!(bench.input(key, false, b"!"), []);
    assert_eq!(bench.sent(key, 4), [Asked::Reset]);
    assert_eq!((bench.worker.suspending(), bench.worker.take_suspended().len()), (0, 0));
    assert_eq!(bench.told(), []);
    bench.nothing_left();
}

/// With an answer in the queue it moves and is closed there; with nothing left to send it is closed here.
#[test]
fn a_service_that_closes_is_obeyed_wherever_it_is() {
    let (mut bench, key) = leaving(obedient());
    assert_eq!(bench.input(key, false, b"c"), []);
    assert_eq!(bench.sent(key, 4), []);
    let suspended = bench.taken();
    let SessionRecord { stage, unsent, .. } = record(&suspended);
    assert_eq!((*stage, &unsent[..]), (SessionStage::Flushing { linger: false }, &b"c"[..]));
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [Send(b"c".to_vec())]);
    assert_eq!(bench.sent(key, 1), [Close]);
    bench.ended(CloseReason::ServiceClosed);

    let (mut bench, key) = leaving(obedient());
    assert_eq!(bench.input(key, false, b"q"), []);
    assert_eq!(bench.sent(key, 4), [Close]);
    ended_here(&mut bench, CloseReason::ServiceClosed);
}

#[test]
fn the_fin_of_one_that_lingers_ends_it() {
    let mut bench = Bench::new(obedient());
    let (key, _) = bench.connect_with(b"l");
    bench.sent(key, 1);
    assert_eq!(bench.suspend(key), [CancelReceive]);
    assert_eq!(bench.end(key), [Close]);
    ended_here(&mut bench, CloseReason::ServiceClosed);
}

#[test]
fn deadlines_operators_and_stops_end_it() {
    let (mut bench, key) = leaving(Script::default());
    assert_eq!(bench.pass(2100), []);
    assert_eq!(bench.receive_fails(key, CANCELLED), []);
    assert_eq!(bench.send_fails(key, CANCELLED), [Asked::Reset]);
    ended_here(&mut bench, CloseReason::WriteStall);

    let (mut bench, key) = leaving(Script::default());
    let asked = bench.act_on(key, |worker, cx| assert!(worker.close(key, cx)));
    assert_eq!(asked, []);
    assert_eq!(bench.sent(key, 4), []);
    assert_eq!(bench.receive_fails(key, CANCELLED), [Asked::Reset]);
    ended_here(&mut bench, CloseReason::Operator);

    let (mut bench, key) = leaving(Script::default());
    assert_eq!(bench.act_on(key, Worker::stop), []);
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.send_fails(key, CANCELLED), [Asked::Reset]);
    ended_here(&mut bench, CloseReason::Stopped);
}

/// It is told of a drain while it leaves, and again where it comes to if that drains already.
#[test]
fn a_drain_reaches_one_that_moves() {
    let draining = || Script {
        draining: |outbox| {
            outbox.write(b"bye");
            Action::Close
        },
        ..Script::default()
    };
    let (mut bench, key) = leaving(draining());
    assert_eq!(bench.drain(), []);
    bench.sent(key, 4);
    bench.receive_fails(key, CANCELLED);
    let suspended = bench.taken();
    assert_eq!(record(&suspended).unsent, b"bye");
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [Send(b"bye".to_vec())]);
    assert_eq!(bench.sent(key, 3), [Close]);
    bench.ended(CloseReason::ServiceClosed);

    let mut bench = Bench::new(draining());
    let key = bench.connect();
    let suspended = bench.moved(key);
    bench.drain();
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [ONCE, Send(b"bye".to_vec())]);
    bench.sent(key, 3);
    bench.end(key);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_session_that_its_service_does_not_let_go_stays() {
    let dead: [Suspend; 2] = [|_| None, |_| panic!("on purpose")];
    for suspend in dead {
        let mut bench = Bench::new(Script { suspend, ..Script::default() });
        let (key, _) = bench.connect_with(b"sent");
        bench.stays(key);
        bench.sent(key, 4);
        assert_eq!(bench.input(key, true, b"goes on"), [Send(b"goes on".to_vec())]);
        bench.sent(key, 7);
        bench.end(key);
        bench.ended(CloseReason::PeerClosed);
    }
}

/// One that is let go until it has seen what comes with the cancel.
#[test]
fn a_session_that_is_held_back_at_last_goes_on_where_it_is() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let suspend = |_| ASKED.fetch_add(1, Relaxed).is_multiple_of(2).then(Vec::new);
    let mut bench = Bench::new(Script { suspend, ..Script::default() });
    let (key, _) = bench.connect_with(b"sent");
    assert_eq!(bench.suspend(key), [CancelReceive, CancelSend]);
    assert_eq!(bench.input(key, false, b" more"), []);
    let asked = bench.sent(key, 2);
    assert_eq!(asked, [Send(b"nt more".to_vec()), many(BUDGET_BYTES - 7)]);
    assert_eq!((bench.worker.suspending(), bench.worker.take_suspended().len()), (0, 0));
    bench.sent(key, 7);
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
}

/// Its place in the line for a buffer is void, and nothing is asked for twice.
#[test]
fn one_that_starves_and_is_held_back_asks_once() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let suspend = |_| ASKED.fetch_add(1, Relaxed).is_multiple_of(2).then(Vec::new);
    let mut bench = Bench::new(Script { suspend, ..Script::default() });
    let key = bench.connect();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(key, Errno::ENOBUFS);
    assert_eq!(bench.suspend(key), [ONCE], "it has gone on");
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.tick(), [], "a second receive");
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
}

/// It is given back as it is, and can be resumed by whoever makes sense of it.
#[test]
fn what_makes_no_sense_is_given_back_untouched() {
    let dead: [Resume; 2] = [|_| None, |_| panic!("on purpose")];
    for resume in dead {
        let mut bench = Bench::new(Script::default());
        let (key, _) = bench.connect_with(b"sent");
        bench.suspend(key);
        bench.receive_fails(key, CANCELLED);
        bench.sent(key, 1);
        let suspended = bench.taken();
        let before = record(&suspended).clone();
        let mut other = Bench::new(Script { resume, ..Script::default() });
        let (asked, refused) = other.try_resume(suspended);
        let suspended = refused.expect("it makes no sense");
        assert_eq!((asked, record(&suspended)), (vec![], &before));
        assert_eq!((other.worker.open(), other.told(), bench.limit.open()), (0, vec![], 1));
        let (key, asked) = bench.resume(suspended);
        assert_eq!(asked[0], Send(b"ent".to_vec()));
        bench.sent(key, 3);
        bench.end(key);
        bench.ended(CloseReason::PeerClosed);
    }
}

#[test]
fn what_is_no_session_with_its_one_socket_is_given_back() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    let mut suspended = bench.moved(key);
    let socket = suspended.sockets.pop().unwrap();
    let (asked, refused) = bench.try_resume(suspended);
    let mut suspended = refused.expect("it has no socket");
    suspended.sockets = vec![File::open("/dev/null").unwrap().into(), socket];
    let (again, refused) = bench.try_resume(suspended);
    assert!(asked.is_empty() && again.is_empty());
    let suspended = refused.expect("it has two sockets");
    assert_eq!((suspended.sockets.len(), bench.limit.open()), (2, 1));
    drop(suspended);
    assert_eq!(bench.limit.open(), 0);
}

/// It would be copied in one turn.
#[test]
fn one_that_owes_much_stays_until_some_of_it_has_gone() {
    static MUCH: [u8; UNSENT_MAX_BYTES + 1] = [7; UNSENT_MAX_BYTES + 1];
    let answer = |_: &Input<'_>, outbox: &mut Outbox| {
        outbox.send_static(&MUCH);
        Action::Continue
    };
    let mut bench = Bench::new(Script { data: answer, ..Script::default() });
    let (key, _) = bench.connect_with(b"x");
    bench.stays(key);
    bench.sent(key, SEND_LIMIT_BYTES);
    bench.suspend(key);
}

/// What goes together with the close cannot move: to one who was slow to read before, nothing does.
#[test]
fn the_last_bytes_to_a_slow_reader_can_move() {
    for slow in [false, true] {
        let mut bench = Bench::new(obedient());
        let (key, _) = bench.connect_with(b"0123456789");
        bench.input(key, false, b"c");
        bench.pass(if slow { SLOW.as_millis() as u64 } else { 0 });
        let last = bench.sent(key, 10);
        let expected = if slow { Send(b"c".to_vec()) } else { SendAndClose(b"c".to_vec()) };
        assert_eq!(last, [expected]);
    }
}
