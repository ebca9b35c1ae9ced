//! Others than the program itself at either end of an upgrade: of another version, mute, broken, or not allowed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use ciborium::Value;
use sendfd::SendWithFd;
use serde_json::json;

use super::family::{ECHO, Family, STEP, answer, ask, connect_to};
use crate::client::{connect, expect_alive, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, acceptor, eventually, skipped};
use crate::process;

/// A map with names for keys.
fn map(fields: &[(&str, Value)]) -> Value {
    let entry = |(name, value): &(&str, Value)| (Value::Text((*name).to_owned()), value.clone());
    Value::Map(fields.iter().map(entry).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn hello(format: u32) -> Value {
    let fields = [
        ("format", Value::from(format)),
        ("version", text("9.9.9")),
        ("pid", Value::from(1)),
        ("kinds", Value::Array(Vec::new())),
        ("something-new", Value::Bool(true)),
    ];
    map(&[("hello", map(&fields))])
}

fn welcome(format: u32, sockets: u32) -> Value {
    let fields = [
        ("format", Value::from(format)),
        ("version", text("9.9.9")),
        ("pid", Value::from(1)),
        ("sockets", Value::from(sockets)),
    ];
    map(&[("welcome", map(&fields))])
}

/// As a frame.
fn framed(message: &Value) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    ciborium::into_writer(message, &mut bytes).expect("it fits");
    let length = u32::try_from(bytes.len() - 4).expect("it is short");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[track_caller]
fn say(mut stream: &UnixStream, message: &Value) {
    stream.write_all(&framed(message)).expect("it goes");
}

/// The next message: its name, and what is in it.
#[track_caller]
fn next(mut stream: &UnixStream) -> (String, Value) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a message comes");
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).expect("all of it comes");
    match ciborium::from_reader(&bytes[..]).expect("it is CBOR") {
        Value::Text(name) => (name, Value::Null),
        Value::Map(mut all) => {
            let (name, value) = all.pop().expect("it has a name");
            (name.into_text().expect("text"), value)
        }
        other => panic!("{other:?} is no message"),
    }
}

/// Asks to take over: what follows is the protocol.
#[track_caller]
fn take_over(family: &Family) -> UnixStream {
    let stream = connect_to(&family.control());
    ask(&stream, &json!({"version": 1, "command": "take-over"})).expect("it agrees");
    stream
}

/// Nothing has happened, and the next upgrade succeeds.
#[track_caller]
fn expect_as_before(family: &Family, client: &std::net::TcpStream, times: usize) {
    eventually(SOON, "it is told", || {
        family.log().matches("ERROR upgrade: failed, ").count() == times
    });
    expect_echo(client, b"abc");
    expect_alive(family.address());
}

#[test]
fn another_format_is_refused_before_anything_moves() {
    let family = Family::start(ECHO);
    let (old, client) = (family.pid(), connect(family.address()));
    let stream = take_over(&family);
    say(&stream, &hello(99));
    let (name, reason) = next(&stream);
    assert_eq!(name, "give-up");
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "the other process (version 9.9.9) speaks format 99 of the upgrade, and this one (version {own}) format 1; \
         use a version between the two, or restart"
    );
    assert_eq!(reason.as_text(), Some(expected.as_str()));
    assert_eq!((&stream).read(&mut [0; 1]).expect("the end"), 0);
    family.expect_logged(&format!("ERROR upgrade: failed, nothing has changed: {expected}"));
    expect_as_before(&family, &client, 1);
    assert_eq!(family.pid(), old);
    family.upgrade();
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// Each closes its end in the end, or is given up.
#[test]
fn garbage_silence_and_halves_change_nothing() {
    let family = Family::prepared(ECHO, |launch| launch.variable(STEP, "limit:2000"));
    let (old, client) = (family.pid(), connect(family.address()));
    let whole = framed(&hello(1));
    let pieces: [&[u8]; 6] = [
        b"",
        &whole[..2],
        &whole[..whole.len() - 1],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff, 0xff, 0xff, 0x7f],
        &framed(&text("begun")),
    ];
    for (times, piece) in (1..).zip(pieces) {
        let mut stream = take_over(&family);
        stream.write_all(piece).expect("it goes");
        drop(stream);
        expect_as_before(&family, &client, times);
    }
    // Nobody waits longer than it must for one that says nothing more.
    for (times, piece) in (7..).zip([&whole[..0], &whole[..7], &whole]) {
        let mut stream = take_over(&family);
        stream.write_all(piece).expect("it goes");
        expect_as_before(&family, &client, times);
        family.expect_logged("the other process has not answered within 2s");
    }
    assert_eq!(family.members(), [old]);
    family.upgrade_in_the_end();
    expect_echo(&client, b"abc");
    drop(client);
    family.stop();
}

/// It goes along with everything and closes its end when connections have come.
#[test]
fn one_that_leaves_half_way_changes_nothing() {
    let family = Family::start(ECHO);
    let clients: Vec<_> = (0..20).map(|_| connect(family.address())).collect();
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    let stream = take_over(&family);
    say(&stream, &hello(1));
    assert_eq!(next(&stream).0, "welcome");
    assert_eq!(next(&stream).0, "sockets");
    let offer = map(&[
        ("frontend", text("e")),
        ("service", text("echo")),
        ("is-proxied", Value::Bool(false)),
    ]);
    let unclaimed = Value::Array(Vec::new());
    let ready = map(&[("offers", Value::Array(vec![offer])), ("unclaimed", unclaimed)]);
    say(&stream, &map(&[("ready", ready)]));
    assert_eq!(next(&stream).0, "begin");
    say(&stream, &text("begun"));
    assert_eq!(next(&stream).0, "go");
    drop(stream);
    clients.iter().for_each(|client| expect_as_before(&family, client, 1));
    assert_eq!(family.upgrade().moved, clients.len());
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    drop(clients);
    family.stop();
}

/// What plays the old process, up to where the new one is welcome.
#[track_caller]
fn play_the_old_one(control: &UnixListener, welcome: &Value) -> UnixStream {
    let (stream, _) = control.accept().expect("it comes");
    stream.set_read_timeout(Some(SOON)).expect("not zero");
    let mut asked = Vec::new();
    while !asked.ends_with(b"\n") {
        let mut byte = [0];
        (&stream).read_exact(&mut byte).expect("a request");
        asked.extend(byte);
    }
    assert!(String::from_utf8_lossy(&asked).contains("\"take-over\""));
    (&stream).write_all(b"{\"version\":1,\"ok\":true,\"result\":{}}\n").expect("it goes");
    assert_eq!(next(&stream).0, "hello");
    say(&stream, welcome);
    stream
}

#[test]
fn an_old_process_of_another_format() {
    let folder = Folder::new();
    let path = folder.file("old.sock");
    let control = UnixListener::bind(&path).expect("the path is free");
    let from = format!("unix:{path}");
    let launch = Launch::new(&["echo", "--take-over", &from]).without_listeners();
    let new = std::thread::spawn(move || launch.run());
    let stream = play_the_old_one(&control, &welcome(99, 0));
    let exit = new.join().expect("it ends");
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let expected = "upgrade: not taken over: the other process (version 9.9.9) speaks format 99";
    assert!(exit.stderr.contains(expected), "{exit:?}");
    drop(stream);
}

/// The old process takes back what it has not given: the new one ends, and leaves the socket and its file as they are.
#[test]
fn a_new_process_that_is_given_up_leaves_everything_as_it_was() {
    let folder = Folder::new();
    let [path, old] = ["new.sock", "old.sock"].map(|name| folder.file(name));
    let control = UnixListener::bind(&old).expect("the path is free");
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let given = UnixListener::bind(&path).expect("the path is free");
    let (from, own) = (format!("unix:{old}"), format!("unix:{path}"));
    let arguments = ["echo", "--control", &own, "--take-over", &from];
    let new: Server = {
        let launch = Launch::new(&arguments).without_listeners();
        launch.start()
    };
    let stream = play_the_old_one(&control, &welcome(1, 2));
    let entry = |number: u32, frontend: &str, listen: &str| {
        let origin = map(&[
            ("frontend", text(frontend)),
            ("listen", text(listen)),
            ("entry", Value::from(0)),
            ("is-kept", Value::Bool(false)),
        ]);
        map(&[("number", Value::from(number)), ("origin", origin)])
    };
    let entries = vec![entry(0, "echo", "127.0.0.1:0"), entry(1, "control socket", &own)];
    let sockets = framed(&map(&[("sockets", Value::Array(entries))]));
    stream.send_with_fd(&sockets, &[listener.as_raw_fd(), given.as_raw_fd()]).expect("they go");
    assert_eq!(next(&stream).0, "ready");
    let open = map(&[
        ("process", Value::from(0)),
        ("frontends", Value::Array(Vec::new())),
        ("backends", Value::Array(Vec::new())),
    ]);
    let counts = map(&[("open", open), ("counters", map(&[]))]);
    say(&stream, &map(&[("begin", counts)]));
    assert_eq!(next(&stream).0, "begun");
    say(&stream, &text("go"));
    let address = listener.local_addr().expect("it is bound");
    let client = connect(address);
    expect_echo(&client, b"abc");
    say(&stream, &map(&[("give-up", text("no reason"))]));
    eventually(SOON, "it drains", || new.stderr().contains("and this one drains: no reason"));
    // What it has goes on, and new ones are the old process's.
    expect_echo(&client, b"abc");
    let mut waiting = connect(address);
    let (stream, _) = listener.accept().expect("it is not accepted by the new one");
    waiting.write_all(b"x").expect("it goes");
    (&stream).read_exact(&mut [0]).expect("it comes to the old one");
    given.set_nonblocking(true).expect("it can be set");
    for _ in 0..10 {
        UnixStream::connect(&path).expect("it listens");
        given.accept().expect("nor is this one");
    }
    drop(client);
    assert_eq!(new.wait(SOON).code, Some(1));
    UnixStream::connect(&path).expect("the file is still there");
    expect_echo_of(&listener);
}

/// The socket was not told to refuse anybody.
fn expect_echo_of(listener: &TcpListener) {
    let address = listener.local_addr().expect("it is bound");
    let server = connect(address);
    let (mut stream, _) = listener.accept().expect("it comes");
    stream.write_all(b"here").expect("it goes");
    let mut bytes = [0; 4];
    (&server).read_exact(&mut bytes).expect("it comes");
    server.set_read_timeout(Some(Duration::from_secs(1))).expect("not zero");
}

/// The control socket is for the user of the server, and for root.
#[test]
fn another_user_may_not() {
    if !process::is_root() {
        return skipped("an upgrade that another user asks for: not root");
    }
    let folder = Folder::new();
    let name = format!("unix:@upgrade-{}-{}", crate::ENGINE, std::process::id());
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let program = folder.file("acceptor");
    std::fs::copy(acceptor(), &program).expect("there is room");
    std::os::unix::fs::chown(&folder.0, Some(65534), Some(65534)).expect("root may");
    let run = |arguments: &[&str]| {
        let command = [&nobody[..], &[&program], arguments].concat();
        Command::new("setpriv").args(command).output()
    };
    if !run(&["--version"]).is_ok_and(|output| output.status.success()) {
        return skipped("an upgrade that another user asks for: no program can be run as nobody");
    }
    let server = Server::start(&["echo", "--control", &name]);
    let client = connect(server.address());
    for arguments in [
        &["upgrade", "--control", &name][..],
        &["echo", "--listen", "127.0.0.1:0", "--take-over", &name],
    ] {
        let output = run(arguments).expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("this socket is for the user of the server, and for root"), "{told}");
    }
    expect_echo(&client, b"abc");
    expect_alive(server.address());
    assert!(!server.stderr().contains("upgrade: "), "{}", server.stderr());
    drop(client);
    server.stop();
}

/// Lines of the control protocol that are nearly right.
#[test]
fn requests_that_are_no_upgrades() {
    let family = Family::start(ECHO);
    for (request, told) in [
        (
            json!({"version": 1, "command": "upgrade", "binary": "here"}),
            "it must be an absolute path",
        ),
        (json!({"version": 1, "command": "upgrade", "binary": 1}), "expected path"),
        (json!({"version": 1, "command": "take-over", "now": true}), "now"),
    ] {
        let error = family.ask(&request).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let stream = connect_to(&family.control());
    (&stream).write_all(b"{\"version\":1,\"command\":\"take-over\"}\nmore").expect("it goes");
    assert_eq!(answer(&stream)["ok"], json!(true));
    drop(stream);
    eventually(SOON, "it is told", || family.log().contains("nothing has changed"));
    expect_alive(family.address());
    family.stop();
}
