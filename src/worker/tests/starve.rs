//! No buffers: a receive that found none waits in line, and nobody spins.

use super::*;
use crate::ring::Buffer;

/// The pool is empty; whoever holds this can fill it again.
fn drain(bench: &mut Bench) -> Vec<Buffer> {
    std::iter::from_fn(|| bench.pool.take()).collect()
}

fn give_back(bench: &mut Bench, held: &mut Vec<Buffer>, count: usize) {
    held.drain(..count).for_each(|buffer| bench.pool.recycle(buffer));
}

#[test]
fn a_starved_receive_is_asked_again_when_a_buffer_is_there() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    let mut held = drain(&mut bench);
    assert_eq!(bench.receive_fails(key, Errno::ENOBUFS), []);
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.tick(), []);
    give_back(&mut bench, &mut held, BUFFERS);
    assert_eq!(bench.tick(), [(key, ONCE)]);
    assert_eq!(bench.tick(), []);
    assert_eq!((bench.count(Counter::Starved), bench.worker.open()), (1, 1));
}

#[test]
fn starved_receives_are_asked_again_first_come_first_served() {
    let mut bench = Bench::new(Script::default());
    let keys: Vec<_> = (0..4).map(|_| bench.connect()).collect();
    let mut held = drain(&mut bench);
    for key in [keys[2], keys[0], keys[3], keys[1]] {
        bench.receive_fails(key, Errno::ENOBUFS);
    }
    give_back(&mut bench, &mut held, 1);
    assert_eq!(bench.tick(), [(keys[2], ONCE)]);
    assert_eq!(bench.receive_fails(keys[2], Errno::ENOBUFS), [], "another was quicker");
    give_back(&mut bench, &mut held, 2);
    let order: Vec<_> = bench.tick().into_iter().map(|(key, _)| key).collect();
    assert_eq!(order, [keys[0], keys[3], keys[1]]);
    assert_eq!(bench.tick(), [(keys[2], ONCE)]);
}

/// A connection that was closed while it waited must not use up the turn of one that lives: it
/// might be the last turn for a long time.
#[test]
fn a_connection_that_has_gone_does_not_take_a_place_in_line() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Continue, ..Script::default() });
    let (gone, lives) = (bench.connect(), bench.connect());
    let mut held = drain(&mut bench);
    bench.receive_fails(gone, Errno::ENOBUFS);
    bench.receive_fails(lives, Errno::ENOBUFS);
    let closed = bench.act(|worker, cx| worker.terminate(gone, CloseReason::IdleTimeout, cx));
    assert_eq!(closed, [(gone, Close)]);
    give_back(&mut bench, &mut held, 1);
    assert_eq!(bench.tick(), [(lives, ONCE)]);
}

#[test]
fn a_connection_that_wants_no_input_for_now_does_not_take_a_place_in_line() {
    let mut bench = Bench::new(Script::default());
    let (sending, silent) = (bench.connect(), bench.connect());
    assert_eq!(bench.input(sending, false, b"a"), [Send(b"a".to_vec()), many(BUDGET_BYTES - 1)]);
    let mut held = drain(&mut bench);
    bench.receive_fails(sending, Errno::ENOBUFS);
    bench.receive_fails(silent, Errno::ENOBUFS);
    give_back(&mut bench, &mut held, 1);
    assert_eq!(bench.tick(), [(silent, ONCE)]);
    assert_eq!(bench.sent(sending, 1), [ONCE], "two buffers are free, which is still scarce");
}

#[test]
fn a_starved_connection_sends_on_and_keeps_its_place() {
    let mut bench = Bench::new(Script::default());
    let (key, asked) = bench.connect_with(&[1; 3000]);
    assert_eq!(asked, [Send(vec![1; 3000]), many(7000)]);
    assert_eq!(bench.input(key, true, &[2; 3000]), []);
    let mut held = drain(&mut bench);
    assert_eq!(bench.receive_fails(key, Errno::ENOBUFS), []);
    assert_eq!(bench.sent(key, 3000), [Send(vec![2; 3000])]);
    give_back(&mut bench, &mut held, BUFFERS - 2);
    assert_eq!(bench.tick(), [(key, many(7000))]);
}

#[test]
fn when_buffers_are_scarce_a_connection_with_output_receives_nothing() {
    let mut bench = Bench::new(Script::default());
    let (key, other) = (bench.connect(), bench.connect());
    let mut held = drain(&mut bench);
    give_back(&mut bench, &mut held, 1 + BUFFERS / 4);
    assert_eq!(bench.input(key, false, b"a"), [Send(b"a".to_vec())]);
    give_back(&mut bench, &mut held, 1);
    assert_eq!(bench.sent(key, 1), [many(BUDGET_BYTES)]);
    drop(bench.end(other));
}

#[test]
fn when_buffers_are_scarce_receives_are_single() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Continue, ..Script::default() });
    let key = bench.connect();
    let mut held = drain(&mut bench);
    give_back(&mut bench, &mut held, BUFFERS / 4);
    assert_eq!(bench.input(key, false, b"a"), [ONCE]);
}

#[test]
fn a_starved_connection_can_still_end() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    let mut held = drain(&mut bench);
    bench.receive_fails(key, Errno::ENOBUFS);
    assert_eq!(bench.act(Worker::stop), [(key, Close)]);
    let count = held.len();
    give_back(&mut bench, &mut held, count);
    assert_eq!(bench.tick(), []);
    bench.ended(CloseReason::Stopped);
}

#[test]
fn a_joining_receive_that_finds_no_buffer_has_ended() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.act(Worker::stop), [(key, shut(Shutdown::Both))]);
    assert_eq!(bench.receive_fails(key, Errno::ENOBUFS), [Close]);
    bench.ended(CloseReason::Stopped);
}

/// A receive that is asked takes a buffer only when something comes. Those behind it must not wait
/// for that.
#[test]
fn a_silent_connection_does_not_keep_the_others_waiting() {
    let mut bench = Bench::new(Script::default());
    let (silent, other) = (bench.connect(), bench.connect());
    let mut held = drain(&mut bench);
    bench.receive_fails(silent, Errno::ENOBUFS);
    bench.receive_fails(other, Errno::ENOBUFS);
    give_back(&mut bench, &mut held, 1);
    assert_eq!(bench.tick(), [(silent, ONCE)]);
    let again = bench.next_tick().expect("somebody waits");
    assert_eq!(again, FEED_INTERVAL);
    assert_eq!(bench.pass(again.as_millis() as u64), [(other, ONCE)]);
    assert!(bench.next_tick().is_none_or(|next| next > FEED_INTERVAL));
}
