//! Either process is killed, or hangs, at each step of an upgrade.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::family::{ECHO, Family, STEP};
use super::under_load::proxy_to;
use crate::client::{connect, expect_alive};
use crate::harness::{SOON, Server, eventually};

/// Open connections: more than move at a time.
const OPEN: usize = 150;

/// Those that move at a time: 64 of each of two threads.
const FIRST: usize = 128;

/// How long the other process may take where one hangs, in milliseconds.
const LIMIT: &str = "limit:3000";

/// A process that was killed at this step has taken nothing.
const BEFORE: [&str; 6] =
    ["new-hello", "new-sockets", "new-ready", "new-begun", "new-serving", "new-received"];

fn open(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let clients: Vec<TcpStream> = (0..count).map(|_| connect(to)).collect();
    assert_eq!(alive(&clients), count);
    clients
}

/// How many still echo; each of the others is over, and none is silent.
#[track_caller]
fn alive(clients: &[TcpStream]) -> usize {
    let message = b"are you there?";
    for mut client in clients {
        // One that is over says so when it is read.
        let _ = client.write_all(message);
    }
    let echoes = |mut client: &TcpStream| {
        let mut back = [0; 14];
        match client.read_exact(&mut back) {
            Ok(()) => {
                assert_eq!(&back, message);
                true
            }
            Err(error) => {
                let kind = error.kind();
                assert_ne!(kind, std::io::ErrorKind::WouldBlock, "it is silent");
                false
            }
        }
    };
    clients.iter().filter(|client| echoes(client)).count()
}

/// Everything is as it was, but for so many connections, and can be upgraded.
#[track_caller]
fn expect_as_before(family: &Family, clients: Vec<TcpStream>, old: u32, lost: [usize; 2]) {
    // One that has begun to serve may answer as long as it is there.
    eventually(SOON, "the new process is gone", || family.members() == [old]);
    assert_eq!(family.pid(), old);
    expect_alive(family.address());
    let count = clients.len();
    let left: Vec<TcpStream> = clients.into_iter().filter(is_open).collect();
    let cut = count - left.len();
    assert!((lost[0]..=lost[1]).contains(&cut), "{cut} are cut, not {lost:?}\n{}", family.log());
    eventually(SOON, "the others are all that is open", || family.open() == left.len() as u64);
    let report = family.upgrade_in_the_end();
    assert_eq!((report.moved, report.left), (left.len(), 0));
    assert_eq!(alive(&left), left.len());
    family.expect_alone(report.pid);
}

fn is_open(client: &TcpStream) -> bool {
    alive(std::slice::from_ref(client)) == 1
}

#[track_caller]
fn end_the_new_one(text: &str, step: &str, lost: [usize; 2]) {
    let family = Family::start(text);
    let (old, clients) = (family.pid(), open(family.address(), OPEN));
    let error = family.try_upgrade(Some(&family.faulty(&format!("end:{step}")))).unwrap_err();
    assert!(error.contains("the new process has ended (signal: 6"), "{step}: {error}");
    let told = format!("{OPEN} connections had moved, and end with the new process");
    if lost[0] == OPEN {
        family.expect_logged(&told);
    }
    expect_as_before(&family, clients, old, lost);
    family.stop();
}

#[test]
fn a_new_process_that_is_killed_before_it_has_taken_something() {
    BEFORE.iter().for_each(|step| end_the_new_one(ECHO, step, [0, 0]));
}

/// What it was given, and what it was about to be given, ends with it.
#[test]
fn a_new_process_that_is_killed_when_it_has_taken_something() {
    end_the_new_one(ECHO, "new-taken", [0, FIRST]);
    end_the_new_one(ECHO, "new-last-word", [OPEN, OPEN]);
}

#[test]
fn a_new_process_of_a_proxy_that_is_killed() {
    let backend = Server::start(&["echo"]);
    let text = proxy_to(backend.address());
    end_the_new_one(&text, "new-received", [0, 0]);
    end_the_new_one(&text, "new-taken", [0, FIRST]);
    end_the_new_one(&text, "new-last-word", [OPEN, OPEN]);
    backend.stop();
}

#[track_caller]
fn hang_the_new_one(step: &str, lost: usize) {
    // One that has begun has the time of a drain to end by itself.
    let text = format!("[process]\nworkers = 2\ndrain_timeout = '1s'\n{ECHO}");
    let family = Family::prepared(&text, |launch| launch.variable(STEP, LIMIT));
    let (old, clients) = (family.pid(), open(family.address(), OPEN));
    let error = family.try_upgrade(Some(&family.faulty(&format!("hang:{step}")))).unwrap_err();
    assert!(error.contains("has not answered within 3s"), "{step}: {error}");
    expect_as_before(&family, clients, old, [lost, lost]);
    family.stop();
}

/// It is killed in the end.
#[test]
fn a_new_process_that_hangs() {
    thread::scope(|scope| {
        let before = BEFORE.map(|step| scope.spawn(move || hang_the_new_one(step, 0)));
        let taken = scope.spawn(|| hang_the_new_one("new-taken", FIRST));
        let last = scope.spawn(|| hang_the_new_one("new-last-word", OPEN));
        before.into_iter().chain([taken, last]).for_each(|it| it.join().expect("it is well"));
    });
}

/// So many connections go on in the new process.
#[track_caller]
fn end_the_old_one(step: &str, left: usize) {
    let wish = format!("end:{step}");
    let mut family = Family::prepared(ECHO, |launch| launch.variable(STEP, &wish));
    let clients = open(family.address(), OPEN);
    let new = family.wrapper("new.sh", &format!("unset {STEP}"));
    let control = format!("unix:{}", family.control());
    let exit =
        crate::harness::Launch::from_file(&["upgrade", "--control", &control, "--binary", &new], 0)
            .run_within(4 * SOON);
    assert_ne!(exit.code, Some(0), "{step}: whoever has asked has not been answered");
    eventually(SOON, "the old process has ended", || family.first.has_ended());
    eventually(SOON, "there is one process", || family.members().len() == 1);
    assert_eq!(family.members(), [family.pid()]);
    expect_alive(family.address());
    let clients: Vec<TcpStream> = clients.into_iter().filter(is_open).collect();
    assert_eq!(clients.len(), left, "{step}: {}", family.log());
    let limit = Duration::from_secs(10);
    eventually(limit, "nothing else is counted", || family.open() == left as u64);
    let report = family.upgrade_in_the_end();
    assert_eq!((report.moved, alive(&clients)), (left, left));
    drop(clients);
    family.stop();
}

#[test]
fn an_old_process_that_is_killed_before_it_has_given_something() {
    ["old-stopped", "old-went", "old-suspended"].iter().for_each(|step| end_the_old_one(step, 0));
}

/// What has moved lives, and what the new one has got.
#[test]
fn an_old_process_that_is_killed_when_it_has_given_something() {
    end_the_old_one("old-sent", FIRST);
    end_the_old_one("old-moved", FIRST);
    end_the_old_one("old-done", OPEN);
}

/// Nobody serves then; the new process has not begun, and says so.
#[test]
fn an_old_process_that_is_killed_before_it_agrees() {
    let mut family = Family::prepared(ECHO, |launch| launch.variable(STEP, "end:old-asked"));
    family.ctl("upgrade", &[]);
    eventually(SOON, "the old process has ended", || family.first.has_ended());
    eventually(SOON, "the new one too", || family.members().is_empty());
    let told = "upgrade: not taken over: the other process has ended";
    eventually(SOON, "it has said so", || family.log().contains(told));
}
