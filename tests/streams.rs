//! An answer that is far longer than memory may be, `Action::More` or a file, on both engines. `STREAM_MIB` says how long
//! (default 128).

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use uring_acceptor::config::{Engine, ListenAddress};
use uring_acceptor::server::Server;
use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder};

const MIB: usize = 1024 * 1024;

/// What one call writes: no divisor of anything, so that parts begin anywhere.
const PART: usize = 40_009;

/// How much memory the server may take beside what it has, whatever it sends.
const MEMORY_KIB: usize = 32 * 1024;

/// Answers "N\n" with N MiB of a pattern, and "?" with "!".
struct Streamer;

#[derive(Default)]
struct Session {
    next: usize,
    end: usize,
}

fn pattern(place: usize) -> u8 {
    (place % 251) as u8
}

impl Responder for Streamer {
    type Session = Session;

    fn name(&self) -> &str {
        "streamer"
    }

    fn open(&self, _: &ConnectionInfo<'_>) -> Session {
        Session::default()
    }

    fn data(&self, session: &mut Session, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let text = std::str::from_utf8(input.bytes()).unwrap();
        let Ok(length) = text.trim().parse::<usize>() else {
            outbox.write(b"!");
            return Action::Continue;
        };
        *session = Session { next: 0, end: length * MIB };
        self.writable(session, outbox)
    }

    fn writable(&self, session: &mut Session, outbox: &mut Outbox) -> Action {
        let end = session.end.min(session.next + PART);
        let part: Vec<u8> = (session.next..end).map(pattern).collect();
        outbox.write(&part);
        session.next = end;
        if end == session.end { Action::Continue } else { Action::More }
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client
}

/// Reads all of it, and holds that it is what it should be.
fn read_all(client: &mut TcpStream, length: usize) {
    read_from(client, (0, length));
}

/// The same behind what has been read.
fn read_from(client: &mut TcpStream, (mut place, length): (usize, usize)) {
    let mut buffer = vec![0; 256 * 1024];
    while place < length {
        let most = buffer.len().min(length - place);
        let count = client.read(&mut buffer[..most]).unwrap();
        assert!(count > 0, "it ends behind {place} bytes");
        let wrong = buffer[..count].iter().enumerate().find(|(at, it)| **it != pattern(place + at));
        assert_eq!(wrong, None, "behind {place} bytes");
        place += count;
    }
}

fn try_on(engine: Engine) {
    let length = std::env::var("STREAM_MIB").map_or(128, |text| text.parse().unwrap()) * MIB;
    let started = Server::builder(Streamer)
        .listen("127.0.0.1:0".parse().unwrap())
        .process(|process| {
            process.engine = engine;
            process.threads.workers = NonZeroUsize::new(1);
            // All of them are touched sooner or later.
            process.ring.buffers = NonZeroU32::new(256);
        })
        .start();
    let server = match started {
        Ok(server) => server,
        Err(error) if engine == Engine::Uring => return eprintln!("SKIPPED on io_uring: {error}"),
        Err(error) => panic!("{error}"),
    };
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    let ask = |text: String| {
        let mut client = connect(address);
        client.write_all(text.as_bytes()).unwrap();
        client
    };
    // Warm, and one that does not read.
    read_all(&mut ask("1\n".into()), MIB);
    let before = resident_kib();
    let mut stuck = ask(format!("{}\n", length / MIB));
    let mut client = ask(format!("{}\n", length / MIB));
    // Asked in the middle, answered behind it.
    client.read_exact(&mut [0]).unwrap();
    client.write_all(b"?").unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            read_from(&mut client, (1, length));
            client.read_exact(&mut [0]).unwrap();
        });
        while !reader.is_finished() {
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < MEMORY_KIB, "the server takes {grown} KiB");
            // Others are served meanwhile.
            let mut other = ask("?".into());
            other.read_exact(&mut [0]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        reader.join().unwrap();
    });
    // The one that was stuck has lost nothing.
    read_all(&mut stuck, 2 * MIB);
    drop((stuck, client));
    server.handle().shutdown();
    server.join().unwrap();
}

/// One after the other: memory is that of the process.
#[test]
fn an_answer_longer_than_memory_takes_little_of_it_on_both_engines() {
    try_on(Engine::Epoll);
    try_on(Engine::Uring);
}

/// Answers anything with a file, and what came behind it.
struct FileSender(Arc<File>, u64);

impl Responder for FileSender {
    type Session = ();

    fn name(&self) -> &str {
        "file-sender"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        outbox.file(&self.0, 0..self.1);
        outbox.write(input.bytes());
        Action::Continue
    }
}

/// A file with the pattern, which has no name any more.
fn file(length: usize) -> Arc<File> {
    let path = std::env::temp_dir().join(format!("streams-{}", std::process::id()));
    std::fs::write(&path, (0..length).map(pattern).collect::<Vec<u8>>()).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    Arc::new(file)
}

fn try_files_on(engine: Engine) {
    let length = 16 * MIB + 4711;
    let started = Server::builder(FileSender(file(length), length as u64))
        .listen("127.0.0.1:0".parse().unwrap())
        .process(|process| {
            process.engine = engine;
            process.threads.workers = NonZeroUsize::new(2);
            process.drain_timeout = Duration::from_millis(300);
        })
        .start();
    let server = match started {
        Ok(server) => server,
        Err(error) if engine == Engine::Uring => return eprintln!("SKIPPED on io_uring: {error}"),
        Err(error) => panic!("{error}"),
    };
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    // More of them than there are threads for files, half of which read late; and some that go in the middle.
    let mut clients: Vec<_> = (0..24).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"behind it").unwrap());
    for mut gone in clients.drain(16..) {
        gone.read_exact(&mut [0; 1000]).unwrap();
    }
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                if number % 2 == 0 {
                    thread::sleep(Duration::from_millis(300));
                }
                read_all(client, length);
                let mut behind = [0; 9];
                client.read_exact(&mut behind).unwrap();
                assert_eq!(&behind, b"behind it");
            });
        }
    });
    // It is cut by the end of the drain: a FIN would say that this was all.
    let mut cut = connect(address);
    cut.write_all(b"x").unwrap();
    cut.read_exact(&mut [0; 1000]).unwrap();
    server.handle().shutdown();
    server.join().unwrap();
    let end = cut.read_to_end(&mut Vec::new());
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn files_are_sent_on_both_engines_and_a_cut_is_seen() {
    try_files_on(Engine::Epoll);
    try_files_on(Engine::Uring);
}
