//! Listeners that somebody breaks while the server runs.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::Socket;

use crate::client::{connect, expect_alive, expect_echo, read_to_the_end};
use crate::harness::{Launch, SOON, Server, eventually, skipped};

/// A copy of a descriptor of a process: pidfd_open(2), pidfd_getfd(2).
fn copy(pid: u32, number: i32) -> io::Result<OwnedFd> {
    let owned = |result: libc::c_long| match i32::try_from(result) {
        // SAFETY: the call has made it for us.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: neither call takes a pointer.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Shuts the server's listening socket down, as whoever shares it could. False if we may not.
fn breaks(server: &Server, address: SocketAddr) -> bool {
    let folder = format!("/proc/{}/fd", server.pid());
    for entry in fs::read_dir(folder).expect("it is our child").flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let descriptor = match copy(server.pid(), number.expect("it is a number")) {
            Ok(descriptor) => descriptor,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return false,
            Err(_) => continue,
        };
        let socket = Socket::from(descriptor);
        let own = socket.local_addr().ok().and_then(|own| own.as_socket());
        if own == Some(address) && socket.is_listener().unwrap_or(false) {
            socket.shutdown(Shutdown::Both).expect("it listens");
            return true;
        }
    }
    panic!("nobody listens on {address}");
}

/// Each is named by its address, with the call and what it means. What is open goes on, also behind the last
/// one, until it ends by itself.
#[test]
fn a_listener_that_is_broken_is_named() {
    let any = "127.0.0.1:0";
    let arguments = ["echo", "--workers", "1", "--listen", any, "--listen", any];
    let server = Launch::new(&arguments).start();
    let [first, second] = [0, 1].map(|listener| server.address_of(listener));
    let mut session = connect(first);
    expect_echo(&mut session, b"before");
    if !breaks(&server, first) {
        return skipped("broken listeners: pidfd_getfd(2) is not permitted");
    }
    let told = format!("listening on {first} is over: accept(2) failed with EINVAL");
    eventually(SOON, "it is told", || server.stderr().contains(&told));
    expect_echo(&mut session, b"after");
    expect_alive(second);
    breaks(&server, second);
    let told = format!("listening on {second} is over: accept(2) failed with EINVAL");
    eventually(SOON, "it is told", || server.stderr().contains(&told));
    let drains = ") have 10s to end, until 20";
    eventually(SOON, "the drain is told", || server.stderr().contains(drains));
    expect_echo(&mut session, b"still");
    drop(session);
    let exit = server.wait(SOON);
    assert_eq!(exit.code, Some(1));
    let all =
        format!(" ERROR no listener was left on {first}, {second}, so the server has drained");
    assert!(exit.stderr.contains(&all), "{}", exit.stderr);
    assert!(exit.stderr.ends_with(" of draining; no connection was cut off\n"), "{}", exit.stderr);
    assert!(!exit.stderr.contains("cannot refuse new connections"), "{}", exit.stderr);
}

/// The sockets of one address: as long as one is left the server serves, and says so.
#[test]
fn one_of_several_sockets_that_listen_on_an_address() {
    for acceptors in ["0", "2"] {
        let arguments = ["--workers", "2", "--acceptors", acceptors, "--drain-timeout", "300ms"];
        let server = Launch::new(&[&["echo"], &arguments[..]].concat()).start();
        let address = server.address();
        let mut session = connect(address);
        expect_echo(&mut session, b"before");
        if !breaks(&server, address) {
            return skipped("broken listeners: pidfd_getfd(2) is not permitted");
        }
        let told = format!("one of the sockets that listen on {address} is over: accept(2) failed");
        eventually(SOON, "it is told", || server.stderr().contains(&told));
        assert!(!server.stderr().contains("nobody can connect"), "{}", server.stderr());
        for _ in 0..10 {
            expect_alive(address);
        }
        breaks(&server, address);
        // The drain timeout ends this one.
        read_to_the_end(&session).expect("it ends");
        let exit = server.wait(SOON);
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        assert!(exit.stderr.contains("nobody can connect there any more"), "{}", exit.stderr);
        assert!(
            exit.stderr.ends_with(" of draining; 1 connection was cut off\n"),
            "{}",
            exit.stderr
        );
    }
}

/// The first signal of an operator does not cut off what such a drain lets go on.
#[test]
fn a_signal_while_the_server_drains_for_want_of_a_listener() {
    let server = Launch::new(&["echo", "--drain-timeout", "60s"]).start();
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    if !breaks(&server, server.address()) {
        return skipped("broken listeners: pidfd_getfd(2) is not permitted");
    }
    eventually(SOON, "it is told", || server.stderr().contains("the server drains"));
    server.signal(libc::SIGTERM);
    eventually(SOON, "it is told", || server.stderr().contains("a second signal stops at once"));
    expect_echo(&mut session, b"after");
    drop(session);
    assert_eq!(server.wait(SOON).code, Some(1));
}
