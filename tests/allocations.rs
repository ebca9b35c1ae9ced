//! Once warm, the threads of a server allocate nothing, however many connections come and go; and the
//! answers of a service that is gone are freed.
//!
//! The allocator of this binary counts what threads with the names of a server's threads allocate
//! while a test measures; what the clients allocate does not matter. Of blocks of a few sizes it counts
//! how many there are, whoever has allocated them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use uring_acceptor::config::{Acceptors, Engine, ListenAddress};
use uring_acceptor::metrics::Counter;
use uring_acceptor::server::{Handle, Server, StartError};
use uring_acceptor::service::http::{Http, Session};
use uring_acceptor::service::{
    Action, ConnectionInfo, Echo, Input, Outbox, PartialMessage, Responder, Service,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static MEASURING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the last one, for the message.
static LAST_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Allocated blocks that hold a body of one of [`BODIES`] and no more than 1000 bytes besides. Nothing
/// else in this process has these sizes.
static BODY_BLOCKS: [AtomicIsize; 3] = [const { AtomicIsize::new(0) }; 3];
/// One that lies behind its head, one that lies apart, and one that is longer than the socket buffers
/// take, so that some of it is in flight for as long as nobody reads.
const BODIES: [usize; 3] = [50_000, 200 * 1024, 16 << 20];

/// One test measures at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Connections of a round, how many rounds at most, and how many connections at once.
const MEASURED: usize = 1000;
const ROUNDS: usize = 4;
const WAVE: usize = 20;
/// More at once than are measured at once, so that everything has grown.
const WARM_UP_WAVE: usize = 60;
const WARM_UP_WAVES: usize = 10;

/// How long anything that should happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

struct Counting;

impl Counting {
    fn note(bytes: usize) {
        if MEASURING.load(Ordering::Relaxed) && is_server_thread() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LAST_BYTES.store(bytes, Ordering::Relaxed);
        }
    }

    fn note_body(bytes: usize, change: isize) {
        for (body, blocks) in BODIES.into_iter().zip(&BODY_BLOCKS) {
            if (body..body + 1000).contains(&bytes) {
                blocks.fetch_add(change, Ordering::Relaxed);
            }
        }
    }
}

// SAFETY: everything is passed on to the system's allocator as it came; counting beforehand allocates
// nothing and does not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        Self::note_body(layout.size(), 1);
        // SAFETY: the caller's promises about `layout` are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        Self::note_body(layout.size(), 1);
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::note(bytes);
        Self::note_body(layout.size(), -1);
        Self::note_body(bytes, 1);
        // SAFETY: the pointer came from System, since all pointers of this allocator do.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::note_body(layout.size(), -1);
        // SAFETY: the pointer came from System, since all pointers of this allocator do.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Asks the kernel, since `std::thread::current` may itself allocate.
fn is_server_thread() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes to the buffer.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    result == 0 && (name.starts_with(b"worker-") || name.starts_with(b"acceptor-"))
}

/// Counts what the server's threads allocate meanwhile.
fn allocations(during: impl FnOnce()) -> usize {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    MEASURING.store(true, Ordering::Relaxed);
    during();
    MEASURING.store(false, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// A running server, alone in this process.
struct Bench {
    handle: Handle,
    address: SocketAddr,
    server: Option<Server>,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    /// `None`, and loudly so, where the engine is refused.
    fn start(service: impl Service, acceptors: Acceptors, engine: Engine) -> Option<Self> {
        let alone = alone();
        let builder = Server::builder(service).listen("127.0.0.1:0".parse().unwrap());
        let builder = builder.process(|process| {
            process.engine = engine;
            process.threads.workers = NonZeroUsize::new(1);
            process.threads.acceptors = acceptors;
            process.max_connections = NonZeroUsize::new(500);
        });
        let server = match builder.start() {
            Err(StartError::Refused(refusal)) => {
                // Past the capture of the test runner.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {refusal}");
                return None;
            }
            started => started.unwrap(),
        };
        let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
        Some(Self { handle: server.handle(), address, server: Some(server), _alone: alone })
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        // What is written in pieces would otherwise wait for the delayed acknowledgement of the first, 40 ms.
        client.set_nodelay(true).unwrap();
        client
    }

    /// So many connections at once, each of which lives as `life` says.
    fn wave(&self, count: usize, life: fn(&mut TcpStream)) {
        let mut clients: Vec<_> = (0..count).map(|_| self.connect()).collect();
        clients.iter_mut().for_each(life);
    }

    /// Waits until the worker has closed every connection.
    fn becomes_idle(&self) {
        let deadline = Instant::now() + SOON;
        while self.handle.statistics().open > 0 {
            assert!(Instant::now() < deadline, "connections are left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A queue may still grow after the warm-up, when a busy machine lets more come together than
    /// ever before. It does so a few times in all, so one of the rounds has to be without.
    #[track_caller]
    fn allocates_nothing(&self, life: fn(&mut TcpStream)) {
        (0..WARM_UP_WAVES).for_each(|_| self.wave(WARM_UP_WAVE, life));
        self.becomes_idle();
        let mut counts = Vec::new();
        while counts.last() != Some(&0) {
            let last = LAST_BYTES.load(Ordering::Relaxed);
            assert!(counts.len() < ROUNDS, "{counts:?} allocations, the last of {last} bytes");
            counts.push(self.round(life));
        }
    }

    fn round(&self, life: fn(&mut TcpStream)) -> usize {
        let before = self.handle.counter(Counter::Accepted);
        let count = allocations(|| {
            (0..MEASURED / WAVE / 2).for_each(|_| self.wave(WAVE, life));
            (0..MEASURED / 2).for_each(|_| self.wave(1, life));
            self.becomes_idle();
        });
        assert_eq!(self.handle.counter(Counter::Accepted) - before, MEASURED as u64);
        count
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.server.take().map(Server::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "{ended:?}");
    }
}

/// Everything that comes until the FIN, into a buffer that is large enough. A reset counts as one: a
/// server that closes on unread input sends it.
fn read_to_end(client: &mut TcpStream) -> usize {
    let (mut buffer, mut total) = ([0; 4096], 0);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return total,
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Connect, request, response, and the client closes.
fn echo_once(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(client), 5);
}

/// Several exchanges on one connection, larger than a receive buffer.
fn echo_often(client: &mut TcpStream) {
    let mut answer = [0; 20_000];
    for round in 0..5 {
        let question = [round; 20_000];
        client.write_all(&question).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert!(question == answer);
    }
}

/// One request, and the server closes.
fn http_once(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(client) > 0);
}

/// Requests with bodies, one of which comes behind its head.
fn http_bodies(client: &mut TcpStream) {
    for connection in ["keep-alive", "close"] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: {connection}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(200));
        client.write_all(b"abc").unwrap();
    }
    assert!(read_to_end(client) > 0);
}

/// Pipelined requests, then one refusal, after which the server lingers.
fn http_refused(client: &mut TcpStream) {
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
    client.write_all(requests.as_bytes()).unwrap();
    client.write_all(b"nonsense\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(client) > 0);
}

#[test]
fn the_allocations_of_a_server_thread_are_counted() {
    let _alone = alone();
    let allocate = || drop(std::hint::black_box(Box::new([0_u8; 100])));
    let count = |name: &str| {
        let thread = || std::thread::Builder::new().name(name.to_owned());
        allocations(|| thread().spawn(allocate).unwrap().join().unwrap())
    };
    assert!(count("worker-7") > 0 && count("acceptor-0") > 0);
    assert_eq!((count("client"), allocations(allocate)), (0, 0));
}

/// What a thread of a server allocates in these receives.
fn allocated_for_lines(receives: &'static [&'static [u8]]) -> usize {
    let feed = move || {
        let mut partial = PartialMessage::default();
        let see = |line: &[u8]| match std::hint::black_box(line) {
            b"quit" => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        allocations(|| {
            for receive in receives {
                assert!(partial.lines(receive, 100, see).is_ok());
            }
            assert!(partial.is_empty());
        })
    };
    let thread = std::thread::Builder::new().name("worker-0".into());
    thread.spawn(feed).unwrap().join().unwrap()
}

#[test]
fn messages_that_lie_whole_in_a_receive_allocate_nothing() {
    let _alone = alone();
    assert_eq!(allocated_for_lines(&[b"one\ntwo\r\n", b"\n", b"three\nquit\n"]), 0);
    assert!(allocated_for_lines(&[b"one\nt", b"wo\n"]) > 0);
}

const ONE: Acceptors = Acceptors::Dedicated(NonZeroUsize::MIN);

/// Holds that connections of these kinds allocate nothing, on each engine.
fn nothing_is_allocated<S: Service>(
    service: fn() -> S,
    acceptors: Acceptors,
    lives: &[fn(&mut TcpStream)],
) {
    for engine in [Engine::Uring, Engine::Epoll] {
        let Some(bench) = Bench::start(service(), acceptors, engine) else { continue };
        lives.iter().for_each(|life| bench.allocates_nothing(*life));
    }
}

#[test]
fn echo_with_its_acceptor_on_the_same_thread() {
    nothing_is_allocated(|| Echo, Acceptors::Inline, &[echo_once, echo_often]);
}

#[test]
fn echo_with_an_acceptor_of_its_own() {
    nothing_is_allocated(|| Echo, ONE, &[echo_once, echo_often]);
}

#[test]
fn http_with_its_acceptor_on_the_same_thread() {
    nothing_is_allocated(
        || Http::new(b"hello"),
        Acceptors::Inline,
        &[http_once, http_bodies, http_refused],
    );
}

#[test]
fn http_with_an_acceptor_of_its_own() {
    nothing_is_allocated(|| Http::new(b"hello"), ONE, &[http_once, http_bodies, http_refused]);
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn body_blocks(body: usize) -> isize {
    BODY_BLOCKS[body].load(Ordering::Relaxed)
}

#[test]
fn a_service_that_is_dropped_leaves_no_answer() {
    let _alone = alone();
    for index in [0, 1] {
        let body = vec![b'x'; BODIES[index]];
        let before = body_blocks(index);
        let one = Http::new(&body);
        assert!(body_blocks(index) > before, "its answers are counted");
        drop(one);
        (0..1000).for_each(|_| drop(Http::new(&body)));
        assert_eq!(body_blocks(index), before, "with a body of {} bytes", body.len());
    }
}

/// An http service that can be dropped while its connections go on.
struct Droppable(Arc<RwLock<Option<Http>>>);

impl Responder for Droppable {
    type Session = Session;

    fn name(&self) -> &str {
        "droppable"
    }

    fn open(&self, _: &ConnectionInfo<'_>) -> Session {
        Session::default()
    }

    fn data(&self, session: &mut Session, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        match &*self.0.read().unwrap() {
            Some(http) => Responder::data(http, session, input, outbox),
            None => Action::Abort,
        }
    }
}

#[test]
fn answers_outlive_their_service_until_the_last_peer_has_read_them() {
    let body: Vec<u8> = (0..BODIES[2]).map(|index| (index % 251) as u8).collect();
    for (engine, connection) in [
        (Engine::Uring, "keep-alive"),
        (Engine::Uring, "close"),
        (Engine::Epoll, "keep-alive"),
        (Engine::Epoll, "close"),
    ] {
        let http = Arc::new(RwLock::new(None));
        let service = Droppable(Arc::clone(&http));
        let Some(bench) = Bench::start(service, Acceptors::Inline, engine) else { continue };
        let before = body_blocks(2);
        *http.write().unwrap() = Some(Http::new(&body));
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
        let mut clients = [bench.connect(), bench.connect()];
        for client in &mut clients {
            client.write_all(request.as_bytes()).unwrap();
            // Then it is on its way, and much of it cannot be sent yet.
            client.read_exact(&mut [0]).unwrap();
        }
        *http.write().unwrap() = None;
        assert_eq!(body_blocks(2), before + 1, "only the body that is being sent is left");
        for mut client in clients {
            assert_eq!(body_blocks(2), before + 1, "freed before it was sent");
            expect_body(&mut client, &body);
        }
        let deadline = Instant::now() + SOON;
        while body_blocks(2) > before {
            assert!(Instant::now() < deadline, "{engine:?} keeps an answer that was sent");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads what is left of a head, and the body.
#[track_caller]
fn expect_body(client: &mut TcpStream, body: &[u8]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut part = [0; 4096];
    for expected in body.chunks(part.len()) {
        let part = &mut part[..expected.len()];
        client.read_exact(part).unwrap();
        assert!(part == expected);
    }
}
