//! Active checks against listeners that are up, refuse, say nothing or the wrong thing, and flap.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use super::super::probe::{Flights, Outcome, probe};
use super::*;

fn rules(check: &str, timeout: Duration) -> ActiveHealth {
    ActiveHealth { check: check.parse().unwrap(), timeout, ..ActiveHealth::default() }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[track_caller]
fn probed(address: SocketAddr, rules: &ActiveHealth) -> Outcome {
    probe((&EndpointAddress::Tcp(address), &[]), rules, &Flights::default())
}

#[track_caller]
fn expect_failure(outcome: Outcome, expected: &str) {
    match outcome {
        Outcome::Failed(cause) => assert!(cause.contains(expected), "{cause}"),
        other => panic!("{other:?}"),
    }
}

/// For checks that must not run out of time, and for those that must.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_connect_passes_where_somebody_listens_and_fails_where_nobody_does() {
    let (listener, address) = listen();
    assert_eq!(probed(address, &rules("connect", LONG)), Outcome::Passed);
    drop(listener);
    expect_failure(probed(address, &rules("connect", LONG)), "ECONNREFUSED");
}

#[test]
fn unix_sockets_are_checked_too() {
    let path = std::env::temp_dir().join(format!("upstream-check-{}.sock", std::process::id()));
    let Target::Unix(name) = format!("unix:{}", path.display()).parse().unwrap() else { panic!() };
    let address = EndpointAddress::Unix(name);
    let rules = rules("connect", LONG);
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(probe((&address, &[]), &rules, &Flights::default()), Outcome::Passed);
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    expect_failure(probe((&address, &[]), &rules, &Flights::default()), "ENOENT");
}

/// A queue that holds one connection and has two: the kernel drops every SYN.
fn black_hole() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address);
        client
    };
    let mut clients = vec![connect()];
    eventually(DEADLINE, || {
        clients.push(connect());
        clients.iter().any(|client| client.peer_addr().is_err())
    });
    (listener, address.as_socket().unwrap(), clients)
}

#[test]
fn a_black_hole_runs_out_of_time() {
    let (_listener, address, _clients) = black_hole();
    expect_failure(probed(address, &rules("connect", SHORT)), "no connection within 50ms");
}

/// Accepts once, and does as it is told.
fn serve(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let (listener, address) = listen();
    (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

const PING: &str = r"send-expect:PING\r\n|+PONG";

#[test]
fn the_expected_answer_passes_even_in_pieces() {
    let (address, server) = serve(|mut peer| {
        let mut request = [0; 6];
        peer.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"PING\r\n");
        peer.set_nodelay(true).unwrap();
        for piece in ["noise", "+P", "ONG\r\n"] {
            peer.write_all(piece.as_bytes()).unwrap();
        }
    });
    assert_eq!(probed(address, &rules(PING, LONG)), Outcome::Passed);
    server.join().unwrap();
}

#[test]
fn wrong_answers_fail() {
    let (address, server) = serve(|mut peer| {
        let _ = peer.read(&mut [0; 6]);
        peer.write_all(b"-ERR\r\n").unwrap();
    });
    expect_failure(probed(address, &rules(PING, LONG)), "closed without the expected answer");
    server.join().unwrap();

    let (address, server) = serve(|mut peer| {
        let _ = peer.read(&mut [0; 6]);
        while peer.write_all(&[b'x'; 4096]).is_ok() {}
    });
    expect_failure(probed(address, &rules(PING, LONG)), "bytes without the expected answer");
    server.join().unwrap();
}

#[test]
fn no_answer_runs_out_of_time_and_so_does_a_trickle() {
    let (_listener, address) = listen();
    expect_failure(probed(address, &rules(PING, SHORT)), "no such answer within 50ms");

    let (address, server) = serve(|mut peer| {
        while peer.write_all(b"x").is_ok() {
            thread::yield_now();
        }
    });
    let outcome = probed(address, &rules(PING, SHORT));
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    server.join().unwrap();
}

fn checked(address: SocketAddr, check: &str, timeout: Duration) -> Running {
    let mut config = config(&[&address.to_string()]);
    config.active = rules(check, timeout);
    config.active.interval = Duration::from_millis(10);
    Running::start(config, Box::new(no_names))
}

fn state(running: &Running) -> EndpointState {
    states(&running.upstream, Instant::now())[0]
}

fn counted(running: &Running, counter: EndpointCounter) -> u64 {
    running.upstream.endpoints()[0].counters().get(counter)
}

#[test]
fn one_that_flaps_goes_down_and_comes_up_with_each_change() {
    let (listener, address) = listen();
    let mut listener = Some(listener);
    let running = checked(address, "connect", LONG);
    eventually(DEADLINE, || counted(&running, EndpointCounter::ChecksPassed) > 0);
    for round in 1..=2 {
        drop(listener.take());
        eventually(DEADLINE, || state(&running) == EndpointState::Down);
        assert_eq!(counted(&running, EndpointCounter::WentDown), round);
        let again = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        again.set_reuse_address(true).unwrap();
        again.bind(&address.into()).unwrap();
        again.listen(128).unwrap();
        listener = Some(again.into());
        eventually(DEADLINE, || state(&running) == EndpointState::Up);
        assert_eq!(counted(&running, EndpointCounter::CameUp), round);
    }
    assert!(counted(&running, EndpointCounter::ChecksFailed) >= 6, "fall is 3");
}

#[test]
fn one_that_listens_and_never_answers_is_down() {
    let (_listener, address) = listen();
    let running = checked(address, PING, SHORT);
    eventually(DEADLINE, || state(&running) == EndpointState::Down);
}

#[test]
fn with_several_backends_only_the_one_that_fails_is_down() {
    let (_up, good) = listen();
    let (down, bad) = listen();
    drop(down);
    let mut config = config(&[&good.to_string(), &bad.to_string()]);
    config.active = rules("connect", LONG);
    let running = Running::start(config, Box::new(no_names));
    let now = || states(&running.upstream, Instant::now());
    eventually(DEADLINE, || now() == [EndpointState::Up, EndpointState::Down]);
    let mut view = running.upstream.view();
    assert!((0..5).all(|_| address(&pick(&mut view)) == good.to_string()));
}

#[test]
fn backends_that_come_later_are_checked_too() {
    let (_up, good) = listen();
    let (down, bad) = listen();
    drop(down);
    let running = checked(good, "connect", LONG);
    let new = backends(&[&good.to_string(), &bad.to_string()]);
    running.upstream.replace_backends(&new).unwrap();
    let second = || states(&running.upstream, Instant::now())[1];
    eventually(DEADLINE, || second() == EndpointState::Down);
}

/// The checks under way would last a minute.
#[test]
fn the_end_of_the_registry_ends_checks_under_way() {
    let (_listener, silent) = listen();
    let (_full, hole, _clients) = black_hole();
    for (address, check) in [(silent, PING), (hole, "connect")] {
        let Running { registry, upstream } = checked(address, check, Duration::from_secs(60));
        eventually(DEADLINE, || registry.background().checks_under_way() == 1);
        let ended = Arc::new(AtomicBool::new(false));
        let end = thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                drop(registry);
                ended.store(true, Ordering::Relaxed);
            }
        });
        eventually(DEADLINE, || ended.load(Ordering::Relaxed));
        end.join().unwrap();
        assert_eq!(Arc::strong_count(&upstream), 1, "no thread holds it");
        assert_eq!(states(&upstream, Instant::now()), [EndpointState::Unknown], "{check}");
    }
}

/// The firewall in front of a backend lets through what connections come from.
#[test]
fn a_check_comes_from_a_source() {
    let (listener, address) = listen();
    let from = |sources: &[&str]| {
        let sources: Vec<_> = sources.iter().map(|source| source.parse().unwrap()).collect();
        let endpoint = EndpointAddress::Tcp(address);
        probe((&endpoint, &sources), &rules("connect", LONG), &Flights::default())
    };
    assert_eq!(from(&["::1", "127.0.0.5"]), Outcome::Passed);
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.5");
    assert_eq!(from(&["192.0.2.1", "127.0.0.6"]), Outcome::Passed, "the first is of nobody");
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.6");
    assert_eq!(from(&["192.0.2.1"]), Outcome::Unable);
    assert_eq!(from(&["::1"]), Outcome::Unable);
}
