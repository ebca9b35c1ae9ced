//! Dispatch without threads: connections are descriptors of /dev/null.

use std::fs::File;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::ring::{RingAddress, Waker};

const CAPACITY: usize = 200;

fn accepted() -> Accepted {
    let socket = File::open("/dev/null").unwrap().into();
    let listener = ListenerId { frontend: FrontendId(0), index: 0 };
    Accepted::new(socket, listener, Instant::now())
}

fn parker() -> Arc<Parker> {
    let null = || Arc::new(File::open("/dev/null").unwrap().into());
    Arc::new(Parker::new(RingAddress::new(null()), Waker::new(null())))
}

struct Workers {
    senders: Vec<InboxSender>,
    inboxes: Vec<Inbox>,
}

impl Workers {
    fn new(count: usize, capacity: usize) -> Self {
        let (senders, inboxes) = (0..count).map(|_| inbox(capacity, parker())).unzip();
        Self { senders, inboxes }
    }

    fn dispatcher(&self, policy: DispatchPolicy, home: Option<usize>) -> Dispatcher {
        Dispatcher::new(self.senders.clone(), policy, home.map(WorkerId))
    }

    fn open(&self) -> Vec<usize> {
        self.senders.iter().map(|sender| sender.load().open()).collect()
    }

    fn skew(&self) -> usize {
        skew(self.senders.iter().map(InboxSender::load))
    }
}

fn dispatch(dispatcher: &mut Dispatcher, count: usize) {
    for _ in 0..count {
        dispatcher.dispatch(accepted()).expect("there is room");
    }
}

#[test]
fn without_closes_least_connections_differ_by_one_at_most() {
    for workers in 1..=5 {
        let all = Workers::new(workers, CAPACITY);
        let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, None);
        for _ in 0..57 {
            dispatch(&mut dispatcher, 1);
            assert!(all.skew() <= 1, "{:?}", all.open());
        }
    }
}

#[test]
fn least_connections_fills_up_the_worker_that_closed() {
    let all = Workers::new(3, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, None);
    dispatch(&mut dispatcher, 30);
    all.inboxes[1].closed(6);
    dispatch(&mut dispatcher, 6);
    assert_eq!(all.open(), [10, 10, 10]);
}

#[test]
fn ties_rotate() {
    let all = Workers::new(3, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, None);
    for _ in 0..3 {
        dispatch(&mut dispatcher, 1);
        all.inboxes.iter().for_each(|inbox| inbox.take().into_iter().for_each(|_| inbox.closed(1)));
    }
    let dispatched: Vec<_> = all.senders.iter().map(|sender| sender.load().total()).collect();
    assert_eq!(dispatched, [1, 1, 1]);
}

#[test]
fn an_acceptor_keeps_connections_at_home_until_it_is_ahead() {
    let all = Workers::new(2, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, Some(1));
    dispatch(&mut dispatcher, 7);
    assert!(all.skew() <= 1, "without slack: {:?}", all.open());
    for (asked, slack) in [(5, 5), (usize::MAX, policy::SLACK_MOST)] {
        let all = Workers::new(2, CAPACITY);
        let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, Some(1));
        dispatcher.prefer(Preference::Slack(asked));
        dispatch(&mut dispatcher, slack + 1);
        assert_eq!(all.open(), [0, slack + 1]);
        dispatch(&mut dispatcher, 20);
        assert_eq!(all.skew(), slack + 1, "{:?}", all.open());
        dispatcher.prefer(Preference::Slack(0));
        dispatch(&mut dispatcher, 20);
        assert!(all.skew() < slack, "what was kept is evened out: {:?}", all.open());
    }
}

#[test]
fn a_worker_at_home_that_comes_last_gets_what_nobody_else_has_room_for() {
    let all = Workers::new(3, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, Some(1));
    dispatcher.prefer(Preference::Last);
    dispatch(&mut dispatcher, 2);
    assert_eq!(all.open(), [1, 0, 1], "ties go to the others");
    dispatch(&mut dispatcher, 1);
    assert_eq!(all.open(), [1, 1, 1]);
    dispatch(&mut dispatcher, 2);
    assert_eq!(all.open(), [2, 1, 2]);
}

#[test]
fn round_robin_takes_turns_whatever_the_load() {
    let all = Workers::new(3, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::RoundRobin, None);
    dispatch(&mut dispatcher, 3);
    all.inboxes[0].closed(1);
    dispatch(&mut dispatcher, 3);
    assert_eq!(all.open(), [1, 2, 2]);
}

#[test]
fn a_full_inbox_passes_on_and_full_inboxes_give_back() {
    let all = Workers::new(2, 2);
    let mut dispatcher = all.dispatcher(DispatchPolicy::SourceHash, None);
    dispatch(&mut dispatcher, 4);
    assert_eq!(all.open(), [2, 2]);
    let Rejected(returned) = dispatcher.dispatch(accepted()).unwrap_err();
    assert_eq!(all.open(), [2, 2], "a rejected connection is not counted");
    assert!(all.inboxes[1].take().is_some());
    dispatcher.dispatch(returned).unwrap();
}

#[test]
fn a_parked_worker_is_woken_once_a_batch_and_a_busy_one_not_at_all() {
    let all = Workers::new(2, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::RoundRobin, None);
    let mut operations = Operations::default();
    assert!(all.inboxes[0].park());
    dispatch(&mut dispatcher, 6);
    assert_eq!(dispatcher.wake(&mut operations), Wakes { sent: 1, saved: 1 });
    dispatch(&mut dispatcher, 6);
    let again = dispatcher.wake(&mut operations);
    assert_eq!(again, Wakes { sent: 0, saved: 2 }, "the first wake stands");
    assert_eq!(operations.drain().count(), 1);
    assert!(!all.inboxes[0].park(), "there is work, so it may not wait");
}

#[test]
fn one_address_stays_with_one_worker() {
    let all = Workers::new(4, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::SourceHash, None);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0.into();
        let connection = Accepted { socket, ..accepted() };
        dispatcher.dispatch(connection).unwrap();
    }
    let mut open = all.open();
    open.sort_unstable();
    assert_eq!(open, [0, 0, 0, 5]);
}

#[test]
fn a_thread_is_woken_once_for_what_it_waits_for() {
    let (parker, mut operations) = (parker(), Operations::default());
    assert!(!parker.wake_from(&mut operations) && !parker.wake_paused_from(&mut operations));
    parker.announce();
    assert!(!parker.wake_paused_from(&mut operations), "it waits for no room");
    assert!(parker.wake_from(&mut operations) && !parker.wake_from(&mut operations));
    parker.announce_pause();
    assert!(parker.wake_paused_from(&mut operations));
    parker.announce();
    parker.announce_pause();
    parker.resume();
    assert!(!parker.wake_from(&mut operations) && !parker.wake_paused_from(&mut operations));
    assert_eq!(operations.drain().count(), 2);
}

/// Its senders live on in the handle of the server.
#[test]
fn what_is_left_in_an_inbox_is_closed_with_it() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let (sender, inbox) = inbox(CAPACITY, parker());
    let (socket, mut peer) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    sender.send(Accepted { socket: socket.into(), ..accepted() }).unwrap();
    assert!(peer.read(&mut [0]).is_err(), "it is open");
    drop(inbox);
    // Waits, because a child process of another test holds copies of all descriptors until its exec.
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    assert_eq!((peer.read(&mut [0]).unwrap(), sender.load().open()), (0, 0));
    assert!(sender.send(accepted()).is_err());
}

#[test]
fn the_last_one_is_served_however_long_it_has_waited() {
    let (sender, inbox) = inbox(CAPACITY, parker());
    for _ in 0..3 {
        let shed = Some(Shed::new(std::time::Duration::ZERO, Arc::default()));
        let pressed = Pressed { shed, ..Pressed::default() };
        sender.send(Accepted { pressed, ..accepted() }).unwrap();
    }
    let is_shed = || inbox.take().map(|taken| taken.pressed.shed.is_some());
    assert_eq!([is_shed(), is_shed(), is_shed()], [Some(true), Some(true), Some(false)]);
}

/// However they were put there, and behind those that have an order of their own.
#[test]
fn the_newest_is_taken_first_where_that_is_wanted() {
    let (sender, inbox) = inbox(CAPACITY, parker());
    let start = Instant::now();
    let at = |seconds| start + std::time::Duration::from_secs(seconds);
    let send = |accepted_at, newest_first| {
        let pressed = Pressed { newest_first, ..Pressed::default() };
        sender.send(Accepted { accepted_at, pressed, ..accepted() }).unwrap();
    };
    let sent = [(1, Some(1)), (2, None), (1, Some(3)), (1, Some(2)), (0, Some(9)), (0, None)];
    sent.iter().for_each(|(seconds, number)| send(at(*seconds), *number));
    assert_eq!((inbox.len(), inbox.is_empty()), (6, false));
    let take = || {
        let taken = inbox.take()?;
        Some(((taken.accepted_at - start).as_secs(), taken.pressed.newest_first))
    };
    assert_eq!([take(), take()], [Some((2, None)), Some((0, None))]);
    assert_eq!(take(), Some((1, Some(3))));
    // One that comes meanwhile is the newest.
    send(at(3), Some(4));
    let left = [(3, Some(4)), (1, Some(2)), (1, Some(1)), (0, Some(9))];
    assert_eq!(std::iter::from_fn(take).collect::<Vec<_>>(), left);
    assert!(inbox.is_empty() && inbox.park());
}

#[test]
fn one_thread_after_the_other_is_asked_to_make_room_and_does_not_sleep_over_it() {
    let all = Workers::new(2, CAPACITY);
    let mut dispatcher = all.dispatcher(DispatchPolicy::RoundRobin, None);
    assert!(all.inboxes[1].park());
    let frontends = [3, 4, 5].map(FrontendId);
    assert!(frontends.into_iter().all(|frontend| dispatcher.evict(frontend)));
    let mut operations = Operations::default();
    assert_eq!(dispatcher.wake(&mut operations), Wakes { sent: 1, saved: 1 });
    assert!(!all.inboxes[0].park(), "there is work");
    let asked = |worker: usize| {
        std::iter::from_fn(|| all.inboxes[worker].take_eviction()).collect::<Vec<_>>()
    };
    assert_eq!((asked(0), asked(1)), (vec![frontends[0], frontends[2]], vec![frontends[1]]));
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    /// With no closes, however the worker at home is and was preferred.
    #[test]
    fn workers_differ_by_one_and_the_slack_at_most(
        workers in 1_usize..=5,
        home in 0_usize..10,
        preferences in proptest::collection::vec(proptest::option::of(0_usize..50), 1..60),
    ) {
        let all = Workers::new(workers, CAPACITY);
        let home = Some(home).filter(|home| *home < workers);
        let mut dispatcher = all.dispatcher(DispatchPolicy::LeastConnections, home);
        let mut most = 0;
        for slack in preferences {
            dispatcher.prefer(slack.map_or(Preference::Last, Preference::Slack));
            most = most.max(slack.unwrap_or(0).min(policy::SLACK_MOST));
            dispatch(&mut dispatcher, 3);
            prop_assert!(all.skew() <= 1 + most, "{:?} with a slack of {most}", all.open());
        }
    }
}
