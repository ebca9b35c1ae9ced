//! What is refused, with which exit code, and whether the message helps.

use std::net::TcpListener;

use crate::harness::{Exit, Launch};
use crate::process::{self, Refused};

/// Exit codes of the program.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const CANNOT_RUN_HERE: i32 = 69;

#[track_caller]
fn expect_refusal(exit: &Exit, code: i32, words: &[&str]) {
    assert_eq!(exit.code, Some(code), "{}", exit.stderr);
    assert_eq!(exit.stdout, "", "something was said on stdout");
    for word in words {
        assert!(exit.stderr.contains(word), "'{word}' is missing in: {}", exit.stderr);
    }
}

#[test]
fn a_command_line_that_is_wrong() {
    let table: &[(&[&str], &[&str])] = &[
        (&["echo", "--wrokers", "2"], &["--wrokers", "--workers"]),
        (&["eco"], &["eco", "echo"]),
        (&["echo", "--listen", "localhost:http"], &["--listen", "localhost:http", "port"]),
        (&["echo", "--listen", "127.0.0.1"], &["127.0.0.1", "port"]),
        (&["echo", "--listen", "unix:"], &["unix:", "path"]),
        (&["echo", "--workers", "0"], &["--workers", "'0'"]),
        (&["echo", "--workers", "9999"], &["--workers", "9999"]),
        (&["echo", "--backlog", "0"], &["--backlog", "'0'"]),
        (&["echo", "--max-connections", "0"], &["--max-connections", "'0'"]),
        (&["echo", "--idle-timeout", "0s"], &["--idle-timeout", "0s"]),
        (&["echo", "--idle-timeout", "60"], &["--idle-timeout", "'60'", "60s"]),
        (&["echo", "--dispatch", "best"], &["--dispatch", "best", "least-connections"]),
        (&["echo", "--buffer-size", "1"], &["--buffer-size", "'1'", "64"]),
        (&["echo", "--body", "x"], &["--body"]),
        (&["http", "--body", "x", "--body-size", "1"], &["--body", "--body-size"]),
        (&["echo", "-q", "-v"], &["--quiet", "--verbose"]),
    ];
    for (arguments, words) in table {
        let exit = Launch::new(arguments).run();
        expect_refusal(&exit, USAGE, words);
    }
}

/// 192.0.2.0/24 is for documentation (RFC 5737), so no machine has it. Nothing is sent there.
#[test]
fn an_address_that_this_machine_does_not_have() {
    if TcpListener::bind("192.0.2.1:0").is_ok() {
        crate::harness::skipped("net.ipv4.ip_nonlocal_bind is set");
        return;
    }
    let exit = Launch::new(&["echo", "--listen", "192.0.2.1:7000"]).run();
    expect_refusal(&exit, FAILED, &["192.0.2.1:7000"]);
}

#[test]
fn a_port_that_is_taken() {
    for acceptors in ["1", "0"] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = taken.local_addr().expect("it is bound").to_string();
        let arguments = ["echo", "--workers", "2", "--acceptors", acceptors, "--listen", &address];
        let exit = Launch::new(&arguments).run();
        expect_refusal(&exit, FAILED, &[&address]);
    }
}

/// With SO_REUSEPORT on both sides the second would bind and steal half of the connections.
#[test]
fn a_port_that_another_acceptor_has() {
    for acceptors in ["1", "2"] {
        let arrangement = ["echo", "--workers", "2", "--acceptors", acceptors];
        let first = Launch::new(&arrangement).start();
        let address = first.address().to_string();
        let mut arguments = arrangement.to_vec();
        arguments.extend(["--listen", &address]);
        expect_refusal(&Launch::new(&arguments).run(), FAILED, &[&address]);
        first.stop();
    }
}

/// The second of two listeners fails: nothing may have been announced.
#[test]
fn one_of_several_addresses_that_cannot_be_had() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let exit = Launch::new(&["echo", "--listen", "127.0.0.1:0", "--listen", &address]).run();
    expect_refusal(&exit, FAILED, &[&address]);
}

#[test]
fn a_machine_that_refuses_io_uring() {
    let table: &[(Refused, &[&str])] = &[
        (Refused::With(libc::EPERM), &["EPERM", "kernel.io_uring_disabled", "seccomp"]),
        (Refused::With(libc::ENOSYS), &["ENOSYS", "kernel"]),
        (Refused::With(libc::ENOMEM), &["ENOMEM", "locked", "--cq-entries"]),
        (Refused::Kill, &["SIGSYS", "seccomp", "io_uring_setup"]),
    ];
    let mut seen = Vec::new();
    for (how, words) in table {
        let exit = Launch::new(&["echo", "--engine", "uring"]).refusing_io_uring(*how).run();
        expect_refusal(&exit, CANNOT_RUN_HERE, &["io_uring"]);
        expect_refusal(&exit, CANNOT_RUN_HERE, words);
        assert!(!seen.contains(&exit.stderr), "{how:?} is not told apart: {}", exit.stderr);
        seen.push(exit.stderr);
    }
}

/// The kernel says EAGAIN and names none of the limits that may be the reason.
#[test]
fn a_limit_on_threads() {
    let exit = Launch::new(&["echo"]).prepared(process::refuse_threads).run();
    let words = ["clone(2) failed with EAGAIN", "ulimit -u", "pids.max", "kernel.threads-max"];
    expect_refusal(&exit, FAILED, &words);
}

#[test]
fn a_limit_of_descriptors_that_leaves_no_room() {
    let exit = Launch::new(&["echo", "--workers", "2"]).descriptors(8).run();
    assert!(matches!(exit.code, Some(FAILED | USAGE)), "{exit:?}");
    assert_eq!(exit.stdout, "");
    assert!(exit.stderr.contains("descriptor") || exit.stderr.contains("NOFILE"), "{exit:?}");
}
