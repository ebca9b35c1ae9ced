//! Listeners that somebody breaks while the server runs.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::Socket;

use crate::client::{connect, expect_alive, expect_echo};
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

/// Each is named by its address, with the call and what it means; the last one ends the server.
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
    let exit = server.wait(SOON);
    assert_eq!(exit.code, Some(1));
    let all = format!("has no listener left that accepts on {first}, {second}; the server stops");
    assert!(exit.stderr.contains(&all), "{}", exit.stderr);
    assert!(exit.stderr.contains(" WARN stopped; "), "{}", exit.stderr);
}
