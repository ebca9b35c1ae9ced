//! The lines of services that answer themselves, and where they may go.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, connect, expect_alive, expect_echo, expect_end, finish_sending};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};

const FIELDS: [&str; 11] = [
    "time",
    "frontend",
    "client",
    "accept_queue_ms",
    "dispatch_ms",
    "first_byte_ms",
    "total_ms",
    "from_client_bytes",
    "to_client_bytes",
    "ended_by",
    "ended",
];

/// A server with a log in JSON.
struct Logged {
    server: Server,
    folder: Folder,
}

impl Logged {
    fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let path = folder.file("log");
        let log = ["--access-log", &path, "--access-log-format", "json"];
        Self { server: Server::start(&[arguments, &log].concat()), folder }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The entries, once there are so many.
    fn entries(&self, count: usize) -> Vec<Value> {
        let mut entries = Vec::new();
        eventually(SOON, "the entries are there", || {
            let text = std::fs::read_to_string(self.folder.file("log")).expect("there is a log");
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            entries = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            entries.len() >= count
        });
        assert_eq!(entries.len(), count, "{entries:?}");
        entries
    }

    /// The only entry.
    #[track_caller]
    fn expect_ended(self, ended_by: &str, ended: &str) -> Value {
        let entry = self.entries(1).remove(0);
        assert_eq!(
            (&entry["ended_by"], &entry["ended"]),
            (&ended_by.into(), &ended.into()),
            "{entry:#}"
        );
        self.server.stop();
        entry
    }
}

#[test]
fn a_client_that_goes() {
    let echo = Logged::start(&["echo"]);
    let mut client = connect(echo.address());
    expect_echo(&client, b"abc");
    finish_sending(&client);
    expect_end(&mut client);
    let name = client.local_addr().expect("it is connected").to_string();
    let entry = echo.expect_ended("client", "client");
    let mut names: Vec<_> = entry.as_object().expect("it is an object").keys().collect();
    let mut wanted = [&FIELDS[..], &["reason"]].concat();
    names.sort();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    assert_eq!((&entry["frontend"], &entry["client"]), (&"echo".into(), &name.into()));
    assert_eq!((&entry["from_client_bytes"], &entry["to_client_bytes"]), (&3.into(), &3.into()));
    assert!(entry["reason"].is_null());
    let ms = |name: &str| entry[name].as_f64().unwrap_or_else(|| panic!("no {name}: {entry:#}"));
    assert!(ms("accept_queue_ms") >= 0.0, "{entry:#}");
    assert!(ms("dispatch_ms") + ms("first_byte_ms") <= ms("total_ms") + 0.002, "{entry:#}");
}

#[test]
fn a_client_that_resets() {
    let echo = Logged::start(&["echo"]);
    let client = connect(echo.address());
    expect_echo(&client, b"abc");
    client::reset(client);
    let entry = echo.expect_ended("client", "client-reset");
    assert_eq!(entry["from_client_bytes"], 3);
}

#[test]
fn a_service_that_closes() {
    let http = Logged::start(&["http", "--body", "x"]);
    let mut client = connect(http.address());
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an answer");
    let entry = http.expect_ended("service", "service");
    assert_eq!(entry["from_client_bytes"], 18);
    assert_eq!(entry["to_client_bytes"], answer.len());
}

#[test]
fn a_deadline_that_passes() {
    let echo = Logged::start(&["echo", "--first-byte-timeout", "100ms"]);
    expect_end(connect(echo.address()));
    let entry = echo.expect_ended("acceptor", "first-byte-timeout");
    assert!(entry["first_byte_ms"].is_null(), "{entry:#}");
    assert!(entry["total_ms"].as_f64().is_some_and(|ms| ms >= 99.0), "{entry:#}");
}

#[test]
fn a_server_that_stops() {
    let echo = Logged::start(&["echo", "--drain-timeout", "0s"]);
    let client = connect(echo.address());
    expect_echo(&client, b"abc");
    echo.server.signal(libc::SIGTERM);
    let entry = echo.entries(1).remove(0);
    assert_eq!((&entry["ended_by"], &entry["ended"]), (&"acceptor".into(), &"stopped".into()));
    assert_eq!(echo.server.wait(SOON).code, Some(0));
}

/// The address is that which the header tells, and the header is not among the bytes.
#[test]
fn a_client_behind_a_header() {
    let echo = Logged::start(&["echo", "--proxy-protocol-in", "127.0.0.0/8"]);
    let mut client = connect(echo.address());
    client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\nab").expect("it is open");
    client.read_exact(&mut [0; 2]).expect("it comes back");
    expect_echo(&client, b"c");
    drop(client);
    let entry = echo.expect_ended("client", "client");
    assert_eq!(
        (&entry["client"], &entry["from_client_bytes"]),
        (&"192.0.2.1:4711".into(), &3.into())
    );
}

#[test]
fn a_header_that_is_none() {
    let echo = Logged::start(&["echo", "--proxy-protocol-in", "127.0.0.0/8"]);
    let mut client = connect(echo.address());
    client.write_all(b"GET /\r\n").expect("it is open");
    let _ = client.read(&mut [0; 1]);
    let entry = echo.expect_ended("client", "bad-proxy-header");
    assert_eq!(entry["reason"], r"not a PROXY header: begins with 'GET /\r\n'");
}

/// One that is stopped accepts nobody.
#[test]
fn a_wait_in_the_accept_queue() {
    let echo = Logged::start(&["echo"]);
    echo.server.pause();
    let client = connect(echo.address());
    std::thread::sleep(Duration::from_millis(300));
    echo.server.signal(libc::SIGCONT);
    expect_echo(&client, b"abc");
    drop(client);
    let entry = echo.expect_ended("client", "client");
    assert!(entry["accept_queue_ms"].as_f64().is_some_and(|ms| ms >= 290.0), "{entry:#}");
}

/// Several frontends have one file, and each line tells whose it is.
#[test]
fn frontends_with_one_log() {
    let folder = Folder::new();
    let log = folder.file("log");
    let text = format!(
        "[defaults]\naccess_log = '{log}'\n[frontend.a]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n\
         [frontend.b]\nlisten = '127.0.0.1:0'\nservice = 'discard'\n"
    );
    let file = folder.write("a.toml", &text);
    let server = Launch::from_file(&["run", "--config", &file], 2).start();
    expect_alive(server.address_of(0));
    drop(connect(server.address_of(1)));
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually(SOON, "both are logged", || lines().matches('\n').count() == 2);
    for frontend in [" frontend=a ", " frontend=b "] {
        assert_eq!(lines().matches(frontend).count(), 1, "{}", lines());
    }
    server.stop();
}

/// The names of the fields, in their order.
#[test]
fn the_shape_of_a_line_of_text() {
    let folder = Folder::new();
    let path = folder.file("log");
    let server = Server::start(&["echo", "--access-log", &path]);
    expect_alive(server.address());
    server.stop();
    let text = std::fs::read_to_string(&path).expect("there is a log");
    let names = text.trim_end().split(' ').map(|word| word.split_once('=').expect("a pair").0);
    assert_eq!(names.collect::<Vec<_>>(), [&FIELDS[..], &["reason"]].concat());
}

#[test]
fn a_syslog_daemon() {
    let folder = Folder::new();
    let path = folder.file("syslog");
    let target = format!("syslog:{path}");
    let arguments = ["echo", "--access-log", &target];
    let exit = Launch::new(&arguments).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let told = format!(
        "the access log {target} cannot be opened: connect(2) to {path} failed with ENOENT"
    );
    assert!(exit.stderr.contains(&told), "{}", exit.stderr);

    let daemon = UnixDatagram::bind(&path).expect("it is free");
    let server = Server::start(&arguments);
    let mut bytes = [0; 1024];
    let mut expect_line = |daemon: &UnixDatagram| {
        expect_alive(server.address());
        daemon.set_read_timeout(Some(SOON)).expect("not zero");
        let length = daemon.recv(&mut bytes).expect("a line");
        let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let begin = format!("<30>acceptor[{}]: time=", server.pid());
        assert!(line.starts_with(&begin) && line.contains(" ended=client reason=-"), "{line}");
    };
    expect_line(&daemon);
    // It is gone, and an entry with it.
    drop(daemon);
    std::fs::remove_file(&path).expect("it was there");
    expect_alive(server.address());
    let told = format!("the access log {target} cannot be written: ");
    eventually(SOON, "the loss is told", || server.stderr().contains(&told));
    expect_line(&UnixDatagram::bind(&path).expect("it is free"));
    server.stop();
}

#[test]
fn a_syslog_daemon_by_udp() {
    let daemon = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    daemon.set_read_timeout(Some(SOON)).expect("not zero");
    let target = format!("syslog:{}", daemon.local_addr().expect("it is bound"));
    let server = Server::start(&["echo", "--access-log", &target, "--access-log-format", "json"]);
    expect_alive(server.address());
    let mut bytes = [0; 1024];
    let length = daemon.recv(&mut bytes).expect("a line");
    let line = String::from_utf8_lossy(&bytes[..length]);
    let (head, entry) = line.split_once(" - - ").expect("RFC 5424");
    assert!(head.starts_with("<30>1 20"), "{line}");
    assert!(head.ends_with(&format!(" - acceptor {}", server.pid())), "{line}");
    let entry: Value = serde_json::from_str(entry).expect("JSON");
    assert_eq!(entry["ended"], "client");
    server.stop();
}

/// The kernel tells of each datagram that was refused when the next one is sent.
#[test]
fn a_syslog_daemon_that_is_not_there() {
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    let target = format!("syslog:{}", nobody.local_addr().expect("it is bound"));
    drop(nobody);
    let server = Server::start(&["echo", "--access-log", &target]);
    let told =
        format!("the access log {target} cannot be written: sendto(2) failed with ECONNREFUSED");
    eventually(SOON, "it is told", || {
        expect_alive(server.address());
        server.stderr().contains(&told)
    });
    assert!(!server.stderr().contains("as fast as"), "{}", server.stderr());
    server.stop();
}

#[test]
fn a_target_that_is_none() {
    for target in ["journald:x", "syslog:localhost:514", ""] {
        let exit = Launch::new(&["echo", "--access-log", target]).run();
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(
            exit.stderr.contains("it must be a path, - for stdout, journald:"),
            "{}",
            exit.stderr
        );
    }
}
