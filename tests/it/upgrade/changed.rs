//! The new process has another configuration.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use uring_acceptor::config::Engine;
use uring_acceptor::ring::engine;

use super::family::{ECHO, Family};
use super::load::{connects, sessions, streams};
use super::stop;
use super::under_load::{HTTP, proxy_to};
use crate::client::{connect, expect_alive, expect_echo};
use crate::harness::{SOON, Server, eventually, skipped};
use crate::process;

/// So many of each when many do not matter.
const FEW: usize = 8;

/// Of as many sessions and streams those that stay open all the time: a stream in four begins anew now and then.
const LASTING: usize = FEW + FEW * 3 / 4;

/// What drains has this long, so that nothing but its own end ends it.
const LONG: &str = "[process]\nworkers = 2\ndrain_timeout = '60s'\n";

/// Where a frontend listens in the process that answers now.
#[track_caller]
fn address_of(family: &Family, frontend: &str) -> SocketAddr {
    let status = family.status();
    let all = status["frontends"].as_array().expect("a list");
    let found: Option<&Value> = all.iter().find(|it| it["name"] == frontend);
    let address = found.and_then(|it| it["addresses"][0].as_str()).expect("it is there");
    address.parse().expect("IP:PORT")
}

#[track_caller]
fn expect_http(address: SocketAddr) {
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it goes");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    let blocked = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let taken = blocked.local_addr().expect("it is bound").to_string();
    let bind = format!("{ECHO}[frontend.g]\nlisten = '{taken}'\nservice = 'echo'\n");
    let table = [
        ("[frontend.e]\nlisten = ", "this is not TOML", "a.toml:"),
        ("[frontend.e]\nlisten = '127.0.0.1:0'\n", "service", "service"),
        (&bind, taken.as_str(), taken.as_str()),
    ];
    for (text, told, logged) in table {
        family.write(text);
        let error = family.try_upgrade(None).unwrap_err();
        assert!(error.contains(told), "{error}");
        family.expect_logged(logged);
        assert_eq!(family.members(), [old]);
        expect_echo(&client, b"abc");
        expect_alive(family.address());
    }
    family.write(ECHO);
    assert_ne!(family.upgrade().pid, old);
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// One that is listened on no more drains in the old process, its accept queue included.
#[test]
fn one_frontend_more_and_one_less() {
    let f = "[frontend.f]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let family = Family::start(&format!("{LONG}{ECHO}{f}"));
    let (e, f) = (family.address(), family.first.address_of(1));
    let (client, staying) = (connect(e), connect(f));
    [&client, &staying].into_iter().for_each(|it| expect_echo(it, b"abc"));
    let old = family.pid();
    let loads = (connects(e), connects(f));
    family.write(&format!("{LONG}{ECHO}{HTTP}"));
    let report = family.upgrade();
    assert!(report.left >= 1 && report.moved >= 1, "{report:?}");
    expect_http(address_of(&family, "h"));
    eventually(SOON, "nobody listens there", || TcpStream::connect(f).is_err());
    stop("connects that go on", loads.0).expect_unnoticed();
    let drained = stop("connects that end", loads.1);
    assert_eq!([drained.reset, drained.wrong, drained.cut], [0; 3], "{drained:?}");
    eventually(SOON, "both are counted", || family.open() == 2);
    assert_eq!(family.members().len(), 2);
    [&client, &staying].into_iter().for_each(|it| expect_echo(it, b"abc"));
    drop(staying);
    family.expect_alone(report.pid);
    assert_ne!(family.pid(), old);
    eventually(SOON, "one is left", || family.open() == 1);
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// What is open ends by itself where it is, what comes gets the new service.
#[test]
fn another_service_for_those_who_come() {
    let family = Family::start(&format!("{LONG}{ECHO}"));
    let clients: Vec<_> = (0..FEW).map(|_| connect(family.address())).collect();
    clients.iter().for_each(|it| expect_echo(it, b"abc"));
    family.write(&format!("{LONG}{}", ECHO.replace("'echo'", "'http'")));
    let report = family.upgrade();
    assert_eq!((report.moved, report.left), (0, FEW));
    expect_http(family.address());
    clients.iter().for_each(|it| expect_echo(it, b"def"));
    eventually(SOON, "all are counted", || family.open() == FEW as u64);
    // The next has its own, and counts those of both before it.
    let report = family.upgrade();
    assert_eq!((report.moved, report.left), (0, 0));
    clients.iter().for_each(|it| expect_echo(it, b"ghi"));
    expect_http(family.address());
    drop(clients);
    family.expect_alone(report.pid);
    eventually(SOON, "none is left", || family.open() == 0);
    family.stop();
}

/// The socket goes to whoever listens there, the connections stay with the frontend that has gone.
#[test]
fn another_name_for_a_frontend() {
    let family = Family::start(&format!("{LONG}{ECHO}"));
    let listen = format!("'{}'", family.address());
    let named = ECHO.replace("'127.0.0.1:0'", &listen);
    family.write(&format!("{LONG}{named}"));
    let client = connect(family.address());
    expect_echo(&client, b"abc");
    assert_eq!(family.upgrade().moved, 1);
    family.write(&format!("{LONG}{}", named.replace("[frontend.e]", "[frontend.x]")));
    let load = connects(family.address());
    let report = family.upgrade();
    assert!(report.moved == 0 && report.left >= 1, "{report:?}");
    expect_echo(&client, b"abc");
    assert_eq!(address_of(&family, "x"), family.address());
    stop("connects", load).expect_unnoticed();
    drop(client);
    family.expect_alone(report.pid);
    family.stop();
}

/// Each thread has a socket of its own, or one has all: no accept queue is lost.
#[test]
fn other_numbers_of_threads() {
    let text = |workers: usize, acceptors: &str| {
        format!("[process]\nworkers = {workers}\nacceptors = {acceptors}\n{ECHO}")
    };
    let family = Family::start(&text(1, "'auto'"));
    let to = family.address();
    let loads = [sessions(to, FEW), streams(to, FEW), connects(to), connects(to)];
    for (workers, acceptors) in [(4, "2"), (4, "0"), (2, "0"), (3, "1"), (4, "0"), (1, "0")] {
        family.write(&text(workers, acceptors));
        let report = family.upgrade();
        assert!(report.moved >= LASTING && report.left == 0, "{report:?}");
        assert_eq!(address_of(&family, "e"), to);
        family.expect_alone(report.pid);
    }
    for load in loads {
        stop("load", load).expect_unnoticed();
    }
    family.stop();
}

/// And back.
#[test]
fn the_other_engine() {
    if let Err(refusal) = engine::choose(Engine::Uring) {
        return skipped(&format!("an upgrade from one engine to the other: {refusal}"));
    }
    let backend = Server::start(&["echo"]);
    let text = format!("{ECHO}{HTTP}{}", proxy_to(backend.address()));
    let mut family = Family::start(&text);
    let loads = [0, 2].map(|frontend| {
        let to = family.first.address_of(frontend);
        [sessions(to, FEW), streams(to, FEW), connects(to)]
    });
    let requests = super::load::requests(family.first.address_of(1));
    let other = if crate::ENGINE == "uring" { "epoll" } else { "uring" };
    for engine in [other, crate::ENGINE, other] {
        family.write_for(engine, &text);
        let report = family.upgrade();
        assert!(report.moved >= 2 * LASTING && report.left == 0, "{report:?}");
        assert_eq!(family.status()["engine"], if engine == "uring" { "io_uring" } else { engine });
        family.expect_alone(report.pid);
    }
    for load in loads.into_iter().flatten().chain([requests]) {
        stop("load", load).expect_unnoticed();
    }
    family.stop();
    backend.stop();
}

/// What tells a file from others, and who may use it.
fn file(path: &str) -> (u64, u32, u32) {
    let it = fs::symlink_metadata(path).expect("it is there");
    (it.ino(), it.mode(), it.uid())
}

#[test]
fn files_of_unix_sockets_stay() {
    let folder = crate::folder::Folder::new();
    let [path, admin] = ["e.sock", "admin.sock"].map(|name| folder.file(name));
    let text = format!(
        "[process]\nworkers = 2\nadmin = 'unix:{admin}'\n\
         [frontend.e]\nlisten = 'unix:{path}'\nservice = 'echo'\n"
    );
    let mut family = Family::within(folder, &text, |launch| launch);
    let client = UnixStream::connect(&path).expect("it listens");
    let files = [path.clone(), admin.clone(), family.control()];
    let before = files.each_ref().map(|path| file(path));
    for _ in 0..3 {
        expect_echo(&client, b"abc");
        let report = family.upgrade();
        assert_eq!((report.moved, report.left), (1, 0));
        family.expect_alone(report.pid);
        assert_eq!(files.each_ref().map(|path| file(path)), before);
        expect_echo(UnixStream::connect(&path).expect("it listens"), b"abc");
        let mut admin = UnixStream::connect(&admin).expect("it listens");
        admin.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("it goes");
        let mut answer = String::new();
        admin.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(family.pid(), report.pid);
    }
    // One that cannot take over leaves them too.
    let error = family.try_upgrade(Some(&family.faulty("end:new-serving"))).unwrap_err();
    assert!(error.contains("SIGABRT"), "{error}");
    assert_eq!(files.each_ref().map(|path| file(path)), before);
    expect_echo(&client, b"abc");
    drop(client);
    eventually(SOON, "the first has ended", || family.first.has_ended());
    // The last one removes them.
    process::kill(family.pid(), libc::SIGTERM);
    eventually(SOON, "all have ended", || family.members().is_empty());
    files.iter().for_each(|path| assert!(fs::symlink_metadata(path).is_err(), "{path} is left"));
}

/// Its port is the same, and metrics go on.
#[test]
fn the_admin_endpoint_stays_where_it_is() {
    let text = format!("[process]\nworkers = 2\nadmin = '127.0.0.1:0'\n{ECHO}");
    let family = Family::start(&text);
    family.expect_logged("the admin endpoint is on ");
    let client = connect(family.address());
    expect_echo(&client, b"abc");
    let log = family.log();
    let address = log.split("the admin endpoint is on ").nth(1).expect("it was waited for");
    let address: SocketAddr = address.lines().next().and_then(|it| it.parse().ok()).expect("one");
    let metrics = || {
        let mut admin = connect(address);
        admin.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it goes");
        let mut answer = String::new();
        admin.read_to_string(&mut answer).map(|_| answer)
    };
    let accepted = |text: &str| {
        let line = text.lines().find(|it| it.starts_with("acceptor_accepted_total "));
        let count = line.and_then(|it| it.rsplit(' ').next()?.parse::<f64>().ok());
        count.unwrap_or_else(|| panic!("it is not there: {text}"))
    };
    let before = accepted(&metrics().expect("an answer"));
    assert!(before >= 1.0);
    for round in 1..=3 {
        let report = family.upgrade();
        family.expect_alone(report.pid);
        expect_alive(family.address());
        let deadline = Duration::from_secs(10);
        eventually(deadline, "what was counted before is counted", || {
            accepted(&metrics().expect("an answer")) >= before + f64::from(round)
        });
        expect_echo(&client, b"abc");
    }
    drop(client);
    thread::yield_now();
    family.stop();
}
