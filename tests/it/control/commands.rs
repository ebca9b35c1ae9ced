//! What each command does, by the program as a client.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use serde_json::json;

use super::{Controlled, TEXT, ask};
use crate::client::{connect, expect_alive, expect_echo, expect_end};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually, meanwhile, skipped};
use crate::process::is_root;

/// `nobody`, whom every system has.
const NOBODY: u32 = 65534;

#[test]
fn the_status_tells_what_there_is() {
    let it = Controlled::start();
    let session = connect(it.server.address());
    expect_echo(&session, b"hello");
    let status = it.status();
    assert_eq!(status["pid"], json!(it.server.pid()));
    assert_eq!(status["phase"], json!("serving"));
    assert_eq!(status["connections"]["open"], json!(1));
    let file = it.folder.file("a.toml");
    assert_eq!(status["configuration"]["file"], json!(file));
    assert_eq!(status["configuration"]["last_reload"], json!(null));
    let echo = &status["frontends"][0];
    assert_eq!((&echo["name"], &echo["service"]), (&json!("e"), &json!("echo")));
    assert_eq!(echo["addresses"], json!([it.server.address().to_string()]));
    assert_eq!(echo["connections"], json!({"open": 1, "max": null}));
    assert_eq!(echo["queues"][0]["waiting"], json!(0));
    let backend = &status["upstreams"][0]["backends"][1];
    assert_eq!(backend["backend"], json!("127.0.0.1:2"));
    assert_eq!((&backend["weight"], &backend["state"]), (&json!(3), &json!("unknown")));
    let text = it.done(&["status"]);
    for part in [
        &format!("pid {}, on ", it.server.pid()),
        "\nconnections: 1 of ",
        "\nFRONTEND  SERVICE  STATE      ADDRESS",
        "\nUPSTREAM  BACKEND",
        "\nweb       127.0.0.1:2  127.0.0.1:2  unknown       3 ",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&it.done(&["status", "--json"])).unwrap();
    assert_eq!(json["pid"], json!(it.server.pid()));
    drop(session);
    it.server.stop();
}

#[test]
fn backends_are_changed_by_hand_until_the_next_reload() {
    let it = Controlled::start();
    let backend = |arguments: &[&str]| it.done(&[&["backend"], arguments].concat());
    backend(&["add", "web", "127.0.0.1:3,weight=2"]);
    backend(&["down", "web", "127.0.0.1:1"]);
    assert_eq!(
        backend(&["weight", "web", "127.0.0.1:2", "9"]),
        "backend 127.0.0.1:2 of upstream web: weight 9"
    );
    backend(&["drain", "web", "127.0.0.1:2"]);
    let upstream = it.status()["upstreams"][0].clone();
    assert_eq!(
        upstream["by_hand"],
        json!([
            "backend 127.0.0.1:1 is forced down",
            "backend 127.0.0.1:2 has weight 9 in place of 3",
            "backend 127.0.0.1:2 drains",
            "backend 127.0.0.1:3,weight=2 was added",
        ])
    );
    let states: Vec<_> =
        upstream["backends"].as_array().unwrap().iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["down", "draining", "unknown"]);
    backend(&["up", "web", "127.0.0.1:1"]);
    backend(&["auto", "web", "127.0.0.1:1"]);
    backend(&["auto", "web", "127.0.0.1:2"]);
    backend(&["remove", "web", "127.0.0.1:3"]);
    let by_hand = it.status()["upstreams"][0]["by_hand"].clone();
    assert_eq!(by_hand, json!(["backend 127.0.0.1:2 has weight 9 in place of 3"]));
    let told = it.refused(&["backend", "up", "web", "127.0.0.1:9"]);
    assert!(told.contains("there is no backend 127.0.0.1:9"), "{told}");
    let told = it.refused(&["backend", "up", "wbe", "127.0.0.1:1"]);
    assert_eq!(told, "error: there is no upstream 'wbe'; known: web\n");
    let report = it.reload().unwrap();
    assert_eq!(
        report["ended"],
        json!(["upstream web: backend 127.0.0.1:2 has weight 9 in place of 3"])
    );
    assert_eq!(it.status()["upstreams"][0]["by_hand"], json!([]));
    it.server.stop();
}

#[test]
fn values_are_set_by_hand_until_the_next_reload() {
    let it = Controlled::start();
    let held = connect(it.server.address());
    expect_echo(&held, b"held");
    assert_eq!(it.done(&["set", "max-connections", "1"]), "max-connections: 1");
    let mut waiting = connect(it.server.address());
    waiting.write_all(b"x").unwrap();
    waiting.set_read_timeout(Some(super::A_WHILE)).unwrap();
    let nothing = waiting.read(&mut [0; 1]);
    assert!(nothing.is_err(), "it waits in the accept queue: {nothing:?}");
    expect_echo(&held, b"closed nobody");
    it.done(&["set", "max-connections", "7", "--frontend", "e"]);
    it.done(&["set", "backlog", "9", "--frontend", "p"]);
    it.done(&["set", "log-level", "debug"]);
    let told = it.refused(&["set", "backlog", "9"]);
    assert_eq!(told, "error: say of which frontend; known: e, p\n");
    let told = it.refused(&["set", "max-connections", "9", "--frontend", "x"]);
    assert_eq!(told, "error: there is no frontend 'x'; known: e, p\n");
    let status = it.status();
    assert_eq!(status["frontends"][1]["queues"][0]["limit"], json!(9));
    assert_eq!(status["frontends"][0]["connections"]["max"], json!(7));
    assert_eq!(status["log_level"], json!("debug"));
    let hand = |what: &str, frontend: Option<&str>, now: &str, configured: &str| json!({"what": what, "frontend": frontend, "now": now, "configured": configured});
    assert_eq!(
        status["by_hand"],
        json!([
            hand("max-connections", None, "1", "the default"),
            hand("max-connections", Some("e"), "7", "the default"),
            hand("backlog", Some("p"), "9", "the default"),
            hand("log-level", None, "debug", "info"),
        ])
    );
    let report = it.reload().unwrap();
    assert_eq!(report["ended"].as_array().unwrap().len(), 4, "{report}");
    let status = it.status();
    assert_eq!((&status["by_hand"], &status["log_level"]), (&json!([]), &json!("info")));
    assert_ne!(status["frontends"][1]["queues"][0]["limit"], json!(9));
    // Whoever waited has a place now.
    waiting.set_read_timeout(Some(SOON)).unwrap();
    waiting.read_exact(&mut [0; 1]).unwrap();
    drop((held, waiting));
    it.server.stop();
}

/// A log level that is lowered and raised in place.
#[test]
fn the_log_level_changes_what_is_logged() {
    let it = Controlled::start();
    it.done(&["set", "log-level", "error"]);
    it.done(&["backend", "drain", "web", "127.0.0.1:1"]);
    it.done(&["set", "log-level", "info"]);
    it.done(&["backend", "auto", "web", "127.0.0.1:1"]);
    eventually(SOON, "the last change is logged", || {
        it.server.stderr().contains("decided by checks")
    });
    assert!(!it.server.stderr().contains("draining: it gets"), "{}", it.server.stderr());
    it.server.stop();
}

#[test]
fn a_frontend_drains_and_listens_again_after_a_reload() {
    let it = Controlled::start();
    let address = it.server.address();
    let other = it.server.address_of(1);
    it.done(&["drain", "e"]);
    eventually(SOON, "nobody is accepted any more", || TcpStream::connect(address).is_err());
    drop(TcpStream::connect(other).expect("the other frontend listens"));
    let status = it.status();
    assert_eq!(status["by_hand"][0]["what"], json!("drained"));
    assert_eq!(status["frontends"][0]["addresses"], json!([]));
    assert_eq!(status["frontends"][0]["state"], json!("drained"));
    // It would be told as done, and nothing would have changed.
    for value in ["backlog", "max-connections"] {
        let told = it.refused(&["set", value, "9", "--frontend", "e"]);
        assert!(told.contains("frontend e is drained by hand and listens nowhere"), "{told}");
    }
    let told = it.refused(&["drain", "x"]);
    assert_eq!(told, "error: there is no frontend 'x'; known: e, p\n");
    let report = it.reload().unwrap();
    assert_eq!(report["ended"], json!(["frontend e is drained by hand"]));
    let status = it.status();
    let again = status["frontends"][0]["addresses"][0].as_str().expect("it listens");
    expect_alive(again.parse().unwrap());
    // A new port each time; the other frontend keeps its own.
    assert_eq!(status["frontends"][1]["addresses"], json!([other.to_string()]));
    // Sessions that have come since are not told to end.
    let mut session = connect(again.parse().unwrap());
    meanwhile(super::A_WHILE, "a session goes on", || {
        expect_echo(&mut session, b"more");
        true
    });
    drop(session);
    it.server.stop();
}

/// A session of a version that drains is told to end: those that come behind a reload belong to another.
#[test]
fn sessions_behind_a_drain_and_a_reload_are_not_told_to_end() {
    let text = "[frontend.h]\nlisten = '127.0.0.1:0'\nservice = 'http'\n";
    let it = Controlled::with(text, 1);
    it.done(&["drain", "h"]);
    assert!(it.reload().is_ok());
    let status = it.status();
    let address = status["frontends"][0]["addresses"][0].as_str().expect("it listens");
    let mut session = connect(address.parse().unwrap());
    for _ in 0..3 {
        session.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhello\n") {
            let mut byte = [0];
            session.read_exact(&mut byte).expect("the session goes on");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    drop(session);
    it.server.stop();
}

#[test]
fn connections_are_listed_and_closed() {
    let it = Controlled::start();
    let (first, second) = (connect(it.server.address()), connect(it.server.address()));
    expect_echo(&first, b"a");
    expect_echo(&second, b"somewhat more");
    let list = || {
        let json = it.done(&["connections", "--json"]);
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    eventually(SOON, "the kernel has counted what was acknowledged", || {
        list()["connections"][0]["bytes_out"] == json!(13)
    });
    let all = list();
    assert_eq!(all["total"], json!(2));
    let connections = &all["connections"];
    let client = second.local_addr().unwrap().to_string();
    assert_eq!(
        (&connections[0]["client"], &connections[0]["frontend"]),
        (&json!(client), &json!("e"))
    );
    assert_eq!(connections[1]["bytes_in"], json!(1));
    let text = it.done(&["connections", "--limit", "1", "--sort", "client"]);
    assert!(text.starts_with("ID") && text.ends_with("1 of 2; --limit shows more"), "{text}");
    let text = it.done(&["connections", "--sort", "wait"]);
    assert!(
        text.contains(
            "WAIT (time in the accept queue) is recorded for connections accepted since 2"
        ),
        "{text}"
    );
    let text = it.done(&["connections", "--by", "client"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["CLIENT", "CONNECTIONS", "OLDEST"], "{text}");
    assert_eq!(rows[1][..2], ["127.0.0.1", "2"], "{text}");
    let id = connections[0]["id"].as_str().unwrap();
    assert_eq!(it.done(&["close", id]), format!("connection {id}: closed"));
    expect_end(&second);
    expect_echo(&first, b"still there");
    eventually(SOON, "it is gone", || list()["total"] == json!(1));
    let told = it.refused(&["close", id]);
    assert_eq!(told, format!("error: there is no connection {id}; it may have ended by itself\n"));
    drop(first);
    it.server.stop();
}

#[test]
fn a_shutdown_drains_and_the_socket_goes() {
    let it = Controlled::start();
    let session = connect(it.server.address());
    expect_echo(&session, b"hello");
    it.done(&["shutdown"]);
    eventually(SOON, "it drains", || it.status()["phase"] == json!("draining"));
    let told = it.reload().unwrap_err();
    assert_eq!(told["code"], json!("draining"));
    let backend = ["backend", "weight", "web", "127.0.0.1:2", "5"];
    for change in [&["drain", "e"][..], &["set", "max-connections", "9"], &backend] {
        assert!(it.refused(change).contains("the server drains"), "{change:?}");
    }
    assert_eq!(it.status()["frontends"][0]["state"], json!("draining"));
    it.done(&["shutdown"]);
    drop(session);
    let exit = it.server.wait(SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let line = "no new connections; those that are open (1) have ";
    assert_eq!(exit.stderr.matches(line).count(), 1, "{}", exit.stderr);
    assert!(!fs::exists(it.folder.file("c.sock")).unwrap());
    let told = Launch::from_file(&["ctl", "--control", "unix:/nowhere/c", "status"], 0).run();
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("no server can be reached at unix:/nowhere/c"), "{}", told.stderr);
}

/// Where the client finds the server, in this order.
#[test]
fn the_client_finds_the_server() {
    let it = Controlled::start();
    let file = it.folder.file("a.toml");
    let run = |arguments: &[&str]| Launch::from_file(arguments, 0).run();
    let exit = run(&["ctl", "status", "--config", &file]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let exit = run(&["reload", "--dry-run", "--config", &file]);
    assert_eq!(exit.code, Some(0));
    assert_eq!(exit.stdout, format!("{file}: nothing differs from what runs"));
    let exit = run(&["ctl", "status"]);
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.starts_with("error: which server? give --control"), "{}", exit.stderr);
    let without = it.folder.write("b.toml", TEXT);
    let exit = run(&["ctl", "status", "--config", &without]);
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("names no control socket"), "{}", exit.stderr);
    for (wrong, hint) in [
        ("127.0.0.1:1", "write unix:/run/acceptor/control.sock"),
        ("/run/c.sock", "begins with unix: as in unix:/run/c.sock"),
        ("c.sock", "write unix:/run/acceptor/control.sock"),
        ("unix:", "has no path"),
    ] {
        let exit = run(&["ctl", "status", "--control", wrong]);
        assert_eq!(exit.code, Some(2));
        assert!(exit.stderr.contains(hint), "{wrong}: {}", exit.stderr);
    }
    let variable = std::process::Command::new(crate::harness::acceptor())
        .args(["ctl", "status"])
        .env("ACCEPTOR_CONTROL", format!("unix:{}", it.socket()))
        .output()
        .unwrap();
    assert_eq!(variable.status.code(), Some(0));
    it.server.stop();
}

#[test]
fn the_socket_is_for_its_owner() {
    let it = Controlled::start();
    let mode = fs::symlink_metadata(it.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    it.server.stop();
    let name = format!("unix:@control-{}-{}", crate::ENGINE, std::process::id());
    let server = Server::start(&["echo", "--control", &name]);
    let ctl = ["ctl", "--control", &name, "status"];
    assert_eq!(Launch::from_file(&ctl, 0).run().code, Some(0));
    if !is_root() {
        skipped("that another user is refused: only root can be another user");
        server.stop();
        return;
    }
    let probe = std::thread::spawn(move || {
        let stranger = as_user(NOBODY, || {
            let name = name.trim_start_matches("unix:@");
            let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
            UnixStream::connect_addr(&address).unwrap()
        });
        super::answer(&stranger)
    });
    let told = probe.join().unwrap();
    assert_eq!(told["error"]["code"], json!("denied"), "{told}");
    server.stop();
}

/// Does something as another user, on this thread alone.
fn as_user<T>(user: u32, act: impl FnOnce() -> T) -> T {
    // SAFETY: the raw system call changes this thread only, which ends soon; no memory is involved.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) };
    assert_eq!(changed, 0, "root may be anybody");
    let done = act();
    // SAFETY: the same, back to what the real user may.
    unsafe { libc::syscall(libc::SYS_setresuid, -1, 0, -1) };
    done
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new();
    let path = folder.file("c.sock");
    let name = format!("unix:{path}");
    // std leaves the file behind.
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::start(&["echo", "--control", &name]);
    let second = Launch::new(&["echo", "--control", &name]).without_listeners().run();
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("the control socket: cannot listen on"), "{}", second.stderr);
    // A server that is killed leaves it too.
    crate::process::kill(server.pid(), libc::SIGKILL);
    assert_eq!(server.wait(SOON).code, None);
    assert!(fs::exists(&path).unwrap());
    let server = Server::start(&["echo", "--control", &name]);
    let stream = UnixStream::connect(&path).unwrap();
    let answer = ask(&stream, &json!({"version": 1, "command": "reload"}));
    assert_eq!(answer["error"]["code"], json!("no-file"));
    server.stop();
}

/// What is removed is shown as long as somebody is connected through it.
#[test]
fn a_removed_frontend_is_shown_until_its_last_connection_ends() {
    let it = Controlled::start();
    let mut session = connect(it.server.address());
    expect_echo(&mut session, b"hello");
    it.write(&TEXT.replace("[frontend.e]", "[frontend.f]"));
    let report = it.reload().unwrap();
    assert_eq!(report["changes"][0], json!("frontend f: added, service echo"));
    let rows = || {
        let status = it.status();
        let rows = status["frontends"].as_array().unwrap().iter().map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            format!(
                "{} {} {} {}",
                text("name"),
                text("service"),
                text("state"),
                row["connections"]["open"]
            )
        });
        rows.collect::<Vec<_>>()
    };
    let others = ["f echo listening 0", "p proxy listening 0"];
    assert_eq!(rows(), [&others[..], &["e echo removed 1"]].concat());
    let text = it.done(&["status"]);
    assert!(text.contains("\ne         echo     removed    - "), "{text}");
    expect_echo(&mut session, b"goes on");
    drop(session);
    eventually(SOON, "it is gone", || rows() == others);
    it.server.stop();
}

/// Ports that the kernel chooses for what a reload adds are known from the log.
#[test]
fn listeners_that_a_reload_adds_are_told() {
    let it = Controlled::start();
    it.write(&format!("{TEXT}[frontend.x]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n"));
    it.reload().unwrap();
    let status = it.status();
    let address = status["frontends"][2]["addresses"][0].as_str().unwrap();
    let line = format!("listening {address} echo x\n");
    eventually(SOON, "it is told", || it.server.stderr().contains(&line));
    assert_eq!(it.server.stderr().matches("listening ").count(), 1, "{}", it.server.stderr());
    it.server.stop();
}

/// Nobody finds a unix socket without its file: a reload makes it again. What came in before goes on.
#[test]
fn a_unix_socket_without_its_file_is_made_again() {
    let folder = Folder::new();
    let path = folder.file("e.sock");
    let it =
        Controlled::with(&format!("[frontend.e]\nlisten = 'unix:{path}'\nservice = 'echo'\n"), 1);
    let mut held = UnixStream::connect(&path).unwrap();
    expect_echo_on(&mut held, b"before");
    assert_eq!(it.reload().unwrap()["changes"], json!([]));
    fs::remove_file(&path).unwrap();
    assert!(UnixStream::connect(&path).is_err());
    let again = json!([format!("frontend e: listens again on unix:{path}")]);
    let shown = it.done(&["reload", "--dry-run"]);
    assert!(shown.ends_with(again[0].as_str().unwrap()), "{shown}");
    assert_eq!(it.reload().unwrap()["changes"], again);
    let mut new = UnixStream::connect(&path).expect("it listens again");
    expect_echo_on(&mut new, b"new");
    expect_echo_on(&mut held, b"goes on");
    // The old socket is closed without removing the file of the new one.
    eventually(SOON, "one queue is left", || {
        it.status()["frontends"][0]["queues"].as_array().unwrap().len() == 1
    });
    assert_eq!(it.reload().unwrap()["changes"], json!([]));
    expect_echo_on(&mut UnixStream::connect(&path).expect("it listens"), b"still");
    drop((held, new));
    it.server.stop();
    assert!(!fs::exists(&path).unwrap());
}

#[track_caller]
fn expect_echo_on(stream: &mut UnixStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).expect("the answer comes");
    assert_eq!(answer, bytes);
}
