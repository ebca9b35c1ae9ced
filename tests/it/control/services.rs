//! Backends by SRV records, from a name server of the tests: in namespaces of their own, since the name servers of a
//! process are those of /etc/resolv.conf, on port 53.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use super::Controlled;
use super::discovery::{Backend, who};
use crate::client::connect;
use crate::folder::Folder;
use crate::harness::{Launch, SOON, eventually, is_inside, run_inside, skipped};
use crate::process::{bind_mount, is_root, raise_loopback};

const NAME: &str = "_web._tcp.example";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Most bytes of an answer by UDP; a longer one is cut, and asked for by TCP.
const UDP_MAX: usize = 512;

/// Types of records.
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What the name server knows.
#[derive(Default)]
struct Zone {
    /// Of the service: priority, weight, port, host.
    records: Vec<(u16, u16, u16, &'static str)>,
    hosts: BTreeMap<&'static str, [u8; 4]>,
    /// Whether it says where hosts are before it is asked.
    brings_along: bool,
    /// Whether what it says of the service is cut in the middle.
    is_broken: bool,
    /// Questions that came by TCP.
    by_tcp: usize,
}

type Shared = Arc<Mutex<Zone>>;

fn labels(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}

fn record(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let fixed = [&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1], &(data.len() as u16).to_be_bytes()];
    [&labels(name), &fixed.concat(), data].concat()
}

/// The answer to a question.
fn answer(question: &[u8], zone: &Zone) -> Vec<u8> {
    let end = question[12..].iter().position(|&byte| byte == 0).map_or(12, |end| end + 13);
    let asked = &question[12..end];
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    let (mut answers, mut more) = (Vec::new(), Vec::new());
    let host = |name: &&str| labels(name).eq_ignore_ascii_case(asked);
    let known = zone.hosts.keys().find(|name| host(name));
    if asked.eq_ignore_ascii_case(&labels(NAME)) && kind == SRV {
        for (priority, weight, port, host) in &zone.records {
            let numbers = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
            answers.push(record(NAME, SRV, &[numbers, labels(host)].concat()));
            if let Some(address) = zone.hosts.get(host).filter(|_| zone.brings_along) {
                more.push(record(host, A, address));
            }
        }
    } else if let (Some(name), A) = (known, kind) {
        answers.push(record(name, A, &zone.hosts[name]));
    }
    let exists = known.is_some() || !answers.is_empty();
    let code = if exists && [A, AAAA, SRV].contains(&kind) { 0 } else { 3 };
    let count = |list: &Vec<Vec<u8>>| (list.len() as u16).to_be_bytes();
    let mut bytes = [&question[..2], &[0x85, 0x80 | code, 0, 1]].concat();
    bytes.extend([count(&answers), [0, 0], count(&more)].concat());
    bytes.extend(&question[12..end + 4]);
    answers.iter().chain(&more).for_each(|record| bytes.extend(record));
    if zone.is_broken && kind == SRV {
        bytes.truncate(bytes.len() - 3);
    }
    bytes
}

/// A name server, until the tests end.
fn serve(zone: &Shared) -> io::Result<()> {
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:53")?, TcpListener::bind("127.0.0.1:53")?);
    let shared = Arc::clone(zone);
    thread::spawn(move || {
        let mut question = [0; UDP_MAX];
        while let Ok((length, from)) = udp.recv_from(&mut question) {
            let mut bytes = answer(&question[..length], &shared.lock().expect("nobody panics"));
            if bytes.len() > UDP_MAX {
                bytes.truncate(UDP_MAX);
                bytes[2] |= 0x02;
            }
            let _ = udp.send_to(&bytes, from);
        }
    });
    let shared = Arc::clone(zone);
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            let _ = stream.read_exact(&mut question);
            let mut zone = shared.lock().expect("nobody panics");
            zone.by_tcp += 1;
            let bytes = answer(&question, &zone);
            let _ = stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), &bytes[..]].concat());
        }
    });
    Ok(())
}

/// The options of unshare(1) that make namespaces here; none if nothing does.
fn namespaces() -> Option<&'static [&'static str]> {
    let options: &[&str] = if is_root() { &["-n", "-m"] } else { &["-U", "-r", "-n", "-m"] };
    let status = Command::new("unshare").args(options).arg("true").output().ok()?.status;
    (status.success() && Path::new(RESOLV_CONF).exists()).then_some(options)
}

#[test]
fn a_service_is_found_by_its_srv_records() {
    if is_inside() {
        return inside();
    }
    let Some(options) = namespaces() else {
        return skipped(
            "SRV records: unshare(1) makes no namespaces here, or there is no resolv.conf",
        );
    };
    run_inside(options);
}

/// The addresses and weights that get connections.
fn backends(it: &Controlled) -> Vec<String> {
    let status = it.status();
    let all = status["upstreams"][1]["backends"].as_array().expect("a list").clone();
    let serving = all.iter().filter(|backend| backend["state"] != "draining");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    serving.map(|it| format!("{},weight={}", text(&it["address"]), it["weight"])).collect()
}

#[track_caller]
fn expect(it: &Controlled, list: &[(SocketAddr, u32)]) {
    let mut list = list.to_vec();
    list.sort_unstable();
    let list: Vec<_> = list.iter().map(|(at, weight)| format!("{at},weight={weight}")).collect();
    eventually(2 * SOON, "the records are followed", || backends(it) == list);
}

fn inside() {
    raise_loopback().expect("it is our network");
    let folder = Folder::new();
    folder.write("list.json", "[\"127.0.0.1:1\"]");
    let path = folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n");
    bind_mount(&path, RESOLV_CONF).expect("it is our mount namespace");
    let (a, b) = (Backend::start(b'a').address, Backend::start(b'b').address);
    let zone = Shared::default();
    serve(&zone).expect("the port is free here");
    let change = |change: &dyn Fn(&mut Zone)| change(&mut zone.lock().expect("nobody panics"));
    change(&|zone| {
        zone.hosts = [("a.example", [127, 0, 0, 1]), ("b.example", [127, 0, 0, 1])].into();
        zone.records = vec![(10, 3, a.port(), "a.example"), (20, 1, b.port(), "b.example")];
    });
    let text = format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'web'\n\
         [upstream.listed]\nbackends_file = 'list.json'\n\
         [upstream.web]\nbackends = ['srv:{NAME}']\nresolve_interval = '200ms'\n"
    );
    let it = Controlled::within(folder, &text, 1);
    expect(&it, &[(a, 3)]);
    let session = connect(it.server.address());
    assert_eq!(who(&session), Some(b'a'));
    check(&it);
    name_that_comes_late(&it, &zone);

    // Both count now, and the answer says where they are.
    change(&|zone| {
        zone.brings_along = true;
        zone.records = vec![(10, 1, a.port(), "a.example"), (10, 512, b.port(), "b.example")];
    });
    expect(&it, &[(a, 1), (b, 256)]);
    assert_eq!(who(&session), Some(b'a'), "the connection lives on");

    // More than a datagram takes.
    let many: Vec<SocketAddr> =
        (1..=40).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    change(&|zone| {
        zone.records = many.iter().map(|it| (0, 0, it.port(), "a.example")).collect();
    });
    let all: Vec<_> = many.iter().map(|&address| (address, 1)).collect();
    expect(&it, &all);
    assert!(zone.lock().expect("nobody panics").by_tcp > 0);

    change(&|zone| {
        zone.is_broken = true;
        zone.records = vec![(0, 1, b.port(), "b.example")];
    });
    let told = format!(
        "backend srv:{NAME} cannot be resolved, its last addresses stay: the answer is malformed"
    );
    eventually(2 * SOON, "it is told", || it.server.stderr().contains(&told));
    expect(&it, &all);
    change(&|zone| zone.is_broken = false);
    expect(&it, &[(b, 1)]);
    let told = format!("backend srv:{NAME} resolves again");
    eventually(SOON, "it is told", || it.server.stderr().contains(&told));
    assert_eq!(who(&connect(it.server.address())), Some(b'b'));
    drop(session);
    it.server.stop();
}

/// A list with a name that nobody knows is applied once somebody does, though it has not changed again.
fn name_that_comes_late(it: &Controlled, zone: &Shared) {
    let listed = || it.status()["upstreams"][0]["backends"][0]["backend"].clone();
    it.folder.write("list.json", "[\"late.example:1\"]");
    let told = "late.example:1\": the name cannot be resolved: ";
    eventually(2 * SOON, "it is told", || it.server.stderr().contains(told));
    assert_eq!(listed(), "127.0.0.1:1");
    zone.lock().expect("nobody panics").hosts.insert("late.example", [127, 0, 0, 9]);
    eventually(2 * SOON, "it is tried again", || listed() == "late.example:1");
    assert_eq!(it.server.stderr().matches(told).count(), 1);
}

/// A check asks as the server does.
fn check(it: &Controlled) {
    let config = it.folder.file("a.toml");
    let exit = Launch::from_file(&["check", "--config", &config], 0).run_within(4 * SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let text = std::fs::read_to_string(&config).expect("it is there");
    let wrong = it.folder.write("wrong.toml", &text.replace(NAME, "_none._tcp.example"));
    let exit = Launch::from_file(&["check", "--config", &wrong], 0).run_within(4 * SOON);
    assert_eq!(exit.code, Some(2));
    let told = "upstream.web.backends[0] = 'srv:_none._tcp.example': the name cannot be resolved: \
                there is no such name";
    assert!(exit.stderr.contains(told), "{}", exit.stderr);
}
