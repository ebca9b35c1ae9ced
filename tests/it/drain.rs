//! SIGTERM: nobody who got through is dropped, and the program ends when it should.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::client::{Random, connect, expect_alive, expect_echo, read_to_the_end};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually, meanwhile};
use crate::process::CAP_NET_ADMIN;

/// During a drain SYNs are dropped on purpose, so a connect may hang.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Connects, echoes 64 bytes and closes, again and again, until a connect fails.
fn hammer(address: SocketAddr, stopping: &AtomicBool) -> Result<u64, String> {
    let mut served = 0;
    loop {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => one_echo(stream)
                .map_err(|error| format!("connection {served} was dropped: {error}"))?,
            Err(_) if stopping.load(Ordering::SeqCst) => return Ok(served),
            Err(error) => return Err(format!("connect {served} before the stop: {error}")),
        }
        served += 1;
    }
}

fn one_echo(mut stream: TcpStream) -> io::Result<()> {
    let mut back = [0; 64];
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&[0x5A; 64])?;
    stream.read_exact(&mut back)?;
    if back == [0x5A; 64] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[test]
fn nobody_who_got_through_is_dropped() {
    const ROUNDS: usize = 24;
    const CLIENTS: usize = 4;
    const LONGEST_MILLIS: u64 = 150;
    let mut random = Random::printed();
    for round in 0..ROUNDS {
        let acceptors = ["0", "1", "2"][round % 3];
        let mut arguments = vec!["echo", "--workers", "2", "--acceptors", acceptors];
        arguments.extend((round / 6 % 2 == 1).then_some("--defer-accept"));
        let launch = Launch::new(&arguments);
        // Without it the kernel lets nobody attach a packet filter.
        let server = match round / 3 % 2 {
            0 => launch.start(),
            _ => launch.without_capability(CAP_NET_ADMIN).start(),
        };
        let stopping = AtomicBool::new(false);
        let moment = Duration::from_millis(random.below(LONGEST_MILLIS));
        let address = server.address();
        let results: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| scope.spawn(|| hammer(address, &stopping))).collect();
            thread::sleep(moment);
            stopping.store(true, Ordering::SeqCst);
            server.signal(libc::SIGTERM);
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let exit = server.wait(SOON);
        for result in results {
            if let Err(error) = result {
                panic!("round {round}, {arguments:?}, after {moment:?}: {error}");
            }
        }
        assert_eq!(exit.code, Some(0), "round {round}: {}", exit.stderr);
    }
}

/// What a client meets that begins to connect during a drain is silence or a refusal, by what the
/// server may do; either way the open session goes on.
#[test]
fn without_privileges_a_drain_refuses_new_connections() {
    let server = Launch::new(&["echo", "--drain-timeout", "60s", "--max-connections", "1"]);
    let server = server.without_capability(CAP_NET_ADMIN).start();
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    // It waits in the queue, so that the listener stays.
    let mut queued = connect(server.address());
    server.signal(libc::SIGTERM);
    eventually(SOON, "new connections are refused", || {
        let error = TcpStream::connect_timeout(&server.address(), CONNECT_TIMEOUT).err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    expect_echo(&mut session, b"while it drains");
    drop(session);
    expect_echo(&mut queued, b"after it has waited");
    drop(queued);
    let exit = server.wait(SOON);
    assert!(!exit.stderr.contains("cannot refuse"), "{}", exit.stderr);
    assert_eq!(exit.code, Some(0));
}

/// Nobody is reset: whoever comes late is refused.
#[test]
fn nobody_who_got_through_a_unix_socket_is_dropped() {
    const ROUNDS: usize = 6;
    const CLIENTS: usize = 4;
    const LONGEST_MILLIS: u64 = 100;
    let mut random = Random::printed();
    for round in 0..ROUNDS {
        let name = format!("drain-{}-{}-{round}", crate::ENGINE, std::process::id());
        let server = Server::start(&["echo", "--listen", &format!("unix:@{name}")]);
        let address = UnixAddr::from_abstract_name(&name).expect("it is short");
        let hammer = || -> Result<u64, io::Error> {
            let mut served = 0;
            while let Ok(mut stream) = UnixStream::connect_addr(&address) {
                let mut back = [0; 64];
                stream.set_read_timeout(Some(SOON))?;
                stream.write_all(&[0x5A; 64])?;
                stream.read_exact(&mut back)?;
                served += 1;
            }
            Ok(served)
        };
        let moment = Duration::from_millis(random.below(LONGEST_MILLIS));
        let results: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(hammer)).collect();
            thread::sleep(moment);
            server.signal(libc::SIGTERM);
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let exit = server.wait(SOON);
        for result in results {
            result.unwrap_or_else(|error| panic!("round {round}, after {moment:?}: {error}"));
        }
        assert_eq!(exit.code, Some(0), "round {round}: {}", exit.stderr);
        assert!(!exit.stderr.contains("broken"), "an empty queue is no fault: {}", exit.stderr);
    }
}

/// Connections that the kernel has completed and the server has not seen when the signal comes.
#[test]
fn what_waits_in_the_queue_is_served() {
    const CLIENTS: usize = 100;
    for acceptors in ["0", "1", "2"] {
        let server = Server::start(&["echo", "--acceptors", acceptors, "--workers", "2"]);
        server.pause();
        let mut waiting: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.address())).collect();
        for stream in &mut waiting {
            stream.write_all(b"?").expect("the kernel has taken the connection");
        }
        server.signal(libc::SIGTERM);
        server.signal(libc::SIGCONT);
        for (index, mut stream) in waiting.into_iter().enumerate() {
            let result = stream.read_exact(&mut [0; 1]);
            result.unwrap_or_else(|error| panic!("acceptors {acceptors}, {index}: {error}"));
        }
        assert_eq!(server.wait(SOON).code, Some(0));
    }
}

/// The same, and there are more of them than may be open at once.
#[test]
fn what_waits_in_the_queue_behind_the_limit_is_served() {
    const CLIENTS: usize = 20;
    let server = Server::start(&["echo", "--max-connections", "5"]);
    let mut waiting: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.address())).collect();
    for stream in &mut waiting {
        stream.write_all(b"?").expect("the kernel has taken the connection");
    }
    server.signal(libc::SIGTERM);
    for (index, mut stream) in waiting.into_iter().enumerate() {
        let result = stream.read_exact(&mut [0; 1]);
        result.unwrap_or_else(|error| panic!("client {index}: {error}"));
    }
    assert_eq!(server.wait(SOON).code, Some(0));
}

#[track_caller]
fn expect_no_more_accepts(address: SocketAddr) {
    eventually(SOON, "no new connection is taken", || {
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_err()
    });
}

/// A time as the log writes it, at the beginning of this text: 2026-11-29T20:10:26.567259Z.
#[track_caller]
fn time(text: &str) -> SystemTime {
    const LENGTH: usize = "2026-11-29T20:10:26.567259Z".len();
    let time = text.get(..LENGTH).unwrap_or_else(|| panic!("no time in '{text}'"));
    assert!(time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("'{time}': {error}"))
}

#[test]
fn open_sessions_go_on_and_their_end_is_the_end() {
    let server = Server::start(&["echo", "--drain-timeout", "60s"]);
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    server.signal(libc::SIGTERM);
    expect_no_more_accepts(server.address());
    expect_echo(&mut session, b"while it drains");
    // A connection that came just before it may be one of those that are open.
    let begins =
        format!("draining {}: no new connections; those that are open (", server.address());
    let ends = ") have 1m to end, until 20";
    let told = |line: &str| line.contains(&begins) && line.contains(ends);
    eventually(SOON, "the drain is told", || server.stderr().lines().any(told));
    let log = server.stderr();
    let line = log.lines().find(|line| told(line)).expect("it is there");
    let [at, until] = [line, line.split(", until ").nth(1).expect("it is there")].map(time);
    let left = until.duration_since(at).expect("the end is behind the beginning");
    assert!(left > Duration::from_secs(50) && left < Duration::from_secs(70), "{line}");
    drop(session);
    let exit = server.wait(SOON);
    assert_eq!(exit.code, Some(0));
    let stopped = exit.stderr.lines().last().expect("there are lines");
    assert!(stopped.contains(" INFO stopped after ") && stopped.contains(" of draining; "));
    assert!(stopped.ends_with("; no connection was cut off"), "{stopped}");
    let took = stopped.split("stopped after ").nth(1).and_then(|rest| rest.split_once('s'));
    let (seconds, millis) = took.and_then(|(took, _)| took.split_once('.')).expect("a fraction");
    assert!(millis.len() == 3 && seconds.parse::<u32>().is_ok(), "{stopped}");
}

#[test]
fn the_drain_timeout_ends_what_is_still_open() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let server = Server::start(&["echo", "--drain-timeout", "300ms"]);
        let mut session = connect(server.address());
        expect_echo(&mut session, b"before");
        server.signal(signal);
        read_to_the_end(&session).expect("the session ends");
        let exit = server.wait(SOON);
        assert_eq!(exit.code, Some(0));
        let stopped = exit.stderr.lines().last().expect("there are lines");
        assert!(stopped.contains(" WARN stopped after ") && stopped.contains(" of draining; "));
        assert!(stopped.ends_with("; 1 connection was cut off"), "{stopped}");
    }
}

/// However many threads they are on.
#[test]
fn who_is_cut_off_is_counted() {
    const CLIENTS: usize = 7;
    for acceptors in ["0", "1"] {
        let arguments = ["echo", "--drain-timeout", "300ms", "--acceptors", acceptors];
        let server = Server::start(&[&arguments[..], &["--workers", "2"]].concat());
        let mut sessions: Vec<TcpStream> =
            (0..CLIENTS).map(|_| connect(server.address())).collect();
        sessions.iter_mut().for_each(|session| expect_echo(session, b"before"));
        server.signal(libc::SIGTERM);
        let exit = server.wait(SOON);
        let told = format!("; {CLIENTS} connections were cut off\n");
        assert!(exit.stderr.ends_with(&told), "{}", exit.stderr);
    }
}

#[test]
fn an_idle_http_connection_does_not_hold_up_a_drain() {
    let server = Server::start(&["http", "--drain-timeout", "60s"]);
    let mut stream = connect(server.address());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    stream.read_exact(&mut [0; 12]).expect("the answer has begun");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait(SOON).code, Some(0));
}

#[test]
fn a_hangup_changes_nothing() {
    let server = Server::start(&["echo"]);
    let mut session = connect(server.address());
    let told =
        |server: &Server| server.stderr().matches("SIGHUP: there is no file to reload").count();
    server.signal(libc::SIGHUP);
    eventually(SOON, "the log says so", || told(&server) == 1);
    // The next such line is ten seconds away.
    meanwhile(Duration::from_millis(300), "a flood of them is no flood of lines", || {
        server.signal(libc::SIGHUP);
        told(&server) == 1
    });
    expect_echo(&mut session, b"still there");
    expect_alive(server.address());
    drop(session);
    server.stop();
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut server = Server::start(&["echo", "--drain-timeout", "60s"]);
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    server.signal(libc::SIGTERM);
    expect_no_more_accepts(server.address());
    assert!(!server.has_ended(), "a session is open");
    // One that comes too soon behind the first is the same wish.
    eventually(SOON, "it has ended", || {
        server.signal(libc::SIGTERM);
        server.has_ended()
    });
    read_to_the_end(&session).expect("the session ends");
    let exit = server.wait(SOON);
    assert!(exit.code.is_some(), "the signal killed it instead: {}", exit.stderr);
    let told = " of draining, cut short; 1 connection was cut off\n";
    assert!(exit.stderr.ends_with(told), "{}", exit.stderr);
}

/// As timeout(1) and some supervisors do it: the child, and then its whole group.
#[test]
fn two_signals_at_once_are_one() {
    for second in [libc::SIGTERM, libc::SIGINT] {
        let server = Server::start(&["echo", "--drain-timeout", "60s"]);
        let mut session = connect(server.address());
        expect_echo(&mut session, b"before");
        // While it stands still: it sees all of them within the same moment.
        server.pause();
        server.signal(libc::SIGTERM);
        server.signal(second);
        server.signal(libc::SIGCONT);
        eventually(SOON, "the drain is told", || server.stderr().contains("draining "));
        expect_echo(&mut session, b"while it drains");
        drop(session);
        let exit = server.wait(SOON);
        assert_eq!(exit.code, Some(0));
        let told = "s of draining; no connection was cut off\n";
        assert!(exit.stderr.ends_with(told), "{}", exit.stderr);
    }
}

/// Neither a time in the past nor one of no use.
#[test]
fn a_drain_timeout_of_nothing_says_so() {
    let server = Server::start(&["echo", "--drain-timeout", "0s"]);
    let mut session = connect(server.address());
    expect_echo(&mut session, b"before");
    server.signal(libc::SIGTERM);
    let exit = server.wait(SOON);
    assert_eq!(exit.code, Some(0));
    let told = "those that are open (1) are cut off at once, since --drain-timeout is 0s\n";
    assert!(exit.stderr.contains(told), "{}", exit.stderr);
    assert!(exit.stderr.ends_with("s of draining; 1 connection was cut off\n"), "{}", exit.stderr);
}

#[test]
fn a_restart_on_the_same_port_works_at_once() {
    const TIMES: usize = 10;
    let first = Server::start(&["echo"]);
    let address = first.address();
    expect_alive(address);
    first.stop();
    for _ in 0..TIMES {
        let server = Server::start(&["echo", "--listen", &address.to_string()]);
        assert_eq!(server.address(), address);
        expect_alive(address);
        server.stop();
    }
}

/// Near the limit of connections each of them has single accepts in flight, all of which have to be ended.
#[test]
fn many_unix_listeners_are_done_with_at_once() {
    const LISTENERS: usize = 60;
    let folder = Folder::new();
    let mut text = "[process]\ndrain_timeout = '10s'\n".to_owned();
    for number in 0..LISTENERS {
        let path = folder.file(&number.to_string());
        text += &format!("[frontend.f{number}]\nlisten = 'unix:{path}'\nservice = 'echo'\n");
    }
    let file = folder.write("a.toml", &text);
    let server = Launch::from_file(&["run", "--config", &file], LISTENERS).start();
    server.signal(libc::SIGTERM);
    let exit = server.wait(4 * SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}
