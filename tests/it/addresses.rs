//! Where it listens: unix sockets, IPv6, both families at once, several listeners.

use std::io::{Read, Write};
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, ToSocketAddrs,
};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
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

/// `:0` and `*:0` are all addresses, of both families.
#[test]
fn all_addresses_are_typed_without_one() {
    for typed in [":0", "*:0"] {
        let server = Server::start(&["echo", "--listen", typed]);
        let port = server.address().port();
        expect_alive(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        if has_ipv6() {
            expect_alive(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        }
        server.stop();
    }
}

/// As many lines as the name has addresses.
#[test]
fn each_address_of_a_name_is_listened_on() {
    let found: std::collections::BTreeSet<_> =
        ("localhost", 0).to_socket_addrs().expect("it resolves").map(|found| found.ip()).collect();
    let server = Launch::new(&["echo", "--listen", "localhost:0"]).listeners(found.len()).start();
    let port = server.address().port();
    for index in 0..found.len() {
        let address = server.address_of(index);
        assert!(found.contains(&address.ip()) && address.port() == port, "{address}");
        expect_alive(address);
    }
    server.stop();
}

#[test]
fn without_ipv6_all_addresses_are_those_of_ipv4_and_a_line_says_so() {
    for typed in [":0", "*:0"] {
        let server = Launch::new(&["echo", "--listen", typed, "--acceptors", "2"]);
        let server = server.without_ipv6().start();
        assert_eq!(server.address().ip(), Ipv4Addr::UNSPECIFIED);
        expect_alive(SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port())));
        let stderr = server.stop();
        assert_eq!(stderr.matches("has no IPv6").count(), 1, "{stderr}");
    }
    let server = Launch::new(&["echo", "--listen", "localhost:0"]).without_ipv6().start();
    assert_eq!(server.address().ip(), Ipv4Addr::LOCALHOST);
    expect_alive(server.address());
    server.stop();
    let exit = Launch::new(&["echo", "--listen", "[::]:0"]).without_ipv6().run();
    assert_eq!(exit.code, Some(1), "IPv6 itself was asked for: {exit:?}");
    assert!(exit.stderr.contains("no IPv6"), "{exit:?}");
}

#[test]
fn a_name_that_does_not_resolve_ends_the_start() {
    let exit = Launch::new(&["echo", "--listen", "no.such.name.invalid:7000"]).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{exit:?}");
    assert!(exit.stderr.contains("getent ahosts no.such.name.invalid"), "{exit:?}");
}

#[test]
fn one_address_by_two_names_is_refused() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = holder.local_addr().expect("it is bound").port();
    drop(holder);
    let (one, other) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let exit = Launch::new(&["echo", "--listen", &one, "--listen", &other]).run();
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert!(exit.stderr.contains("is given twice"), "{exit:?}");
}

/// Names below localhost stand in no file, and are this machine all the same: to listen on, as a backend,
/// as a target.
#[test]
fn localhost_needs_no_resolver() {
    let server = Server::start(&["echo", "--listen", "nobody.localhost:0"]);
    let back = format!("nobody.localhost:{}", server.address().port());
    let proxy = Server::start(&["proxy", "--listen", "localhost.:0", "--to", &back]);
    let front = format!("NOBODY.localhost:{}", proxy.address().port());
    let exit = Launch::loadgen(&["crr", &front, "-4", "-n", "20", "-c", "2"]).run();
    assert!(exit.stdout.contains("20 completed, 0 failed"), "{exit:?}");
    assert!(exit.stderr.contains("is 127.0.0.1:"), "{exit:?}");
    proxy.stop();
    server.stop();
}

/// A link-local address and the name of its interface: those of the first one that is up.
fn link_local() -> Option<(Ipv6Addr, u32, String)> {
    let text = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    text.lines().find_map(|line| {
        let [address, index, _, "20", _, name] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        Some((address, u32::from_str_radix(index, 16).ok()?, name.to_owned()))
    })
}

#[test]
fn load_on_a_link_local_address_goes_by_its_interface() {
    let Some((ip, index, name)) = link_local() else {
        return skipped("this machine has no link-local address");
    };
    let listener = TcpListener::bind(SocketAddrV6::new(ip, 0, 0, index)).expect("it is ours");
    let port = listener.local_addr().expect("it is bound").port();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut request = [0; 1024];
        let length = stream.read(&mut request).expect("a request comes");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it takes it");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let url = format!("HTTP://[{ip}%{name}]:{port}/x");
    let run = ["http", &url, "-n", "1", "-c", "1", "--warm-up", "0s"];
    let exit = Launch::loadgen(&run).run();
    assert!(exit.stdout.contains("1 completed"), "{exit:?}");
    let request = answering.join().expect("it did not panic");
    assert!(request.contains(&format!("Host: [{ip}]:{port}\r\n")), "{request}");
}

/// A name that nobody else on this machine uses.
fn abstract_name(test: &str) -> String {
    format!("acceptor-{}-{}-{test}", crate::ENGINE, std::process::id())
}

fn connect_abstract(name: &str) -> std::io::Result<UnixStream> {
    UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?)
}

#[track_caller]
fn expect_alive_abstract(name: &str) {
    let stream = connect_abstract(name).expect("it accepts");
    stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    expect_echo(stream, b"are you there?");
}

#[test]
fn an_abstract_unix_socket_serves_without_a_file() {
    let name = abstract_name("serves");
    let listen = format!("unix:@{name}");
    let server = Server::start(&["echo", "--listen", &listen]);
    assert_eq!(server.listening()[0].address, listen);
    assert!(!PathBuf::from(format!("@{name}")).exists(), "a file of that name was made");
    expect_alive_abstract(&name);
    let second = Launch::new(&["echo", "--listen", &listen]).run();
    assert_eq!(second.code, Some(1), "{second:?}");
    let words = format!("{listen}: it is in use; to see by whom: ss -lxp src '@{name}'");
    assert!(second.stderr.contains(&words), "{second:?}");
    server.stop();
    let again = Server::start(&["echo", "--listen", &listen]);
    expect_alive_abstract(&name);
    again.stop();
}

/// Everything that connects takes the same names: the proxy, its checks, the generator.
#[test]
fn an_abstract_unix_socket_is_connected_to() {
    let [back, front] = ["back", "front"].map(|test| format!("unix:@{}", abstract_name(test)));
    let server = Server::start(&["echo", "--listen", &back]);
    let arguments = ["proxy", "--listen", &front, "--to", &back, "--check-interval", "50ms"];
    let proxy = Server::start(&arguments);
    let exit = Launch::loadgen(&["crr", &front, "-n", "50", "-c", "2"]).run();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains(&front), "the target is named as it was typed: {exit:?}");
    proxy.stop();
    server.stop();
}

#[test]
fn a_file_whose_name_begins_with_an_at_sign_is_a_file() {
    let path = SocketPath::new("at");
    let folder = path.0.parent().expect("it lies in a folder");
    let server = Launch::new(&["echo", "--listen", "unix:./@name"]).within(folder).start();
    assert_eq!(server.listening()[0].address, "unix:./@name");
    let stream = UnixStream::connect(folder.join("@name")).expect("the file is there");
    stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    expect_echo(stream, b"are you there?");
    server.stop();
    assert!(!folder.join("@name").exists(), "the file is still there");
}
