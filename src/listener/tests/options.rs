//! Each option of the listener, read back from the kernel.

use std::io::Write;
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;

use super::*;

/// The listener and a connection that it accepted.
fn accepted(options: &SocketOptions) -> (Listener, Socket) {
    let listener = listen("127.0.0.1:0", options);
    let _client = connect(&listener);
    let socket = accept(&listener);
    (listener, socket)
}

#[test]
fn nodelay_is_inherited() {
    for nodelay in [true, false] {
        let (_, socket) = accepted(&SocketOptions { nodelay, ..SocketOptions::default() });
        assert_eq!(socket.tcp_nodelay().unwrap(), nodelay);
    }
}

#[test]
fn keepalive_is_inherited_in_whole_seconds() {
    for (milliseconds, seconds) in [(1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
        let keepalive_idle = Some(Duration::from_millis(milliseconds));
        let (_, socket) = accepted(&SocketOptions { keepalive_idle, ..SocketOptions::default() });
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(seconds));
    }
}

#[test]
fn the_user_timeout_is_inherited() {
    let user_timeout = Some(Duration::from_millis(12_345));
    let (_, socket) = accepted(&SocketOptions { user_timeout, ..SocketOptions::default() });
    assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);
}

#[test]
fn what_is_not_configured_is_off() {
    let (listener, socket) = accepted(&SocketOptions::default());
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    assert_eq!(sys::tcp_defer_accept(listener.as_fd()).unwrap(), 0);
    assert_eq!(sys::tcp_fastopen(listener.as_fd()).unwrap(), 0);
    assert!(!SockRef::from(&listener).reuse_port().unwrap());
}

/// From the open flags in /proc, see proc_pid_fdinfo(5).
fn closed_on_exec(listener: &Listener) -> bool {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let fdinfo = format!("/proc/self/fdinfo/{}", listener.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(fdinfo).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & O_CLOEXEC != 0
}

/// io_uring on older kernels needs the first, whoever starts a process the second.
#[test]
fn the_listener_is_blocking_and_closed_on_exec() {
    let directory = unix::directory("flags");
    let path = directory.join("listener.sock");
    for address in ["127.0.0.1:0", &format!("unix:{}", path.display())] {
        let listener = listen_plainly(address);
        assert!(!SockRef::from(&listener).nonblocking().unwrap(), "{address}");
        assert!(closed_on_exec(&listener), "{address}");
    }
}

#[test]
fn with_defer_accept_a_silent_client_does_not_enter_the_queue() {
    let options = SocketOptions { defer_accept: true, ..SocketOptions::default() };
    let listener = listen("127.0.0.1:0", &options);
    assert_eq!(sys::tcp_defer_accept(listener.as_fd()).unwrap(), 7);
    let _silent = connect(&listener);
    let mut client = connect(&listener);
    client.write_all(b"hello").unwrap();
    wait_for(&listener, 1);
    let peer = sys::peer_address(accept(&listener).as_fd()).unwrap();
    assert_eq!(peer, Some(client.local_addr().unwrap()));
}

#[test]
fn fast_open_has_the_length_asked_for_up_to_the_limit_of_the_kernel() {
    let limit = sys::somaxconn().unwrap();
    for (asked, given) in [(16, 16.min(limit)), (u32::MAX, limit)] {
        let fast_open = NonZeroU32::new(asked);
        let options = SocketOptions { fast_open, ..SocketOptions::default() };
        let listener = listen("127.0.0.1:0", &options);
        assert_eq!(sys::tcp_fastopen(listener.as_fd()).unwrap(), given);
    }
}
