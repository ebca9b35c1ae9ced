//! Two servers in one process: one takes the place of the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::message::{Hello, Message};
use super::*;
use crate::config::{Config, Engine, ListenAddress};
use crate::listener::Inherited;
use crate::server::{Handle, Phase, Reserved, Server};
use crate::service::{Action, ConnectionInfo, Echo, Input, Outbox, Responder, Service};

const SOON: Duration = Duration::from_secs(20);

fn config(engine: Engine, max_connections: usize) -> Config {
    let mut config = Config::default();
    config.frontends[0].listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.process.threads.workers = NonZeroUsize::new(2);
    config.process.max_connections = NonZeroUsize::new(max_connections);
    config.process.engine = engine;
    config
}

fn channels() -> (Channel, Channel) {
    let (one, other) = UnixStream::pair().unwrap();
    (Channel::new(one).unwrap(), Channel::new(other).unwrap())
}

fn address(server: &Server) -> SocketAddr {
    match server.addresses()[0] {
        ListenAddress::Tcp(address) => address,
        ListenAddress::Unix(_) => unreachable!(),
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
}

#[track_caller]
fn expect_echo(mut client: &TcpStream, text: &[u8]) {
    client.write_all(text).unwrap();
    let mut came = vec![0; text.len()];
    client.read_exact(&mut came).unwrap();
    assert_eq!(came, text);
}

/// Nobody tells a supervisor.
fn alone(_: u32) {}

/// A server that has taken over, with what the old one still has.
fn take_over<S: Service>(
    channel: Channel,
    config: &Config,
    service: S,
) -> Result<(Server, Taking, Reserved, Taken), UpgradeError> {
    let inherited = Inherited::default();
    let mut taking = Taking::ask(channel, &inherited)?;
    let ready = Server::prepare_with(config, service, &inherited).unwrap();
    let mut reserved = taking.wait_to_serve(&ready.handle(), &inherited)?;
    let server = ready.serve();
    let taken = taking.take_connections(&server.handle(), &mut reserved)?;
    Ok((server, taking, reserved, taken))
}

fn given(channel: Channel, handle: &Handle) -> Result<(Given, Giving), UpgradeError> {
    let beside = Beside { extra: &[], spare: &[], by_hand: &[], announce: &alone };
    give(channel, handle, beside).map_err(|not_given| {
        assert!(!not_given.has_begun);
        not_given.error
    })
}

fn end(server: Server) {
    server.handle().shutdown();
    server.join().unwrap();
}

#[test]
fn open_connections_and_the_port_go_to_the_other_server() {
    for (from, to) in [
        (Engine::Epoll, Engine::Epoll),
        (Engine::Auto, Engine::Epoll),
        (Engine::Epoll, Engine::Auto),
    ] {
        let old = Server::start_with(&config(from, 100), Echo).unwrap();
        let to_it = address(&old);
        let clients: Vec<TcpStream> = (0..10).map(|_| connect(to_it)).collect();
        clients.iter().for_each(|client| expect_echo(client, b"before"));
        // One has sent nothing yet.
        let silent = connect(to_it);
        let (one, other) = channels();
        let config = config(to, 100);
        let taker = thread::spawn(move || take_over(other, &config, Echo).unwrap());
        let (given, giving) = given(one, &old.handle()).unwrap();
        let (new, taking, reserved, taken) = taker.join().unwrap();
        assert_eq!((given.left, address(&new)), (0, to_it));
        // The silent one may have been in the accept queue still.
        assert!(given.moved >= 10 && given.moved == taken.connections, "{given:?} {taken:?}");
        old.join().unwrap();
        drop(giving);
        taking.follow(&new.handle(), reserved);
        clients.iter().chain([&silent]).for_each(|client| expect_echo(client, b"after"));
        expect_echo(&connect(to_it), b"anew");
        drop((clients, silent));
        end(new);
    }
}

/// Echo that cannot write its sessions down.
struct Immovable;

impl Responder for Immovable {
    type Session = ();

    fn name(&self) -> &str {
        Responder::name(&Echo)
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, session: &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        Responder::data(&Echo, session, input, outbox)
    }
}

/// The limit is one for both.
#[test]
fn what_cannot_move_drains_where_it_is_and_counts_in_the_other_server() {
    let old = Server::start_with(&config(Engine::Epoll, 100), Immovable).unwrap();
    let to = address(&old);
    let stays = [connect(to), connect(to)];
    stays.iter().for_each(|client| expect_echo(client, b"before"));
    let (one, other) = channels();
    let taker = thread::spawn(move || take_over(other, &config(Engine::Epoll, 3), Echo).unwrap());
    let (given, giving) = given(one, &old.handle()).unwrap();
    let (new, taking, reserved, _) = taker.join().unwrap();
    assert_eq!((given.moved, given.left), (0, 2));
    let first = connect(to);
    expect_echo(&first, b"the third of three");
    let second = connect(to);
    (&second).write_all(b"one too many").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!((&second).read(&mut [0]).is_err(), "there is no place for it");
    stays.iter().for_each(|client| expect_echo(client, b"as ever"));
    let handle = new.handle();
    let follower = thread::spawn(move || taking.follow(&handle, reserved));
    drop(stays);
    old.join().unwrap();
    assert!(giving.tell());
    drop(giving);
    follower.join().unwrap();
    second.set_read_timeout(Some(SOON)).unwrap();
    let mut came = [0; 12];
    (&second).read_exact(&mut came).unwrap();
    assert_eq!(&came, b"one too many");
    drop((first, second));
    end(new);
}

#[test]
fn whoever_gives_up_before_it_serves_has_changed_nothing() {
    let old = Server::start_with(&config(Engine::Epoll, 100), Echo).unwrap();
    let client = connect(address(&old));
    expect_echo(&client, b"before");
    let (one, other) = channels();
    let taker = thread::spawn(move || {
        let inherited = Inherited::default();
        let taking = Taking::ask(other, &inherited).unwrap();
        taking.give_up("the configuration is wrong");
    });
    let error = given(one, &old.handle()).unwrap_err();
    assert_eq!(error.to_string(), "the configuration is wrong");
    taker.join().unwrap();
    let (one, other) = channels();
    drop(other);
    assert!(matches!(given(one, &old.handle()).unwrap_err(), UpgradeError::Ended));
    expect_echo(&client, b"after");
    expect_echo(&connect(address(&old)), b"anew");
    assert_eq!(old.handle().phase(), Phase::Serving);
    drop(client);
    end(old);
}

/// It has everything, and ends before it says that it begins.
#[test]
fn whoever_ends_after_the_old_one_has_stopped_accepting_has_changed_nothing() {
    let old = Server::start_with(&config(Engine::Epoll, 100), Echo).unwrap();
    let client = connect(address(&old));
    expect_echo(&client, b"before");
    let (one, other) = channels();
    let taker = thread::spawn(move || {
        let inherited = Inherited::default();
        let taking = Taking::ask(other, &inherited).unwrap();
        let ready = Server::prepare_with(&config(Engine::Epoll, 9), Echo, &inherited).unwrap();
        taking.say_ready(&ready.handle(), &inherited).unwrap();
        drop(taking);
    });
    let error = given(one, &old.handle()).unwrap_err();
    assert!(matches!(error, UpgradeError::Ended), "{error}");
    taker.join().unwrap();
    expect_echo(&client, b"after");
    expect_echo(&connect(address(&old)), b"anew");
    drop(client);
    end(old);
}

#[test]
fn another_format_is_refused_with_both_versions() {
    let old = Server::start_with(&config(Engine::Epoll, 100), Echo).unwrap();
    let (one, other) = channels();
    let (version, kinds) = ("9.9".to_owned(), Vec::new());
    let hello = Hello { format: 99, version, pid: 1, kinds, bans: false };
    other.send(&Message::Hello(hello), &[], SOON).unwrap();
    let error = given(one, &old.handle()).unwrap_err().to_string();
    for part in ["version 9.9", "format 99", "version 0.", "format 1"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(matches!(other.receive(SOON), Err(UpgradeError::GivenUp(text)) if text == error));
    end(old);
}
