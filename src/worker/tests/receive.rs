//! What is asked of the peer, and when.

use super::*;

#[test]
fn the_first_receive_is_single_and_later_ones_have_the_budget_as_credit() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Continue, ..Script::default() });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [many(BUDGET_BYTES)]);
    assert_eq!(bench.input(key, true, b"b"), []);
    assert_eq!(bench.input(key, false, b"c"), [many(BUDGET_BYTES)]);
    assert_eq!((bench.count(Counter::Receives), bench.count(Counter::ReceivedBytes)), (3, 3));
}

#[test]
fn without_receive_credit_every_receive_is_single() {
    let script = Script { data: |_, _| Action::Continue, ..Script::default() };
    let mut bench = Bench::with(script, ThreadLimits { receive_credit: false, ..LIMITS });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [ONCE]);
    assert_eq!(bench.input(key, false, b"b"), [ONCE]);
}

#[test]
fn what_is_queued_counts_against_the_credit() {
    let mut bench = Bench::new(Script::default());
    let (_, asked) = bench.connect_with(&[1; 3000]);
    assert_eq!(asked, [Send(vec![1; 3000]), many(BUDGET_BYTES - 3000)]);
}

#[test]
fn at_the_budget_nothing_is_received_until_something_is_sent() {
    let mut bench = Bench::new(Script::default());
    let (key, asked) = bench.connect_with(&[1; 4000]);
    assert_eq!(asked, [Send(vec![1; 4000]), many(6000)]);
    assert_eq!(bench.input(key, true, &[2; 4000]), []);
    assert_eq!(bench.input(key, false, &[3; 4000]), []);
    assert_eq!(bench.tick(), []);
    let both = [[2; 4000], [3; 4000]].concat();
    assert_eq!(bench.sent(key, 4000), [Send(both), many(2000)]);
    assert_eq!(bench.sent(key, 4000), [Send(vec![3; 4000])], "a part of them");
}

#[test]
fn a_large_answer_stops_the_receiving_as_well() {
    static ANSWER: [u8; BUDGET_BYTES as usize] = [5; BUDGET_BYTES as usize];
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.send_static(&ANSWER);
            Action::Continue
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [Send(ANSWER.to_vec())]);
    assert_eq!(bench.sent(key, ANSWER.len()), [many(BUDGET_BYTES)]);
}

#[test]
fn after_the_fin_nothing_is_received() {
    let mut bench = Bench::new(Script {
        half_closed: |outbox| {
            outbox.write(b"and");
            Action::Continue
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [Send(b"a".to_vec()), many(BUDGET_BYTES - 1)]);
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 1), [Send(b"and".to_vec())]);
    assert_eq!(bench.sent(key, 3), []);
    assert_eq!(bench.worker.open(), 1);
}

#[test]
fn a_stale_completion_is_counted_and_its_buffer_comes_back() {
    let mut bench = Bench::new(Script { data: |_, _| Action::Close, ..Script::default() });
    let (old, asked) = bench.connect_with(b"a");
    assert_eq!(asked, [Close]);
    let new = bench.connect();
    assert_eq!((new.slot, new.generation), (old.slot, old.generation.next()));
    assert_eq!(bench.input(old, false, b"late"), []);
    assert_eq!(bench.end(old), []);
    assert_eq!(bench.send_fails(old, Errno::EPIPE), []);
    assert_eq!(bench.sent(Key::fixed(99), 1), []);
    assert_eq!((bench.count(Counter::Stale), bench.pool.free()), (4, BUFFERS));
    assert_eq!(bench.input(new, false, b"b"), [Close]);
}
