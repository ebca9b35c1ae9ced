//! Servers that stall or die, machines without room, and signals.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use std::{fs, thread};

use socket2::{Domain, Socket, Type};

use super::{DONE, FAILED, Folder, INVALID, Measured, USAGE, alone};
use crate::client::IO_TIMEOUT;
use crate::harness::{Launch, SOON, Server, eventually};

/// Longer than a client waits before it sends its SYN again (RFC 6298: 1 s).
const STALL: Duration = Duration::from_millis(1200);
const BACKLOG: i32 = 8;
const STORM: usize = 300;

/// Listens with a short queue, accepts nothing for a while, and then everything, and echoes it.
fn stalling_server() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).and_then(|()| socket.listen(BACKLOG)).expect("a port is free");
    let listener = TcpListener::from(OwnedFd::from(socket));
    let address = listener.local_addr().expect("it is bound");
    let (sender, accepted) = channel();
    thread::spawn(move || {
        thread::sleep(STALL);
        for stream in listener.incoming().take(2 * STORM).flatten() {
            let _ = sender.send(stream);
        }
    });
    thread::spawn(move || {
        for mut stream in accepted {
            let mut bytes = [0; 64];
            let _ = stream.set_read_timeout(Some(IO_TIMEOUT));
            let _ = stream.read_exact(&mut bytes).and_then(|()| stream.write_all(&bytes));
        }
    });
    address
}

/// ListenOverflows of this network namespace: the line of names, then the line of values.
fn listen_overflows() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").expect("/proc is mounted");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().expect("names").split(' ');
    let values = lines.next().expect("values").split(' ');
    let (_, value) =
        names.zip(values).find(|(name, _)| *name == "ListenOverflows").expect("it is counted");
    value.parse().expect("a number")
}

#[test]
fn a_storm_on_a_short_queue_shows_dropped_syns() {
    let _alone = alone();
    let address = stalling_server().to_string();
    let before = listen_overflows();
    let connections = STORM.to_string();
    let arguments = [
        "storm",
        &address,
        "-c",
        &connections,
        "-d",
        "1s",
        "--connect-timeout",
        "7s",
        "--response-timeout",
        "2s",
    ];
    let measured = Measured::run("storm", &arguments);
    let kernels = listen_overflows() - before;
    let ours = measured.kernel("listen_overflows");
    assert_eq!(measured.count("started"), STORM as u64);
    let dropped = measured.json["dropped_syns"].as_object().expect("it is an object");
    let dropped: u64 = dropped.values().filter_map(|count| count.as_u64()).sum();
    assert!(dropped > 0, "{:?}", measured.exit);
    assert!(ours > 0 && ours <= kernels && kernels <= 10 * ours, "{ours} of {kernels}");
    measured.says(&["(ListenOverflows)", "dropped"]);
}

/// A program beside the run: it connects to a listener of its own whose queue is full, and to another one that
/// accepts, until it is told to stop.
fn other_program(stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let listen = |backlog| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).and_then(|()| socket.listen(backlog)).expect("a port is free");
        TcpListener::from(OwnedFd::from(socket))
    };
    let (full, open) = (listen(0), listen(128));
    let addresses = [&full, &open].map(|listener| listener.local_addr().expect("it is bound"));
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let (_full, mut waiting) = (full, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("it is one");
            // It waits for the end of its handshake.
            let _ = socket.connect(&addresses[0].into());
            waiting.push(socket);
            waiting.truncate(64);
            drop(TcpStream::connect(addresses[1]).map(|_client| open.accept()));
        }
    })
}

#[test]
fn what_other_programs_do_on_this_machine_is_noted_and_spoils_nothing() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let other = other_program(&stop);
    let measured =
        Measured::run("others", &["crr", &address, "-c", "2", "-d", "1s", "--warm-up", "0s"]);
    stop.store(true, Ordering::Relaxed);
    other.join().expect("it came to its end");
    server.stop();
    assert!(measured.kernel("listen_overflows") > 0, "{:?}", measured.exit);
    measured.says(&["other programs connected meanwhile; they are of this machine"]);
    let slowest = &measured.json["latencies"]["service"]["summary"]["max_us"];
    // On a busy machine an operation may be as slow as one whose handshake was lost.
    if slowest.as_f64() < Some(100_000.0) {
        measured.says(&["(ListenOverflows): of this machine, not of this run", "verdict: valid"]);
    } else {
        measured.says(&["and operations were as slow as after a lost handshake"]);
    }
}

#[test]
fn an_interrupt_ends_a_run_with_what_there_is() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let arguments = ["crr", &address, "-c", "8", "-d", "30s", "--warm-up", "0s"];
    let running = Launch::loadgen(&arguments).start();
    let busy = Duration::from_millis(100);
    eventually(SOON, "it has begun", || running.cpu_time() > busy);
    running.signal(libc::SIGINT);
    let exit = running.wait(Duration::from_secs(5));
    assert!(matches!(exit.code, Some(DONE | INVALID)), "{exit:?}");
    assert!(exit.stdout.contains("verdict:") && exit.stdout.contains("| total"), "{exit:?}");
    assert!(!exit.stdout.contains("30 s after"), "the window ended early: {}", exit.stdout);
    assert!(!exit.stdout.contains(" 0 % of the CPU"), "its CPU time was lost: {}", exit.stdout);
    server.stop();
}

/// Takes everything and says nothing.
fn silent_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 512]);
            count.fetch_add(1, Ordering::Relaxed);
            open.push(stream);
        }
    });
    (address, heard)
}

#[test]
fn an_interrupt_says_what_it_waits_for_and_a_second_one_does_not_wait() {
    let _alone = alone();
    let (folder, (address, heard)) = (Folder::new("cut-off"), silent_server());
    let (address, file) = (address.to_string(), folder.file("run.json"));
    let arguments = ["http", &address, "-c", "4", "-d", "90s", "--response-timeout", "80s"];
    for warm_up in ["0s", "60s"] {
        heard.store(0, Ordering::Relaxed);
        let more = ["--warm-up", warm_up, "--json", &file];
        let mut running = Launch::loadgen(&[&arguments[..], &more].concat()).start();
        eventually(SOON, "it has begun", || heard.load(Ordering::Relaxed) == 4);
        running.signal(libc::SIGINT);
        let words = "waiting for 4 operations; press Ctrl-C again to stop now";
        eventually(SOON, "it says what it waits for", || running.stderr().contains(words));
        assert!(!running.has_ended(), "{}", running.stderr());
        running.signal(libc::SIGINT);
        let exit = running.wait(SOON);
        assert!(exit.stdout.contains("verdict: INVALID"), "{exit:?}");
        let json = fs::read_to_string(&file).expect("the report is written");
        let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        // Nothing counts before the window.
        let (code, failed) = if warm_up == "0s" { (FAILED, 4) } else { (INVALID, 0) };
        assert_eq!((exit.code, &json["counts"]["failed"]), (Some(code), &failed.into()));
        assert_eq!(json["faults"]["receive"]["cut-off"].as_u64().unwrap_or(0), failed);
    }
}

#[test]
fn more_than_one_thread_can_do_is_invalid() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let arguments = [
        "crr",
        &address,
        "--rate",
        "2000000",
        "--max-inflight",
        "64",
        "-d",
        "1s",
        "--warm-up",
        "0s",
    ];
    let measured = Measured::run("overload", &arguments);
    assert_eq!(measured.exit.code, Some(INVALID), "{:?}", measured.exit);
    measured.says(&["verdict: INVALID", "--max-inflight", "not started"]);
    assert!(measured.count("not_started") > measured.count("started"));
    server.stop();
}

#[test]
fn a_server_that_dies_shows_as_errors_by_phase() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let killer = thread::spawn(move || {
        eventually(SOON, "it is at work", || server.cpu_time() > Duration::from_millis(100));
        // Dropping kills it.
    });
    let measured =
        Measured::run("killed", &["rr", &address, "-c", "8", "-d", "2s", "--warm-up", "0s"]);
    killer.join().expect("it was at work");
    assert_eq!(measured.exit.code, Some(FAILED), "{:?}", measured.exit);
    assert!(measured.count("completed") > 0);
    assert!(measured.json["faults"]["connect"]["ECONNREFUSED"].as_u64() > Some(0));
    measured.says(&["failed in connect: ECONNREFUSED", "verdict: INVALID", "the target went away"]);
}

#[test]
fn a_server_that_stands_still_makes_the_figures_invalid() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let stopper = thread::spawn(move || {
        eventually(SOON, "it is at work", || server.cpu_time() > Duration::from_millis(100));
        server.pause();
        server
    });
    let plan = ["rr", &address, "-c", "8", "-d", "2s", "--warm-up", "0s"];
    let measured =
        Measured::run("stopped", &[&plan[..], &["--response-timeout", "300ms"]].concat());
    // Dropping kills it.
    drop(stopper.join().expect("it was at work"));
    assert!(measured.count("completed") > 0, "{:?}", measured.exit);
    measured.says(&["failed in receive: timed-out", "verdict: INVALID", "or stood still"]);
}

#[test]
fn too_few_descriptors_are_said_before_the_run() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let exit = Launch::loadgen(&["crr", &address, "-c", "500", "-d", "1s"]).descriptors(64).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(USAGE), ""), "{exit:?}");
    for word in ["RLIMIT_NOFILE", "64", "500"] {
        assert!(exit.stderr.contains(word), "'{word}' is missing in: {}", exit.stderr);
    }
    let open = ["crr", &address, "-d", "1s", "--rate", "100", "--max-inflight"];
    let exit = Launch::loadgen(&[&open[..], &["90"]].concat()).descriptors(64).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(USAGE), ""), "{exit:?}");
    for word in ["RLIMIT_NOFILE", "64", "90 operations in flight (--max-inflight)", "114"] {
        assert!(exit.stderr.contains(word), "'{word}' is missing in: {}", exit.stderr);
    }
    let exit = Launch::loadgen(&[&open[..], &["30"]].concat()).descriptors(64).run();
    assert!(matches!(exit.code, Some(DONE | INVALID)), "{exit:?}");
    server.stop();
}
