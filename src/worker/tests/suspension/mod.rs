//! Connections that leave their thread, and come back to it or to another one.

mod ends;
mod keeps;

use super::*;
use crate::connection::suspended::{
    Awaited, Place, Record, SessionRecord, SessionStage, Suspended,
};

/// A service whose sessions outlive the peer's FIN.
fn patient() -> Script {
    Script { half_closed: |_| Action::Continue, ..Script::default() }
}

/// A service that ends with an answer, without one, or at once.
fn obedient() -> Script {
    Script {
        data: |input, outbox| {
            outbox.echo(0..input.bytes().len());
            match input.bytes()[0] {
                b'c' => Action::Close,
                b'l' => Action::Linger,
                b'a' => Action::Abort,
                b'q' => {
                    outbox.clear();
                    Action::Close
                }
                _ => Action::Continue,
            }
        },
        ..Script::default()
    }
}

const CANCELLED: Errno = Errno::ECANCELED;

impl Bench {
    /// Begins to suspend a connection that can be suspended.
    #[track_caller]
    pub(super) fn suspend(&mut self, key: Key) -> Vec<Asked> {
        let counted = self.worker.suspending();
        let mut begun = false;
        let asked = self.act_on(key, |worker, cx| begun = worker.suspend(key.slot, &|_| true, cx));
        assert!(begun, "it cannot be suspended");
        assert!(self.worker.suspending() - counted <= 1);
        asked
    }

    /// It cannot be suspended, and nothing has changed.
    #[track_caller]
    fn stays(&mut self, key: Key) {
        let counted = self.worker.suspending();
        let mut begun = true;
        assert_eq!(self.act(|worker, cx| begun = worker.suspend(key.slot, &|_| true, cx)), []);
        assert_eq!((begun, self.worker.suspending()), (false, counted));
        assert!(self.worker.take_suspended().is_empty());
    }

    /// The one that has become quiet.
    #[track_caller]
    pub(super) fn taken(&mut self) -> Suspended {
        let mut taken = self.worker.take_suspended();
        assert_eq!((taken.len(), self.worker.suspending()), (1, 0));
        assert!(self.worker.take_suspended().is_empty());
        taken.pop().unwrap()
    }

    /// The one connection, whose receive is in flight, is suspended.
    #[track_caller]
    pub(super) fn moved(&mut self, key: Key) -> Suspended {
        assert_eq!(self.suspend(key), [CancelReceive]);
        assert_eq!(self.receive_fails(key, CANCELLED), []);
        self.taken()
    }

    fn try_resume(&mut self, suspended: Suspended) -> (Vec<(Key, Asked)>, Option<Suspended>) {
        let (version, mut refused) = (self.version, None);
        let asked = self.act(|worker, cx| refused = worker.resume(suspended, version, cx).err());
        (asked, refused)
    }

    /// It is resumed, and asks for something first.
    #[track_caller]
    pub(super) fn resume(&mut self, suspended: Suspended) -> (Key, Vec<Asked>) {
        let (asked, refused) = self.try_resume(suspended);
        assert!(refused.is_none(), "{refused:?}");
        let key = asked[0].0;
        assert!(asked.iter().all(|(other, _)| *other == key));
        (key, asked.into_iter().map(|(_, asked)| asked).collect())
    }
}

#[track_caller]
fn record(suspended: &Suspended) -> &SessionRecord {
    let Record::Session(record) = &suspended.record else { panic!("{suspended:?}") };
    record
}

#[test]
fn an_idle_connection_leaves_and_comes_back() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    assert_eq!(bench.suspend(key), [CancelReceive]);
    bench.stays(key);
    assert_eq!((bench.worker.suspending(), bench.worker.open()), (1, 1));
    assert_eq!(bench.receive_fails(key, CANCELLED), []);
    assert_eq!((bench.worker.suspending(), bench.worker.open()), (0, 0));
    let suspended = bench.taken();
    assert_eq!((suspended.frontend, suspended.sockets.len()), (FrontendId(0), 1));
    let expected = SessionRecord {
        stage: SessionStage::Open,
        reason: CloseReason::PeerClosed,
        awaited: Awaited::Input,
        held: Vec::new(),
        held_end: false,
        timer: None,
        session: vec![0],
        unsent: Vec::new(),
        spoken: false,
        ended: false,
        told: None,
        age: Duration::ZERO,
        idle: Duration::ZERO,
        begun: Duration::ZERO,
        taking: None,
        waited: None,
        log: None,
    };
    assert_eq!(record(&suspended), &expected);
    // Nothing has been closed, and its place is taken still.
    assert_eq!((bench.told(), bench.worker.take_closed()), (vec![], 0));
    assert_eq!((bench.limit.open(), bench.next_tick()), (1, None));
    bench.stays(key);

    let (again, asked) = bench.resume(suspended);
    assert!(again != key && asked == [ONCE]);
    assert_eq!(bench.input(again, false, b"hi"), [Send(b"hi".to_vec()), many(9998)]);
    assert_eq!(bench.sent(again, 2), []);
    assert_eq!(bench.end(again), [Close]);
    bench.ended(CloseReason::PeerClosed);
    assert_eq!((bench.count(Counter::Opened), bench.count(Counter::ClosedByPeer)), (1, 1));
}

/// The retired version of its settings goes when it leaves, and the one that it comes back to is its own.
#[test]
fn it_goes_by_the_settings_that_it_is_resumed_under() {
    let mut bench = Bench::new(Script::default());
    let (key, _) = bench.connect_with(b"q");
    bench.sent(key, 1);
    let small = SessionSettings { budget_bytes: 100, ..settings(Arc::clone(&bench.script)) };
    let before = std::mem::replace(&mut bench.limit, Arc::clone(&small.limit));
    assert!(bench.limit.admit());
    let version = bench.worker.publish(Arc::new(small)).unwrap();
    bench.worker.retire(std::mem::replace(&mut bench.version, version));
    let mut suspended = bench.moved(key);
    assert_eq!((bench.worker.versions(), before.open()), (1, 1));
    suspended.place = Place::counted(&bench.limit);
    assert_eq!(before.open(), 0);
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [many(100)]);
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
}

#[test]
fn nobody_is_moved_that_is_not_meant() {
    let mut bench = Bench::new(obedient());
    let key = bench.connect();
    let mut asked_for = None;
    let none = bench.act(|worker, cx| {
        let movable = |frontend| frontend == FrontendId(1);
        asked_for = Some(worker.suspend(key.slot, &movable, cx));
        assert!(!worker.suspend(7, &|_| true, cx), "there is none");
    });
    assert_eq!((none, asked_for, bench.worker.suspending()), (vec![], Some(false), 0));
    // It is shut down already.
    bench.input(key, false, b"x");
    bench.act(|worker, cx| worker.terminate(key, CloseReason::Operator, cx));
    bench.stays(key);
    // Its socket is given up.
    let (farewell, asked) = bench.connect_with(b"c");
    assert_eq!(asked, [SendAndClose(b"c".to_vec())]);
    bench.stays(farewell);
}

/// What comes of a send that is cancelled: all of it, a part, or nothing has gone.
#[test]
fn each_byte_of_a_send_in_flight_goes_once() {
    for (sent, left) in [(Ok(10), "5"), (Ok(4), "456789 5"), (Err(CANCELLED), "0123456789 5")] {
        let mut bench = Bench::new(Script::default());
        let (key, _) = bench.connect_with(b"0123456789");
        bench.input(key, false, b" 5");
        assert_eq!(bench.suspend(key), [CancelReceive, CancelSend]);
        assert_eq!(bench.receive_fails(key, CANCELLED), []);
        assert_eq!(bench.worker.suspending(), 1);
        assert_eq!(bench.complete(key, false, Event::Sent(sent)), []);
        let suspended = bench.taken();
        let unsent = record(&suspended).unsent.clone();
        assert_eq!(String::from_utf8_lossy(&unsent).trim_start(), left, "{sent:?}");
        assert_eq!(bench.pool.free(), BUFFERS, "it holds no buffer");
        let (key, asked) = bench.resume(suspended);
        assert_eq!(asked[0], Send(unsent.clone()));
        assert_eq!(asked[1], many(BUDGET_BYTES - unsent.len() as u32));
        bench.sent(key, unsent.len());
        bench.end(key);
        bench.ended(CloseReason::PeerClosed);
    }
}

/// In one shot or in several, whatever ends the last of them; the answers wait for whoever resumes it.
#[test]
fn data_that_comes_with_the_cancel_is_answered() {
    for last in [Ok(Received::End), Err(CANCELLED), Err(Errno::ENOBUFS)] {
        let mut bench = Bench::new(patient());
        let (key, _) = bench.connect_with(b"first");
        bench.sent(key, 5);
        assert_eq!(bench.suspend(key), [CancelReceive]);
        assert_eq!(bench.input(key, true, b"second "), []);
        assert_eq!(bench.input(key, true, b"third"), []);
        let ended = last == Ok(Received::End);
        assert_eq!(bench.complete(key, false, Event::Received(last)), []);
        let suspended = bench.taken();
        assert_eq!(record(&suspended).unsent, b"second third");
        assert_eq!((record(&suspended).ended, record(&suspended).spoken), (ended, true));
        assert_eq!(bench.pool.free(), BUFFERS);
        let (key, asked) = bench.resume(suspended);
        let answer = Send(b"second third".to_vec());
        match ended {
            true => assert_eq!(asked, [answer]),
            false => assert_eq!(asked, [answer, many(BUDGET_BYTES - 12)]),
        }
        assert_eq!(bench.sent(key, 12), []);
    }
}

#[test]
fn one_that_is_half_closed_has_nothing_to_cancel() {
    let mut bench = Bench::new(patient());
    let (key, _) = bench.connect_with(b"a");
    bench.sent(key, 1);
    assert_eq!(bench.end(key), []);
    assert_eq!(bench.suspend(key), []);
    let suspended = bench.taken();
    assert!(record(&suspended).ended);
    let (asked, refused) = bench.try_resume(suspended);
    assert!(asked.is_empty() && refused.is_none());
    assert_eq!(bench.pass(3100).into_iter().map(|(_, asked)| asked).collect::<Vec<_>>(), [Close]);
    bench.ended(CloseReason::IdleTimeout);
}

/// What is queued of an answer goes on, and then the end comes as it would have.
#[test]
fn one_that_flushes_goes_on_to_its_end() {
    for linger in [false, true] {
        let mut bench = Bench::new(obedient());
        let (key, _) = bench.connect_with(b"0123456789");
        bench.input(key, true, if linger { b"l" } else { b"c" });
        assert_eq!(bench.suspend(key), [CancelReceive, CancelSend]);
        bench.sent(key, 4);
        assert_eq!(bench.receive_fails(key, CANCELLED), []);
        let suspended = bench.taken();
        let SessionRecord { stage, reason, unsent, .. } = record(&suspended);
        assert_eq!(
            (*stage, *reason),
            (SessionStage::Flushing { linger }, CloseReason::ServiceClosed)
        );
        let unsent = unsent.clone();
        let (key, asked) = bench.resume(suspended);
        if linger {
            assert_eq!(asked, [Send(unsent)]);
            assert_eq!(bench.sent(key, 7), [shut(Shutdown::Write), many(BUDGET_BYTES)]);
            assert_eq!(bench.end(key), [Close]);
        } else {
            // It may have to move again.
            assert_eq!(asked, [Send(unsent)]);
            assert_eq!(bench.sent(key, 7), [Close]);
        }
        bench.ended(CloseReason::ServiceClosed);
    }
}

#[test]
fn one_that_lingers_drops_what_is_left_to_be_dropped() {
    let mut bench = Bench::new(obedient());
    let (key, _) = bench.connect_with(b"l");
    assert_eq!(bench.sent(key, 1), [shut(Shutdown::Write), many(BUDGET_BYTES)]);
    bench.input(key, true, &[0; 1000]);
    assert_eq!(bench.suspend(key), [CancelReceive]);
    assert_eq!(bench.input(key, false, &[0; 500]), []);
    let suspended = bench.taken();
    let bytes_left = 1024 * 1024 - 1500;
    assert_eq!(record(&suspended).stage, SessionStage::Lingering { bytes_left });
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [many(BUDGET_BYTES)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::ServiceClosed);
}

/// More waits for the peer than may wait for it; nothing more is read until that has gone.
#[test]
fn more_than_the_budget_goes_out_first() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    let mut suspended = bench.moved(key);
    let Record::Session(record) = &mut suspended.record else { panic!("{suspended:?}") };
    record.unsent = (0..100_000_u32).map(|byte| byte as u8).collect();
    record.spoken = true;
    let unsent = record.unsent.clone();
    let (key, asked) = bench.resume(suspended);
    assert_eq!(asked, [Send(unsent[..SEND_LIMIT_BYTES].to_vec())]);
    assert_eq!(bench.sent(key, SEND_LIMIT_BYTES), [Send(unsent[SEND_LIMIT_BYTES..].to_vec())]);
    let more = bench.sent(key, unsent.len() - SEND_LIMIT_BYTES);
    assert_eq!(more, [many(BUDGET_BYTES)]);
    bench.end(key);
    bench.ended(CloseReason::PeerClosed);
}

/// It waits in line for a buffer, and nothing is in flight.
#[test]
fn one_that_starves_leaves_the_line() {
    let mut bench = Bench::new(Script::default());
    let key = bench.connect();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(key, Errno::ENOBUFS);
    assert_eq!(bench.suspend(key), []);
    let suspended = bench.taken();
    let (again, asked) = bench.resume(suspended);
    assert_eq!(asked, [ONCE]);
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    assert_eq!(bench.tick(), []);
    bench.end(again);
    bench.ended(CloseReason::PeerClosed);
}
