//! What comes on a connection on which no request is out, and who ends it.

use super::*;

const REST: Duration = Duration::from_millis(50);
const GOODBYE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

/// Closed by the server, closed by the client, with bytes that nobody had asked for.
fn ends(bench: &Bench) -> (u64, u64, u64) {
    let recorder = &bench.client.recorder;
    (recorder.closed_by_server, recorder.closed_by_client, recorder.unasked)
}

/// A connection that has one answer and rests, of a run of two operations.
fn resting() -> (Bench, Key) {
    let mut bench = Bench::new(2, |plan| plan.think = REST);
    let key = bench.open();
    bench.sent(key);
    bench.bytes(key, ANSWER);
    (bench, key)
}

/// The second operation, on another connection.
#[track_caller]
fn goes_on_elsewhere(bench: &mut Bench, old: Key, operations: &[(Key, Operation)]) {
    let new = opened(operations);
    assert_ne!(new, old);
    bench.connect(new);
    bench.sent(new);
    bench.bytes(new, ANSWER);
    let (completed, failed, resent, _) = bench.counts();
    assert_eq!((completed, failed, resent), (2, 0, 0));
}

fn shuts(operations: &[(Key, Operation)]) -> bool {
    operations.iter().any(|(_, operation)| matches!(operation, Operation::Shutdown { .. }))
}

#[test]
fn bytes_that_nobody_asked_for_count_by_connection_and_fail_no_operation() {
    for pieces in [&[ANSWER][..], &[&ANSWER[..9], &ANSWER[9..]], &[b"garbage\r\n\r\n"]] {
        let (mut bench, key) = resting();
        let mut last = Vec::new();
        for piece in pieces {
            assert!(!shuts(&last), "it is known too early");
            last = bench.bytes(key, piece);
        }
        assert!(shuts(&last), "{last:?}");
        let next = bench.end(key);
        assert!(closes(&next));
        assert_eq!(ends(&bench), (0, 0, 1));
        goes_on_elsewhere(&mut bench, key, &next);
    }
}

/// The end tells that the rest of an answer does not come.
#[test]
fn a_part_of_an_answer_counts_with_the_end_of_the_connection() {
    let (mut bench, key) = resting();
    bench.bytes(key, &ANSWER[..9]);
    assert_eq!(ends(&bench), (0, 0, 0));
    assert!(closes(&bench.end(key)));
    assert_eq!(ends(&bench), (0, 0, 1));
}

#[test]
fn a_goodbye_is_a_reopening_that_names_who_closed() {
    for (end, expected) in [(true, (1, 0, 0)), (false, (0, 1, 0))] {
        for piece in [GOODBYE.len(), 5] {
            let (mut bench, key) = resting();
            GOODBYE.chunks(piece).for_each(|piece| drop(bench.bytes(key, piece)));
            assert_eq!(ends(&bench), (0, 0, 0));
            if !end {
                bench.now += Duration::from_millis(21);
                assert!(shuts(&bench.turn()));
            }
            let next = bench.end(key);
            assert!(closes(&next));
            assert_eq!(ends(&bench), expected);
            goes_on_elsewhere(&mut bench, key, &next);
        }
    }
}

/// What has come to the socket, and what the ring has not told of.
#[test]
fn a_request_is_not_sent_where_something_waits_to_be_read() {
    for (waits, told, expected) in
        [(ANSWER, ANSWER, (0, 0, 1)), (GOODBYE, GOODBYE, (1, 0, 0)), (b"", b"", (1, 0, 0))]
    {
        let (mut bench, key) = resting();
        if waits.is_empty() {
            bench.servers[0].shutdown(std::net::Shutdown::Write).unwrap();
        } else {
            bench.servers[0].write_all(waits).unwrap();
        }
        bench.now += REST;
        let next = bench.turn();
        assert_eq!(sends(&next), [0; 0], "{waits:?}");
        if !told.is_empty() {
            bench.bytes(key, told);
        }
        bench.end(key);
        assert_eq!(ends(&bench), expected, "{waits:?}");
        goes_on_elsewhere(&mut bench, key, &next);
    }
}

#[test]
fn an_announced_close_names_who_closed() {
    for (end, expected) in [(true, (1, 0, 0)), (false, (0, 1, 0))] {
        let mut bench = Bench::new(2, |_| ());
        let key = bench.open();
        bench.sent(key);
        bench.bytes(key, LAST_ANSWER);
        if !end {
            bench.now += Duration::from_millis(21);
            assert!(shuts(&bench.turn()));
        }
        bench.end(key);
        assert_eq!(ends(&bench), expected);
    }
}

/// It was opened before it was needed, and has carried nothing yet.
#[test]
fn an_operation_that_was_never_sent_is_not_lost_with_its_connection() {
    let arrival = crate::load::plan::Arrival::Uniform;
    let mut bench = Bench::new(2, |plan| {
        (plan.duration, plan.pace) =
            (Duration::from_secs(9), Pace::Fixed { connections: 2, rate: 1.0, arrival });
    });
    bench.turn();
    let [first, idle] = bench.client.keys()[..] else { panic!("not two connections") };
    bench.connect(first);
    bench.connect(idle);
    bench.sent(first);
    bench.bytes(first, ANSWER);
    bench.servers[1].shutdown(std::net::Shutdown::Write).unwrap();
    bench.now += Duration::from_secs(1);
    let next = bench.turn();
    assert_eq!(sends(&next), [0; 0]);
    bench.end(idle);
    assert_eq!(ends(&bench), (1, 0, 0));
    goes_on_elsewhere(&mut bench, idle, &next);
}

#[test]
fn bytes_without_a_form_are_unasked_too() {
    let mut bench =
        Bench::new(2, |plan| (plan.mode, plan.http, plan.think) = (Mode::Rr, None, REST));
    let key = bench.open();
    bench.sent(key);
    let answer = bench.client.protocol.request(0, false);
    bench.bytes(key, answer);
    bench.bytes(key, b"x");
    bench.end(key);
    assert_eq!((bench.counts().0, bench.counts().1, ends(&bench)), (1, 0, (0, 0, 1)));
}
