//! What else is asked for while an upgrade is under way.

use std::fs;
use std::thread;

use serde_json::json;

use super::family::{ECHO, Family, upgrade_by};
use super::load::{connects, sessions};
use super::stop;
use crate::client::{connect, expect_alive, expect_echo};
use crate::harness::{SOON, eventually};
use crate::process;

/// A new process that takes a while to start, and says in a file that it is about to.
fn slow(family: &Family) -> (String, std::path::PathBuf) {
    let sign = family.folder.0.join("started");
    let before = format!("touch '{}'\nsleep 1", sign.display());
    (family.wrapper("slow.sh", &before), sign)
}

/// Does something while a new process starts; how the upgrade ends, and what that has returned.
#[track_caller]
fn meanwhile<T>(family: &Family, act: impl FnOnce() -> T) -> (Result<u32, String>, T) {
    let ((slow, sign), control) = (slow(family), family.control());
    thread::scope(|scope| {
        let upgrade = scope.spawn(move || upgrade_by(&control, Some(&slow)));
        eventually(SOON, "the new process starts", || sign.exists());
        let outcome = act();
        (upgrade.join().expect("it is answered").map(|report| report.pid), outcome)
    })
}

#[test]
fn the_old_process_is_told_to_end() {
    let mut family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let (outcome, ()) = meanwhile(&family, || process::kill(old, libc::SIGTERM));
    assert!(outcome.unwrap_err().contains("the server drains"));
    expect_echo(&client, b"abc");
    assert_eq!(family.members(), [old]);
    drop(client);
    eventually(SOON, "it ends when it has drained", || family.first.has_ended());
    assert!(family.members().is_empty());
}

#[test]
fn the_new_process_is_told_to_end() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let (outcome, ()) = meanwhile(&family, || {
        let new = family.members().into_iter().find(|pid| *pid != old).expect("it starts");
        process::kill(new, libc::SIGTERM);
    });
    assert!(outcome.unwrap_err().contains("has ended (signal: 15"));
    expect_echo(&client, b"abc");
    expect_alive(family.address());
    family.upgrade();
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// Right when it has begun: it drains what it has, and nobody is cut.
#[test]
fn the_new_process_is_told_to_end_when_it_serves() {
    let family = Family::start(ECHO);
    let client = connect(family.address());
    expect_echo(&client, b"abc");
    let report = family.upgrade();
    process::kill(report.pid, libc::SIGTERM);
    family.expect_logged("draining");
    expect_echo(&client, b"abc");
    drop(client);
    eventually(SOON, "all have ended", || family.members().is_empty());
}

/// One of them is done, and the others are told that there is nothing left to do.
#[test]
fn several_upgrades_at_once() {
    let family = Family::start(ECHO);
    let loads = [sessions(family.address(), 20), connects(family.address())];
    let control = family.control();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let ask = |_| scope.spawn(|| upgrade_by(&control, None));
        let asked: Vec<_> = (0..4).map(ask).collect();
        asked.into_iter().map(|it| it.join().expect("each is answered")).collect()
    });
    let done = outcomes.iter().filter(|it| it.is_ok()).count();
    assert!(done >= 1, "{outcomes:?}");
    for error in outcomes.iter().filter_map(|it| it.as_ref().err()) {
        assert!(error.contains("drain"), "{error}");
    }
    family.expect_alone(family.pid());
    for load in loads {
        stop("load", load).expect_unnoticed();
    }
    family.upgrade();
    family.stop();
}

/// They are done one after the other: there is nothing left to reload in the old process.
#[test]
fn a_reload_while_an_upgrade_is_under_way() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let more = format!("{ECHO}[frontend.g]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n");
    let (outcome, reloaded) = meanwhile(&family, || {
        family.write(&more);
        process::kill(old, libc::SIGHUP);
        family.ask(&json!({"version": 1, "command": "reload"}))
    });
    let new = outcome.expect("it succeeds");
    let error = reloaded.expect_err("the old process has nothing to change");
    assert!(error.contains("an upgrade has taken place, and this process drains"), "{error}");
    family.expect_alone(new);
    assert_eq!(family.status()["frontends"][1]["name"], "g", "it has read the file");
    assert!(family.ask(&json!({"version": 1, "command": "reload"})).is_ok());
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// The new process would serve on: whoever wants an end asks again, and that one.
#[test]
fn an_end_that_is_asked_for_while_connections_move() {
    let family = Family::start(ECHO);
    let (hangs, control) = (family.faulty("hang:new-begun"), family.control());
    thread::scope(|scope| {
        let upgrade = scope.spawn(move || upgrade_by(&control, Some(&hangs)));
        let backend = json!({
            "version": 1, "command": "backend", "action": "drain", "upstream": "u", "backend": "127.0.0.1:1"
        });
        let is_moving = || family.ask(&backend).unwrap_err().contains("an upgrade is in progress");
        eventually(SOON, "nobody is accepted", is_moving);
        let error = family.ask(&json!({"version": 1, "command": "shutdown"})).unwrap_err();
        assert!(error.contains("an upgrade is in progress"), "{error}");
        upgrade.join().expect("it is answered").unwrap_err();
    });
    expect_alive(family.address());
    assert!(family.ask(&json!({"version": 1, "command": "shutdown"})).is_ok());
    eventually(SOON, "all have ended", || family.members().is_empty());
}

/// Whether a process does something about a signal.
fn catches(pid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    caught & (1 << (signal - 1)) != 0
}

/// What is for the server, as `pkill -HUP` sends it to all of its processes, does not end one that reads its file still.
#[test]
fn signals_to_a_new_process_that_has_just_started() {
    let family = Family::start(ECHO);
    let (old, control) = (family.pid(), family.control());
    // So long that reading it takes a while.
    family.write(&format!("{ECHO}{}", "# nothing\n".repeat(1_400_000)));
    thread::scope(|scope| {
        let upgrade = scope.spawn(move || upgrade_by(&control, None));
        let mut new = None;
        eventually(SOON, "it reads, and would end at a SIGTERM alone", || {
            let is_early = |pid: &u32| catches(*pid, libc::SIGHUP) && !catches(*pid, libc::SIGTERM);
            new = family.members().into_iter().find(|pid| *pid != old && is_early(pid));
            new.is_some()
        });
        let new = new.expect("it was waited for");
        for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
            process::kill(new, signal);
        }
        assert_eq!(upgrade.join().expect("it is answered").map(|report| report.pid), Ok(new));
    });
    family.stop();
}

#[test]
fn a_server_that_drains_is_not_upgraded() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    process::kill(old, libc::SIGTERM);
    family.expect_logged("draining");
    for request in ["upgrade", "take-over"] {
        let error = family.ask(&json!({"version": 1, "command": request})).unwrap_err();
        assert!(error.contains("drain"), "{error}");
    }
    process::kill(old, libc::SIGUSR2);
    family.expect_logged("SIGUSR2: not upgraded, the server drains already");
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}
