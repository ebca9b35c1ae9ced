//! A thread that does not go on: the program ends all the same, when it has said it would.

use std::net::TcpStream;
use std::time::Duration;

use crate::client::{connect, expect_echo};
use crate::harness::{Launch, SOON, Server, skipped};
use crate::process;

/// The end of the drain timeout, the time that the threads get then, and that of a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Connections of two workers, one of which is frozen then. `None` if this machine does not let us.
fn start() -> Option<(Server, Vec<TcpStream>)> {
    let arguments = ["echo", "--workers", "2", "--acceptors", "1", "--drain-timeout", "300ms"];
    let server = Launch::new(&arguments).start();
    let mut sessions: Vec<TcpStream> = (0..3).map(|_| connect(server.address())).collect();
    sessions.iter_mut().for_each(|session| expect_echo(session, b"before"));
    if let Err(error) = process::freeze(server.pid(), "worker-0") {
        skipped(&format!("threads that are stuck: ptrace(2): {error}"));
        return None;
    }
    Some((server, sessions))
}

/// Holds that it ends as it should, and that both of its last lines are about the same connections.
#[track_caller]
fn expect_end(server: Server, since: &str, how: &str) {
    let address = server.address();
    let exit = server.wait(LIMIT);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let mut lines = exit.stderr.lines().rev();
    let [last, before] = [(); 2].map(|()| lines.next().expect("there are lines"));
    // Two of three for the first or the second, by who was faster.
    let count = before.split("(open connections: ").nth(1).and_then(|rest| rest.split(')').next());
    let count = count.unwrap_or_else(|| panic!("no thread is named: {}", exit.stderr));
    assert!(["1", "2"].contains(&count), "{before}");
    let told = format!(
        " ERROR the server on {address} did not stop within 3s of {since}: thread 'worker-0' (open connections: \
         {count}) still runs; the process ends now"
    );
    assert!(before.contains(&told), "{before}");
    assert!(last.contains(" WARN ended after ") && last.contains(how), "{last}");
    let told =
        format!("; 3 connections were cut off, {count} of them on threads that did not stop");
    assert!(last.ends_with(&told), "{last}");
}

#[test]
fn the_end_of_the_drain_timeout_does_not_wait_for_it() {
    let Some((server, _sessions)) = start() else { return };
    server.signal(libc::SIGTERM);
    expect_end(server, "the end of --drain-timeout", "s of draining without stopping");
}

#[test]
fn neither_does_a_second_signal() {
    let arguments = ["echo", "--workers", "1", "--acceptors", "1", "--drain-timeout", "60s"];
    let server = Launch::new(&arguments).start();
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    if let Err(error) = process::freeze(server.pid(), "worker-0") {
        return skipped(&format!("threads that are stuck: ptrace(2): {error}"));
    }
    server.signal(libc::SIGTERM);
    crate::harness::eventually(SOON, "the drain has begun", || {
        server.stderr().contains("draining ")
    });
    let mut server = server;
    // One that comes too soon behind the first is the same wish.
    crate::harness::eventually(LIMIT, "it has ended", || {
        server.signal(libc::SIGTERM);
        server.has_ended()
    });
    let exit = server.wait(SOON);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(" did not stop within 3s of being told to: thread 'worker-0' ("));
    assert!(
        exit.stderr.contains("cut short without stopping; 1 connection was cut off, 1 of them")
    );
}
