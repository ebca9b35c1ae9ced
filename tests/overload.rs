//! A service that takes long over each request, and more clients than it can serve: what each action does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::thread::sleep;
use std::time::{Duration, Instant};

use uring_acceptor::config::{Config, Engine, ListenAddress, OverloadAction, OverloadConfig};
use uring_acceptor::metrics::Counter;
use uring_acceptor::server::{ListenerStatus, Server, Verdict};
use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder};

/// What it takes for each byte of a request. Nobody else's CPU is burnt.
const WORK: Duration = Duration::from_millis(5);

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(60);

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

struct Slow;

impl Responder for Slow {
    type Session = ();

    fn name(&self) -> &str {
        "slow"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let bytes = input.bytes().len();
        sleep(WORK * bytes as u32);
        outbox.echo(0..bytes.min(1));
        Action::Close
    }
}

fn config(engine: Engine, overload: OverloadConfig) -> Config {
    let mut config = Config::default();
    config.frontends[0].listen = vec!["127.0.0.1:0".parse().expect("it is an address")];
    config.frontends[0].overload = overload;
    config.process.engine = engine;
    config.process.threads.workers = NonZeroUsize::new(1);
    config
}

/// A server with one worker.
fn server(engine: Engine, overload: OverloadConfig) -> (Server, SocketAddr) {
    let server = Server::start_with(&config(engine, overload), Slow).expect("it starts");
    let ListenAddress::Tcp(address) = server.addresses()[0] else { panic!("TCP") };
    (server, address)
}

fn action(action: OverloadAction) -> OverloadConfig {
    OverloadConfig { action, ..OverloadConfig::default() }
}

fn status(server: &Server) -> ListenerStatus {
    server.handle().watch_queues().remove(0)
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// How a client fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    Reset,
}

/// Clients that wait, each with its number, and how those have fared that do no longer, in that order.
#[derive(Default)]
struct Crowd {
    count: usize,
    waiting: Vec<(usize, TcpStream)>,
    ended: Vec<(usize, End)>,
}

impl Crowd {
    /// One more asks for something.
    fn come(&mut self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).expect("the queue is long");
        // One that is reset before it asks has been answered, too.
        let _ = stream.write_all(b"?");
        stream.set_nonblocking(true).expect("it can be set");
        self.waiting.push((self.count, stream));
        self.count += 1;
    }

    fn look(&mut self) {
        for (number, mut stream) in std::mem::take(&mut self.waiting) {
            match stream.read(&mut [0; 1]) {
                Ok(1) => self.ended.push((number, End::Answered)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting.push((number, stream));
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.ended.push((number, End::Reset));
                }
                other => panic!("a client saw {other:?}"),
            }
        }
    }

    /// Twice as many come as can be served, until that is so.
    #[track_caller]
    fn come_until(
        &mut self,
        address: SocketAddr,
        what: &str,
        mut is_so: impl FnMut(&Self) -> bool,
    ) {
        let deadline = Instant::now() + SOON;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}");
            self.come(address);
            sleep(WORK / 2);
            self.look();
        }
    }

    #[track_caller]
    fn wait_for_all(&mut self) {
        eventually("all have been served", || {
            self.look();
            self.waiting.is_empty()
        });
    }

    fn count(&self, end: End) -> usize {
        self.ended.iter().filter(|(_, it)| *it == end).count()
    }
}

#[test]
fn hold_tells_that_it_is_overloaded_and_serves_all() {
    for engine in ENGINES {
        let (server, address) = server(engine, OverloadConfig::default());
        assert_eq!(status(&server).verdict, Verdict::Healthy);
        let mut crowd = Crowd::default();
        crowd.come_until(address, "it is overloaded", |_| {
            status(&server).overloaded_since.is_some()
        });
        assert_eq!(status(&server).verdict, Verdict::Overloaded);
        crowd.wait_for_all();
        assert_eq!(crowd.count(End::Answered), crowd.count, "{engine:?}");
        eventually("it is no more", || status(&server).overloaded_since.is_none());
        let ListenerStatus { overloads, shed, .. } = status(&server);
        assert!(overloads >= 1 && shed == 0, "{overloads} {shed}");
        server.handle().stop();
    }
}

#[test]
fn shed_resets_some_and_serves_the_others() {
    for engine in ENGINES {
        let (server, address) = server(engine, action(OverloadAction::Shed));
        let mut crowd = Crowd::default();
        let enough = |crowd: &Crowd| crowd.count(End::Reset) >= 20;
        crowd.come_until(address, "some are reset", enough);
        crowd.wait_for_all();
        assert!(crowd.count(End::Answered) >= 20, "{engine:?}");
        let shed = server.handle().counter(Counter::ClosedByShed);
        assert_eq!((shed, status(&server).shed), (crowd.count(End::Reset) as u64, shed));
        // Once it is calm, whoever comes is served.
        eventually("it is no more", || status(&server).overloaded_since.is_none());
        let mut crowd = Crowd::default();
        crowd.come(address);
        crowd.wait_for_all();
        assert_eq!(crowd.count(End::Answered), 1);
        server.handle().stop();
    }
}

/// The queue before accept(2) stays in its order, and so do those that a thread has taken over: but who comes later is
/// answered before who is still in the inbox, and nobody is forgotten.
#[test]
fn lifo_answers_some_before_others_that_came_long_before() {
    const LATER: usize = 30;
    for engine in ENGINES {
        let (server, address) = server(engine, action(OverloadAction::Lifo));
        let mut crowd = Crowd::default();
        crowd.come_until(address, "the newest are first", |crowd| {
            let oldest = crowd.waiting.first().map(|(number, _)| *number);
            let newest = crowd.ended.iter().map(|(number, _)| *number).max();
            oldest.zip(newest).is_some_and(|(oldest, newest)| newest > oldest + LATER)
        });
        crowd.wait_for_all();
        assert_eq!(crowd.count(End::Answered), crowd.count, "{engine:?}");
        server.handle().stop();
    }
}

/// What a client does while the only worker is busy, and whether it is answered: where clients half-close, and where not.
#[test]
fn who_has_gone_while_it_waited_is_not_served() {
    type Act = fn(&mut TcpStream);
    let ends: Act = |client| client.shutdown(Shutdown::Write).expect("it is connected");
    let asks: Act = |client| client.write_all(b"?").expect("it is taken");
    let asks_and_ends: Act = |client| {
        client.write_all(b"?").expect("it is taken");
        client.shutdown(Shutdown::Write).expect("it is connected");
    };
    let table = [(ends, [true, true]), (asks, [false, false]), (asks_and_ends, [false, true])];
    for engine in ENGINES {
        for (act, dead) in table {
            for (half_close, dead) in [(true, dead[0]), (false, dead[1])] {
                let patience = Some(Duration::from_millis(50));
                let overload = OverloadConfig { patience, half_close, ..OverloadConfig::default() };
                let (server, address) = server(engine, overload);
                let is_dead = dies(&server, address, act);
                assert_eq!(is_dead, dead, "{engine:?}, half close: {half_close}");
                server.handle().stop();
            }
        }
    }
}

/// Whether a client that does this is not served once it has waited.
fn dies(server: &Server, address: SocketAddr, act: fn(&mut TcpStream)) -> bool {
    let handle = server.handle();
    let dead = || handle.counter(Counter::ClosedDeadOnArrival);
    // On a slow machine it may come too late to wait for long, or be there before the worker is busy.
    let deadline = Instant::now() + Duration::from_secs(2);
    while dead() == 0 && Instant::now() < deadline {
        let mut busy = TcpStream::connect(address).expect("it listens");
        busy.write_all(&[b'?'; 40]).expect("it is taken");
        let before = Instant::now();
        sleep(Duration::from_millis(20));
        let mut client = TcpStream::connect(address).expect("it listens");
        act(&mut client);
        let was_in_time = before.elapsed() < Duration::from_millis(100);
        busy.read_to_end(&mut Vec::new()).expect("it is answered");
        let mut answer = Vec::new();
        // What nobody has read of a request that is not served makes it end with a reset.
        let _ = client.read_to_end(&mut answer);
        if dead() > 0 {
            assert!(answer.is_empty(), "it was answered");
        } else if was_in_time && !answer.is_empty() {
            return false;
        }
    }
    dead() > 0
}

#[test]
fn a_reload_changes_what_is_done_and_for_how_long_clients_are_waited_for() {
    let (server, address) = server(Engine::Epoll, OverloadConfig::default());
    let mut changed = server.handle().config();
    changed.frontends[0].overload = OverloadConfig {
        action: OverloadAction::Shed,
        patience: Some(Duration::from_millis(50)),
        ..OverloadConfig::default()
    };
    assert_eq!(status(&server).overload, OverloadAction::Hold);
    server.handle().reload(changed).expect("it is right");
    assert_eq!(status(&server).overload, OverloadAction::Shed);
    let ends = |client: &mut TcpStream| client.shutdown(Shutdown::Write).expect("it is connected");
    assert!(dies(&server, address, ends));
    let mut crowd = Crowd::default();
    crowd.come_until(address, "some are reset", |crowd| crowd.count(End::Reset) > 0);
    crowd.wait_for_all();
    server.handle().stop();
}
