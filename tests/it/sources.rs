//! Rules by the source of a connection. 127.0.0.0/8 has as many sources as a test wants.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually, is_inside, run_inside, skipped};

/// A server with a control socket, and the file that it was started from.
struct Ruled {
    folder: Folder,
    server: Server,
}

impl Ruled {
    /// An echo service with these keys.
    fn echo(keys: &str) -> Self {
        Self::start(&format!("[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n{keys}"), 1)
    }

    fn start(text: &str, listeners: usize) -> Self {
        Self::within(Folder::new(), text, listeners)
    }

    fn within(folder: Folder, text: &str, listeners: usize) -> Self {
        let path = folder.write("a.toml", &in_full(&folder, text));
        let server = Launch::from_file(&["run", "--config", &path], listeners).start();
        Self { folder, server }
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str]) -> String {
        let control = format!("unix:{}", self.folder.file("c.sock"));
        let exit =
            Launch::from_file(&[&["ctl", "--control", &control], arguments].concat(), 0).run();
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        exit.stdout
    }

    /// How often a rule was against a connection of the first frontend.
    fn counted(&self, rule: &str, action: &str) -> u64 {
        let status: Value = serde_json::from_str(&self.ctl(&["--json", "status"])).unwrap();
        let counts = status["frontends"][0]["source_rules"].as_array().unwrap().clone();
        let own = counts.iter().find(|it| it["rule"] == rule && it["action"] == action);
        own.map_or(0, |it| it["connections"].as_u64().unwrap())
    }

    /// From there, with a byte there and back.
    fn enter(&self, source: &str) -> io::Result<TcpStream> {
        enter(source, self.server.address())
    }
}

fn in_full(folder: &Folder, text: &str) -> String {
    let control = folder.file("c.sock");
    let engine = crate::ENGINE;
    format!("[process]\nworkers = 2\nengine = '{engine}'\ncontrol = 'unix:{control}'\n{text}")
}

/// Connects from an address, sends a byte and waits until it comes back.
fn enter(source: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let source: IpAddr = source.parse().expect("it is an address");
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.set_read_timeout(Some(SOON))?;
    socket.connect_timeout(&to.into(), SOON)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"x")?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    if byte == *b"x" { Ok(stream) } else { Err(io::Error::other(format!("{byte:?} came"))) }
}

/// It is refused at once, and not by silence.
#[track_caller]
fn expect_refused(result: io::Result<TcpStream>) {
    let error = result.expect_err("it is refused");
    let kinds =
        [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[test]
fn a_source_has_as_many_connections_as_it_may() {
    let it = Ruled::echo("max_per_source = 3\n");
    let mut held: Vec<TcpStream> = ["127.0.1.1", "127.0.1.2"]
        .into_iter()
        .flat_map(|source| (0..3).map(move |_| source))
        .map(|source| it.enter(source).expect("it is within its limit"))
        .collect();
    expect_refused(it.enter("127.0.1.1"));
    expect_refused(it.enter("127.0.1.2"));
    assert_eq!(it.counted("max_per_source", "refused"), 2);
    let list = it.ctl(&["sources", "--frontend", "e", "--sort", "refused"]);
    assert!(list.contains("127.0.1.1") && list.contains("127.0.1.2"), "{list}");
    drop(held.remove(0));
    eventually(SOON, "its place is free", || {
        it.enter("127.0.1.1").map(|stream| held.push(stream)).is_ok()
    });
    expect_refused(it.enter("127.0.1.1"));
    drop(held);
    it.server.stop();
}

/// With several accepting threads, too.
#[test]
fn the_limit_of_a_source_is_exact_for_all_acceptors() {
    for placement in ["acceptors = 2", "acceptors = 0"] {
        let text = format!(
            "{placement}\n[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nmax_per_source = 10\n"
        );
        let it = Ruled::start(&text, 1);
        let address = it.server.address();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    (0..20).filter_map(|_| enter("127.0.1.1", address).ok()).collect::<Vec<_>>()
                })
            })
            .collect();
        let held: usize = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
            .iter()
            .map(Vec::len)
            .sum();
        assert_eq!(held, 10, "{placement}");
        it.server.stop();
    }
}

/// Ten times as fast as it may: it gets what it may have, and others get what they want.
#[test]
fn a_greedy_source_gets_its_rate() {
    const PER_SECOND: f64 = 40.0;
    const BURST: f64 = 8.0;
    let it = Ruled::echo("rate_per_source = '40/s burst 8'\n");
    let (begun, mut admitted, mut others, mut longest_gap) =
        (Instant::now(), 0, 0_u8, Duration::ZERO);
    let mut last = begun;
    while begun.elapsed() < Duration::from_secs(3) {
        admitted += u32::from(it.enter("127.0.1.1").is_ok());
        longest_gap = longest_gap.max(last.elapsed());
        last = Instant::now();
        if others < 50 {
            others += 1;
            it.enter(&format!("127.0.2.{others}")).expect("it is within its rate");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let most = BURST + PER_SECOND * begun.elapsed().as_secs_f64();
    assert!(f64::from(admitted) <= most + 1.0, "{admitted} of {most}");
    // Whoever comes too seldom, on a busy machine, gets less.
    if longest_gap < Duration::from_millis(25) {
        assert!(f64::from(admitted) >= 0.98 * most - 1.0, "{admitted} of {most}");
    }
    assert!(it.counted("rate_per_source", "refused") > 0);
    it.server.stop();
}

#[test]
fn networks_are_let_in_or_not_and_a_reload_changes_that() {
    let folder = Folder::new();
    folder.write("denied", "# ours\n127.0.3.0/24\n");
    let head = "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let text =
        format!("{head}allow = ['127.0.0.0/16']\ndeny = '127.0.2.1'\ndeny_file = 'denied'\n");
    let it = Ruled::within(folder, &text, 1);
    let open = it.enter("127.0.1.1").expect("it is allowed");
    for source in ["127.1.0.1", "127.0.2.1", "127.0.3.9"] {
        expect_refused(it.enter(source));
    }
    it.enter("127.0.2.2").expect("it is allowed");
    assert_eq!((it.counted("allow", "refused"), it.counted("deny", "refused")), (1, 2));
    // The file alone is another; it may have been seen already.
    it.folder.write("denied", "127.0.1.0/24\n");
    it.ctl(&["reload"]);
    expect_refused(it.enter("127.0.1.1"));
    it.enter("127.0.3.9").expect("it is allowed now");
    expect_echo(&open, b"it was open before");
    it.folder.write("a.toml", &in_full(&it.folder, head));
    it.ctl(&["reload"]);
    it.enter("127.1.0.1").expect("there are no rules any more");
    drop(open);
    it.server.stop();
}

#[test]
fn rules_that_are_watched_refuse_nobody() {
    let it = Ruled::echo("max_per_source = 1\ndeny = '127.0.9.0/24'\nsource_rules = 'observe'\n");
    let held: Vec<_> = (0..3).map(|_| it.enter("127.0.1.1").expect("nobody is refused")).collect();
    it.enter("127.0.9.1").expect("nobody is refused");
    assert_eq!(it.counted("max_per_source", "observed"), 2);
    assert_eq!(it.counted("deny", "observed"), 1);
    assert!(it.server.stderr().contains("would be refused by max_per_source"));
    drop(held);
    it.server.stop();
}

#[test]
fn whoever_is_refused_may_get_a_reply_or_a_fin() {
    let replies = Ruled::echo("max_per_source = 1\nreply = 'busy, come again\\n'\n");
    let held = replies.enter("127.0.1.1").unwrap();
    let mut refused = connect_from("127.0.1.1", replies.server.address());
    // What it has sent must not cost it the reply.
    refused.write_all(b"a request").unwrap();
    let mut reply = String::new();
    refused.read_to_string(&mut reply).expect("it ends with a FIN");
    assert_eq!(reply, "busy, come again\\n");
    drop(held);
    replies.server.stop();

    let closes = Ruled::echo("deny = '127.0.1.1'\nrefuse = 'close'\n");
    let mut refused = connect_from("127.0.1.1", closes.server.address());
    assert_eq!(refused.read(&mut [0]).expect("it ends with a FIN"), 0);
    closes.server.stop();
}

fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect_timeout(&to.into(), SOON).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.into()
}

/// A reply lingers for a second. A thread whose listeners have gone meanwhile closes it, and sleeps.
#[test]
fn a_reply_that_lingers_keeps_no_thread_busy() {
    let it = Ruled::echo("max_per_source = 1\nreply = 'busy'\n");
    let held = it.enter("127.0.1.1").unwrap();
    let refused = connect_from("127.0.1.1", it.server.address());
    expect_text(&refused, "busy");
    it.ctl(&["drain", "e"]);
    eventually(SOON, "nobody is accepted any more", || {
        TcpStream::connect(it.server.address()).is_err()
    });
    std::thread::sleep(Duration::from_millis(1_500));
    let before = it.server.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = it.server.cpu_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of a second");
    drop((held, refused));
    it.server.stop();
}

#[track_caller]
fn expect_text(mut stream: &TcpStream, text: &str) {
    let mut read = String::new();
    stream.read_to_string(&mut read).expect("it ends with a FIN");
    assert_eq!(read, text);
}

/// They wait for their turn, and nobody else does.
#[test]
fn whoever_is_too_fast_may_be_kept_until_its_turn() {
    let it = Ruled::echo("rate_per_source = '20/s burst 1'\nrefuse = 'delay'\n");
    let begun = Instant::now();
    let waiting: Vec<_> = (0..6).map(|_| connect_from("127.0.1.1", it.server.address())).collect();
    it.enter("127.0.1.2").expect("it has not to wait");
    for stream in &waiting {
        expect_echo(stream, b"late");
    }
    assert!(begun.elapsed() >= Duration::from_millis(245), "{:?}", begun.elapsed());
    assert_eq!(it.counted("rate_per_source", "delayed"), 5);
    drop(waiting);
    it.server.stop();
}

/// What is too fast for the frontend waits in the kernel's queue, and nobody is refused.
#[test]
fn the_rate_of_a_frontend_holds_and_refuses_nobody() {
    let it = Ruled::echo("rate = '50/s burst 10'\n");
    let begun = Instant::now();
    let address = it.server.address();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                (0..10).for_each(|_| {
                    enter(&format!("127.0.1.{}", client + 1), address).expect("nobody is refused");
                });
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // 10 at once, 30 at 50 a second.
    assert!(begun.elapsed() >= Duration::from_millis(590), "{:?}", begun.elapsed());
    it.server.stop();
}

/// Its connects meet silence, or a reset where the kernel keeps nobody out.
#[test]
fn a_source_that_stays_over_its_limit_is_banned() {
    let it = Ruled::echo("max_per_source = 1\nban_after = 4\nban_time = '2m'\n");
    let held = it.enter("127.0.1.1").unwrap();
    for _ in 0..4 {
        expect_refused(it.enter("127.0.1.1"));
    }
    eventually(SOON, "it is banned", || it.ctl(&["bans"]).contains("127.0.1.1"));
    assert!(it.ctl(&["bans"]).contains("limit"));
    let refused = it.counted("max_per_source", "refused");
    it.enter("127.0.1.2").expect("others come in");
    expect_echo(&held, b"what is open goes on");
    drop(held);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 1, 1], 0)).into()).unwrap();
    let connected = socket.connect_timeout(&it.server.address().into(), Duration::from_millis(300));
    if connected.is_ok() {
        let end = TcpStream::from(socket).read(&mut [0]);
        end.expect_err("it is reset at accept");
    }
    assert_eq!(it.counted("max_per_source", "refused"), refused, "no rule is asked any more");
    it.ctl(&["unban", "127.0.1.1"]);
    it.enter("127.0.1.1").expect("it is let in again");
    it.server.stop();
}

/// Whoever the header speaks for is asked, and whoever sends it is not.
#[test]
fn a_proxy_header_says_who_is_asked() {
    let backend = Server::start(&["echo"]);
    let rules = "max_per_source = 1\nproxy_protocol_in = '127.0.0.0/8'\n";
    let text = format!(
        "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n{rules}\
         [frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n{rules}\
         [upstream.u]\nbackends = ['{}']\n",
        backend.address()
    );
    let it = Ruled::start(&text, 2);
    for listener in 0..2 {
        let open = |client: &str| {
            let mut stream = connect(it.server.address_of(listener));
            let header = format!("PROXY TCP4 {client} 198.51.100.8 1111 2222\r\nx");
            stream.write_all(header.as_bytes()).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).map(|()| stream)
        };
        let first = open("192.0.2.7").expect("it is the first of its source");
        let other = open("192.0.2.8").expect("it is the first of its source");
        expect_refused(open("192.0.2.7"));
        drop(first);
        eventually(SOON, "its place is free", || open("192.0.2.7").is_ok());
        drop(other);
    }
    it.server.stop();
    backend.stop();
}

#[test]
fn the_limit_of_the_process_holds_for_all_frontends() {
    let echo =
        |name: &str| format!("[frontend.{name}]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n");
    let text = format!("max_per_source = 3\n{}{}", echo("a"), echo("b"));
    let it = Ruled::start(&text, 2);
    let enter = |listener| enter("127.0.1.1", it.server.address_of(listener));
    let held: Vec<_> = [0, 1, 1].map(|listener| enter(listener).unwrap()).into();
    expect_refused(enter(0));
    expect_refused(enter(1));
    assert!(it.ctl(&["sources"]).contains("127.0.1.1"));
    drop(held);
    it.server.stop();
}

/// The owner of an IPv6 network has many addresses in a /64, and many of those in a /48.
#[test]
fn ipv6_sources_are_networks() {
    if !is_inside() {
        if !crate::process::is_root() {
            return skipped("IPv6 sources want a network namespace, and that root");
        }
        return run_inside(&["--net"]);
    }
    let ip = |arguments: &str| {
        let done = std::process::Command::new("ip").args(arguments.split(' ')).status();
        assert!(done.expect("ip(8) is there").success(), "ip {arguments}");
    };
    ip("link set lo up");
    for address in ["1:1::1", "1:1::2", "1:2::1", "1:3::1", "2:1::1"] {
        ip(&format!("-6 addr add 2001:db8:{address}/128 dev lo nodad"));
    }
    let text =
        "[frontend.e]\nlisten = '[::]:0'\nservice = 'echo'\nmax_per_source = 2\nsite_factor = 2\n";
    let it = Ruled::start(text, 1);
    let to = SocketAddr::new("2001:db8:1:1::1".parse().unwrap(), it.server.address().port());
    let from = |source: &str| enter(&format!("2001:db8:{source}"), to);
    let held = [from("1:1::1").unwrap(), from("1:1::2").unwrap()];
    expect_refused(from("1:1::2"));
    let more = [from("1:2::1").unwrap(), from("1:2::1").unwrap()];
    // Its own /64 has none, but the /48 has twice as much as one source may have.
    expect_refused(from("1:3::1"));
    from("2:1::1").expect("it is another site");
    let list = it.ctl(&["sources", "--frontend", "e"]);
    assert!(list.contains("2001:db8:1::/48") && list.contains("2001:db8:1:2::/64"), "{list}");
    drop((held, more));
    it.server.stop();
}

/// A limit that was too strict is over when it is raised, and while it holds somebody back that is told.
/// What a source is, is what it is listed as.
#[test]
fn sources_that_are_networks_are_listed_with_their_prefix() {
    let text = "ipv4_prefix = 24\n[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nmax_per_source = 2\n";
    let it = Ruled::start(text, 1);
    let held = ["127.0.3.1", "127.0.3.2"].map(|source| it.enter(source).expect("it may come in"));
    expect_refused(it.enter("127.0.3.3"));
    let list = it.ctl(&["sources", "--frontend", "e"]);
    let row = list.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with("127.0.3.0/24 "), "{list}");
    drop(held);
    it.server.stop();
}

#[test]
fn a_rate_that_is_raised_by_a_reload_frees_those_that_wait() {
    let head = "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let strict = "rate = '5/h'\nrate_per_source = '2/h'\n";
    let it = Ruled::start(&format!("{head}{strict}"), 1);
    let enter = |last: u32| it.enter(&format!("127.0.1.{last}"));
    for last in [1, 1, 2, 3] {
        enter(last).expect("it is within its rate");
    }
    expect_refused(enter(1));
    let _ = enter(4);
    // The next ones wait in the queue.
    let waiting: Vec<_> = (0..3).map(|_| connect(it.server.address())).collect();
    let queue = || {
        let status: Value = serde_json::from_str(&it.ctl(&["--json", "status"])).unwrap();
        status["frontends"][0]["queues"][0].clone()
    };
    eventually(SOON, "the verdict says why", || {
        let queue = queue();
        queue["verdict"] == "accepting_paused" && queue["cause"] == "frontend_rate"
    });
    let text = it.ctl(&["status"]);
    assert!(text.contains("frontend e: rate_per_source refused 1"), "{text}");
    let loose = strict.replace("/h", "00/s");
    it.folder.write("a.toml", &in_full(&it.folder, &format!("{head}{loose}")));
    it.ctl(&["reload"]);
    for client in &waiting {
        expect_echo(client, b"at last");
    }
    enter(1).expect("it is within its rate now");
    drop(waiting);
    it.server.stop();
}
