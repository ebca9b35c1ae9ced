//! Upgrades and crashes under a supervisor.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use super::family::{ECHO, Family};
use super::load::connects;
use super::{number_of, stop};
use crate::client::{connect, expect_alive, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};
use crate::process;
use crate::supervisor::{Supervisor, passing};

/// Times that the server is killed: KILLS in the environment. Those of the big run are 100.
const KILLS: usize = 8;

fn supervised(text: &str) -> (Supervisor, Family) {
    let supervisor = Supervisor::new();
    let family =
        Family::prepared(text, |launch| supervisor.watches(launch.variable("FDSTORE", "16")));
    (supervisor, family)
}

fn has_line(told: &str, line: &str) -> bool {
    told.lines().any(|it| it == line)
}

/// All that it is told up to this, this included.
#[track_caller]
fn until(supervisor: &Supervisor, line: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while !all.last().is_some_and(|last| has_line(last, line)) {
        all.push(supervisor.next().0);
    }
    all
}

fn name(address: std::net::SocketAddr) -> String {
    format!("FDNAME=acceptor@{address}").replace(':', "_")
}

/// It hears which process is the main one before that says anything, and nothing more of the old one. What that had
/// stored is stored by the new one, and what the new one does not listen on is forgotten.
#[test]
fn it_hears_of_the_new_process_in_order() {
    let f = "[frontend.f]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let (supervisor, family) = supervised(&format!("{ECHO}{f}"));
    until(&supervisor, "READY=1");
    let (e, f) = (family.address(), family.first.address_of(1));
    family.write(ECHO);
    let report = family.upgrade();
    let before = until(&supervisor, &format!("MAINPID={}", report.pid));
    let quiet = before.iter().all(|told| !told.contains("READY=1") && !told.contains("STOPPING"));
    assert!(quiet, "{before:?}");
    let after = until(&supervisor, "READY=1");
    let stored = after.iter().rposition(|told| told.contains("FDSTORE=1")).expect("it is stored");
    assert!(has_line(&after[stored], &name(e)), "{after:?}");
    let forgets = |told: &String| told.contains("FDSTOREREMOVE=1") && has_line(told, &name(f));
    assert!(after.iter().any(forgets), "{after:?}");
    family.expect_alone(report.pid);
    let client = connect(e);
    expect_echo(&client, b"abc");
    process::kill(report.pid, libc::SIGTERM);
    let rest = until(&supervisor, "STOPPING=1");
    let main = |told: &String| told.contains("MAINPID=") || told.contains("READY=");
    assert!(!rest.iter().any(main), "{rest:?}");
    drop(client);
    eventually(SOON, "it has ended", || family.members().is_empty());
}

/// It hears nothing of a new process that has not come as far as the old one cannot go back.
#[test]
fn it_does_not_hear_of_an_upgrade_that_has_failed() {
    let (supervisor, family) = supervised(ECHO);
    until(&supervisor, "READY=1");
    family.try_upgrade(Some(&family.faulty("end:new-last-word"))).unwrap_err();
    let client = connect(family.address());
    expect_echo(&client, b"abc");
    // The old one goes on to tell how it is.
    let mut all = Vec::new();
    eventually(SOON, "its status is told", || {
        all.push(supervisor.next().0);
        all.last().is_some_and(|told| told.contains("STATUS=serving; 1 of "))
    });
    let of_new = |told: &String| told.contains("MAINPID=") || told.contains("READY=1");
    assert!(!all.iter().any(of_new), "{all:?}");
    drop(client);
    family.stop();
}

/// The processes have two sockets that somebody else made, for frontends `e` and `w`; how the second comes to be listened
/// on again once it was not is up to the test.
#[track_caller]
fn with_passed(leave_and_come_back: impl FnOnce(&Family, &str)) {
    let w = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let (folder, address) = (Folder::new(), w.local_addr().expect("it is bound"));
    let text = format!("{ECHO}[frontend.w]\nlisten = '{address}'\nservice = 'echo'\n");
    let file = folder.file("a.toml");
    let family = Family::within(folder, &text, |_| {
        passing(&[(&w, "w.socket")], &["run", "--config", &file], 2)
    });
    expect_alive(address);
    leave_and_come_back(&family, &text);
    expect_alive(address);
    let log = family.log();
    assert!(!log.contains("ERROR") && !log.contains("closed"), "{log}");
    family.stop();
    // It was never told to refuse.
    connect(address);
}

#[track_caller]
fn reload(family: &Family) {
    let exit = family.ctl("reload", &[]);
    assert_eq!(exit.code, Some(0), "{exit:?}{}", family.log());
}

/// Its frontend is taken out of the file and put back, by reloads or upgrades or both.
#[test]
fn a_socket_that_is_passed_waits_for_its_frontend() {
    let reload: fn(&Family) = reload;
    let upgrade: fn(&Family) = |family| drop(family.upgrade());
    let nothing: fn(&Family) = |_| {};
    let table = [
        ("out and back by upgrades", upgrade, nothing, upgrade),
        ("out by a reload, back by an upgrade", reload, nothing, upgrade),
        ("out by an upgrade, back by a reload", upgrade, nothing, reload),
        ("out and back by reloads, with an upgrade between", reload, upgrade, reload),
        ("the same with upgrades alone", upgrade, upgrade, upgrade),
    ];
    for (name, out, between, back) in table {
        eprintln!("{name}");
        with_passed(|family, text| {
            family.write(ECHO);
            out(family);
            between(family);
            family.write(text);
            back(family);
        });
    }
}

/// The next process knows that the frontend is drained, and a reload ends that.
#[test]
fn a_socket_that_is_passed_waits_while_its_frontend_is_drained_by_hand() {
    with_passed(|family, _| {
        assert_eq!(family.ctl("drain", &["w"]).code, Some(0));
        family.upgrade();
        family.upgrade();
        assert_eq!(family.status()["frontends"][1]["state"], "drained");
        reload(family);
    });
}

/// A supervisor gives back what it keeps whenever the server is killed: nobody is refused.
#[test]
fn nobody_is_refused_however_often_the_server_is_killed() {
    let supervisor = Supervisor::new();
    let keeping = |launch: Launch| supervisor.watches(launch.variable("FDSTORE", "16"));
    let mut server: Server = keeping(Launch::new(&["echo"])).start();
    let address = server.address();
    let listen = address.to_string();
    let stored = |supervisor: &Supervisor| -> OwnedFd {
        let (_, mut sockets) = supervisor.expect("FDSTORE=1");
        sockets.pop().expect("the socket comes along")
    };
    let mut kept = stored(&supervisor);
    let load = connects(address);
    for _ in 0..number_of("KILLS", KILLS) {
        supervisor.expect("READY=1");
        server.signal(libc::SIGKILL);
        server.wait(SOON);
        let store = format!("acceptor@{listen}").replace(':', "_");
        server = keeping(passing(&[(&kept, &store)], &["echo", "--listen", &listen], 1)).start();
        kept = stored(&supervisor);
    }
    let report = stop("connects", load);
    assert_eq!((report.refused, report.wrong), (0, 0), "{report:?}");
    assert!(report.done > 0);
    server.stop();
}
