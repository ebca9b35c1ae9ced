//! Slow clients of http: heads, bodies and reads that take their time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::client::{IO_TIMEOUT, connect, connect_with_small_buffers, read_to_the_end};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};

/// What the tests set, and what a timer may round off.
const DEADLINE: Duration = Duration::from_millis(400);
const ROUNDING: Duration = Duration::from_millis(50);

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";

/// A server with other deadlines that cannot stand in for the one under test.
#[track_caller]
fn start(arguments: &[&str]) -> Server {
    let patient = [
        "http",
        "--first-byte-timeout",
        "60s",
        "--idle-timeout",
        "60s",
        "--write-stall-timeout",
        "60s",
    ];
    Server::start(&[&patient, arguments].concat())
}

/// Sends `piece` again and again until the server has ended the connection; all that it said.
#[track_caller]
fn drip(mut stream: &TcpStream, piece: &[u8]) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
    let (mut said, start) = (Vec::new(), Instant::now());
    loop {
        assert!(start.elapsed() < SOON, "the server bears it");
        let _ = stream.write_all(piece);
        match stream.read_to_end(&mut said) {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    String::from_utf8(said).expect("it is text")
}

#[track_caller]
fn expect_408(said: &str, start: Instant) {
    let after = start.elapsed();
    assert!(after + ROUNDING >= DEADLINE, "it ended after {after:?}, before its deadline");
    assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{said}");
    assert!(said.contains("\r\nConnection: close\r\n"), "{said}");
}

#[track_caller]
fn expect_answer(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    expect_hello(stream);
}

#[track_caller]
fn expect_hello(stream: &mut TcpStream) {
    let mut answer = vec![0; HELLO.len()];
    stream.read_exact(&mut answer).expect("an answer comes");
    assert_eq!(String::from_utf8_lossy(&answer), HELLO);
}

const HELLO: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";

#[test]
fn a_head_that_is_not_whole_in_time() {
    let server = start(&["--header-timeout", "400ms"]);
    let mut stream = connect(server.address());
    // What came before does not count, nor does the time between.
    expect_answer(&mut stream);
    thread::sleep(2 * DEADLINE);
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").expect("it is open");
    expect_408(&drip(&stream, b"X: y\r\n"), start);
    server.stop();
}

#[test]
fn a_body_that_comes_below_the_rate() {
    let server = start(&["--min-rate", "10000", "--min-rate-grace", "400ms"]);
    let mut stream = connect(server.address());
    let start = Instant::now();
    stream.write_all(HEAD.as_bytes()).expect("it is open");
    expect_408(&drip(&stream, b"slow"), start);
    server.stop();
}

/// A burst now and then is enough, if it is worth the time until the next one.
#[test]
fn a_body_in_bursts_within_the_rate() {
    let server = start(&["--min-rate", "10000", "--min-rate-grace", "1s"]);
    let mut stream = connect(server.address());
    stream.write_all(HEAD.as_bytes()).expect("it is open");
    for _ in 0..5 {
        stream.write_all(&[b'b'; 20_000]).expect("it is open");
        thread::sleep(DEADLINE);
    }
    expect_hello(&mut stream);
    server.stop();
}

#[test]
fn an_answer_that_is_taken_below_the_rate() {
    let folder = Folder::new();
    let log = folder.file("log");
    let rate = ["--min-rate", "1000000", "--min-rate-grace", "400ms"];
    let body = ["--body-size", "33554432", "--access-log", &log];
    let server = start(&[&rate[..], &body].concat());
    // A quick one takes all of it.
    let mut quick = connect(server.address());
    quick.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
    assert!(read_to_the_end(&quick).expect("all comes") > 33_554_432);

    let mut slow = connect_with_small_buffers(server.address());
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    let start = Instant::now();
    let mut piece = [0; 2000];
    while slow.read_exact(&mut piece).is_ok() {
        assert!(start.elapsed() < SOON, "the server bears it");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() + ROUNDING >= DEADLINE, "it ended before its deadline");
    eventually(SOON, "it is logged", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("ended=slow-read"))
    });
    server.stop();
}

/// A reload sets other limits for connections to come; open ones keep theirs.
#[test]
fn a_reload_changes_the_limits() {
    let folder = Folder::new();
    let file = folder.file("main.toml");
    let write = |timeout: &str| {
        let frontend = "[frontend.web]\nlisten = \"127.0.0.1:0\"\nservice = \"http\"\n";
        let text = format!("{frontend}header_timeout = \"{timeout}\"\n");
        fs::write(&file, text).expect("the file is written");
    };
    write("off");
    let server = Launch::from_file(&["run", "--config", &file], 1).start();
    let mut open = connect(server.address());
    expect_answer(&mut open);
    write("400ms");
    server.signal(libc::SIGHUP);
    eventually(SOON, "the limit is in force", || {
        let stream = connect(server.address());
        let mut slow = &stream;
        slow.write_all(b"GET / ").expect("it is open");
        slow.set_read_timeout(Some(2 * DEADLINE)).expect("not zero");
        slow.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0)
    });
    assert!(server.stderr().contains("header_timeout off -> 400ms"), "{}", server.stderr());
    open.write_all(b"GET / HTTP/1.1\r\n").expect("it is open");
    thread::sleep(2 * DEADLINE);
    open.write_all(b"Host: a\r\n\r\n").expect("it is open");
    expect_hello(&mut open);
    server.stop();
}

/// Kinds of slow clients, as slowhttptest has them.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Headers,
    Body,
    Range,
    Read,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Headers, Self::Body, Self::Range, Self::Read];

    /// How the server ends them.
    fn ended(self) -> &'static str {
        match self {
            Self::Headers => "header-timeout",
            Self::Body => "slow-body",
            // Answered as any other: ranges are ignored.
            Self::Range => "idle",
            Self::Read => "slow-read",
        }
    }

    fn opening(self) -> String {
        match self {
            Self::Headers => "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(),
            Self::Body => HEAD.to_owned(),
            Self::Range => {
                let ranges: String = (5..200).map(|end| format!(",5-{end}")).collect();
                format!("HEAD / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-{ranges}\r\n\r\n")
            }
            Self::Read => "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        }
    }

    fn drip(self) -> &'static [u8] {
        match self {
            Self::Headers => b"X: y\r\n",
            Self::Body => b"x",
            Self::Range | Self::Read => b"",
        }
    }
}

/// How often a slow client does something; a reader takes 320 bytes a second so.
const PACE: Duration = Duration::from_millis(100);

struct Slow {
    kind: Kind,
    stream: TcpStream,
    is_over: bool,
}

impl Slow {
    fn new(kind: Kind, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        if matches!(kind, Kind::Read) {
            socket.set_recv_buffer_size(2304).expect("SO_RCVBUF can be set");
        }
        socket.connect_timeout(&address.into(), IO_TIMEOUT).expect("it connects");
        let mut stream = TcpStream::from(socket);
        stream.write_all(kind.opening().as_bytes()).expect("it is open");
        stream.set_nonblocking(true).expect("it can");
        Self { kind, stream, is_over: false }
    }

    /// Does as little as it can.
    fn act(&mut self) {
        if self.is_over {
            return;
        }
        // The end of a reset connection is found by writing too.
        let broken = self.stream.write(self.kind.drip()).is_err_and(|error| {
            !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe)
        });
        // A reset is seen before what came ahead of it has been read.
        let broken = broken || self.stream.take_error().is_ok_and(|error| error.is_some());
        let mut few = [0; 32];
        let read = self.stream.read(&mut few);
        let is_blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        self.is_over = broken || read.as_ref().map_or_else(|e| !is_blocked(e), |&bytes| bytes == 0);
    }
}

/// Requests one after another, each on a connection of its own, until told to stop; how many.
fn good_requests(address: SocketAddr, body: usize, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
        let bytes = read_to_the_end(&stream).expect("the answer comes whole");
        assert!(bytes > body, "{bytes}");
        count += 1;
    }
    count
}

/// Ten thousand, as far as the limit on descriptors allows.
#[test]
fn slow_clients_of_all_kinds_end_by_their_deadlines_and_the_good_one_is_served() {
    const BODY_BYTES: usize = 500_000;
    let limit = uring_acceptor::sys::nofile().expect("there is one").soft;
    // Other tests have some too, at the same time.
    let each = (limit.saturating_sub(4000) / 4).min(2500) as usize;
    let folder = Folder::new();
    let log = folder.file("log");
    let limits = ["--header-timeout", "2s", "--min-rate", "5000", "--min-rate-grace", "2s"];
    let body = ["--body-size", "500000", "--access-log", &log];
    let arguments = ["http", "--first-byte-timeout", "60s", "--idle-timeout", "8s"];
    let server = Server::start(&[&arguments[..], &limits, &body].concat());
    let (address, stop) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let good = scope.spawn(|| good_requests(address, BODY_BYTES, &stop));
        let mut slow: Vec<Slow> =
            (0..each).flat_map(|_| Kind::ALL).map(|kind| Slow::new(kind, address)).collect();
        let start = Instant::now();
        while slow.iter().any(|it| !it.is_over) && start.elapsed() < Duration::from_secs(60) {
            let next = Instant::now() + PACE;
            slow.iter_mut().for_each(Slow::act);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        stop.store(true, Ordering::Relaxed);
        let left: Vec<_> = slow.iter().filter(|it| !it.is_over).map(|it| it.kind).collect();
        assert!(left.is_empty(), "{} are there still, such as {:?}", left.len(), left[0]);
        assert!(good.join().expect("each good request is answered") > 0);
    });
    let count = |log: &str, word: &str| log.matches(&format!("ended={word} ")).count();
    eventually(SOON, "all are logged", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        Kind::ALL.iter().all(|kind| count(&log, kind.ended()) == each)
    });
    server.stop();
}
