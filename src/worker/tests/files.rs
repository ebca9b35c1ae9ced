//! Answers from files.

use std::sync::Arc;

use super::*;
use crate::sys::testing::file_of;

const BYTES: &[u8] = b"0123456789";

/// Answers each input with a head and a part of the file: all of it, and more for an exclamation mark.
fn with_file() -> Script {
    Script {
        data: |input, outbox| {
            let file = Arc::new(file_of(BYTES));
            outbox.write(b"head");
            outbox.file(&file, 2..if input.bytes() == b"!" { 20 } else { 10 });
            if input.bytes() == b"." { Action::Close } else { Action::Continue }
        },
        ..Script::default()
    }
}

#[test]
fn part_of_a_file_is_sent_behind_what_comes_before_it() {
    let mut bench = Bench::new(with_file());
    let (key, asked) = bench.connect_with(b"a");
    assert_eq!(asked[0], SendMore(b"head".to_vec()));
    assert_eq!(bench.sent(key, 4), [Send(b"23456789".to_vec())]);
    assert_eq!(bench.sent(key, 3), [Send(b"56789".to_vec())], "a part of it is no failure");
    assert_eq!(bench.sent(key, 5), []);
    assert_eq!(bench.input(key, true, b"b"), [SendMore(b"head".to_vec())]);
}

/// A FIN does not go together with bytes that are still to be read.
#[test]
fn the_last_of_a_file_is_sent_before_the_close() {
    let mut bench = Bench::new(with_file());
    let (key, _) = bench.connect_with(b".");
    assert_eq!(bench.sent(key, 4), [Send(b"23456789".to_vec())]);
    assert_eq!(bench.sent(key, 8), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

#[test]
fn a_file_that_is_too_short_costs_the_connection_and_ends_in_a_reset() {
    let mut bench = Bench::new(with_file());
    let (key, _) = bench.connect_with(b"!");
    bench.sent(key, 4);
    assert_eq!(bench.sent(key, 8), [Send(Vec::new())]);
    assert_eq!(bench.send_fails(key, Errno::ENODATA), [CancelReceive], "no FIN");
    assert_eq!(bench.receive_fails(key, Errno::ECANCELED), [Asked::Reset]);
    bench.ended(CloseReason::FileFailed);
    assert_eq!(bench.count(Counter::ClosedByFile), 1);
}

#[test]
fn a_peer_that_goes_in_the_middle_of_a_file_is_no_failure_of_the_file() {
    for errno in [Errno::EPIPE, Errno::ECONNRESET, Errno::ETIMEDOUT] {
        let mut bench = Bench::new(with_file());
        let (key, _) = bench.connect_with(b"a");
        bench.sent(key, 4);
        bench.send_fails(key, errno);
        bench.receive_fails(key, Errno::ECONNRESET);
        bench.ended(CloseReason::PeerReset);
    }
}

/// What takes no memory does not count as what a peer has left unread.
#[test]
fn a_file_is_no_memory() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            assert!(outbox.unsent() <= 4, "{}", outbox.unsent());
            outbox.file(&Arc::new(file_of(BYTES)), 0..1 << 40);
            outbox.write(b"tail");
            Action::Continue
        },
        ..Script::default()
    });
    let (key, _) = bench.connect_with(b"a");
    assert_eq!(bench.input(key, true, b"b"), []);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_connection_with_a_file_does_not_move() {
    let mut bench = Bench::new(with_file());
    let (key, _) = bench.connect_with(b"a");
    let suspends = |bench: &mut Bench| {
        let mut begun = None;
        let asked = bench.act_on(key, |worker, cx| {
            begun = Some(worker.suspend(key.slot, &|_| true, cx));
        });
        (begun, asked)
    };
    assert_eq!(suspends(&mut bench), (Some(false), Vec::new()));
    bench.sent(key, 4);
    assert_eq!(suspends(&mut bench), (Some(false), Vec::new()));
    bench.sent(key, 8);
    assert_eq!(suspends(&mut bench), (Some(true), vec![CancelReceive]));
}

#[test]
fn one_send_is_bounded() {
    let mut bench = Bench::new(Script {
        data: |_, outbox| {
            outbox.file(&Arc::new(file_of(&vec![7; 3 << 20])), 0..3 << 20);
            Action::Continue
        },
        ..Script::default()
    });
    let (key, asked) = bench.connect_with(b"a");
    let length = |asked: &Asked| match asked {
        SendMore(bytes) => (bytes.len(), true),
        Send(bytes) => (bytes.len(), false),
        other => panic!("{other:?}"),
    };
    assert_eq!(length(&asked[0]), (2 << 20, true));
    assert_eq!(length(&bench.sent(key, 1000)[0]), (2 << 20, true));
    let waits = bench.worker.table.get(key).unwrap().stream.output.bytes;
    assert_eq!(waits, (3 << 20) - 1000);
    // Something waits behind its last part. That takes nothing back that a file has held back, so nothing is.
    assert_eq!(bench.input(key, true, b"b"), []);
    assert_eq!(length(&bench.sent(key, 2 << 20)[0]), ((1 << 20) - 1000, false));
}
