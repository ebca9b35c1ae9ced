//! Slow clients: how long a request may take, how slowly an answer may be taken, and how such a connection ends.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::service::http::Http;

/// How late a deadline may be noticed: two ticks of the wheel.
const LATE_MS: u64 = 70;

/// A head within 700 ms; 100 bytes a second after 900 ms.
const LIMITED: RequestLimits = RequestLimits {
    header_timeout: Some(Duration::from_millis(700)),
    min_rate: NonZeroU32::new(100),
    grace: Duration::from_millis(900),
};

const TIMED_OUT: &[u8] = b"408";

fn with(limits: RequestLimits, script: Script) -> Bench {
    let mut bench = Bench::new(script);
    let mut settings = settings(Arc::clone(&bench.script));
    settings.timeouts.requests = limits;
    bench.limit = Arc::clone(&settings.limit);
    bench.version = bench.worker.publish(Arc::new(settings)).unwrap();
    bench
}

/// The first letter says what has come: the beginning of a message, more of it, a whole one. More counts as progress.
fn letters(input: &Input<'_>, outbox: &mut Outbox) -> Action {
    match input.bytes()[0] {
        b'b' => Action::Begin,
        b'a' => Action::Await,
        b'w' => {
            outbox.send_static(b"answer");
            Action::Continue
        }
        _ => Action::Continue,
    }
}

fn head() -> Script {
    Script {
        data: letters,
        pending: || Pending::Head,
        overdue: |outbox| outbox.send_static(TIMED_OUT),
        ..Script::default()
    }
}

fn body(pending: fn() -> Pending) -> Script {
    Script { pending, ..head() }
}

/// Nothing happens for `millis`, looking every now and then; what does right after.
#[track_caller]
fn expires(bench: &mut Bench, key: Key, millis: u64) -> Vec<Asked> {
    for step in [millis / 2, millis - millis / 2 - 1] {
        assert_eq!(bench.pass(step), []);
    }
    let asked = bench.pass(1 + LATE_MS);
    assert!(asked.iter().all(|(other, _)| *other == key), "{asked:?}");
    asked.into_iter().map(|(_, asked)| asked).collect()
}

/// It was told that it is too late; it lingers and ends.
#[track_caller]
fn ends_with_a_word(bench: &mut Bench, key: Key, reason: CloseReason) {
    assert_eq!(bench.sent(key, TIMED_OUT.len()), [shut(Shutdown::Write)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(reason);
}

#[test]
fn a_head_has_to_be_whole_in_time_however_much_comes() {
    let mut bench = with(LIMITED, head());
    let key = bench.connect();
    bench.pass(600);
    bench.input(key, true, b"begins");
    for _ in 0..6 {
        assert_eq!(bench.pass(100), []);
        bench.input(key, true, b"again");
    }
    assert_eq!(expires(&mut bench, key, 100), [Send(TIMED_OUT.to_vec())]);
    ends_with_a_word(&mut bench, key, CloseReason::HeaderTimeout);
    assert_eq!(bench.count(Counter::ClosedByHeaderTimeout), 1);
}

/// It is told once, however long it goes on.
#[test]
fn who_goes_on_after_the_word_is_closed() {
    let mut bench = with(LIMITED, head());
    let (key, _) = bench.connect_with(b"begins");
    assert_eq!(expires(&mut bench, key, 700), [Send(TIMED_OUT.to_vec())]);
    bench.input(key, true, b"again");
    assert_eq!(bench.sent(key, TIMED_OUT.len()), [shut(Shutdown::Write)]);
    bench.input(key, true, b"again");
    assert_eq!(expires(&mut bench, key, 500), [shut(Shutdown::Both)]);
    assert_eq!(bench.end(key), [Close]);
    bench.ended(CloseReason::HeaderTimeout);
}

/// Each message has its own time, and one that has come leaves nothing behind.
#[test]
fn a_head_counts_from_the_beginning_of_its_own_message() {
    static PENDING: AtomicU64 = AtomicU64::new(0);
    let pending =
        || if PENDING.load(Ordering::Relaxed) > 0 { Pending::Head } else { Pending::Nothing };
    let mut bench = with(LIMITED, Script { pending, ..head() });
    let key = bench.connect();
    for _ in 0..3 {
        PENDING.store(1, Ordering::Relaxed);
        bench.input(key, true, b"begins");
        assert_eq!(bench.pass(650), []);
        assert_eq!(bench.input(key, true, b"whole"), [Send(b"answer".to_vec())]);
        PENDING.store(0, Ordering::Relaxed);
        bench.sent(key, 6);
        assert_eq!(bench.pass(2000), [], "it is idle, which it may be");
    }
    PENDING.store(1, Ordering::Relaxed);
    bench.input(key, true, b"begins");
    assert_eq!(expires(&mut bench, key, 700), [Send(TIMED_OUT.to_vec())]);
}

#[test]
fn the_shortest_deadline_ends_it() {
    let long = RequestLimits { header_timeout: Some(Duration::from_secs(60)), ..LIMITED };
    for limits in [long, RequestLimits { header_timeout: None, ..LIMITED }, RequestLimits::OFF] {
        let mut bench = with(limits, head());
        let (key, _) = bench.connect_with(b"begins");
        assert_eq!(expires(&mut bench, key, 3000), [shut(Shutdown::Both)]);
        bench.end(key);
        bench.ended(CloseReason::IdleTimeout);
    }
}

/// 900 ms, and 10 ms for each byte, whenever they come.
#[test]
fn a_body_may_take_as_long_as_its_bytes_are_worth() {
    static BYTES: AtomicU64 = AtomicU64::new(0);
    let pending = || Pending::Body { bytes: BYTES.load(Ordering::Relaxed) };
    for bursts in [1, 10] {
        BYTES.store(0, Ordering::Relaxed);
        let mut bench = with(LIMITED, body(pending));
        let (key, _) = bench.connect_with(b"begins");
        let start = bench.now;
        for _ in 0..bursts {
            assert_eq!(bench.pass(850), []);
            BYTES.fetch_add(85, Ordering::Relaxed);
            bench.input(key, true, b"more");
        }
        let left = 900 + 850 * bursts - (bench.now - start).as_millis() as u64;
        assert_eq!(expires(&mut bench, key, left), [Send(TIMED_OUT.to_vec())], "{bursts}");
        ends_with_a_word(&mut bench, key, CloseReason::SlowBody);
        assert_eq!(bench.count(Counter::ClosedBySlowBody), 1);
    }
}

/// What is behind the rate is cut even if something comes every now and then, which is enough for the idle deadline.
#[test]
fn a_body_that_drips_is_slow() {
    let mut bench = with(LIMITED, body(|| Pending::Body { bytes: 5 }));
    let (key, _) = bench.connect_with(b"begins");
    for _ in 0..9 {
        assert_eq!(bench.pass(100), []);
        bench.input(key, true, b"more");
    }
    assert_eq!(expires(&mut bench, key, 50), [Send(TIMED_OUT.to_vec())]);
    ends_with_a_word(&mut bench, key, CloseReason::SlowBody);
}

/// More bytes than there are milliseconds until the clock wraps.
#[test]
fn no_count_of_bytes_is_too_large() {
    let mut bench = with(LIMITED, body(|| Pending::Body { bytes: u64::MAX }));
    let (key, _) = bench.connect_with(b"begins");
    for _ in 0..20 {
        assert_eq!(bench.pass(1000), []);
        bench.input(key, true, b"more");
    }
}

#[test]
fn a_service_without_a_word_or_with_a_panic_costs_the_connection() {
    let silent: (fn(&mut Outbox), _) = (|_| {}, CloseReason::HeaderTimeout);
    let panics: (fn(&mut Outbox), _) =
        (|_| panic!("as the test wants"), CloseReason::ServicePanicked);
    for (overdue, reason) in [silent, panics] {
        let mut bench = with(LIMITED, Script { overdue, ..head() });
        let (key, _) = bench.connect_with(b"begins");
        assert_eq!(expires(&mut bench, key, 700), [shut(Shutdown::Both)]);
        assert_eq!(bench.end(key), [Close]);
        let told: Vec<_> = bench.told().into_iter().map(|(_, reason)| reason).collect();
        // A session that has panicked is not told anything.
        assert_eq!(told.is_empty(), reason == CloseReason::ServicePanicked);
        assert_eq!(bench.count(crate::worker::close::counter(reason)), 1);
        bench.nothing_left();
    }
}

#[test]
fn what_cannot_be_asked_has_the_other_deadlines() {
    let mut bench = with(LIMITED, Script { pending: || panic!("as the test wants"), ..head() });
    let (key, _) = bench.connect_with(b"begins");
    assert_eq!(expires(&mut bench, key, 3000), [shut(Shutdown::Both)]);
    bench.end(key);
    bench.ended(CloseReason::IdleTimeout);
}

/// While something waits to be taken, it is the answer that is judged; behind it the request goes on.
#[test]
fn a_request_waits_for_the_answer_before_it() {
    let mut bench = with(LIMITED, head());
    let (key, _) = bench.connect_with(b"whole");
    assert_eq!(bench.pass(100), []);
    bench.input(key, true, b"begins");
    assert_eq!(bench.pass(1000), [], "it is being sent to");
    bench.sent(key, 6);
    assert_eq!(bench.pass(LATE_MS + 700), [(key, Send(TIMED_OUT.to_vec()))]);
}

/// One with a socket whose peer takes what the test says.
struct Reader {
    bench: Bench,
    key: Key,
    peer: TcpStream,
}

const ANSWER: &[u8] = &[b'x'; 1000];

impl Reader {
    fn new(limits: RequestLimits) -> Self {
        let data = |_: &Input<'_>, outbox: &mut Outbox| {
            outbox.send_static(ANSWER);
            Action::Continue
        };
        let mut bench = with(limits, Script { data, ..Script::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let [(key, ONCE)] = bench.adopt_socket(socket.into())[..] else { panic!("no receive") };
        assert_eq!(bench.input(key, false, b"?")[0], Send(ANSWER.to_vec()));
        Self { bench, key, peer }
    }

    /// The worker is told that some of the answer has gone, as far as the kernel has room.
    fn takes(&mut self, bytes: usize) {
        let asked = self.bench.sent(self.key, bytes);
        assert!(matches!(asked[..], [Send(_)]), "{asked:?}");
    }

    #[track_caller]
    fn goes_on(&mut self, millis: u64) {
        assert_eq!(self.bench.pass(millis), []);
    }

    #[track_caller]
    fn ends(&mut self, millis: u64, reason: CloseReason) {
        let asked = expires(&mut self.bench, self.key, millis);
        assert_eq!(asked, [CancelReceive, CancelSend]);
        assert_eq!(self.bench.send_fails(self.key, Errno::ECANCELED), []);
        // The kernel drops what it still has for it.
        assert_eq!(self.bench.receive_fails(self.key, Errno::ECANCELED), [Asked::Reset]);
        self.bench.ended(reason);
    }
}

/// Looks come every 700 ms; from the first one on it has 900 ms and 10 for each byte.
#[test]
fn an_answer_that_is_taken_too_slowly() {
    let mut reader = Reader::new(LIMITED);
    reader.goes_on(700 + LATE_MS);
    let first = reader.bench.now;
    for _ in 0..4 {
        reader.goes_on(250);
        reader.takes(10);
    }
    let left = 900 + 400 - (reader.bench.now - first).as_millis() as u64;
    reader.ends(left, CloseReason::SlowRead);
    assert_eq!(reader.bench.count(Counter::ClosedBySlowRead), 1);
}

#[test]
fn an_answer_that_is_taken_at_the_rate_may_take_its_time() {
    let mut reader = Reader::new(LIMITED);
    for _ in 0..9 {
        reader.goes_on(900);
        reader.takes(95);
    }
    reader.bench.sent(reader.key, 1000 - 9 * 95);
    assert_eq!(reader.bench.pass(1000), []);
    assert!(reader.bench.worker.takings.is_empty(), "nothing is left of what is over");
    // Idle since the send.
    assert_eq!(expires(&mut reader.bench, reader.key, 2000), [shut(Shutdown::Both)]);
}

/// Bytes that the kernel has are not taken, and bytes that the peer takes of them are, though no send is through.
#[test]
fn what_the_kernel_holds_is_not_taken() {
    use std::io::Write;
    let mut reader = Reader::new(LIMITED);
    let key = reader.key;
    let socket = reader.bench.worker.table.get(key).unwrap().stream.socket.as_ref().unwrap();
    let mut kernel = TcpStream::from(socket.try_clone().unwrap());
    kernel.set_nonblocking(true).unwrap();
    while kernel.write(&[0; 65536]).is_ok() {}
    let queued = || crate::worker::slow::queued(&kernel.try_clone().unwrap().into());
    assert!(queued() > 0);
    reader.goes_on(700 + LATE_MS);
    // Reads until the kernel has got rid of something: it may tell of room late.
    let mut take = |bytes: u32| {
        let (before, mut part) = (queued(), [0; 4096]);
        while queued() + bytes > before {
            reader.peer.read_exact(&mut part).unwrap();
        }
    };
    // A long time's worth of bytes.
    take(10_000);
    for _ in 0..5 {
        assert_eq!(reader.bench.pass(700), []);
        assert_eq!(reader.bench.pass(700), []);
        take(1);
    }
}

/// All of the answer is with the kernel, and the connection looks idle.
#[test]
fn an_answer_in_the_kernel_alone_is_to_be_taken_too() {
    use std::io::Write;
    let patient = RequestLimits { grace: Duration::from_secs(60), ..LIMITED };
    for (takes_some, limits) in [(false, LIMITED), (false, patient), (true, LIMITED)] {
        let mut reader = Reader::new(limits);
        let key = reader.key;
        let socket = reader.bench.worker.table.get(key).unwrap().stream.socket.as_ref().unwrap();
        let mut kernel = TcpStream::from(socket.try_clone().unwrap());
        kernel.set_nonblocking(true).unwrap();
        while kernel.write(&[0; 65536]).is_ok() {}
        reader.bench.sent(key, ANSWER.len());
        reader.goes_on(700 + LATE_MS);
        if takes_some {
            // A byte is enough for the idle deadline, and all of it is enough for the rate.
            reader.peer.set_nonblocking(true).unwrap();
            let mut part = vec![0; 65536];
            let idle = |kernel: &TcpStream| {
                crate::worker::slow::queued(&kernel.try_clone().unwrap().into()) == 0
            };
            while !idle(&kernel) {
                let _ = reader.peer.read(&mut part);
            }
            reader.goes_on(700 + LATE_MS);
            assert!(reader.bench.worker.takings.is_empty());
            continue;
        }
        let (left, reason) = match limits == patient {
            true => (3000 - 700 - LATE_MS, CloseReason::IdleTimeout),
            false => (900, CloseReason::SlowRead),
        };
        assert_eq!(expires(&mut reader.bench, key, left), [shut(Shutdown::Both)]);
        assert_eq!(reader.bench.end(key), [Asked::Reset]);
        reader.bench.ended(reason);
    }
}

#[test]
fn who_takes_nothing_stalls_before_the_rate_says_so() {
    let mut reader = Reader::new(RequestLimits { grace: Duration::from_secs(60), ..LIMITED });
    reader.ends(2000, CloseReason::WriteStall);
}

#[test]
fn what_is_left_moves_with_it() {
    static BYTES: AtomicU64 = AtomicU64::new(0);
    let pending = || Pending::Body { bytes: BYTES.load(Ordering::Relaxed) };
    let mut bench = with(LIMITED, body(pending));
    let (key, _) = bench.connect_with(b"begins");
    bench.pass(400);
    let suspended = bench.moved(key);
    let mut to = with(LIMITED, body(pending));
    to.now += Duration::from_millis(5000);
    assert!(to.limit.admit());
    to.adopted += 1;
    let (key, _) = to.resume(suspended);
    assert_eq!(expires(&mut to, key, 500), [Send(TIMED_OUT.to_vec())]);
    ends_with_a_word(&mut to, key, CloseReason::SlowBody);
}

#[test]
fn what_it_has_taken_moves_with_it() {
    let mut reader = Reader::new(LIMITED);
    reader.goes_on(700 + LATE_MS);
    reader.takes(20);
    reader.goes_on(400);
    let Reader { mut bench, key, peer } = reader;
    bench.suspend(key);
    bench.receive_fails(key, Errno::ECANCELED);
    bench.send_fails(key, Errno::ECANCELED);
    let suspended = bench.taken();
    let mut to = with(LIMITED, Script::default());
    assert!(to.limit.admit());
    to.adopted += 1;
    let (key, _) = to.resume(suspended);
    let mut reader = Reader { bench: to, key, peer };
    reader.ends(900 + 200 - 400, CloseReason::SlowRead);
}

/// With the service that has them: what a client sees.
#[test]
fn http_says_408() {
    let service = Arc::new(Http::new(b""));
    let mut outbox = Outbox::default();
    let mut session = service.open(&mut (), &ConnectionInfo::new(0, &|| None));
    for (input, action, pending) in [
        ("\r\n", Action::Await, Pending::Nothing),
        ("GET / HTTP/1.1\r\nHost: a\r\n", Action::Begin, Pending::Head),
        ("X: y\r\n", Action::Await, Pending::Head),
        (
            "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab",
            Action::Begin,
            Pending::Body { bytes: 2 },
        ),
        ("cde", Action::Continue, Pending::Body { bytes: 5 }),
    ] {
        let did = service.data(&mut session, &mut (), &Input::new(input.as_bytes()), &mut outbox);
        assert_eq!((did, service.pending(&session)), (action, pending), "{input:?}");
    }
    outbox.clear();
    service.overdue(&mut session, &mut (), &mut outbox);
    let said = String::from_utf8(outbox.render(b"")).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 408 ") && said.contains("\r\nConnection: close\r\n"),
        "{said}"
    );
}
