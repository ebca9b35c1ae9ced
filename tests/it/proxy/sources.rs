//! Local addresses that backends are connected from; and, in a network of its own with few ports, what happens when
//! they have none left.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::client::IO_TIMEOUT;
use crate::harness::{Launch, SOON, eventually, is_inside, run_inside, skipped};
use crate::process::{is_root, raise_loopback};

use super::backend::Backend;
use super::{Folder, Proxy, line, who_answers};

/// Says where a connection comes from, then sends everything back.
fn who_comes() -> Backend {
    Backend::start(|mut stream| {
        let from = stream.peer_addr().expect("it is connected").ip();
        if stream.write_all(format!("{from}\n").as_bytes()).is_ok() {
            super::backend::echo(stream);
        }
    })
}

#[test]
fn connections_come_from_the_sources_in_turn() {
    let backend = who_comes();
    let sources = ["--source", "127.0.0.5", "--source", "127.0.0.6", "--workers", "1"];
    let proxy = Proxy::start(&[&backend], &sources);
    let from: Vec<String> = (0..4).map(|_| who_answers(proxy.address()).0).collect();
    assert_eq!(from, ["127.0.0.5", "127.0.0.6", "127.0.0.5", "127.0.0.6"]);
    proxy.stop();
    backend.expect_no_panic();
}

#[test]
fn checks_come_from_a_source_too() {
    let (backend, checks) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &["--source", "127.0.0.5", "--check-interval", "20ms"]);
    for _ in 0..3 {
        let from = checks.next().peer_addr().expect("it was connected").ip();
        assert_eq!(from.to_string(), "127.0.0.5");
    }
    proxy.stop();
}

/// TEST-NET-1 is of nobody.
#[test]
fn an_address_that_is_none_of_this_machine_is_told_at_the_start_and_by_a_check() {
    let exit = Launch::new(&["proxy", "--to", "127.0.0.1:1", "--source", "192.0.2.1"]).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let told = "the source 192.0.2.1 is not an address of this machine; see: ip addr";
    assert!(exit.stderr.contains(told), "{}", exit.stderr);
    let folder = Folder::new();
    let text = "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n\
                [upstream.u]\nbackends = ['127.0.0.1:1']\nsource = ['127.0.0.5', '192.0.2.1']\n";
    let path = folder.write("a.toml", text);
    let exit = Launch::from_file(&["check", "--config", &path], 0).run();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    let told = "a.toml:7:24: upstream.u.source[1] = '192.0.2.1': the source is not an address of \
                this machine; see: ip addr";
    assert!(exit.stderr.contains(told), "{}", exit.stderr);
}

/// Nobody would see it before the first client: an address in place of the name is an error.
#[test]
fn a_name_that_no_source_can_reach_is_a_warning_at_the_start_and_of_a_check() {
    let addresses = ("localhost", 80).to_socket_addrs().expect("it resolves");
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(SocketAddr::is_ipv4);
    let (source, family) = match (v4.is_empty(), v6.is_empty()) {
        (false, true) => ("::1", "IPv4"),
        (true, false) => ("127.0.0.1", "IPv6"),
        _ => return skipped("no source for a name: localhost has addresses of both families"),
    };
    let give = format!("give an {family} address of this machine too");
    let folder = Folder::new();
    let text = format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n\
         [upstream.u]\nbackends = ['localhost:80']\nsource = '{source}'\n"
    );
    let path = folder.write("a.toml", &text);
    let exit = Launch::from_file(&["check", "--config", &path], 0).run();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let told =
        "a.toml:6:13: upstream.u.backends[0] = 'localhost:80': no source for it: it resolves to ";
    assert!(exit.stdout.contains(told) && exit.stdout.contains(&give), "{}", exit.stdout);
    let proxy = Proxy::start_to(&["localhost:80"], &["--source", source]);
    let told = "WARN upstream default: no source for the backend localhost:80: it resolves to ";
    eventually(SOON, "it is told", || {
        proxy.server.stderr().lines().any(|line| line.contains(told) && line.ends_with(&give))
    });
    proxy.stop();
}

/// Of unix sockets alone there is none.
#[test]
fn a_source_is_for_tcp() {
    let exit = Launch::new(&["proxy", "--to", "unix:/x", "--source", "127.0.0.5"]).run();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("all backends are unix sockets"), "{}", exit.stderr);
    let backend = who_comes();
    let route = ["--route", "a.example=unix:/x", "--source", "127.0.0.5"];
    let proxy = Proxy::start(&[&backend], &route);
    proxy.stop();
}

const PORTS: usize = 20;
const SOURCES: usize = 2;

/// As many connections as there are ports, and one more.
#[test]
fn each_source_gives_as_many_connections_as_there_are_ports() {
    if is_inside() {
        return inside();
    }
    let options: &[&str] = if is_root() { &["-n"] } else { &["-U", "-r", "-n"] };
    let tried = Command::new("unshare").args(options).arg("true").output();
    if !tried.is_ok_and(|exit| exit.status.success()) {
        return skipped("few local ports: unshare(1) makes no network namespace here");
    }
    run_inside(options);
}

fn inside() {
    raise_loopback().expect("it is our network");
    let range = format!("40000 {}", 40000 + PORTS - 1);
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("it is our network");
    let backend = Backend::start_on("127.0.0.1:2000".parse().expect("it is one"), |stream| {
        super::backend::greet("here", stream);
    });
    let folder = Folder::new();
    let path = folder.file("front.sock");
    let listen = format!("unix:{path}");
    let more = [
        "--listen",
        &listen,
        "--source",
        "127.0.0.5",
        "--source",
        "127.0.0.6",
        "--eject-after",
        "1",
        "--queue-timeout",
        "30s",
        "--workers",
        "2",
    ];
    let proxy = Proxy::start(&[&backend], &more);
    let client = || {
        let stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
        stream
    };
    let open: Vec<UnixStream> = (0..PORTS * SOURCES).map(|_| client()).collect();
    open.iter().for_each(|stream| assert_eq!(line(stream), "here"));
    let waiting = client();
    let told = "is left for it (EADDRNOTAVAIL); give the upstream more source addresses, or widen \
                net.ipv4.ip_local_port_range; the backend is not to blame";
    eventually(SOON, "it is told", || proxy.server.stderr().contains(told));
    assert_eq!(backend.accepted(), PORTS * SOURCES);
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
    assert!(std::io::Read::read(&mut &waiting, &mut [0]).is_err(), "it waits");
    waiting.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    // A port in TIME_WAIT is taken again after a second, to a loopback address (net.ipv4.tcp_tw_reuse).
    drop(open);
    assert_eq!(line(&waiting), "here");
    drop(waiting);
    let entries = proxy.ended(PORTS * SOURCES + 1);
    assert!(entries.iter().any(|entry| entry["errno"] == "EADDRNOTAVAIL"), "{entries:#?}");
    for entry in &entries {
        let connects = (&entry["attempts"], &entry["failed_connects"]);
        assert_eq!(connects, (&1.into(), &0.into()), "{entry:#}");
    }
    let Proxy { server, folder: _folder } = proxy;
    let log = server.stop();
    assert!(!log.contains("ejected") && !log.contains("cannot be connected to"), "{log}");
    assert!(log.contains("backend_no_port=") && !log.contains("backend_no_port=0"), "{log}");
}
