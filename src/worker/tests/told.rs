//! Messages to sessions, and to what they share.

use super::*;

fn bench() -> Bench {
    Bench::new(Script { has_mailboxes: true, ..Script::default() })
}

impl Bench {
    /// The mailbox that was made last.
    fn mailbox(&self) -> Mailbox<u32> {
        self.script.mailboxes.lock().unwrap().last().expect("a session has asked for one").clone()
    }

    fn undelivered(&self) -> Vec<u32> {
        self.script.undelivered.lock().unwrap().clone()
    }
}

#[test]
fn a_session_speaks_when_it_is_told_something() {
    let mut bench = bench();
    let key = bench.connect();
    assert!(!bench.worker.has_mail());
    assert_eq!((bench.mailbox().send(7), bench.mailbox().send(8)), (Ok(()), Ok(())));
    assert!(bench.worker.has_mail());
    // What is said while the first is on its way goes together with the third.
    assert_eq!(bench.tick(), [(key, Send(b"7".to_vec()))]);
    assert!(!bench.worker.has_mail());
    assert_eq!(bench.mailbox().send(9), Ok(()));
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.sent(key, 1), [Send(b"89".to_vec())]);
    assert_eq!(bench.count(Counter::Messages), 3);
    assert_eq!((bench.undelivered(), bench.count(Counter::MessagesUndelivered)), (vec![], 0));
}

#[test]
fn a_full_channel_gives_a_message_back() {
    let mut bench = bench();
    bench.connect();
    let mailbox = bench.mailbox();
    (0..4).for_each(|message| assert_eq!(mailbox.send(message), Ok(())));
    assert_eq!(mailbox.send(4), Err(SendError::Full(4)));
    bench.tick();
    assert_eq!(mailbox.send(5), Ok(()));
}

#[test]
fn a_message_never_comes_to_another_session_in_the_same_place() {
    let mut bench = bench();
    let key = bench.connect();
    let first = bench.mailbox();
    assert_eq!(first.send(1), Ok(()));
    assert_eq!(bench.end(key), [Close]);
    let second = bench.connect();
    assert_eq!((second.slot, bench.adopted), (key.slot, 2));
    assert_eq!(bench.tick(), []);
    assert_eq!((bench.undelivered(), bench.count(Counter::MessagesUndelivered)), (vec![1], 1));
    assert_eq!(first.send(2), Err(SendError::Gone(2)));
    assert_eq!(bench.mailbox().send(3), Ok(()));
    assert_eq!(bench.tick(), [(second, Send(b"3".to_vec()))]);
}

#[test]
fn a_session_that_has_begun_to_end_is_told_nothing() {
    let mut bench = Bench::new(Script {
        has_mailboxes: true,
        data: |_, outbox| {
            outbox.write(b"bye");
            Action::Close
        },
        ..Script::default()
    });
    let key = bench.connect();
    let mailbox = bench.mailbox();
    assert_eq!(bench.input(key, false, b"x"), [SendAndClose(b"bye".to_vec())]);
    assert_eq!(mailbox.send(1), Ok(()));
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.undelivered(), [1]);
}

#[test]
fn the_mailbox_of_a_session_that_did_not_open_is_nobodys() {
    let mut bench = bench();
    let script = Script {
        has_mailboxes: true,
        open: |info| {
            assert_eq!(info.mailbox().send(1), Ok(()));
            panic!("it does not open");
        },
        ..Script::default()
    };
    bench.version = bench.worker.publish(Arc::new(settings(Arc::new(script)))).unwrap();
    assert_eq!(bench.adopt().len(), 1, "a close");
    let before = bench.version;
    bench.version = bench.worker.publish(Arc::new(settings(Arc::clone(&bench.script)))).unwrap();
    bench.worker.retire(before);
    bench.connect();
    assert_eq!(bench.tick(), [], "it was not for this one");
    assert_eq!(bench.undelivered(), [1]);
}

#[test]
fn a_panic_over_a_message_costs_that_session_alone() {
    let mut bench = Bench::new(Script {
        has_mailboxes: true,
        message: |message, outbox| {
            assert_ne!(message, 13, "of all numbers");
            outbox.write(b"ok");
            Action::Continue
        },
        ..Script::default()
    });
    let unlucky = bench.connect();
    let mailbox = bench.mailbox();
    let other = bench.connect();
    assert_eq!((mailbox.send(13), mailbox.send(14)), (Ok(()), Ok(())));
    assert_eq!(bench.mailbox().send(15), Ok(()));
    let asked = bench.tick();
    assert_eq!(asked, [(unlucky, shut(Shutdown::Both)), (other, Send(b"ok".to_vec()))]);
    assert_eq!((bench.undelivered(), mailbox.send(16)), (vec![14], Err(SendError::Gone(16))));
}

#[test]
fn what_sessions_share_is_made_once_and_can_be_told_something() {
    let mut bench = Bench::new(Script {
        has_mailboxes: true,
        local: |worker| assert_eq!((worker.index(), worker.mailboxes().len()), (0, 1)),
        ..Script::default()
    });
    assert_eq!(bench.local.send(1), Ok(()));
    assert_eq!(bench.tick(), []);
    // A version that comes later has the same.
    let before = bench.version;
    bench.version = bench.worker.publish(Arc::new(settings(Arc::clone(&bench.script)))).unwrap();
    bench.worker.retire(before);
    let key = bench.connect();
    assert_eq!((bench.local.send(2), bench.mailbox().send(3)), (Ok(()), Ok(())));
    bench.end(key);
    bench.tick();
    assert_eq!(bench.undelivered(), [1, 2, 3]);
}

/// A quarter of what may wait for a peer.
static MUCH: [u8; Script::UNSENT_BYTES / 4] = [b'x'; Script::UNSENT_BYTES / 4];

#[test]
fn who_takes_nothing_of_what_is_said_unasked_loses_the_connection() {
    let mut bench = Bench::new(Script {
        has_mailboxes: true,
        message: |said, outbox| {
            assert_eq!(outbox.unsent(), said as usize * MUCH.len());
            outbox.send_static(&MUCH);
            Action::Await
        },
        ..Script::default()
    });
    let key = bench.connect();
    let mailbox = bench.mailbox();
    let other = bench.connect();
    for said in 0..5 {
        assert_eq!(mailbox.send(said), Ok(()));
        let asked = bench.tick();
        assert_eq!(asked.len(), usize::from(said == 0));
    }
    // What has been said before was more than may wait.
    assert_eq!(mailbox.send(5), Ok(()));
    assert_eq!(bench.tick(), [(key, CancelReceive), (key, CancelSend)]);
    bench.receive_fails(key, Errno::ECANCELED);
    bench.send_fails(key, Errno::ECANCELED);
    assert_eq!(bench.told(), [(0, CloseReason::OutboxOverflow)]);
    assert_eq!(bench.input(other, false, b"a")[0], Send(b"a".to_vec()));
}

#[test]
fn a_session_that_is_moved_gets_a_new_mailbox() {
    let mut bench = bench();
    let key = bench.connect();
    let before = bench.mailbox();
    assert_eq!(before.send(1), Ok(()));
    bench.act(|worker, cx| assert!(worker.suspend(key.slot, &|_| true, cx)));
    bench.receive_fails(key, Errno::ECANCELED);
    let suspended = bench.worker.take_suspended().remove(0);
    assert_eq!(bench.tick(), []);
    assert_eq!((bench.undelivered(), before.send(2)), (vec![1], Err(SendError::Gone(2))));
    let version = bench.version;
    bench.act(|worker, cx| worker.resume(suspended, version, cx).unwrap());
    assert_eq!(bench.mailbox().send(3), Ok(()));
    let asked = bench.tick();
    assert_eq!(asked[0].1, Send(b"3".to_vec()));
}
