//! Ways in which the new process is started.

use std::fs;
use std::process::Command;

use super::family::{ECHO, Family};
use crate::client::{connect, expect_alive, expect_echo};
use crate::harness::{Launch, SOON, acceptor, eventually, skipped};

#[test]
fn by_the_command() {
    let mut family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let exit = family.ctl("upgrade", &[]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let pid = family.pid();
    assert_ne!(pid, old);
    let told = format!(
        "process {pid} (version {}) has taken over: 1 connections moved within ",
        env!("CARGO_PKG_VERSION")
    );
    assert!(exit.stdout.starts_with(&told) && exit.stdout.contains("none is left"), "{exit:?}");
    family.expect_logged(&told);
    family.expect_logged("upgrade: taken over: 1 connections, after ");
    eventually(SOON, "the old one has ended", || family.first.has_ended());
    expect_echo(&client, b"abc");
    expect_alive(family.address());
    drop(client);
    family.stop();
}

/// The new process is started by somebody else; where there is nobody to take over from it starts all the same.
#[test]
fn by_hand() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let from = format!("unix:{}", family.control());
    let new = family.by_hand(&["--take-over", &from]).listeners(1).start();
    assert_eq!(new.address(), family.address());
    family.expect_alone(new.pid());
    family.expect_logged(&format!("upgrade: process {} (version ", new.pid()));
    assert_eq!((family.pid() == old, family.open()), (false, 1));
    expect_echo(&client, b"abc");
    // And again, from the one that was started so.
    let next = family.by_hand(&["--take-over", &from]).listeners(1).start();
    family.expect_alone(next.pid());
    expect_echo(&client, b"abc");
    drop(client);
    assert_eq!(new.wait(SOON).code, Some(0));
    next.stop();
    let alone = family.by_hand(&["--take-over", &from]).listeners(1).start();
    assert!(alone.stderr().contains("so there is nothing to take over"), "{}", alone.stderr());
    expect_alive(alone.address());
    // A successor that it starts itself takes over from it, not from whoever has the socket.
    let report = family.upgrade();
    family.expect_alone(report.pid);
    assert_eq!(alone.address().port(), connect(alone.address()).peer_addr().unwrap().port());
    family.stop();
}

/// What it binds and connects to would be in that one.
#[test]
fn in_another_network() {
    let own_network = ["--map-root-user", "--net"];
    let tried = Command::new("unshare").args(own_network).arg("true").output();
    if !tried.is_ok_and(|it| it.status.success()) {
        return skipped("taking over from another network: unshare(1) makes no namespaces here");
    }
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    expect_echo(&client, b"abc");
    let (program, file) = (acceptor(), family.folder.file("a.toml"));
    let from = format!("unix:{}", family.control());
    let run = [program.to_str().expect("text"), "run", "--config", &file, "--take-over", &from];
    let all = [&own_network[..], &run].concat();
    let exit = Launch::program("unshare", &all, 0).run_within(4 * SOON);
    let told = "the two processes are in different network namespaces";
    assert!(exit.code == Some(1) && exit.stderr.contains(told), "{exit:?}");
    family.expect_logged("failed, nothing has changed: the two processes are in different");
    assert_eq!(family.pid(), old);
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// Its exit status says whether the old process goes on.
#[test]
fn by_a_command_that_cannot_write() {
    let family = Family::start(ECHO);
    let (old, program) = (family.pid(), acceptor());
    let (program, control) =
        (program.to_str().expect("text"), format!("unix:{}", family.control()));
    let script = "exec \"$0\" \"$@\" > /dev/full";
    let all = ["-c", script, program, "upgrade", "--control", &control];
    let exit = Launch::program("/bin/sh", &all, 0).run_within(4 * SOON);
    let told = "the upgrade is done, but stdout cannot be written";
    assert!(exit.code == Some(0) && exit.stderr.contains(told), "{exit:?}");
    assert_ne!(family.pid(), old);
    family.stop();
}

/// The file has the address of the next process, and the old one has that of before.
#[test]
fn by_a_file_with_another_control_socket() {
    let family = Family::start(ECHO);
    let old = family.pid();
    let file = family.folder.file("a.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replace("c.sock", "d.sock")).expect("there is room");
    let exit = Launch::from_file(&["upgrade", "--config", &file], 0).run_within(4 * SOON);
    let told = "if the file has had another `control` since the server was started";
    assert!(exit.code == Some(1) && exit.stderr.contains(told), "{exit:?}");
    assert_eq!(family.ctl("upgrade", &[]).code, Some(0));
    let exit = Launch::from_file(&["upgrade", "--config", &file], 0).run_within(4 * SOON);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    eventually(SOON, "the first has gone", || !family.members().contains(&old));
    family.stop();
}

#[test]
fn from_another_file() {
    let family = Family::start(ECHO);
    let client = connect(family.address());
    let copy = family.folder.file("copy");
    fs::copy(acceptor(), &copy).expect("there is room");
    let exit = family.ctl("upgrade", &["--binary", &copy]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    assert_eq!(program(family.pid()), fs::canonicalize(&copy).unwrap());
    expect_echo(&client, b"abc");
    // From then on that is the program: it may be replaced by a file of the same name.
    fs::rename(&copy, family.folder.file("moved")).expect("it is there");
    let error = family.try_upgrade(None).unwrap_err();
    assert!(error.contains("copy cannot be started: No such file"), "{error}");
    fs::copy(acceptor(), &copy).expect("there is room");
    let report = family.upgrade();
    assert_eq!(program(report.pid), fs::canonicalize(&copy).unwrap());
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// Each is an error in words, and nothing has happened.
#[test]
fn from_files_that_are_no_program_of_this_kind() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    let missing = family.folder.file("missing");
    let none = family.folder.write("none", "this is no program\n");
    let data = family.script("data", "\u{1}\u{2} no program either");
    let ends = family.script("ends.sh", "#!/bin/sh\nexit 3\n");
    let other = family.script("other.sh", "#!/bin/sh\necho this is another program >&0\n");
    let table = [
        (&missing, "missing cannot be started: No such file or directory"),
        (&none, "none cannot be started: Permission denied"),
        (&data, "data cannot be started: Exec format error"),
        (&ends, "the new process has ended (exit status: 3); its log says why"),
        (&other, "which makes no sense here; is it another program?"),
    ];
    for (file, expected) in table {
        let exit = family.ctl("upgrade", &["--binary", file]);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{file}");
        assert!(exit.stderr.contains(expected), "{file}: {exit:?}");
        family.expect_logged(&format!(
            "ERROR upgrade: failed, nothing has changed: {}",
            &exit.stderr[7..]
        ));
        assert_eq!(family.members(), [old]);
        expect_echo(&client, b"abc");
        expect_alive(family.address());
    }
    let exit = family.ctl("upgrade", &["--binary", "/bin/true"]);
    assert!(exit.stderr.contains("has ended (exit status: 0)"), "{exit:?}");
    assert_ne!(family.upgrade().pid, old);
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}
