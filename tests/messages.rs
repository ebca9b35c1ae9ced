//! Messages between threads and sessions of several workers: none is lost, doubled or comes to another session, while
//! sessions come and go. `MESSAGES` says how many (default 300,000).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use uring_acceptor::config::{Engine, ListenAddress};
use uring_acceptor::server::Server;
use uring_acceptor::service::{
    Action, CloseReason, ConnectionInfo, Input, Mailbox, Outbox, SendError, Service, WorkerInfo,
};

const WORKERS: usize = 3;
const SENDERS: u64 = 3;
const CLIENTS: usize = 48;

/// How long what is on its way may take.
const SOON: Duration = Duration::from_secs(30);

/// From a sender to a session, the how many-th of those that went.
struct Letter {
    to: u64,
    sender: u64,
    number: u64,
}

/// Where a session is told something.
type Address = (u64, Mailbox<Letter>);

#[derive(Default)]
struct Figures {
    sent: AtomicU64,
    full: AtomicU64,
    delivered: AtomicU64,
    undelivered: AtomicU64,
    sessions: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// Those that are open.
    addresses: Mutex<Vec<Address>>,
}

#[derive(Clone, Default)]
struct Counting(Arc<Figures>);

struct Session {
    number: u64,
    /// The last from each sender.
    last: HashMap<u64, u64>,
    /// Sessions send, too: how many to each.
    sent: HashMap<u64, u64>,
}

impl Figures {
    /// Sends one to a session, and notes what came of it. True if it went.
    fn send(&self, (to, mailbox): &Address, sender: u64, number: u64) -> bool {
        // Before it can be delivered.
        self.sent.fetch_add(1, Ordering::SeqCst);
        let letter = Letter { to: *to, sender, number };
        let Err(error) = mailbox.send(letter) else { return true };
        self.sent.fetch_sub(1, Ordering::SeqCst);
        if matches!(error, SendError::Full(_)) {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        let letter = error.into_message();
        assert_eq!((letter.to, letter.number), (*to, number), "another one came back");
        false
    }

    fn is_settled(&self) -> bool {
        let arrived =
            self.delivered.load(Ordering::SeqCst) + self.undelivered.load(Ordering::SeqCst);
        arrived == self.sent.load(Ordering::SeqCst)
    }
}

impl Service for Counting {
    type Session = Session;
    type Message = Letter;
    type Local = ();

    const MESSAGES: usize = 1024;

    fn name(&self) -> &str {
        "counting"
    }

    fn local(&self, _: &WorkerInfo<'_, Letter>) {}

    fn open(&self, (): &mut (), connection: &ConnectionInfo<'_, Letter>) -> Session {
        let number = self.0.sessions.fetch_add(1, Ordering::Relaxed);
        self.0.addresses.lock().unwrap().push((number, connection.mailbox()));
        Session { number, last: HashMap::new(), sent: HashMap::new() }
    }

    /// Each byte is a letter to some session.
    fn data(
        &self,
        session: &mut Session,
        (): &mut (),
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        let addresses = self.0.addresses.lock().unwrap();
        for byte in input.bytes() {
            let address = &addresses[usize::from(*byte) % addresses.len()];
            let number = session.sent.entry(address.0).or_default();
            // Sessions have numbers behind those of the threads.
            *number += u64::from(self.0.send(address, SENDERS + session.number, *number + 1));
        }
        outbox.echo(0..input.bytes().len());
        Action::Continue
    }

    fn message(
        &self,
        session: &mut Session,
        (): &mut (),
        letter: Letter,
        _: &mut Outbox,
    ) -> Action {
        let last = session.last.entry(letter.sender).or_default();
        if letter.to != session.number || letter.number != *last + 1 {
            self.0.wrong.lock().unwrap().push(format!(
                "session {} got number {} of {} for session {}, behind {last}",
                session.number, letter.number, letter.sender, letter.to
            ));
        }
        *last = letter.number;
        self.0.delivered.fetch_add(1, Ordering::SeqCst);
        Action::Continue
    }

    fn undelivered(&self, (): &mut (), _: Letter) {
        self.0.undelivered.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self, session: Session, (): &mut (), _: CloseReason) {
        self.0.addresses.lock().unwrap().retain(|(number, _)| *number != session.number);
    }
}

/// Connects, has letters sent, and goes, again and again.
fn come_and_go(address: SocketAddr, is_over: &AtomicBool, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !is_over.load(Ordering::Relaxed) {
        let mut client = TcpStream::connect(address).unwrap();
        for _ in 0..rng.usize(1..40) {
            let bytes: Vec<u8> = (0..rng.usize(1..60)).map(|_| rng.u8(..)).collect();
            client.write_all(&bytes).unwrap();
            client.read_exact(&mut vec![0; bytes.len()]).unwrap();
        }
        thread::sleep(Duration::from_millis(rng.u64(0..20)));
    }
}

/// Sends to whoever is there until so many have gone.
fn send_to_all(figures: &Figures, sender: u64, count: u64) {
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    while figures.sent.load(Ordering::Relaxed) < count {
        let addresses = figures.addresses.lock().unwrap().clone();
        for address in &addresses {
            let number = numbers.entry(address.0).or_default();
            for _ in 0..20 {
                *number += u64::from(figures.send(address, sender, *number + 1));
            }
        }
        if addresses.is_empty() || figures.full.load(Ordering::Relaxed) > 0 {
            figures.full.store(0, Ordering::Relaxed);
            thread::yield_now();
        }
    }
}

fn try_on(engine: Engine) {
    let count = std::env::var("MESSAGES").map_or(300_000, |text| text.parse().unwrap());
    let service = Counting::default();
    let figures = Arc::clone(&service.0);
    let started = Server::builder(service)
        .listen("127.0.0.1:0".parse().unwrap())
        .process(|process| {
            process.engine = engine;
            process.threads.workers = NonZeroUsize::new(WORKERS);
        })
        .start();
    let server = match started {
        Ok(server) => server,
        Err(error) if engine == Engine::Uring => {
            return eprintln!("SKIPPED on io_uring: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| scope.spawn(move || come_and_go(address, is_over, seed as u64)))
            .collect();
        let figures = &figures;
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || send_to_all(figures, sender, count)))
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    let deadline = Instant::now() + SOON;
    while !figures.is_settled() {
        assert!(
            Instant::now() < deadline,
            "letters are lost: {:?}",
            (&figures.sent, &figures.delivered, &figures.undelivered)
        );
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(*figures.wrong.lock().unwrap(), [] as [String; 0]);
    assert!(figures.delivered.load(Ordering::SeqCst) > count / 2);
    assert!(figures.sessions.load(Ordering::Relaxed) > CLIENTS as u64, "nobody came again");
    server.handle().shutdown();
    server.join().unwrap();
}

#[test]
fn none_is_lost_or_comes_to_another_on_io_uring() {
    try_on(Engine::Uring);
}

#[test]
fn none_is_lost_or_comes_to_another_on_epoll() {
    try_on(Engine::Epoll);
}
