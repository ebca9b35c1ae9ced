//! Where it listens: unix sockets, IPv6, both families at once, several listeners.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::client::{IO_TIMEOUT, expect_alive, expect_echo};
use crate::harness::{Launch, Server, skipped};

/// A path for a socket, in a folder that goes away with it.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("acceptor-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).expect("the folder is new");
        Self(folder.join("socket"))
    }

    fn listen(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    #[track_caller]
    fn expect_alive(&self) {
        let stream = UnixStream::connect(&self.0).expect("it accepts");
        stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
        expect_echo(stream, b"are you there?");
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().expect("it lies in a folder"));
    }
}

#[test]
fn a_unix_socket_serves_and_goes_away() {
    let path = SocketPath::new("serves");
    let server = Server::start(&["echo", "--listen", &path.listen()]);
    assert_eq!(server.listening()[0].address, path.listen());
    path.expect_alive();
    server.stop();
    assert!(!path.0.exists(), "the file is still there");
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let path = SocketPath::new("stale");
    drop(UnixListener::bind(&path.0).expect("it can be bound"));
    assert!(path.0.exists(), "a dropped listener leaves its file");
    let server = Server::start(&["echo", "--listen", &path.listen()]);
    path.expect_alive();
    server.stop();
}

#[test]
fn a_live_unix_socket_is_refused() {
    let path = SocketPath::new("live");
    let first = Server::start(&["echo", "--listen", &path.listen()]);
    let second = Launch::new(&["echo", "--listen", &path.listen()]).run();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains(path.0.to_str().expect("text")), "{}", second.stderr);
    assert_eq!(second.stdout, "");
    path.expect_alive();
    first.stop();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let path = SocketPath::new("file");
    std::fs::write(&path.0, "precious").expect("it can be written");
    let exit = Launch::new(&["echo", "--listen", &path.listen()]).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(std::fs::read_to_string(&path.0).expect("it is there"), "precious");
}

fn has_ipv6() -> bool {
    let there = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !there {
        skipped("this machine has no IPv6 loopback");
    }
    there
}

#[test]
fn ipv6() {
    if !has_ipv6() {
        return;
    }
    let server = Server::start(&["echo", "--listen", "[::1]:0"]);
    assert!(server.address().is_ipv6());
    expect_alive(server.address());
    server.stop();
}

#[test]
fn a_wildcard_takes_both_families_unless_told_otherwise() {
    if !has_ipv6() {
        return;
    }
    let both = Server::start(&["echo", "--listen", "[::]:0"]);
    let port = both.address().port();
    expect_alive(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    expect_alive(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    both.stop();
    let one = Server::start(&["echo", "--listen", "[::]:0", "--v6-only"]);
    let port = one.address().port();
    expect_alive(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let other = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    assert!(other.is_err(), "IPv4 got through although --v6-only was given");
    one.stop();
}

#[test]
fn several_listeners_in_the_order_in_which_they_were_named() {
    let path = SocketPath::new("several");
    let unix = path.listen();
    let server = Server::start(&[
        "echo",
        "--listen",
        "127.0.0.2:0",
        "--listen",
        &unix,
        "--listen",
        "127.0.0.3:0",
    ]);
    assert_eq!(server.address_of(0).ip(), Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(server.listening()[1].address, unix);
    assert_eq!(server.address_of(2).ip(), Ipv4Addr::new(127, 0, 0, 3));
    assert!(server.listening().iter().all(|line| line.service == "echo"));
    expect_alive(server.address_of(0));
    path.expect_alive();
    expect_alive(server.address_of(2));
    server.stop();
}

/// A service that was never told an address would surprise: the line names a real port.
#[test]
fn port_zero_becomes_a_real_port() {
    let server = Server::start(&["echo", "--acceptors", "0", "--workers", "2"]);
    assert_ne!(server.address().port(), 0);
    assert_eq!(server.listening().len(), 1, "one line per listener, not per socket");
    for _ in 0..20 {
        expect_alive(server.address());
    }
    server.stop();
}
