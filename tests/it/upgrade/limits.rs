//! Limits hold for both processes together, and at limits nobody is lost.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::family::{ECHO, Family, ask, connect_to};
use crate::client::{connect, expect_alive, expect_echo};
use crate::harness::{SOON, eventually, meanwhile};
use crate::process;

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

const MESSAGE: &[u8] = b"abc";

/// Connections that have sent something, served or not.
fn ask_all(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let ask = |_| {
        let mut client = connect(to);
        client.write_all(MESSAGE).expect("the kernel takes it");
        client.set_nonblocking(true).expect("it can be set");
        client
    };
    (0..count).map(ask).collect()
}

/// Takes out those that were answered.
fn take_answered(waiting: &mut Vec<TcpStream>) -> Vec<TcpStream> {
    let is_answered = |client: &mut TcpStream| {
        let mut back = [0; MESSAGE.len()];
        let came = client.read(&mut back).is_ok_and(|count| count > 0);
        if came {
            assert_eq!(back, MESSAGE);
        }
        came
    };
    waiting.extract_if(.., |it| is_answered(it)).collect()
}

/// So many of those who wait are served, and not one more.
#[track_caller]
fn expect_admitted(waiting: &mut Vec<TcpStream>, count: usize) -> Vec<TcpStream> {
    let mut served = Vec::new();
    eventually(SOON, "those there is room for are served", || {
        served.append(&mut take_answered(waiting));
        served.len() >= count
    });
    assert_eq!(served.len(), count);
    meanwhile(A_WHILE, "nobody else is served", || take_answered(waiting).is_empty());
    served
}

/// A connection that is served.
fn served(to: SocketAddr) -> TcpStream {
    let client = connect(to);
    expect_echo(&client, MESSAGE);
    client
}

/// Two frontends: what is on `f` stays in the old process, since `f` is for something else from then on.
#[test]
fn max_connections_of_the_process_is_exact() {
    let f = "[frontend.f]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let process = "[process]\nworkers = 2\ndrain_timeout = '60s'\nmax_connections = 10\n";
    let family = Family::start(&format!("{process}{ECHO}{f}"));
    let (e, f_address) = (family.address(), family.first.address_of(1));
    let mut staying: Vec<_> = (0..5).map(|_| served(f_address)).collect();
    let moving = [served(e), served(e)];
    family.write(&format!("{process}{ECHO}{}", f.replace("'echo'", "'http'")));
    let report = family.upgrade();
    assert_eq!((report.moved, report.left), (2, 5));
    let mut waiting = ask_all(e, 8);
    let mut admitted = expect_admitted(&mut waiting, 3);
    assert_eq!(family.open(), 10);
    staying.truncate(3);
    admitted.append(&mut expect_admitted(&mut waiting, 2));
    drop(staying);
    admitted.append(&mut expect_admitted(&mut waiting, 3));
    eventually(SOON, "the old process is gone", || family.members().len() == 1);
    eventually(SOON, "all that is open is counted", || family.open() == 10);
    assert!(waiting.is_empty());
    moving.iter().for_each(|it| expect_echo(it, MESSAGE));
    drop((moving, admitted));
    eventually(SOON, "none is left", || family.open() == 0);
    family.stop();
}

/// Whoever waits for a place, accepted or not, has it when there is room, in whichever process.
#[track_caller]
fn upgrade_where_some_wait(process: &str, frontend: &str) {
    let text = format!("[process]\nworkers = 2\n{process}{ECHO}{frontend}");
    let family = Family::start(&text);
    let mut inside: Vec<_> = (0..4).map(|_| served(family.address())).collect();
    let mut waiting = ask_all(family.address(), 6);
    for _ in 0..2 {
        let report = family.upgrade();
        assert_eq!(report.left, 0, "{report:?}");
        family.expect_alone(report.pid);
        inside.iter().for_each(|it| expect_echo(it, MESSAGE));
        meanwhile(A_WHILE, "nobody else is served", || take_answered(&mut waiting).is_empty());
        inside.pop();
        let admitted = expect_admitted(&mut waiting, 1);
        for client in admitted {
            client.set_nonblocking(false).expect("it can be set");
            inside.push(client);
        }
    }
    drop(inside);
    let admitted = expect_admitted(&mut waiting, 4);
    drop((admitted, waiting));
    family.stop();
}

#[test]
fn some_wait_for_a_place_in_the_process() {
    upgrade_where_some_wait("max_connections = 4\n", "");
}

#[test]
fn some_wait_for_a_place_in_the_frontend() {
    upgrade_where_some_wait("", "max_connections = 4\n");
}

/// Those that do not fit stay in the old process.
#[test]
fn a_new_process_that_may_have_few_descriptors() {
    const OPEN: usize = 120;
    let long = "[process]\nworkers = 2\ndrain_timeout = '60s'\n";
    let family = Family::start(&format!("{long}{ECHO}"));
    let clients: Vec<_> = (0..OPEN).map(|_| served(family.address())).collect();
    let poor = family.wrapper("poor.sh", "ulimit -n 100");
    let report = family.try_upgrade(Some(&poor)).expect("it succeeds");
    assert!(report.moved > 0 && report.left > 0, "{report:?}");
    assert_eq!(report.moved + report.left, OPEN);
    assert!(report.moved >= 50, "there is room for more: {report:?}");
    clients.iter().for_each(|it| expect_echo(it, MESSAGE));
    eventually(SOON, "all are counted", || family.open() == OPEN as u64);
    drop(clients);
    family.expect_alone(report.pid);
    expect_alive(family.address());
    family.stop();
}

/// It cannot start another process: nothing happens.
#[test]
fn an_old_process_that_has_no_descriptors_left() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), served(family.address()));
    let control = connect_to(&family.control());
    let request = json!({"version": 1, "command": "upgrade"});
    assert!(ask(&control, &json!({"version": 1, "command": "status"})).is_ok());
    let limit = process::limit_that_leaves(old, 0);
    process::limit_descriptors(old, limit);
    let error = ask(&control, &request).expect_err("there is no room");
    assert!(error.contains("cannot be started: Too many open files"), "{error}");
    expect_echo(&client, MESSAGE);
    drop(control);
    assert_eq!(family.members(), [old]);
    drop(client);
    family.stop();
}

/// Of three processes in a row the middle one has nothing left, but the first one has: the newest hears of it through the
/// middle one, and counts it for its limit.
#[test]
fn the_process_in_the_middle_waits_for_the_first() {
    let frontend =
        |name: &str| format!("[frontend.{name}]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n");
    let process = "[process]\nworkers = 1\nmax_connections = 2\ndrain_timeout = '60s'\n";
    let family = Family::start(&[process, &frontend("goes"), &frontend("stays")].concat());
    let goes = connect(family.address());
    expect_echo(&goes, b"x");
    let first = family.pid();
    family.write(&[process, &frontend("stays")].concat());
    let middle = family.upgrade().pid;
    let last = family.upgrade().pid;
    let all = || {
        let mut all = family.members();
        all.sort_unstable();
        all
    };
    let mut three = vec![first, middle, last];
    three.sort_unstable();
    meanwhile(Duration::from_millis(500), "all three are there", || all() == three);
    assert_eq!((family.pid(), family.open()), (last, 1));
    let address = family.status()["frontends"][0]["addresses"][0].clone();
    let address = address.as_str().and_then(|it| it.parse().ok()).expect("an address");
    let mut waiting = ask_all(address, 2);
    let second = expect_admitted(&mut waiting, 1);
    expect_echo(&goes, b"old");
    drop(goes);
    let third = expect_admitted(&mut waiting, 1);
    family.expect_alone(last);
    assert_eq!(family.open(), 2);
    drop((second, third));
    family.stop();
}

/// What is open counts in the new process, and what of a rate is used stays used.
#[test]
fn limits_by_source_go_on_in_the_new_process() {
    let family = Family::start(
        "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nmax_per_source = 2\n\
         [frontend.r]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nrate_per_source = '1/h burst 1'\n",
    );
    let (limited, paced) = (family.address(), family.first.address_of(1));
    let mut held = vec![served(limited), served(limited)];
    drop(served(paced));
    for _ in 0..2 {
        family.upgrade();
        expect_refused(limited);
        expect_refused(paced);
    }
    held.pop();
    eventually(SOON, "there is a place", || enter(limited).map(|it| held.push(it)).is_ok());
    expect_refused(limited);
    let status = family.ask(&json!({"version": 1, "command": "status"})).unwrap();
    let refused = |frontend: usize| status["frontends"][frontend]["source_rules"][0].clone();
    assert_eq!(refused(1)["connections"], json!(2), "{status}");
    drop(held);
    family.stop();
}

/// A connection with a message there and back.
fn enter(to: SocketAddr) -> io::Result<TcpStream> {
    let mut client = TcpStream::connect(to)?;
    client.set_read_timeout(Some(SOON))?;
    client.write_all(MESSAGE)?;
    client.read_exact(&mut [0; MESSAGE.len()]).map(|()| client)
}

/// A connection that is reset instead of being served.
#[track_caller]
fn expect_refused(to: SocketAddr) {
    let error = enter(to).expect_err("it is refused");
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}
