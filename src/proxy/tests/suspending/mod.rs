//! Pairs that are suspended, in each stage and condition, and go on: on the same proxy or on another one.

mod pipes;
mod times;
mod waiting;

use super::thread::told;
use super::*;
use crate::connection::suspended::{PairRecord, Record, Suspended};

const RECEIVE: Asked = Asked::Cancel(Kind::Receive);
const SEND: Asked = Asked::Cancel(Kind::Send);

fn cancelled() -> Event {
    Event::Received(Err(Errno::ECANCELED))
}

fn unsent() -> Event {
    Event::Sent(Err(Errno::ECANCELED))
}

impl Bench {
    /// Begins to suspend a pair; what is asked for, or `None` if it cannot be moved.
    fn suspend(&mut self, key: Key) -> Option<Vec<(End, Asked)>> {
        let mut begun = false;
        let asked = self.act(|proxy, cx| begun = proxy.suspend(key.slot, &|_| true, cx));
        begun.then(|| asked.into_iter().map(|(_, end, asked)| (end, asked)).collect())
    }

    /// The one pair that has become quiet.
    #[track_caller]
    fn taken(&mut self) -> Suspended {
        let mut all = self.proxy.take_suspended();
        let (one, others) = (all.pop().expect("one is quiet"), all.len());
        assert_eq!((others, self.proxy.suspending()), (0, 0));
        self.adopted -= 1;
        one
    }

    /// Suspends a pair that forwards and has both receives in flight.
    #[track_caller]
    fn suspended(&mut self, key: Key) -> Suspended {
        assert_eq!(self.suspend(key).unwrap(), [(Client, RECEIVE), (Backend, RECEIVE)]);
        self.all_of([(key, Client, false, cancelled()), (key, Backend, false, cancelled())]);
        self.taken()
    }

    /// Lets one go on; its key here, and what is asked for.
    #[track_caller]
    fn resume(&mut self, suspended: Suspended) -> (Key, Vec<(End, Asked)>) {
        let before = self.proxy.table.keys();
        self.adopted += 1;
        let version = self.version;
        let asked = self.act(|proxy, cx| proxy.resume(suspended, version, cx).unwrap());
        let new = self.proxy.table.keys().into_iter().find(|key| !before.contains(key));
        let asked = asked.into_iter().map(|(_, end, asked)| (end, asked)).collect();
        (new.expect("it is in the table"), asked)
    }

    /// As in another process.
    #[track_caller]
    fn resume_told(&mut self, suspended: Suspended) -> (Key, Vec<(End, Asked)>) {
        assert!(self.limit.admit());
        let told = told(suspended, &self.limit);
        self.resume(told)
    }

    /// Connections at the backends.
    fn leased(&mut self) -> usize {
        let version = self.proxy.versions.get(self.version);
        version.settings.upstreams[0].endpoints().iter().map(|endpoint| endpoint.open()).sum()
    }
}

fn record(suspended: &Suspended) -> &PairRecord {
    let Record::Pair(record) = &suspended.record else { panic!("{suspended:?}") };
    record
}

fn owed(suspended: &Suspended) -> [&[u8]; 2] {
    let [client, backend] = &record(suspended).sides;
    [&client.unsent, &backend.unsent]
}

fn fin(end: End) -> (End, Asked) {
    (end, shut(Shutdown::Write))
}

#[test]
fn an_idle_pair_moves_and_is_counted_where_it_is() {
    let (mut bench, mut other) = (Bench::new(), Bench::new());
    let key = bench.pair();
    let suspended = bench.suspended(key);
    // It is nowhere, and still counted.
    assert_eq!((bench.proxy.open(), bench.limit.open(), bench.leased()), (0, 1, 1));
    assert_eq!(bench.proxy.take_closed(), 0);
    assert_eq!(owed(&suspended), [b"", b""]);
    assert!(bench.on(key, Client, cancelled()).is_empty(), "its key is dead");
    let (key, asked) = other.resume_told(suspended);
    // Each as it asks for more: a first message, or anything.
    assert_eq!(asked, [(Client, ONCE), (Backend, all())]);
    assert_eq!((bench.limit.open(), bench.leased()), (0, 0));
    assert_eq!((other.limit.open(), other.leased()), (1, 1));
    let asked = other.last_input(key, Client, b"x");
    assert_eq!(asked, [(Client, many(BUDGET_BYTES - 1)), (Backend, Send(b"x".to_vec()))]);
    other.sent(key, Backend, 1);
    other.fin(key, Client);
    other.fin(key, Backend);
    other.all_ended(Counter::ClosedByPeer);
    assert_eq!(other.leased(), 0);
    assert_eq!(other.count(Counter::Opened), 0);
    bench.all_ended(Counter::ClosedByPeer);
}

#[test]
fn one_that_is_dropped_gives_each_place_back_once() {
    let mut bench = Bench::new();
    let key = bench.pair();
    drop(bench.suspended(key));
    assert_eq!((bench.limit.open(), bench.leased()), (0, 0));
    bench.all_ended(Counter::ClosedByPeer);
    // And one that goes on here keeps its own.
    let key = bench.pair();
    let suspended = bench.suspended(key);
    let (key, _) = bench.resume(suspended);
    assert_eq!((bench.limit.open(), bench.leased()), (1, 1));
    bench.fin(key, Client);
    bench.fin(key, Backend);
    bench.all_ended(Counter::ClosedByPeer);
    assert_eq!((bench.limit.open(), bench.leased()), (0, 0));
}

/// Whatever of it the kernel had taken.
#[test]
fn a_send_in_flight_moves_without_what_has_gone() {
    for (gone, left) in [(0, &b"abcdef"[..]), (4, b"ef"), (6, b"")] {
        let (mut bench, mut other) = (Bench::new(), Bench::new());
        let key = bench.pair();
        bench.input(key, Backend, b"abcdef");
        bench.input(key, Backend, b"ghi");
        let asked = bench.suspend(key).unwrap();
        assert_eq!(asked, [(Client, RECEIVE), (Client, SEND), (Backend, RECEIVE)]);
        let sent = if gone == 0 { unsent() } else { Event::Sent(Ok(gone)) };
        let events = [(key, Client, false, sent), (key, Client, false, cancelled())];
        assert_eq!(bench.all_of(events), []);
        // It is not quiet yet, and what comes with the cancel counts.
        assert!(bench.proxy.take_suspended().is_empty());
        assert_eq!(bench.proxy.suspending(), 1);
        assert_eq!(bench.last_input(key, Backend, b"jkl"), []);
        let suspended = bench.taken();
        let all = [left, b"ghijkl"].concat();
        assert_eq!(owed(&suspended), [&all[..], b""]);
        assert_eq!(bench.pool.free(), BUFFERS);
        let (key, asked) = other.resume_told(suspended);
        let room = BUDGET_BYTES - all.len() as u32;
        assert_eq!(asked, [(Client, Send(all.clone())), (Client, ONCE), (Backend, many(room))]);
        assert_eq!(other.sent(key, Client, all.len()), []);
        let pair = other.proxy.table.get(key).unwrap();
        assert_eq!(pair.bytes, [0, 12]);
    }
}

#[test]
fn both_directions_and_their_fins_move() {
    let (mut bench, mut other) = (Bench::new(), Bench::new());
    let key = bench.pair();
    bench.last_input(key, Client, b"to the backend");
    bench.input(key, Backend, b"to the client");
    let asked = bench.suspend(key).unwrap();
    assert_eq!(asked, [(Client, RECEIVE), (Client, SEND), (Backend, RECEIVE), (Backend, SEND)]);
    // The client says its last meanwhile.
    bench.fin(key, Client);
    bench.on(key, Backend, cancelled());
    bench.sent(key, Client, 3);
    bench.on(key, Backend, unsent());
    let suspended = bench.taken();
    assert_eq!(owed(&suspended), [&b"the client"[..], b"to the backend"]);
    assert_eq!(record(&suspended).client_ended_first, Some(true));
    let (key, asked) = other.resume_told(suspended);
    let last = SendLast(b"to the backend".to_vec());
    let room = many(BUDGET_BYTES - 10);
    let first = (Client, Send(b"the client".to_vec()));
    assert_eq!(asked, [first, (Backend, last), (Backend, room)]);
    assert_eq!(other.sent(key, Backend, 14), [fin(Backend)]);
    // Its FIN is out: also that moves.
    other.sent(key, Client, 10);
    assert_eq!(other.suspend(key).unwrap(), [(Backend, RECEIVE)]);
    other.on(key, Backend, cancelled());
    let suspended = other.taken();
    let (key, asked) = bench.resume_told(suspended);
    assert_eq!(asked, [(Backend, all())]);
    assert_eq!(operations(bench.fin(key, Backend)), [Close, Close]);
    bench.all_ended(Counter::ClosedByPeer);
}

#[test]
fn a_fin_that_is_still_to_be_passed_on_is_passed_on_there() {
    let (mut bench, mut other) = (Bench::new(), Bench::new());
    let key = bench.pair();
    bench.suspend(key).unwrap();
    bench.on(key, Client, cancelled());
    assert_eq!(bench.fin(key, Backend), []);
    let suspended = bench.taken();
    assert_eq!(record(&suspended).client_ended_first, Some(false));
    let (key, asked) = other.resume_told(suspended);
    assert_eq!(asked, [fin(Client), (Client, ONCE)]);
    assert_eq!(operations(other.fin(key, Client)), [Close, Close]);
    other.all_ended(Counter::ClosedByBackend);
}

#[test]
fn who_ends_meanwhile_is_not_suspended() {
    let mut bench = Bench::new();
    // Both FINs have come, and everything has been passed on.
    let key = bench.pair();
    bench.suspend(key).unwrap();
    bench.fin(key, Client);
    assert_eq!(operations(bench.fin(key, Backend)), [Close, Close]);
    assert_eq!(bench.proxy.suspending(), 0);
    bench.all_ended(Counter::ClosedByPeer);
    for (reset, counter) in
        [(Client, Counter::ClosedByReset), (Backend, Counter::ClosedByBackendReset)]
    {
        let mut bench = Bench::new();
        let key = bench.pair();
        bench.suspend(key).unwrap();
        bench.receive_fails(key, reset, Errno::ECONNRESET);
        assert_eq!(bench.proxy.suspending(), 0);
        assert_eq!(operations(bench.on(key, reset.other(), cancelled())), [Reset, Reset]);
        assert!(bench.proxy.take_suspended().is_empty());
        bench.all_ended(counter);
    }
}

/// Its deadline passes while the kernel takes its time. What was cancelled is no reset then.
#[test]
fn a_deadline_that_passes_meanwhile_is_kept() {
    let mut bench = Bench::new();
    let key = bench.pair();
    bench.pass(4900);
    bench.suspend(key).unwrap();
    assert_eq!(operations(bench.pass(200)), [shut(Shutdown::Both), shut(Shutdown::Both)]);
    assert_eq!(bench.proxy.suspending(), 0);
    bench.on(key, Client, cancelled());
    assert_eq!(operations(bench.on(key, Backend, cancelled())), [Close, Close]);
    bench.all_ended(Counter::ClosedByIdleTimeout);
}

#[test]
fn what_cannot_be_moved_now_is_left_alone() {
    let mut bench = Bench::new();
    let opening = bench.accept();
    let (connecting, _) = bench.dial();
    let forwarding = bench.pair();
    assert_eq!((bench.suspend(opening), bench.suspend(connecting)), (None, None));
    let nobody = Key { slot: 99, ..opening };
    assert_eq!(bench.suspend(nobody), None);
    let mut of = Vec::new();
    bench.act(|proxy, cx| {
        let movable = |frontend| {
            assert_eq!(frontend, FrontendId(0));
            false
        };
        of.push(proxy.suspend(forwarding.slot, &movable, cx));
    });
    assert_eq!(of, [false]);
    bench.suspend(forwarding).unwrap();
    assert_eq!(bench.suspend(forwarding), None, "it is on its way");
    bench.act(|proxy, cx| proxy.stop(cx));
    let joining = bench.proxy.table.keys();
    assert!(joining.into_iter().all(|key| bench.suspend(key).is_none()));
}

fn routed() -> Bench {
    let rules =
        PrereadRules { trusted: vec!["127.0.0.0/8".parse().unwrap()], ..PrereadRules::default() };
    Bench::with(settings(), vec![upstream(|_| {})], rules)
}

/// A client that has to send a header first.
fn client() -> (std::net::TcpStream, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0.into())
}

const HEADER: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";

#[test]
fn a_client_that_has_said_nothing_moves_and_one_in_the_middle_does_not() {
    let (mut bench, mut other) = (routed(), routed());
    let (_client, socket) = client();
    let key = bench.adopt_socket(socket)[0].0;
    bench.now += Duration::from_millis(600);
    assert_eq!(bench.suspend(key).unwrap(), [(Client, RECEIVE)]);
    bench.on(key, Client, cancelled());
    let suspended = bench.taken();
    let (key, asked) = other.resume_told(suspended);
    assert_eq!(asked, [(Client, ONCE)]);
    // What comes with the cancel: it stays.
    other.suspend(key).unwrap();
    assert_eq!(other.last_input(key, Client, &HEADER[..9]), [(Client, all())]);
    assert_eq!(other.proxy.suspending(), 0);
    assert_eq!(other.suspend(key), None);
    let asked = other.input(key, Client, &HEADER[9..]);
    assert_eq!(asked, [(Backend, Open)]);
    assert_eq!(
        other.proxy.table.get(key).unwrap().detail.as_ref().unwrap().client.unwrap().port(),
        1
    );
}

#[test]
fn whose_backend_is_not_known_there_has_a_place_at_it_and_whose_upstream_is_not_comes_back() {
    let elsewhere = upstream(|config| config.backends = vec!["127.0.0.9:9".parse().unwrap()]);
    let mut other = Bench::with(settings(), vec![elsewhere], PrereadRules::default());
    let mut bench = Bench::new();
    let key = bench.pair();
    let suspended = bench.suspended(key);
    let (key, _) = other.resume_told(suspended);
    assert_eq!(other.leased(), 1);
    let now = other.millis();
    assert_eq!(other.proxy.listed(key.slot, now).unwrap().backend.as_deref(), Some("127.0.0.1:1"));
    other.input(key, Client, b"never read");
    other.act(|proxy, cx| proxy.stop(cx));
    for end in End::BOTH {
        other.receive_fails(key, end, Errno::ECANCELED);
    }
    other.on(key, Backend, unsent());
    other.all_ended(Counter::ClosedByStop);
    // An upstream of another name is another one.
    let named = upstream(|config| config.name = "another".into());
    let mut other = Bench::with(settings(), vec![named], PrereadRules::default());
    let key = bench.pair();
    let suspended = bench.suspended(key);
    let before = record(&suspended).clone();
    let version = other.version;
    let mut back = None;
    other.act(|proxy, cx| back = proxy.resume(suspended, version, cx).err());
    let back = back.expect("it makes no sense there");
    assert_eq!((record(&back), back.sockets.len()), (&before, 2));
    assert_eq!((bench.leased(), bench.limit.open()), (1, 1));
    bench.resume(back);
}

#[test]
fn a_receive_without_a_buffer_does_not_hold_it_up() {
    let mut bench = Bench::new();
    let key = bench.pair();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.take()).collect();
    bench.receive_fails(key, Client, Errno::ENOBUFS);
    assert_eq!(bench.suspend(key).unwrap(), [(Backend, RECEIVE)]);
    bench.receive_fails(key, Backend, Errno::ENOBUFS);
    let suspended = bench.taken();
    held.into_iter().for_each(|buffer| bench.pool.recycle(buffer));
    // Who asks again for one that has gone asks for nothing.
    assert_eq!(bench.pass(1), []);
    let (_, asked) = bench.resume(suspended);
    assert_eq!(asked, [(Client, ONCE), (Backend, all())]);
}

/// The kernel has told the cancelled send of a reset, which did not say so; what a receive finds then is no FIN.
#[test]
fn a_reset_that_only_a_cancelled_send_has_seen_is_no_end() {
    let mut bench = Bench::new();
    let (peer, socket) = client();
    let key = bench.adopt_socket(socket)[0].0;
    bench.opened(key);
    bench.on(key, Backend, Event::Connected(Ok(())));
    bench.input(key, Backend, b"abcdef");
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    bench.suspend(key).unwrap();
    bench.on(key, Backend, cancelled());
    bench.fin(key, Client);
    assert_eq!(operations(bench.sent(key, Client, 2)), [Reset, Reset]);
    bench.all_ended(Counter::ClosedByReset);
}
