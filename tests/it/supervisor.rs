//! What systemd passes, is told, and keeps: a scripted one stands in its place.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use sendfd::RecvWithFd;
use socket2::{Domain, Socket, Type};

use crate::client::{connect, expect_alive, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, acceptor, eventually};
use crate::process;

/// What reads NOTIFY_SOCKET.
pub(crate) struct Supervisor {
    pub(crate) socket: UnixDatagram,
    folder: Folder,
}

/// What it was told at once, and the sockets that came along.
pub(crate) type Told = (String, Vec<OwnedFd>);

impl Supervisor {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.file("notify")).expect("the path is free");
        socket.set_read_timeout(Some(SOON)).expect("not zero");
        Self { socket, folder }
    }

    pub(crate) fn watches(&self, launch: Launch) -> Launch {
        launch.variable("NOTIFY_SOCKET", &self.folder.file("notify"))
    }

    pub(crate) fn next(&self) -> Told {
        let (mut bytes, mut numbers) = ([0; 4096], [-1; 16]);
        let (length, count) =
            self.socket.recv_with_fd(&mut bytes, &mut numbers).expect("it is told");
        // SAFETY: recvmsg(2) has made these for this process alone.
        let sockets =
            numbers[..count].iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) });
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), sockets.collect())
    }

    /// Waits until it is told something in which this is a line.
    #[track_caller]
    pub(crate) fn expect(&self, line: &str) -> Told {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            let told = self.next();
            if told.0.lines().any(|it| it == line || line.ends_with('=') && it.starts_with(line)) {
                return told;
            }
        }
        panic!("it was not told {line}");
    }
}

/// The acceptor with these sockets, each with its name.
pub(crate) fn passing(
    sockets: &[(&dyn AsRawFd, &str)],
    arguments: &[&str],
    listeners: usize,
) -> Launch {
    let program = acceptor();
    let program = program.to_str().expect("a path in text");
    let script = "LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let is_file = arguments[0] == "run";
    let engine = if is_file { &[][..] } else { &["--engine", crate::ENGINE] };
    let all = [&["-c", script, program, arguments[0]], engine, &arguments[1..]].concat();
    let numbers: Vec<i32> = sockets.iter().map(|(socket, _)| socket.as_raw_fd()).collect();
    let names: Vec<_> = sockets.iter().map(|(_, name)| *name).collect();
    Launch::program("/bin/sh", &all, listeners)
        .variable("LISTEN_FDS", &numbers.len().to_string())
        .variable("LISTEN_FDNAMES", &names.join(":"))
        .prepared(move || process::pass_descriptors(&numbers))
}

fn listen() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

#[test]
fn a_server_that_is_ready_reloads_and_stops() {
    let supervisor = Supervisor::new();
    let text = "[frontend.a]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let file = supervisor.folder.write("a.toml", text);
    let launch = Launch::from_file(&["run", "--config", &file], 1);
    let server = supervisor.watches(launch).start();
    let (told, _) = supervisor.expect("READY=1");
    assert!(told.contains("STATUS=serving; 0 of "), "{told}");
    let client = connect(server.address());
    expect_echo(&client, b"abc");
    let (told, _) = supervisor.expect("STATUS=");
    assert!(told.contains("STATUS=serving; 1 of "), "{told}");
    server.signal(libc::SIGHUP);
    let (told, _) = supervisor.expect("RELOADING=1");
    assert!(told.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{told}");
    supervisor.expect("READY=1");
    server.signal(libc::SIGTERM);
    supervisor.expect("STOPPING=1");
    drop(client);
    assert_eq!(server.wait(SOON).code, Some(0));
}

/// As some container runtimes have it.
#[test]
fn a_supervisor_with_an_abstract_name_is_told_and_one_that_is_not_there_is_missed() {
    let name = format!("test-supervisor-{}-{}", crate::ENGINE, std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("it is short");
    let socket = UnixDatagram::bind_addr(&address).expect("the name is free");
    socket.set_read_timeout(Some(SOON)).expect("not zero");
    let launch = Launch::new(&["echo"]).variable("NOTIFY_SOCKET", &format!("@{name}"));
    let server = launch.start();
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("it is told");
    assert!(bytes[..length].starts_with(b"READY=1\n"), "{:?}", &bytes[..length]);
    server.stop();
    drop(socket);
    let launch = Launch::new(&["echo"]).variable("NOTIFY_SOCKET", &format!("@{name}"));
    let server = launch.start();
    let told =
        format!("WARN the supervisor cannot be told at NOTIFY_SOCKET=@{name}: Connection refused");
    eventually(SOON, "it is told once", || server.stderr().matches(&told).count() == 1);
    server.stop();
}

/// As long as each thread takes its turns.
#[test]
fn a_watchdog_that_is_fed_until_a_thread_is_stuck() {
    let supervisor = Supervisor::new();
    let launch = Launch::new(&["echo"]).variable("WATCHDOG_USEC", "200000");
    let server = supervisor.watches(launch).start();
    // Nobody connects: its threads have nothing to do.
    for _ in 0..5 {
        supervisor.expect("WATCHDOG=1");
    }
    process::freeze(server.pid(), "worker-1")
        .or_else(|_| process::freeze(server.pid(), "worker-0"))
        .expect("there is a worker");
    supervisor.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("not zero");
    let mut bytes = [0; 4096];
    // One may be under way.
    let mut beats = 0;
    while let Ok(length) = supervisor.socket.recv(&mut bytes) {
        beats += usize::from(bytes[..length].starts_with(b"WATCHDOG=1"));
        assert!(beats < 3, "a thread is stuck, and the supervisor is told that all are alive");
    }
    drop(server);
}

/// The server accepts on the socket that it was given, and leaves it as it is when it ends: who connects then is
/// served by the next.
#[test]
fn a_socket_that_is_passed_outlives_the_server() {
    let (socket, address) = listen();
    let listen = address.to_string();
    let arguments = ["echo", "--listen", &listen];
    for round in 0..3 {
        let server = passing(&[(&socket, "any")], &arguments, 1).start();
        assert_eq!(server.address(), address);
        expect_alive(address);
        let log = server.stop();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        // Nobody accepts, nobody refuses: it waits.
        let waiting = connect(address);
        let server = passing(&[(&socket, "any")], &arguments, 1).start();
        expect_echo(&waiting, b"there at last");
        drop(waiting);
        server.signal(if round == 0 { libc::SIGKILL } else { libc::SIGTERM });
        server.wait(SOON);
    }
}

/// As `FileDescriptorName=` or a unit of that name says.
#[test]
fn a_socket_is_found_by_the_name_of_its_frontend() {
    for name in ["echo", "echo.socket"] {
        let (socket, address) = listen();
        let server = passing(&[(&socket, name)], &["echo", "--listen", "127.0.0.1:0"], 1).start();
        assert_eq!(server.address(), address);
        expect_alive(address);
        server.stop();
    }
}

/// Threads that accept for themselves share it.
#[test]
fn one_socket_for_several_threads() {
    let (socket, address) = listen();
    let listen = address.to_string();
    let arguments = ["echo", "--listen", &listen, "--workers", "2", "--acceptors", "0"];
    let server = passing(&[(&socket, "x")], &arguments, 1).start();
    let clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    drop(clients);
    server.stop();
    expect_waits(address);
}

/// It listens still, and nobody accepts.
#[track_caller]
fn expect_waits(address: std::net::SocketAddr) {
    let mut client = connect(address);
    client.write_all(b"abc").expect("the kernel takes it");
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
    client.read(&mut [0; 1]).expect_err("nobody answers");
}

#[test]
fn a_unix_socket_that_is_passed_keeps_its_file() {
    let folder = Folder::new();
    let path = folder.file("socket");
    let socket = UnixListener::bind(&path).expect("the path is free");
    let listen = format!("unix:{path}");
    let server = passing(&[(&socket, "x")], &["echo", "--listen", &listen], 1).start();
    expect_echo(UnixStream::connect(&path).expect("it is there"), b"abc");
    server.stop();
    let waiting = UnixStream::connect(&path).expect("it is still there");
    let server = passing(&[(&socket, "x")], &["echo", "--listen", &listen], 1).start();
    expect_echo(waiting, b"there at last");
    server.stop();
}

#[test]
fn sockets_that_nobody_wants_are_told_and_closed() {
    let (socket, address) = listen();
    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    let passed: [(&dyn AsRawFd, &str); 2] = [(&socket, "old"), (&datagrams, "udp")];
    let server = passing(&passed, &["echo", "--listen", "127.0.0.1:0"], 1).start();
    assert_ne!(server.address(), address);
    let told = |what: &str| {
        let line = format!("no frontend listens on the inherited socket {what}: closed");
        eventually(SOON, "it is told", || server.stderr().contains(&line));
    };
    told(&format!("'old' on {address}"));
    told("'udp', which is no listening stream socket");
    server.stop();
}

/// LISTEN_FDS of somebody else, and one that is wrong.
#[test]
fn what_is_not_for_this_process_is_left_alone() {
    let launch = Launch::new(&["echo"]).variable("LISTEN_PID", "1").variable("LISTEN_FDS", "1");
    launch.start().stop();
    let exit =
        passing(&[], &["echo", "--listen", "127.0.0.1:0"], 1).variable("LISTEN_FDS", "3").run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("sockets passed by LISTEN_FDS: "), "{}", exit.stderr);
}

/// A supervisor that keeps sockets has one for each address, given back after a crash: nobody is refused. Those of a
/// server that drains it is told to forget.
#[test]
fn sockets_are_kept_for_the_server_after_a_crash() {
    let supervisor = Supervisor::new();
    let keeping = |launch: Launch| supervisor.watches(launch.variable("FDSTORE", "16"));
    let server: Server = keeping(Launch::new(&["echo"])).start();
    let address = server.address();
    let (told, sockets) = supervisor.expect("FDSTORE=1");
    let name = format!("acceptor@{address}").replace(':', "_");
    assert!(told.lines().any(|line| line == format!("FDNAME={name}")), "{told}");
    assert_eq!(sockets.len(), 1);
    server.signal(libc::SIGKILL);
    server.wait(SOON);
    let waiting = connect(address);
    let listen = address.to_string();
    let server =
        keeping(passing(&[(&sockets[0], &name)], &["echo", "--listen", &listen], 1)).start();
    expect_echo(&waiting, b"there at last");
    drop(waiting);
    supervisor.expect("FDSTORE=1");
    server.signal(libc::SIGTERM);
    let (told, _) = supervisor.expect("FDSTOREREMOVE=1");
    assert!(told.contains(&name), "{told}");
    drop(sockets);
    assert_eq!(server.wait(SOON).code, Some(0));
    // It was drained as its own, so that new connections are refused.
    eventually(SOON, "nobody listens", || std::net::TcpStream::connect(address).is_err());
}

/// The supervisor is told to forget what was kept for an address that is listened on no more, and what cannot be used:
/// otherwise clients would wait there for ever.
#[test]
fn sockets_that_were_kept_in_vain_are_forgotten() {
    let folder = Folder::new();
    let supervisor = Supervisor::new();
    let ((old, _), path) = (listen(), folder.file("gone"));
    let unix = UnixListener::bind(&path).expect("the path is free");
    std::fs::remove_file(&path).expect("it is there");
    let passed: [(&dyn AsRawFd, &str); 2] = [(&old, "acceptor@old"), (&unix, "acceptor@gone")];
    let listen = format!("unix:{path}");
    let arguments = ["echo", "--listen", "127.0.0.1:0", "--listen", &listen];
    let launch = passing(&passed, &arguments, 2).variable("FDSTORE", "16");
    let server = supervisor.watches(launch).start();
    for name in ["acceptor@gone", "acceptor@old"] {
        let (told, _) = supervisor.expect("FDSTOREREMOVE=1");
        assert!(told.lines().any(|line| line == format!("FDNAME={name}")), "{told}");
    }
    expect_echo(UnixStream::connect(&path).expect("it was made again"), b"abc");
    server.stop();
}

/// A frontend that was taken out of the file comes back: the socket is still there.
#[test]
fn a_socket_that_is_passed_is_listened_on_again() {
    let (socket, address) = listen();
    let folder = Folder::new();
    let other = "[frontend.b]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let both = format!("[frontend.a]\nlisten = '{address}'\nservice = 'echo'\n{other}");
    let file = folder.write("a.toml", &both);
    let server = passing(&[(&socket, "x")], &["run", "--config", &file], 2).start();
    let reload = |text: &str, count: usize| {
        folder.write("a.toml", text);
        server.signal(libc::SIGHUP);
        eventually(SOON, "it is reloaded", || server.stderr().matches("reloaded").count() == count);
    };
    expect_alive(address);
    reload(other, 1);
    expect_waits(address);
    reload(&both, 2);
    expect_alive(address);
    server.stop();
}
