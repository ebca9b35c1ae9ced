//! Sessions that wait for a word, for room, or for their timer.

use super::*;

/// Pauses at each "?", and goes on when it is told something.
fn pausing() -> Bench {
    Bench::new(Script {
        has_mailboxes: true,
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            if input.bytes().contains(&b'?') { Action::Pause } else { Action::Continue }
        },
        ..Script::default()
    })
}

impl Bench {
    fn tell(&mut self, session: usize, message: u32) -> Vec<(Key, Asked)> {
        let mailbox = self.script.mailboxes.lock().unwrap()[session].clone();
        assert_eq!(mailbox.send(message), Ok(()));
        self.tick()
    }
}

#[test]
fn a_session_that_pauses_reads_nothing_until_it_is_told_something() {
    let mut bench = pausing();
    let (key, asked) = bench.connect_with(b"a?");
    assert_eq!(asked, [Send(b"a?".to_vec())]);
    assert_eq!(bench.sent(key, 2), []);
    assert_eq!(bench.tell(0, 7), [(key, Send(b"7".to_vec())), (key, many(BUDGET_BYTES - 1))]);
}

#[test]
fn what_comes_meanwhile_is_given_to_it_in_its_order_afterwards() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    assert_eq!(bench.input(key, true, b"b?"), [Send(b"b?".to_vec())]);
    assert_eq!(bench.input(key, true, b"c?"), []);
    assert_eq!(bench.input(key, false, b"d"), []);
    assert_eq!(bench.pool.free(), BUFFERS - 1, "what is held is held elsewhere");
    assert_eq!(bench.sent(key, 2), []);
    // Both come at once, in one buffer, and the session pauses over them.
    assert_eq!(bench.tell(0, 1), [(key, Send(b"1c?d".to_vec()))]);
    assert_eq!(bench.sent(key, 4), []);
    assert_eq!(bench.tell(0, 2)[0], (key, Send(b"2".to_vec())));
}

#[test]
fn its_peers_fin_comes_behind_what_is_held() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    bench.input(key, true, b"?");
    bench.input(key, true, b"b");
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.sent(key, 1), []);
    assert_eq!(bench.tell(0, 1), [(key, SendAndClose(b"1b".to_vec()))]);
    assert_eq!(bench.sent(key, 2), []);
    bench.ended(CloseReason::PeerClosed);
}

#[test]
fn a_session_that_pauses_for_ever_is_idle() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"?");
    bench.sent(key, 1);
    assert_eq!(bench.pass(4_000), [(key, Close)]);
    bench.ended(CloseReason::IdleTimeout);
}

#[test]
fn a_drain_lets_it_wait() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"?");
    bench.sent(key, 1);
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.tell(0, 5)[0], (key, Send(b"5".to_vec())));
}

#[test]
fn what_is_held_goes_along_when_it_is_moved() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    bench.input(key, true, b"?");
    bench.input(key, true, b"b");
    bench.sent(key, 1);
    bench.act(|worker, cx| assert!(worker.suspend(key.slot, &|_| true, cx)));
    bench.receive_fails(key, Errno::ECANCELED);
    let suspended = bench.worker.take_suspended().remove(0);
    assert_eq!(bench.pool.free(), BUFFERS);
    let version = bench.version;
    assert_eq!(bench.act(|worker, cx| worker.resume(suspended, version, cx).unwrap()), []);
    let asked = bench.tell(1, 6);
    assert_eq!(asked[0].1, Send(b"6b".to_vec()));
}

/// No buffer is left: neither what was held nor what the session says needs one.
#[test]
fn held_input_needs_no_buffer() {
    let mut bench = pausing();
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    bench.input(key, true, b"?");
    bench.input(key, true, b"b");
    bench.sent(key, 1);
    let taken: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    assert_eq!(bench.tell(0, 1), [(key, Send(b"1b".to_vec()))]);
    taken.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
}

/// Answers with 3,000 bytes at a time for ever, until it is told to end.
fn streaming() -> Bench {
    Bench::new(Script {
        has_mailboxes: true,
        data: |_, outbox| {
            outbox.write(&[0; 3_000]);
            Action::More
        },
        writable: |outbox| {
            assert!(outbox.unsent() <= BUDGET_BYTES as usize / 2);
            outbox.write(&[1; 3_000]);
            Action::More
        },
        message: |_, outbox| {
            outbox.write(b"end");
            Action::Close
        },
        ..Script::default()
    })
}

impl Bench {
    fn unsent(&self, key: Key) -> usize {
        self.worker.table.get(key).unwrap().stream.output.bytes
    }

    /// The send in flight takes all that it was given.
    fn take(&mut self, key: Key) -> Vec<Asked> {
        let output = &self.worker.table.get(key).unwrap().stream.output;
        let (bytes, _) = self.worker.pieces.front(output, &self.pool, usize::MAX);
        let bytes = self.wire(bytes).len();
        self.sent(key, bytes)
    }
}

#[test]
fn an_answer_in_parts_is_written_while_there_is_room_and_nothing_is_read_meanwhile() {
    let mut bench = streaming();
    let (key, asked) = bench.connect_with(b"x");
    let [Send(_)] = &asked[..] else { panic!("{asked:?}") };
    // Twice at once: then more than half of the budget waits.
    assert_eq!(bench.unsent(key), 6_000);
    for _ in 0..100 {
        let asked = bench.take(key);
        let [Send(_)] = &asked[..] else { panic!("{asked:?}") };
        assert!((5_001..8_001).contains(&bench.unsent(key)), "{}", bench.unsent(key));
    }
    bench.tell(0, 0);
    let mut last = Vec::new();
    while !last.ends_with(b"end") {
        last = match &bench.take(key)[..] {
            [Send(bytes) | SendAndClose(bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        };
    }
    bench.sent(key, last.len());
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_word_in_the_middle_of_an_answer_does_not_end_it() {
    let script = Script { message: |_, _| Action::Continue, ..Script::default() };
    let mut bench = streaming();
    let Script { data, writable, .. } = &*bench.script;
    let (data, writable) = (*data, *writable);
    let script = Arc::new(Script { has_mailboxes: true, data, writable, ..script });
    bench.version = bench.worker.publish(Arc::new(settings(Arc::clone(&script)))).unwrap();
    bench.script = script;
    let (key, _) = bench.connect_with(b"x");
    assert_eq!(bench.tell(0, 0), []);
    for _ in 0..10 {
        let asked = bench.take(key);
        let [Send(_)] = &asked[..] else { panic!("{asked:?}") };
    }
}

#[test]
fn a_client_that_goes_in_the_middle_of_an_answer_ends_it() {
    let mut bench = streaming();
    let (key, _) = bench.connect_with(b"x");
    bench.take(key);
    assert_eq!(bench.send_fails(key, Errno::ECONNRESET), [Close]);
    bench.ended(CloseReason::PeerReset);
}

#[test]
fn more_of_nothing_is_a_pause() {
    let mut bench = Bench::new(Script {
        has_mailboxes: true,
        data: |_, _| Action::More,
        writable: |_| panic!("there is nothing to write"),
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"x");
    assert_eq!(asked, []);
    assert_eq!(bench.tell(0, 3), [(key, Send(b"3".to_vec())), (key, many(BUDGET_BYTES - 1))]);
}

fn with_timer() -> Bench {
    Bench::new(Script {
        has_mailboxes: true,
        data: |input, outbox| {
            match input.bytes() {
                b"set" => outbox.timer(Duration::from_millis(500)),
                b"cancel" => outbox.cancel_timer(),
                _ => {}
            }
            Action::Continue
        },
        ..Script::default()
    })
}

#[test]
fn a_timer_tells_a_session_once_that_its_time_has_come() {
    let mut bench = with_timer();
    let (key, _) = bench.connect_with(b"set");
    assert_eq!(bench.pass(400), []);
    assert!(bench.next_tick().unwrap() <= Duration::from_millis(130));
    assert_eq!(bench.pass(130), [(key, Send(b"late".to_vec()))]);
    bench.sent(key, 4);
    assert_eq!(bench.pass(1_000), []);
}

#[test]
fn a_timer_is_set_anew_or_cancelled() {
    let mut bench = with_timer();
    let (key, _) = bench.connect_with(b"set");
    bench.pass(400);
    bench.input(key, true, b"set");
    assert_eq!(bench.pass(400), []);
    bench.input(key, true, b"cancel");
    assert_eq!(bench.pass(1_000), []);
}

#[test]
fn a_timer_ends_with_its_connection_and_moves_with_it() {
    let mut bench = with_timer();
    let (key, _) = bench.connect_with(b"set");
    bench.end(key);
    let (key, _) = bench.connect_with(b"set");
    bench.pass(100);
    bench.act(|worker, cx| assert!(worker.suspend(key.slot, &|_| true, cx)));
    bench.receive_fails(key, Errno::ECANCELED);
    let suspended = bench.worker.take_suspended().remove(0);
    assert_eq!(bench.pass(500), []);
    let version = bench.version;
    bench.act(|worker, cx| worker.resume(suspended, version, cx).unwrap());
    assert_eq!(bench.pass(380), []);
    assert_eq!(bench.pass(50)[0].1, Send(b"late".to_vec()));
}
