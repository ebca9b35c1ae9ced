//! What a reload says of its changes, and of what is in its way: each value before and behind, none of the environment.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::{Controlled, TEXT, in_full};
use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};

/// What came from the environment, as a file names it and as it is.
const SECRET: &str = "hunter2";

#[track_caller]
fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

#[test]
fn each_change_has_its_values_before_and_behind() {
    let it = Controlled::start();
    let text = TEXT
        .replace("'echo'\n", "'echo'\nidle_timeout = '30s'\nmax_connections = 7\nbacklog = 9\n")
        .replace("[frontend.e]", "drain_timeout = '3s'\n[frontend.e]")
        .replace("'127.0.0.1:1'", "'127.0.0.1:3'")
        .replace("weight=3", "weight=4");
    it.write(&format!("{text}balance = 'random'\nsource = '127.0.0.5'\n"));
    let common = [
        "process: drain_timeout 10s -> 3s",
        "frontend e: max_connections unset -> 7, at once",
        "frontend e: backlog unset -> 9, ",
        "frontend e: idle_timeout 60s -> 30s, for new connections",
        "upstream web: backend 127.0.0.1:3 added",
        "upstream web: backend 127.0.0.1:2 weight 3 -> 4",
        "upstream web: backend 127.0.0.1:1 removed; open connections live on",
        "upstream web: source unset -> 127.0.0.5",
        "upstream web: balance least-connections -> random",
    ];
    let shown = it.done(&["reload", "--dry-run"]);
    let tried = common
        .map(|line| if line.ends_with(", ") { format!("{line}at once") } else { line.into() });
    let expected =
        format!("{}: a reload does this\n  {}", it.folder.file("a.toml"), tried.join("\n  "));
    assert_eq!(shown, expected);
    let report = it.reload().unwrap();
    let done = common
        .map(|line| if line.ends_with(", ") { format!("{line}in force: 9") } else { line.into() });
    assert_eq!(strings(&report["changes"]), done);
    assert_eq!(it.status()["frontends"][0]["queues"][0]["limit"], json!(9));
    // Too many for one line have one each.
    eventually(SOON, "all are in the log", || {
        let log = it.server.stderr();
        let told = |line: &String| log.contains(&format!("control socket: {line}\n"));
        log.contains("a.toml: 9 changes\n") && done.iter().all(told)
    });
    assert_eq!(
        it.done(&["reload"]),
        format!(
            "{}: nothing differs from what runs\nreloaded; nothing has changed",
            it.folder.file("a.toml")
        )
    );
    it.server.stop();
}

/// What was done by hand and the file overrules is told before it is done.
#[test]
fn what_was_done_by_hand_is_in_what_would_be_done() {
    let it = Controlled::start();
    it.done(&["set", "max-connections", "7", "--frontend", "e"]);
    it.done(&["backend", "weight", "web", "127.0.0.1:2", "9"]);
    it.done(&["backend", "add", "web", "127.0.0.1:3"]);
    it.done(&["drain", "e"]);
    let shown = it.done(&["reload", "--dry-run"]);
    let expected = format!(
        "{}: a reload does this\n  frontend e: max_connections 7 -> unset, at once\n  frontend e: listens again on \
         127.0.0.1:0\nset by hand, and overruled by the file:\n  max-connections of frontend e is 7 by hand, and \
         the default as configured\n  frontend e is drained by hand\n  upstream web: backend 127.0.0.1:2 has \
         weight 9 in place of 3\n  upstream web: backend 127.0.0.1:3 was added",
        it.folder.file("a.toml")
    );
    assert_eq!(shown, expected);
    assert_eq!(it.status()["by_hand"].as_array().unwrap().len(), 2, "it was only tried");
    assert_eq!(strings(&it.reload().unwrap()["ended"]).len(), 4);
    eventually(SOON, "each is in the log", || {
        let line = "control socket: overruled: upstream web: backend 127.0.0.1:3 was added\n";
        it.server.stderr().contains(line)
    });
    it.server.stop();
}

#[test]
fn a_source_holds_for_new_connections_and_is_in_the_status() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = backend.local_addr().unwrap();
    let text = format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n\
         [upstream.u]\nbackends = ['{to}']\nsource = '127.0.0.5'\n"
    );
    let it = Controlled::with(&text, 1);
    let arrives = || {
        let client = connect(it.server.address());
        let (stream, from) = backend.accept().unwrap();
        (client, stream, from.ip().to_string())
    };
    let (client, stream, from) = arrives();
    assert_eq!(from, "127.0.0.5");
    drop((client, stream));
    it.write(&text.replace("'127.0.0.5'", "['127.0.0.6', '::1']"));
    let report = it.reload().unwrap();
    let told = "upstream u: source 127.0.0.5 -> [127.0.0.6, ::1]";
    assert_eq!(strings(&report["changes"]), [told]);
    assert_eq!(arrives().2, "127.0.0.6");
    assert_eq!(it.status()["upstreams"][0]["source"], json!(["127.0.0.6", "::1"]));
    assert!(it.done(&["status"]).contains("source addresses:\n  upstream u: 127.0.0.6, ::1\n"));
    it.write(&text.replace("127.0.0.5", "192.0.2.1"));
    let error = it.reload().unwrap_err()["text"].to_string();
    assert!(error.contains("the source 192.0.2.1 is not an address of this machine"), "{error}");
    assert_eq!(arrives().2, "127.0.0.6", "nothing has changed");
    it.server.stop();
}

/// The default size of buffers is another for a proxy: buffers stay, and no reload says so.
#[test]
fn the_first_proxy_needs_no_restart() {
    let text = "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let it = Controlled::with(text, 1);
    it.write(&format!(
        "{text}[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n\
         [upstream.u]\nbackends = ['127.0.0.1:1']\n"
    ));
    for _ in 0..2 {
        assert_eq!(it.reload().unwrap()["restart"], json!([]));
    }
    let path = it.folder.file("a.toml");
    let given =
        fs::read_to_string(&path).unwrap().replace("[process]", "[process]\nbuffer_size = 4096");
    fs::write(&path, given).unwrap();
    for _ in 0..2 {
        let restart = it.reload().unwrap()["restart"].clone();
        assert_eq!(restart, json!(["process: buffer_size 16384 -> 4096"]));
    }
    it.server.stop();
}

/// A server from this file, with a secret in its environment.
fn with_secret(text: &str, listeners: usize) -> (Folder, Server) {
    let folder = Folder::new();
    let path = folder.write("a.toml", &in_full(&folder, text));
    let launch = Launch::from_file(&["run", "--config", &path], listeners);
    (folder, launch.variable("SECRET", SECRET).start())
}

/// Whatever stands in the way of a start says where, and not what came from the environment.
#[test]
fn secrets_are_not_told_by_a_start() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let echo = "[frontend.x]\nservice = 'echo'\n";
    let proxy = "[frontend.x]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n";
    let upstream = "[upstream.u]\nbackends = ['127.0.0.1:1']\n";
    let table = [
        (
            format!("{echo}listen = '127.0.0.1:${{SECRET}}'\n"),
            port.as_str(),
            "7:10: frontend.x.listen = '127.0.0.1:${SECRET}': the address is in use",
        ),
        (
            format!("{echo}listen = 'unix:/none/${{SECRET}}/a'\n"),
            SECRET,
            "7:10: frontend.x.listen = 'unix:/none/${SECRET}/a': the directory of the path does not exist",
        ),
        (
            format!("{echo}listen = '${{SECRET}}.invalid:1'\n"),
            SECRET,
            "7:10: frontend.x.listen = '${SECRET}.invalid:1': the name does not resolve",
        ),
        (
            format!("{proxy}[upstream.u]\nbackends = ['${{SECRET}}.invalid:1']\n"),
            SECRET,
            "10:13: upstream.u.backends[0] = '${SECRET}.invalid:1': the name cannot be resolved",
        ),
        (
            format!("{proxy}access_log = '/none/${{SECRET}}'\n{upstream}"),
            SECRET,
            "9:14: frontend.x.access_log = '/none/${SECRET}': the access log cannot be opened: open(2) failed with ENOENT",
        ),
        (
            format!("control = 'unix:/none/${{SECRET}}'\n{echo}listen = '127.0.0.1:0'\n"),
            SECRET,
            "4:11: process.control = 'unix:/none/${SECRET}': the directory of the path does not exist",
        ),
    ];
    for (text, secret, expected) in table {
        let folder = Folder::new();
        let own = text.starts_with("control");
        let full = in_full(&folder, &text);
        let lines = full.lines().filter(|line| !own || !line.contains("c.sock"));
        let path =
            folder.write("a.toml", &lines.map(|line| format!("{line}\n")).collect::<String>());
        let launch = Launch::from_file(&["run", "--config", &path], 0).variable("SECRET", secret);
        let exit = launch.run_within(4 * SOON);
        assert_eq!(exit.code, Some(1), "{text}: {}", exit.stderr);
        assert!(!exit.stderr.contains(secret), "{}", exit.stderr);
        assert!(exit.stderr.contains(&format!("a.toml:{expected}")), "{expected}: {}", exit.stderr);
    }
}

/// The same of a reload: in its answer, in the log, in the status, in what would be done.
#[test]
fn secrets_are_not_told_by_a_reload() {
    let text = "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";
    let (folder, server) = with_secret(text, 1);
    let control = format!("unix:{}", folder.file("c.sock"));
    let reload = |arguments: &[&str]| {
        let arguments = [&["reload", "--control", &control], arguments].concat();
        Launch::from_file(&arguments, 0).run_within(4 * SOON)
    };
    let write = |lines: &str| folder.write("a.toml", &in_full(&folder, &format!("{text}{lines}")));
    let proxy = "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n";
    write(&format!("{proxy}[upstream.u]\nbackends = ['${{SECRET}}.invalid:1']\n"));
    let exit = reload(&[]);
    assert_eq!(exit.code, Some(1));
    let place = "a.toml:13:13: upstream.u.backends[0] = '${SECRET}.invalid:1': the name cannot";
    assert!(exit.stderr.contains(place), "{}", exit.stderr);
    write("[frontend.u]\nlisten = 'unix:${SECRET}'\nservice = 'echo'\nidle_timeout = '${T:-9s}'\n");
    let shown = reload(&["--dry-run"]).stdout;
    assert!(shown.contains("frontend u: listens on unix:${SECRET}"), "{shown}");
    let log = server.stderr();
    assert!(
        !exit.stderr.contains(SECRET) && !shown.contains(SECRET) && !log.contains(SECRET),
        "{shown}{log}"
    );
    let mut session = connect(server.address());
    expect_echo(&mut session, b"as before");
    drop(session);
    server.stop();
}
