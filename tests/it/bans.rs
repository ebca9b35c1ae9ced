//! Sources that are banned: by the kernel, and where it does not let the server decide about SYNs, at accept.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::client::expect_echo;
use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server, eventually, is_inside, run_inside, skipped};
use crate::process::{self, CAP_NET_ADMIN, is_root};

/// Shorter than the first time that a SYN is sent again.
const SILENCE: Duration = Duration::from_millis(400);

const TEXT: &str = "\
[frontend.one]
listen = '127.0.0.1:0'
service = 'echo'
[frontend.two]
listen = '127.0.0.1:0'
service = 'echo'
";

/// What becomes of one who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Served,
    /// Nothing comes back to the SYN.
    Silence,
    /// A reset, behind the handshake.
    Reset,
}

/// Who turns away those who are banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Kernel,
    Accept,
}

impl Way {
    fn seen(self) -> Seen {
        match self {
            Self::Kernel => Seen::Silence,
            Self::Accept => Seen::Reset,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Accept => "accept",
        }
    }
}

/// Those that this user can go.
fn ways() -> Vec<Way> {
    if is_root() {
        return vec![Way::Kernel, Way::Accept];
    }
    skipped("bans in the kernel: they want CAP_NET_ADMIN");
    vec![Way::Accept]
}

struct Banning {
    folder: Folder,
    server: Server,
}

impl Banning {
    fn start(way: Way) -> Self {
        Self::with(way, TEXT, 2)
    }

    fn with(way: Way, text: &str, listeners: usize) -> Self {
        let folder = Folder::new();
        let path = folder.write("a.toml", &in_full(&folder, text));
        let launch = Launch::from_file(&["run", "--config", &path], listeners);
        let server = match way {
            Way::Kernel => launch.start(),
            Way::Accept => launch.without_capability(CAP_NET_ADMIN).start(),
        };
        Self { folder, server }
    }

    fn call(&self, arguments: &[&str]) -> Exit {
        let control = format!("unix:{}", self.folder.file("c.sock"));
        let command = match arguments {
            ["upgrade"] => vec!["upgrade", "--control", &control],
            _ => [&["ctl", "--control", &control], arguments].concat(),
        };
        Launch::from_file(&command, 0).run_within(4 * SOON)
    }

    /// What it writes for one that succeeds; a warning is part of that.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let exit = self.call(arguments);
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        exit.stdout
    }

    #[track_caller]
    fn ask(&self, command: &str) -> Value {
        let mut stream = UnixStream::connect(self.folder.file("c.sock")).expect("it listens");
        stream.set_read_timeout(Some(2 * SOON)).expect("a timeout can be set");
        let request = json!({"version": 1, "command": command});
        stream.write_all(format!("{request}\n").as_bytes()).expect("it is taken");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).expect("one");
        serde_json::from_str::<Value>(&line).expect("JSON")["result"].clone()
    }

    fn bans(&self) -> Value {
        self.ask("bans")
    }

    #[track_caller]
    fn stop(self) {
        let exit = self.done(&["shutdown"]);
        assert_eq!(exit, "the server drains and ends");
        let exit = self.server.wait(SOON);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    }
}

/// With two threads that accept, each with sockets of its own.
fn in_full(folder: &Folder, text: &str) -> String {
    let (engine, socket) = (crate::ENGINE, folder.file("c.sock"));
    format!(
        "[process]\nengine = '{engine}'\nworkers = 2\nacceptors = 0\ncontrol = 'unix:{socket}'\n{text}"
    )
}

/// Connects from an address of this machine.
fn connect_from(from: &str, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let from: IpAddr = from.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("it is an address of this machine");
    socket.connect_timeout(&to.into(), SILENCE).map_err(|error| error.kind())?;
    socket.set_read_timeout(Some(SOON)).expect("not zero");
    Ok(socket.into())
}

#[track_caller]
fn seen(from: &str, to: SocketAddr) -> Seen {
    let mut stream = match connect_from(from, to) {
        Ok(stream) => stream,
        Err(ErrorKind::TimedOut) => return Seen::Silence,
        Err(ErrorKind::ConnectionReset) => return Seen::Reset,
        Err(kind) => panic!("a connect from {from} ends with {kind:?}"),
    };
    let mut back = [0; 3];
    match stream.write_all(b"abc").and_then(|()| stream.read_exact(&mut back)) {
        Ok(()) => Seen::Served,
        Err(error) => {
            let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&error.kind()), "{from}: {error}");
            Seen::Reset
        }
    }
}

#[test]
fn a_banned_source_is_turned_away_and_others_are_not() {
    for way in ways() {
        let it = Banning::start(way);
        let to = [it.server.address_of(0), it.server.address_of(1)];
        let open = connect_from("127.0.9.1", to[0]).expect("nobody is banned");
        expect_echo(&open, b"before");
        let told = it.done(&["ban", "127.0.9.1", "--for", "10m"]);
        assert!(told.starts_with("source 127.0.9.1: banned for 10m"), "{told}");
        assert_eq!(told.contains("warning: it is kept at accept"), way == Way::Accept, "{told}");
        it.done(&["ban", "127.0.10.0/24", "--for", "1h"]);
        // Several sockets, of which the kernel chooses one.
        for round in 0..4 {
            let to = to[round % 2];
            assert_eq!(seen("127.0.9.1", to), way.seen(), "{way:?}");
            assert_eq!(seen("127.0.10.77", to), way.seen());
            assert_eq!(seen("127.0.9.2", to), Seen::Served);
            assert_eq!(seen("127.0.11.1", to), Seen::Served);
        }
        expect_echo(&open, b"what is open goes on");
        let list = it.bans();
        let (dropped, refused) = (&list["syns_dropped"], &list["refused_at_accept"]);
        match way {
            Way::Kernel => assert_eq!((dropped, refused), (&json!(8), &json!(0))),
            Way::Accept => assert_eq!((dropped, refused), (&json!(0), &json!(8))),
        }
        let bans = list["bans"].as_array().expect("a list");
        let sources: Vec<_> = bans.iter().map(|ban| ban["source"].clone()).collect();
        assert_eq!(sources, ["127.0.10.0/24", "127.0.9.1"]);
        assert!(bans.iter().all(|ban| ban["at"] == way.name() && ban["by"] == "operator"));
        assert!(bans[0]["left_seconds"].as_u64() > Some(3500), "{list}");
        // Nobody takes the drops for those of a full queue.
        let status = it.ask("status");
        for frontend in status["frontends"].as_array().expect("a list") {
            for queue in frontend["queues"].as_array().expect("a list") {
                assert_eq!(queue["verdict"], "healthy", "{status}");
                assert_eq!(queue["drops"], queue["drops_by_bans"], "{status}");
            }
        }
        assert_eq!(status["bans"]["active"], 2);
        assert_eq!(status["bans"]["at"], way.name());
        assert_eq!(it.done(&["unban", "127.0.9.1"]), "source 127.0.9.1: banned no more");
        assert_eq!(seen("127.0.9.1", to[0]), Seen::Served);
        assert_eq!(seen("127.0.10.1", to[1]), way.seen());
        drop(open);
        it.stop();
    }
}

#[test]
fn a_ban_ends_by_itself() {
    for way in ways() {
        let it = Banning::start(way);
        let to = it.server.address();
        let begun = Instant::now();
        it.done(&["ban", "127.0.9.1", "--for", "2s"]);
        assert_eq!(seen("127.0.9.1", to), way.seen());
        eventually(SOON, "the ban is over", || seen("127.0.9.1", to) == Seen::Served);
        let lasted = begun.elapsed();
        // Its end is looked for once a second.
        assert!(lasted >= Duration::from_secs(2), "{lasted:?}");
        assert_eq!(it.bans()["bans"], json!([]));
        assert!(it.server.stderr().contains("the ban of 127.0.9.1 has ended"));
        it.stop();
    }
}

/// Listeners that a reload adds have it from their first moment.
#[test]
fn a_ban_survives_a_reload() {
    for way in ways() {
        let it = Banning::start(way);
        it.done(&["ban", "127.0.9.1", "--for", "1h"]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let to = port.local_addr().expect("it is bound");
        drop(port);
        let more = format!("{TEXT}[frontend.three]\nlisten = '{to}'\nservice = 'echo'\n");
        it.folder.write("a.toml", &in_full(&it.folder, &more));
        it.done(&["reload"]);
        assert_eq!(seen("127.0.9.1", to), way.seen());
        assert_eq!(seen("127.0.9.2", to), Seen::Served);
        assert_eq!(seen("127.0.9.1", it.server.address()), way.seen());
        it.done(&["unban", "127.0.9.1"]);
        assert_eq!(seen("127.0.9.1", to), Seen::Served);
        it.stop();
    }
}

#[test]
fn a_ban_survives_an_upgrade_and_ends_in_the_new_process() {
    for way in ways() {
        let it = Banning::start(way);
        let to = it.server.address();
        it.done(&["ban", "127.0.9.1", "--for", "1h"]);
        it.done(&["ban", "127.0.9.3", "--for", "6s"]);
        assert_eq!(seen("127.0.9.1", to), way.seen());
        let counted = |it: &Banning| {
            let list = it.bans();
            let count = |name: &str| list[name].as_u64().expect("a number");
            count("syns_dropped") + count("refused_at_accept")
        };
        assert_eq!(counted(&it), 1);
        let before = it.ask("status")["pid"].clone();
        it.done(&["upgrade"]);
        let pid = it.ask("status")["pid"].clone();
        assert_ne!(pid, before);
        assert_eq!(counted(&it), 1, "{way:?}: it is counted on");
        assert_eq!(it.ask("status")["bans"]["active"], 2);
        assert_eq!(seen("127.0.9.1", to), way.seen());
        assert_eq!(seen("127.0.9.3", to), way.seen());
        assert_eq!(seen("127.0.9.2", to), Seen::Served);
        eventually(SOON, "the shorter one is over", || seen("127.0.9.3", to) == Seen::Served);
        assert_eq!(seen("127.0.9.1", to), way.seen());
        it.done(&["unban", "127.0.9.1"]);
        assert_eq!(seen("127.0.9.1", to), Seen::Served);
        let pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a number");
        process::kill(pid, libc::SIGKILL);
    }
}

/// While it drains all are met with silence, whoever is banned and whatever ban ends.
#[test]
fn the_end_of_a_ban_admits_nobody_while_the_server_drains() {
    if !is_root() {
        return skipped("bans in the kernel: they want CAP_NET_ADMIN");
    }
    let it = Banning::start(Way::Kernel);
    let to = it.server.address();
    let open = connect_from("127.0.9.2", to).expect("nobody is banned");
    expect_echo(&open, b"x");
    it.done(&["ban", "127.0.9.1", "--for", "1s"]);
    // As long as somebody waits for a place, the listeners stay.
    it.done(&["set", "max-connections", "1"]);
    let waiting: Vec<_> =
        (0..16).map(|_| connect_from("127.0.9.3", to).expect("a queue")).collect();
    it.done(&["shutdown"]);
    let end = Instant::now() + Duration::from_millis(2500);
    eventually(SOON, "it drains", || seen_or_refused("127.0.9.2", to) != Some(Seen::Served));
    while Instant::now() < end {
        for from in ["127.0.9.1", "127.0.9.2"] {
            assert_eq!(seen_or_refused(from, to), Some(Seen::Silence), "{from}");
        }
    }
    drop((open, waiting));
    assert_eq!(it.server.wait(SOON).code, Some(0));
}

/// Nobody is asked for bytes: whoever has connected may wait in a queue.
fn seen_or_refused(from: &str, to: SocketAddr) -> Option<Seen> {
    match connect_from(from, to) {
        Ok(_) => Some(Seen::Served),
        Err(ErrorKind::TimedOut) => Some(Seen::Silence),
        Err(_) => None,
    }
}

#[test]
fn what_cannot_be_banned_is_told() {
    let it = Banning::start(Way::Accept);
    let usage = |arguments: &[&str], told: &str| {
        let exit = it.call(arguments);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(exit.stderr.contains(told), "{}", exit.stderr);
    };
    usage(&["ban", "127.0.9.1"], "--for <TIME>");
    usage(&["ban", "somebody", "--for", "1m"], "neither an address nor a network");
    usage(&["ban", "127.0.9.1/24", "--for", "1m"], "the network is 127.0.9.0/24");
    usage(&["ban", "0.0.0.0/0", "--for", "1m"], "that is everybody");
    usage(&["ban", "2001:db8::1/128", "--for", "1m"], "nothing smaller can be named");
    usage(&["ban", "127.0.9.1", "--for", "0s"], "whole seconds");
    usage(&["ban", "127.0.9.1", "--for", "1500ms"], "whole seconds");
    usage(&["ban", "127.0.9.1", "--for", "366d"], "365 days at most");
    usage(&["ban", "127.0.9.1", "--for", "soon"], "such as 90s, 10m or 1h");
    let exit = it.call(&["unban", "127.0.9.1"]);
    let told = "error: there is no ban of 127.0.9.1; it may have ended by itself\n";
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(1), told));
    let told = it.done(&["bans"]);
    assert!(told.starts_with("bans: 0, at accept, for want of CAP_NET_ADMIN (EPERM)\n"), "{told}");
    it.done(&["ban", "::ffff:127.0.9.1", "--for", "1h"]);
    it.done(&["ban", "2001:db8::1", "--for", "30m"]);
    let told = it.done(&["bans"]);
    for part in
        ["\nSOURCE", "\n127.0.9.1      operator  accept", "\n2001:db8::/64  operator  accept"]
    {
        assert!(told.contains(part), "no '{part}' in {told}");
    }
    let exit = it.call(&["unban", "2001:db8::/48"]);
    assert_eq!(exit.code, Some(1), "it is not exactly this network");
    it.stop();
}

/// More than a program of the kernel takes: what is left out is kept at accept, those that end first.
#[test]
fn what_has_no_room_in_the_kernel_is_kept_at_accept() {
    if !is_root() {
        return skipped("bans in the kernel: they want CAP_NET_ADMIN");
    }
    const MANY: u32 = 4095;
    let it = Banning::start(Way::Kernel);
    let mut stream = UnixStream::connect(it.folder.file("c.sock")).expect("it listens");
    stream.set_read_timeout(Some(2 * SOON)).expect("a timeout can be set");
    let mut answers = std::io::BufReader::new(stream.try_clone().expect("it can be"));
    let mut ban = |source: &str, seconds: u64| {
        let (version, command) = (1, "ban");
        let request = json!({"version": version, "command": command, "source": source, "for_seconds": seconds});
        stream.write_all(format!("{request}\n").as_bytes()).expect("it is taken");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut answers, &mut line).expect("an answer");
        serde_json::from_str::<Value>(&line).expect("JSON")
    };
    // It has to last for as long as it takes to ban the others.
    ban("127.0.9.1", 900);
    for number in 0..MANY {
        let source = std::net::Ipv4Addr::from_bits(0x0A00_0000 + number * 3).to_string();
        let answer = ban(&source, 1000 + u64::from(number));
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let full = ban("127.0.9.2", 5000);
    assert_eq!(full["error"]["code"], "failed", "{full}");
    ban("10.0.0.0", 890);
    let list = it.bans();
    let at_accept = list["place"]["active_at_accept"].as_u64().expect("a number");
    assert!((500..900).contains(&at_accept), "{at_accept}");
    assert_eq!(list["place"]["at"], "kernel");
    // It ends before most.
    assert_eq!(seen("127.0.9.1", it.server.address()), Seen::Reset);
    ban("127.0.9.1", 100_000);
    assert_eq!(seen("127.0.9.1", it.server.address()), Seen::Silence);
    assert_eq!(seen("127.0.9.2", it.server.address()), Seen::Served);
    it.stop();
}

/// Whoever has one address of a /64 has all of them, and does not get away with another.
#[test]
fn an_ipv6_source_is_its_64() {
    if is_inside() {
        return inside();
    }
    let options: &[&str] = if is_root() { &["-n"] } else { &["-U", "-r", "-n"] };
    let script = "ip link set lo up && ip -6 address add 2001:db8:1::1/128 dev lo nodad";
    let tried = Command::new("unshare").args(options).args(["sh", "-c", script]).output();
    if !tried.is_ok_and(|exit| exit.status.success()) {
        return skipped("bans of IPv6 sources: unshare(1) and ip(8) give no addresses here");
    }
    run_inside(options);
}

fn inside() {
    process::raise_loopback().expect("it is our network");
    let sources = [
        "2001:db8:1::1",
        "2001:db8:1::2",
        "2001:db8:1:0:ffff::",
        "2001:db8:1:1::1",
        "2001:db8:2::1",
    ];
    for source in sources {
        let address = format!("{source}/128");
        let exit = Command::new("ip")
            .args(["-6", "address", "add", &address, "dev", "lo", "nodad"])
            .status();
        assert!(exit.is_ok_and(|exit| exit.success()), "{address}");
    }
    let text = "[frontend.one]\nlisten = '[::]:0'\nservice = 'echo'\n";
    for way in [Way::Kernel, Way::Accept] {
        let it = Banning::with(way, text, 1);
        let at = it.ask("status")["bans"]["at"].clone();
        if at != way.name() {
            skipped(&format!("bans in the kernel, in a user namespace: they are kept at {at}"));
            continue;
        }
        let port = it.server.address().port();
        let to = SocketAddr::new("2001:db8:2::1".parse().expect("an address"), port);
        it.done(&["ban", sources[0], "--for", "1h"]);
        it.done(&["ban", "127.0.9.0/24", "--for", "1h"]);
        let expected = [way.seen(), way.seen(), way.seen(), Seen::Served, Seen::Served];
        assert_eq!(sources.map(|source| seen(source, to)), expected, "{way:?}");
        // Who comes by IPv4 to a listener of both.
        let to_v4 = SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
        assert_eq!(seen("127.0.9.9", to_v4), way.seen());
        assert_eq!(seen("127.0.8.9", to_v4), Seen::Served);
        it.done(&["ban", "2001:db8::/32", "--for", "1h"]);
        assert_eq!(sources.map(|source| seen(source, to)), [way.seen(); 5], "{way:?}");
        it.stop();
    }
}
