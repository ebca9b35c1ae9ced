//! What a process that takes the place of another knows of it: upstreams, what was set by hand, what was counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{connect, expect_echo, expect_end};
use crate::folder::Folder;
use crate::harness::{
    Exit, Launch, SOON, Server, eventually, is_inside, meanwhile, run_inside, skipped,
};
use crate::process;

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

/// The head of a file: each worker has a socket of its own on each address.
const PROCESS: &str = "workers = 2\nacceptors = 0\nmax_connections = 2000\n";

/// A server that is upgraded, with its control socket and its admin endpoint.
struct Upgraded {
    folder: Folder,
    server: Server,
}

impl Upgraded {
    #[track_caller]
    fn start(text: &str, listeners: usize) -> Self {
        let folder = Folder::new();
        let path = folder.write("a.toml", &in_full(&folder, text));
        let server = Launch::from_file(&["run", "--config", &path], listeners).start();
        Self { folder, server }
    }

    fn write(&self, text: &str) {
        self.folder.write("a.toml", &in_full(&self.folder, text));
    }

    fn address_of(&self, frontend: &str) -> SocketAddr {
        let listening = self.server.listening();
        let own = listening.iter().find(|it| it.frontend == frontend || it.service == frontend);
        own.expect("it listens").address.parse().expect("an address")
    }

    fn call(&self, arguments: &[&str]) -> Exit {
        let control = format!("unix:{}", self.folder.file("c.sock"));
        let command = match arguments {
            ["upgrade"] => vec!["upgrade", "--control", &control],
            _ => [&["ctl", "--control", &control], arguments].concat(),
        };
        Launch::from_file(&command, 0).run_within(4 * SOON)
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str]) {
        let exit = self.call(arguments);
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }

    /// Has the next process take over.
    #[track_caller]
    fn upgrade(&self) {
        let before = self.status()["pid"].clone();
        let exit = self.call(&["upgrade"]);
        assert_eq!(exit.code, Some(0), "{}{}", exit.stderr, self.server.stderr());
        assert_ne!(self.status()["pid"], before);
    }

    #[track_caller]
    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.file("admin")).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("it can be set");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer that ends");
        answer.split_once("\r\n\r\n").expect("a head ends").1.to_owned()
    }

    /// By the control socket: what answers there serves.
    #[track_caller]
    fn status(&self) -> Value {
        let mut stream = UnixStream::connect(self.folder.file("c.sock")).expect("it listens");
        stream.set_read_timeout(Some(2 * SOON)).expect("a timeout can be set");
        let request = json!({"version": 1, "command": "status"});
        stream.write_all(format!("{request}\n").as_bytes()).expect("it is taken");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).expect("one");
        serde_json::from_str::<Value>(&line).expect("JSON")["result"].clone()
    }

    /// The states of the backends of the first upstream.
    fn states(&self) -> Vec<String> {
        let status = self.status();
        let backends = status["upstreams"][0]["backends"].as_array().expect("a list").clone();
        backends.iter().map(|it| it["state"].as_str().expect("a word").to_owned()).collect()
    }

    /// All samples that never fall, but for those of single threads.
    fn counted(&self) -> BTreeMap<String, f64> {
        samples(&self.get("/metrics"), |kind| ["counter", "histogram"].contains(&kind))
    }

    fn gauge(&self, name: &str) -> f64 {
        samples(&self.get("/metrics"), |kind| kind == "gauge")[name]
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Ok(pid) = u32::try_from(self.status()["pid"].as_u64().unwrap_or(0))
            && pid > 0
        {
            process::kill(pid, libc::SIGKILL);
        }
    }
}

fn in_full(folder: &Folder, text: &str) -> String {
    let (engine, socket, admin) = (crate::ENGINE, folder.file("c.sock"), folder.file("admin"));
    format!(
        "[process]\nengine = '{engine}'\ncontrol = 'unix:{socket}'\nadmin = 'unix:{admin}'\n{PROCESS}{text}"
    )
}

/// Samples of families of these types, by what they are called.
fn samples(text: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
    let (mut all, mut wanted) = (BTreeMap::new(), false);
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a type");
            wanted = is_wanted(kind) && !name.starts_with("acceptor_thread_");
        } else if wanted && !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            all.insert(name.to_owned(), value.parse().expect("a number"));
        }
    }
    all
}

/// Holds that all are there that were, and that none has fallen.
#[track_caller]
fn expect_none_fell(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    assert!(before.len() > 100, "{before:?}");
    let fell = |(name, value): &(&String, &f64)| after.get(*name).is_none_or(|it| it < *value);
    let fell: Vec<_> = before.iter().filter(fell).map(|it| (it, after.get(it.0))).collect();
    assert!(fell.is_empty(), "{fell:#?}");
}

/// All of a name together, whatever their labels.
fn sum(counted: &BTreeMap<String, f64>, name: &str) -> f64 {
    let own = |series: &str| series.split('{').next() == Some(name);
    counted.iter().filter(|(series, _)| own(series)).map(|(_, value)| value).sum()
}

/// Holds that what was opened and not closed is open.
#[track_caller]
fn expect_balance(it: &Upgraded) {
    let mut found = (0.0, 0.0);
    let is_so = || {
        let counted = it.counted();
        let closed = sum(&counted, "acceptor_closed_connections_total");
        let left = sum(&counted, "acceptor_opened_total") - closed;
        found = (left, it.gauge("acceptor_open_connections"));
        found.0 == found.1
    };
    eventually(SOON, "what was opened and not closed is open", is_so);
}

/// What must be the same in the next process.
fn kept(status: &Value) -> Value {
    let backend = |it: &Value| {
        json!([
            it["backend"],
            it["address"],
            it["state"],
            it["weight"],
            it["open"],
            it["connecting"]
        ])
    };
    let upstreams = status["upstreams"].as_array().expect("a list").iter().map(|it| {
        let backends = it["backends"].as_array().expect("a list").iter().map(backend);
        json!([it["name"], it["by_hand"], backends.collect::<Vec<_>>()])
    });
    let frontends = status["frontends"].as_array().expect("a list").iter();
    let frontends = frontends.map(|it| {
        let queues = it["queues"].as_array().expect("a list").iter();
        let limits: Vec<_> = queues.map(|queue| queue["limit"].clone()).collect();
        json!([it["name"], it["state"], it["addresses"], it["connections"], limits])
    });
    json!({
        "upstreams": upstreams.collect::<Vec<_>>(),
        "frontends": frontends.collect::<Vec<_>>(),
        "by_hand": status["by_hand"],
        "log_level": status["log_level"],
        "connections": status["connections"],
    })
}

/// Sends something and waits for it, on a connection that stays and one that does not.
fn use_it(address: SocketAddr) -> TcpStream {
    expect_echo(connect(address), b"short");
    let stays = connect(address);
    expect_echo(&stays, b"long");
    stays
}

/// Holds that nothing comes.
#[track_caller]
fn expect_silence(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(A_WHILE)).expect("not zero");
    let error = stream.read(&mut [0; 1]).expect_err("nothing comes");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(SOON)).expect("not zero");
}

fn file(backends: &[&Server]) -> String {
    let backends: Vec<_> = backends.iter().map(|it| it.address().to_string()).collect();
    format!(
        "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n\
         [frontend.d]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n\
         [frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'web'\n\
         [upstream.web]\nbackends = ['{}', '127.0.0.1:1']\ncheck_interval = '100ms'\n",
        backends.join("', '")
    )
}

/// Changes by hand all that can be.
fn change_by_hand(it: &Upgraded, [up, down, added]: [&str; 3]) {
    it.ctl(&["backend", "add", "web", added]);
    it.ctl(&["backend", "down", "web", down]);
    it.ctl(&["backend", "weight", "web", up, "5"]);
    it.ctl(&["set", "max-connections", "77"]);
    it.ctl(&["set", "max-connections", "50", "--frontend", "p"]);
    it.ctl(&["set", "backlog", "33", "--frontend", "e"]);
    it.ctl(&["set", "log-level", "debug"]);
    it.ctl(&["drain", "d"]);
}

/// What is counted once for each proxied connection.
const ONCE_EACH: [&str; 4] = [
    "acceptor_accepted_total",
    "acceptor_backend_connects_total",
    "acceptor_frontend_dispatch_seconds_count",
    "acceptor_frontend_connect_seconds_count",
];

#[test]
fn all_is_as_it_was_after_an_upgrade_and_another_one() {
    let [up, down, added] = [(); 3].map(|()| Server::start(&["echo"]));
    let it = Upgraded::start(&file(&[&up, &down]), 3);
    let drained = it.address_of("d");
    expect_echo(connect(drained), b"x");
    let mut held = vec![use_it(it.address_of("e")), use_it(it.address_of("p"))];
    let addresses = [&up, &down, &added].map(|it| it.address().to_string());
    change_by_hand(&it, addresses.each_ref().map(String::as_str));
    held.push(use_it(it.address_of("p")));
    let states = ["up", "down", "down", "up"];
    eventually(SOON, "checks have told how the backends are", || it.states() == states);
    let settled = || it.status()["connections"]["open"] == json!(held.len());
    eventually(SOON, "what was closed has ended", settled);
    for upgrade in 1..=2 {
        let (before, counted) = (kept(&it.status()), it.counted());
        it.upgrade();
        assert_eq!(kept(&it.status()), before, "upgrade {upgrade}");
        expect_none_fell(&counted, &it.counted());
        held.iter().for_each(|stream| expect_echo(stream, b"still here"));
        assert!(TcpStream::connect(drained).is_err(), "it is drained");
        held.push(use_it(it.address_of("p")));
        expect_balance(&it);
        eventually(SOON, "it ends", || it.states() == states);
        let now = it.counted();
        expect_none_fell(&counted, &now);
        for name in ONCE_EACH {
            assert_eq!(sum(&now, name), sum(&counted, name) + 2.0, "{name}");
        }
        let settled = || it.status()["connections"]["open"] == json!(held.len());
        eventually(SOON, "what was closed has ended", settled);
    }
    it.ctl(&["reload"]);
    let status = it.status();
    assert_eq!((&status["by_hand"], &status["upstreams"][0]["by_hand"]), (&json!([]), &json!([])));
    assert_eq!(status["log_level"], json!("info"));
    assert_eq!(status["connections"]["max"], json!(2000));
    let state = |place: usize| status["frontends"][place]["state"].clone();
    assert_eq!([state(0), state(1)], [json!("listening"), json!("listening")]);
}

#[test]
fn what_was_done_by_hand_ends_where_the_next_process_is_configured_otherwise() {
    let [up, down, added] = [(); 3].map(|()| Server::start(&["echo"]));
    let text = file(&[&up, &down]);
    let it = Upgraded::start(&text, 3);
    let addresses = [&up, &down, &added].map(|it| it.address().to_string());
    change_by_hand(&it, addresses.each_ref().map(String::as_str));
    let text = text.replace("check_interval = '100ms'", "check_interval = '200ms'");
    it.write(&text.replace("service = 'proxy'", "service = 'proxy'\nmax_connections = 60"));
    it.upgrade();
    let status = it.status();
    assert_eq!(status["upstreams"][0]["by_hand"], json!([]));
    let by_hand = status["by_hand"].as_array().expect("a list").iter();
    let by_hand: Vec<_> = by_hand.map(|it| (&it["what"], &it["frontend"], &it["now"])).collect();
    let [max, backlog, level, drained] =
        ["max-connections", "backlog", "log-level", "drained"].map(|what| json!(what));
    let expected = [
        (&max, &json!(null), &json!("77")),
        (&backlog, &json!("e"), &json!("33")),
        (&level, &json!(null), &json!("debug")),
        (&drained, &json!("d"), &json!("yes")),
    ];
    assert_eq!(by_hand, expected);
    assert_eq!(status["frontends"][2]["connections"]["max"], json!(60));
    let log = it.server.stderr();
    let line = format!(
        "upgrade: upstream web: overruled by the configuration: backend {} is forced",
        addresses[1]
    );
    assert!(log.contains(&line), "{log}");
    assert!(
        log.contains(
            "upgrade: overruled by the configuration: max-connections of frontend p is 50"
        ),
        "{log}"
    );
}

/// Nothing checks it: the next process would have to find out.
#[test]
fn a_backend_that_was_ejected_gets_no_connection_from_the_next_process() {
    let up = Server::start(&["echo"]);
    let text = format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'web'\n\
         [upstream.web]\nbackends = ['{}', '127.0.0.1:1']\neject_time = '50s'\n",
        up.address()
    );
    let it = Upgraded::start(&text, 1);
    eventually(SOON, "it is ejected", || {
        expect_echo(connect(it.address_of("p")), b"x");
        it.states() == ["up", "ejected"]
    });
    let refused = |it: &Upgraded| {
        let counters = &it.status()["upstreams"][0]["backends"][1]["counters"];
        (counters["connects_refused"].clone(), counters["ejections"].clone())
    };
    let before = refused(&it);
    for _ in 0..2 {
        it.upgrade();
        assert_eq!(it.states(), ["up", "ejected"]);
        (0..10).for_each(|_| expect_echo(connect(it.address_of("p")), b"x"));
        assert_eq!(refused(&it), before);
    }
}

/// One frontend is gone in the next process: what it has stays in the old one.
#[test]
fn a_backend_has_as_many_connections_as_it_may_have_over_both_processes() {
    let backend = Server::start(&["echo"]);
    let frontend = |name: &str| {
        format!("[frontend.{name}]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'web'\n")
    };
    let upstream =
        format!("[upstream.web]\nbackends = ['{}']\nmax_connections = 3\n", backend.address());
    let both = [frontend("stays"), frontend("goes"), upstream.clone()].concat();
    let it = Upgraded::start(&both, 2);
    let open = |it: &Upgraded| it.status()["upstreams"][0]["backends"][0]["open"].clone();
    let [goes, stays] = ["goes", "stays"].map(|name| connect(it.address_of(name)));
    [&goes, &stays].into_iter().for_each(|stream| expect_echo(stream, b"x"));
    it.write(&[frontend("stays"), upstream].concat());
    it.upgrade();
    assert_eq!(open(&it), json!(2));
    assert_eq!(it.status()["connections"]["open"], json!(2));
    let third = connect(it.address_of("stays"));
    expect_echo(&third, b"there is room for one more");
    let mut fourth = connect(it.address_of("stays"));
    fourth.write_all(b"early").expect("it is taken");
    expect_silence(&fourth);
    assert_eq!(open(&it), json!(3));
    // All that is counted is told once a second.
    let connects = || sum(&it.counted(), "acceptor_backend_connects_total");
    meanwhile(5 * A_WHILE, "each connect is counted once", || connects() == 3.0);
    // It is the old process that ends it.
    expect_echo(&goes, b"old");
    drop(goes);
    let mut early = [0; 5];
    fourth.read_exact(&mut early).expect("it has its turn");
    assert_eq!(open(&it), json!(3));
    [&stays, &third, &fourth].into_iter().for_each(|stream| expect_echo(stream, b"x"));
    // All of them, and one that waits, move on.
    let mut fifth = connect(it.address_of("stays"));
    fifth.write_all(b"early").expect("it is taken");
    expect_silence(&fifth);
    it.upgrade();
    meanwhile(A_WHILE, "the limit holds", || open(&it) == json!(3));
    drop(stays);
    fifth.read_exact(&mut early).expect("it has its turn");
    [&third, &fourth, &fifth].into_iter().for_each(|stream| expect_echo(stream, b"x"));
    assert_eq!(open(&it), json!(3));
    expect_balance(&it);
}

/// While the old process drains it counts on, and what it has is counted in the next one.
#[test]
fn what_the_old_process_still_counts_is_in_the_figures_of_the_next() {
    let frontend =
        |name: &str| format!("[frontend.{name}]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n");
    let it = Upgraded::start(&[frontend("stays"), frontend("goes")].concat(), 2);
    let goes = connect(it.address_of("goes"));
    expect_echo(&goes, b"x");
    it.write(&frontend("stays"));
    it.upgrade();
    let value = |name: &str| it.counted()[name];
    let (received, closed) =
        ("acceptor_received_bytes_total", "acceptor_closed_connections_total{reason=\"peer\"}");
    assert_eq!((value(received), it.gauge("acceptor_open_connections")), (1.0, 1.0));
    expect_echo(&goes, &[7; 1000]);
    eventually(SOON, "it is told", || value(received) == 1001.0);
    expect_balance(&it);
    let before = value(closed);
    goes.shutdown(std::net::Shutdown::Write).expect("it is open");
    expect_end(&goes);
    eventually(SOON, "it has ended", || it.gauge("acceptor_open_connections") == 0.0);
    eventually(SOON, "it is counted", || value(closed) == before + 1.0);
    expect_balance(&it);
}

/// What says how names resolve.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// The options of unshare(1) that make namespaces here; none if nothing does.
fn namespaces() -> Option<&'static [&'static str]> {
    let options: &[&str] =
        if process::is_root() { &["-n", "-m"] } else { &["-U", "-r", "-n", "-m"] };
    let status = Command::new("unshare").args(options).arg("true").output().ok()?.status;
    let are_there = FILES.iter().all(|file| Path::new(file).exists());
    (status.success() && are_there).then_some(options)
}

#[test]
fn a_name_that_resolves_no_more_has_the_addresses_that_it_had() {
    if !is_inside() {
        return match namespaces() {
            Some(options) => run_inside(options),
            None => skipped("names that resolve no more: unshare(1) makes no namespaces here"),
        };
    }
    process::raise_loopback().expect("it is our network");
    let backend = Server::start(&["echo"]);
    let folder = Folder::new();
    let hosts = folder.write("hosts", "127.0.0.1 backend.test\n");
    let servers =
        folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    process::bind_mount(&hosts, FILES[0]).expect("it is our mount namespace");
    process::bind_mount(&servers, FILES[1]).expect("it is our mount namespace");
    let text = format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'web'\n\
         [upstream.web]\nbackends = ['backend.test:{}']\n",
        backend.address().port()
    );
    let it = Upgraded::start(&text, 1);
    expect_echo(connect(it.address_of("p")), b"x");
    fs::write(&hosts, "").expect("it can be written");
    it.upgrade();
    expect_echo(connect(it.address_of("p")), b"x");
    let log = it.server.stderr();
    assert!(log.contains("cannot be resolved, so it has the addresses that it had"), "{log}");
    it.upgrade();
    expect_echo(connect(it.address_of("p")), b"x");
}
