//! The admin endpoint: what it tells, and who cannot harm it.

mod hostile;
mod pauses;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::client::{connect, expect_alive, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually, notice};

/// A server with an admin endpoint on a unix socket.
pub(crate) struct Watched {
    folder: Folder,
    pub(crate) server: Server,
}

impl Watched {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let admin = format!("unix:{}", folder.file("admin"));
        let server = Launch::new(&[arguments, &["--admin", &admin]].concat()).start();
        Self { folder, server }
    }

    /// The status and the body of an answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer =
            self.exchange(format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends");
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{head}");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.folder.file("admin")).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("it can be set");
        stream.write_all(request).expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer that ends");
        answer
    }

    pub(crate) fn ok(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The values of the metric with this name that have all of these texts in their labels.
    fn metrics(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let text = self.ok("/metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let found = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let own = series.split('{').next().expect("a name");
            (own == name && labels.iter().all(|label| series.contains(label))).then_some(value)
        });
        found.map(|value| value.parse().expect("a number")).collect()
    }

    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let all = self.metrics(name, labels);
        assert_eq!(all.len(), 1, "{name} {labels:?}");
        all[0]
    }

    pub(crate) fn verdict(&self, address: SocketAddr) -> String {
        let status: Value = serde_json::from_str(&self.ok("/status")).expect("JSON");
        let frontends = status["frontends"].as_array().expect("a list");
        let queues = frontends.iter().flat_map(|it| it["queues"].as_array().expect("a list"));
        let own = |it: &&Value| it["address"] == address.to_string();
        queues.into_iter().find(own).expect("its queue")["verdict"]
            .as_str()
            .expect("a word")
            .to_owned()
    }
}

#[test]
fn it_tells_what_the_server_does() {
    let watched = Watched::start(&["echo"]);
    let clients: Vec<_> = (0..3).map(|_| connect(watched.server.address())).collect();
    clients.iter().for_each(|client| expect_echo(client, b"hello"));
    assert_eq!(watched.ok("/healthz"), "ok\n");
    assert_eq!(watched.ok("/readyz"), "ready\n");
    assert_eq!(watched.metric("acceptor_accepted_total", &[]), 3.0);
    assert_eq!(watched.metric("acceptor_open_connections", &[]), 3.0);
    assert_eq!(watched.metric("acceptor_frontend_open_connections", &["frontend=\"echo\""]), 3.0);
    assert_eq!(watched.metric("acceptor_received_bytes_total", &[]), 15.0);
    let workers = watched.metrics("acceptor_worker_open_connections", &[]);
    assert_eq!(workers.iter().sum::<f64>(), 3.0);
    let address = format!("address=\"{}\"", watched.server.address());
    assert!(watched.metric("acceptor_accept_queue_limit", &[&address, "socket=\"0\""]) > 0.0);
    let healthy = watched.metric("acceptor_listener_verdict", &[&address, "verdict=\"healthy\""]);
    assert_eq!(healthy, 1.0);
    let list: Value = serde_json::from_str(&watched.ok("/connections?sort=age&limit=2")).unwrap();
    assert_eq!((&list["total"], list["connections"].as_array().unwrap().len()), (&3.into(), 2));
    drop(clients);
    eventually(SOON, "the closes are counted", || {
        watched.metric("acceptor_closed_connections_total", &["reason=\"peer\""]) == 3.0
    });
    watched.server.stop();
}

#[test]
fn the_page_is_html_that_asks_nobody_else() {
    let watched = Watched::start(&["echo"]);
    let answer = watched.exchange(b"GET / HTTP/1.1\r\nHost: admin\r\n\r\n");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head ends");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{head}");
    let policy = "\r\nContent-Security-Policy: default-src 'none'; connect-src 'self'; ";
    assert!(head.contains(policy) && !head.contains("unsafe"), "{head}");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for elsewhere in ["http:", "https:", "src=", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    watched.server.stop();
}

/// The same as by the control socket.
#[test]
fn sources_and_bans_are_listed() {
    let folder = Folder::new();
    let control = format!("unix:{}", folder.file("control"));
    let limits = ["--max-per-source", "2", "--control", &control];
    let watched = Watched::start(&[["echo"].as_slice(), limits.as_slice()].concat());
    let ctl = |arguments: &[&str]| -> Value {
        let asked = [["ctl", "--json", "--control", &control].as_slice(), arguments].concat();
        let exit = Launch::from_file(&asked, 0).run();
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        serde_json::from_str(&exit.stdout).expect("JSON")
    };
    let told = |path: &str| -> Value { serde_json::from_str(&watched.ok(path)).expect("JSON") };
    let held = [0; 2].map(|_| connect(watched.server.address()));
    held.iter().for_each(|client| expect_echo(client, b"x"));
    let above = TcpStream::connect(watched.server.address()).and_then(|mut it| it.read(&mut [0]));
    assert!(!matches!(above, Ok(1..)), "it is above the limit");
    let list = told("/sources?frontend=echo&sort=refused&limit=1");
    assert_eq!(list, ctl(&["sources", "--frontend", "echo", "--sort", "refused", "--limit", "1"]));
    let source = &list["sources"][0];
    assert_eq!((&source["source"], &source["open"]), (&"127.0.0.1".into(), &2.into()), "{list}");
    assert_eq!((&source["refused"], &list["known"]), (&1.into(), &1.into()), "{list}");
    let all = told("/sources");
    assert_eq!((&all["frontend"], &all["capacity"]), (&Value::Null, &0.into()), "no such limit");
    ctl(&["ban", "192.0.2.7", "--for", "1h"]);
    let (bans, same) = (told("/bans"), ctl(&["bans"]));
    let ban = &bans["bans"][0];
    assert_eq!((&ban["source"], &ban["by"]), (&"192.0.2.7".into(), &"operator".into()), "{bans}");
    assert_eq!((&bans["place"], &ban["at"]), (&same["place"], &same["bans"][0]["at"]));
    drop(held);
    watched.server.stop();
}

#[test]
fn what_is_not_asked_for_well_is_told() {
    let watched = Watched::start(&["echo"]);
    let paths = ["/metrics", "/status", "/connections", "/sources", "/bans", "/healthz", "/readyz"];
    let (_, told) = watched.get("/metric");
    assert!(paths.iter().all(|path| told.contains(&format!("\n{path} "))), "{told}");
    for (path, status, part) in [
        ("/metric", 404, "there is no /metric"),
        ("/connections?sort=size", 400, "expected one of `bytes`"),
        ("/connections?limit=0", 400, "from 1 to"),
        ("/connections?limit=x", 400, "from 1 to"),
        ("/sources?sort=age", 400, "sort: unknown variant `age`, expected one of `open`"),
        ("/sources?limit=0", 400, "from 1 to"),
        ("/sources?frontend=web", 400, "there is no frontend 'web'; known: echo"),
    ] {
        let (found, body) = watched.get(path);
        assert_eq!(found, status, "{path}");
        assert!(body.contains(part), "{path}: {body}");
    }
    let posted =
        watched.exchange(b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    watched.server.stop();
}

#[test]
fn at_the_limit_on_connections_accepting_is_paused_and_the_server_not_ready() {
    let watched = Watched::start(&["echo", "--max-connections", "1"]);
    let address = watched.server.address();
    let first = connect(address);
    expect_echo(&first, b"x");
    assert_eq!(watched.ok("/readyz"), "ready\n");
    let waiting = connect(address);
    eventually(SOON, "it is seen", || watched.get("/readyz").0 == 503);
    assert!(watched.get("/readyz").1.contains("accepting is paused (max_connections)"));
    assert_eq!(watched.verdict(address), "accepting_paused");
    eventually(SOON, "it is logged", || {
        watched.server.stderr().contains("accepting_paused (max_connections)")
    });
    drop(first);
    expect_echo(&waiting, b"x");
    drop(waiting);
    watched.server.stop();
}

/// Connects that nobody waits for.
fn connect_many(address: SocketAddr, count: usize) -> Vec<Socket> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("it can be set");
        // It is under way.
        let _ = socket.connect(&address.into());
        socket
    };
    (0..count).map(connect).collect()
}

#[test]
fn only_the_listener_that_overflows_says_so() {
    const BACKLOG: &str = "16";
    let both = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--workers", "1"];
    let watched = Watched::start(&[&["echo", "--backlog", BACKLOG], &both[..]].concat());
    let [full, other] = [0, 1].map(|number| watched.server.address_of(number));
    expect_alive(other);
    assert_eq!(watched.verdict(full), "healthy");
    watched.server.pause();
    let clients = connect_many(full, 200);
    std::thread::sleep(Duration::from_millis(100));
    watched.server.signal(libc::SIGCONT);
    eventually(SOON, "it is seen", || watched.verdict(full) == "accept_queue_overflow");
    assert_eq!(watched.verdict(other), "healthy");
    let [full, other] = [full, other].map(|address| format!("address=\"{address}\""));
    assert!(watched.metric("acceptor_listener_drops_total", &[&full]) > 0.0);
    assert_eq!(watched.metric("acceptor_listener_drops_total", &[&other]), 0.0);
    assert_eq!(watched.metric("acceptor_accept_queue_limit", &[&full]), 16.0);
    // Whether it was looked at just then or not.
    assert_eq!(watched.metric("acceptor_accept_queue_longest", &[&full]), 17.0);
    assert!(watched.metric("acceptor_kernel_listen_overflows_total", &[]) > 0.0);
    assert_eq!(watched.ok("/readyz"), "ready\n");
    eventually(SOON, "it is logged", || {
        let log = watched.server.stderr();
        log.contains("accept_queue_overflow") && log.contains("net.core.somaxconn")
    });
    drop(clients);
    watched.server.stop();
}

/// How much longer it waits than the stall is a matter of the machine.
#[test]
fn the_time_in_the_accept_queue_is_told() {
    let watched = Watched::start(&["echo", "--queue-wait-sample", "1"]);
    let sum = || watched.metric("acceptor_accept_queue_wait_seconds_sum", &[]);
    let mut before = sum();
    for stall in [50, 200, 1000].map(Duration::from_millis) {
        watched.server.pause();
        let client = connect(watched.server.address());
        std::thread::sleep(stall);
        watched.server.signal(libc::SIGCONT);
        expect_echo(&client, b"x");
        let waited = sum() - before;
        before += waited;
        notice(&format!("a stall of {stall:?} was told as {waited:.3} s"));
        // A tick is 10 ms at most.
        assert!(waited >= stall.as_secs_f64() - 0.01, "{stall:?}: {waited}");
    }
    assert_eq!(watched.metric("acceptor_accept_queue_wait_seconds_count", &[]), 3.0);
    let upto = watched.metric("acceptor_accept_queue_wait_seconds_bucket", &["le=\"0.02\""]);
    assert_eq!(upto, 0.0, "none was short");
    assert_eq!(watched.metric("acceptor_accept_queue_wait_seconds_bucket", &["le=\"+Inf\""]), 3.0);
    watched.server.stop();
}

/// Before anybody has looked at the queue for the first time.
#[test]
fn an_overflow_right_after_the_start_is_seen() {
    let watched = Watched::start(&["echo", "--backlog", "16", "--workers", "1"]);
    let address = watched.server.address();
    watched.server.pause();
    let clients = connect_many(address, 200);
    std::thread::sleep(Duration::from_millis(100));
    watched.server.signal(libc::SIGCONT);
    eventually(SOON, "it is seen", || watched.verdict(address) == "accept_queue_overflow");
    drop(clients);
    watched.server.stop();
}

#[test]
fn a_server_that_drains_is_not_ready_and_still_tells() {
    let watched = Watched::start(&["echo", "--drain-timeout", "20s"]);
    let open = connect(watched.server.address());
    expect_echo(&open, b"x");
    watched.server.signal(libc::SIGTERM);
    eventually(SOON, "it drains", || {
        watched.get("/readyz") == (503, "the server is draining\n".into())
    });
    assert_eq!(watched.metric("acceptor_phase", &["phase=\"draining\""]), 1.0);
    assert_eq!(watched.ok("/healthz"), "ok\n");
    drop(open);
    assert_eq!(watched.server.wait(SOON).code, Some(0));
}

#[test]
fn garbage_and_clients_that_say_nothing_harm_nobody() {
    let watched = Watched::start(&["echo"]);
    let silent: Vec<_> =
        (0..200).filter_map(|_| UnixStream::connect(watched.folder.file("admin")).ok()).collect();
    expect_alive(watched.server.address());
    drop(silent);
    let long = ["GET / HTTP/1.1\r\nA: ", &"a".repeat(20_000)].concat();
    for (request, status) in
        [(&b"\x16\x03\x01\x02\x00\x01\r\n\r\n"[..], "400"), (long.as_bytes(), "431")]
    {
        let answer = watched.exchange(request);
        assert_eq!(&answer[9..12], status, "{answer}");
    }
    assert_eq!(watched.ok("/healthz"), "ok\n");
    watched.server.stop();
}

#[test]
fn an_address_that_is_taken_is_an_error_with_its_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let exit = Launch::new(&["echo", "--admin", &address]).without_listeners().run();
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr.contains("the admin endpoint") && exit.stderr.contains(&address),
        "{}",
        exit.stderr
    );
}

#[test]
fn a_port_alone_is_for_this_machine() {
    let server = Launch::new(&["echo", "--admin", "0"]).start();
    eventually(SOON, "it is told", || {
        server.stderr().contains("the admin endpoint is on 127.0.0.1:")
    });
    let log = server.stderr();
    let address =
        log.split("the admin endpoint is on ").nth(1).and_then(|it| it.split_whitespace().next());
    let mut stream = TcpStream::connect(address.unwrap()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    server.stop();
}

#[test]
fn times_of_connections_are_told() {
    let watched = Watched::start(&["echo"]);
    let client = connect(watched.server.address());
    expect_echo(&client, b"x");
    std::thread::sleep(Duration::from_millis(120));
    let list: Value = serde_json::from_str(&watched.ok("/connections")).unwrap();
    assert!(list["connections"][0]["age_ms"].as_u64().unwrap() >= 100, "{list}");
    let frontend = ["frontend=\"echo\""];
    assert_eq!(watched.metric("acceptor_frontend_dispatch_seconds_count", &frontend), 1.0);
    assert_eq!(watched.metric("acceptor_frontend_lifetime_seconds_count", &frontend), 0.0);
    drop(client);
    let lifetimes = || watched.metric("acceptor_frontend_lifetime_seconds_count", &frontend);
    eventually(SOON, "its end is counted", || lifetimes() == 1.0);
    assert!(watched.metric("acceptor_frontend_lifetime_seconds_sum", &frontend) >= 0.1);
    watched.server.stop();
}

#[test]
fn connects_to_a_backend_are_timed() {
    let backend = Server::start(&["echo"]);
    let watched = Watched::start(&["proxy", "--to", &backend.address().to_string()]);
    expect_alive(watched.server.address());
    assert_eq!(watched.metric("acceptor_frontend_connect_seconds_count", &[]), 1.0);
    watched.server.stop();
    backend.stop();
}
