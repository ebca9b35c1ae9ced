//! SIGHUP: reloads, with each kind of mistake, and logs that are opened again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Controlled, TEXT};
use crate::client::{connect, expect_echo};
use crate::harness::{Launch, SOON, Server, eventually, skipped};
use crate::process::is_root;

#[test]
fn a_hangup_reloads_the_file_and_tells_so_in_one_line() {
    let it = Controlled::start();
    let mut session = connect(it.server.address());
    expect_echo(&mut session, b"before");
    let text = format!("{TEXT}[frontend.d]\nlisten = '127.0.0.1:0'\nservice = 'discard'\n");
    it.write(&text.replace("weight=3", "weight=4"));
    it.server.signal(libc::SIGHUP);
    let file = it.folder.file("a.toml");
    eventually(SOON, "it is told", || {
        let told = format!(
            "SIGHUP: reloaded {file}: 3 changes: frontend d: added, service discard; frontend d: \
             listens on 127.0.0.1:0; upstream web: backend 127.0.0.1:2 weight 3 -> 4"
        );
        it.server.stderr().contains(&told)
    });
    let status = it.status();
    assert_eq!(status["frontends"].as_array().unwrap().len(), 3);
    assert_eq!(status["upstreams"][0]["backends"][1]["weight"], json!(4));
    assert_eq!(status["configuration"]["last_reload"]["ok"], json!(true));
    expect_echo(&mut session, b"after");
    drop(session);
    it.server.stop();
}

/// What takes a restart is told, and the rest of the file is done.
#[test]
fn what_takes_a_restart_is_told_and_the_rest_is_done() {
    let it = Controlled::start();
    let text =
        TEXT.replace("[frontend.e]", "log_level = 'debug'\nlog_format = 'json'\n[frontend.e]");
    it.write(&text);
    let path = it.folder.file("a.toml");
    let changed = fs::read_to_string(&path).unwrap().replace("workers = 2", "workers = 3");
    fs::write(&path, changed).unwrap();
    let exit = it.ctl(&["reload", "--dry-run"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let told = "  process: log_level info -> debug\ndiffers, and takes a restart:\n  \
                process: workers 2 -> 3\n  process: log_format text -> json";
    assert!(exit.stdout.ends_with(told), "{}", exit.stdout);
    assert_eq!(it.status()["log_level"], json!("info"), "it was only tried");
    let report = it.reload().unwrap();
    assert_eq!(
        report["restart"],
        json!(["process: workers 2 -> 3", "process: log_format text -> json"])
    );
    assert_eq!(it.status()["log_level"], json!("debug"));
    it.server.stop();
}

/// What stands in the file, and the code and the text of why it is not applied.
#[track_caller]
fn expect_unchanged(it: &Controlled, (code, text): (&str, &str)) {
    // The connection before this may still be closing.
    eventually(SOON, "nobody is there", || it.status()["connections"]["open"] == json!(0));
    let before = it.status();
    it.server.signal(libc::SIGHUP);
    eventually(4 * SOON, "the reason is in the log", || {
        let log = it.server.stderr();
        let line =
            log.lines().rfind(|line| line.contains("SIGHUP: not reloaded, nothing has changed: "));
        line.is_some_and(|line| line.contains(text))
    });
    let error = it.reload().unwrap_err();
    assert_eq!(error["code"], json!(code), "{error}");
    assert!(error["text"].as_str().unwrap().contains(text), "{error}");
    let exit = Launch::from_file(&["reload", "--control", &format!("unix:{}", it.socket())], 0)
        .run_within(4 * SOON);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(text), "{}", exit.stderr);
    let mut after = it.status();
    assert_eq!(after["configuration"]["last_reload"]["ok"], json!(false));
    after["configuration"]["last_reload"] = before["configuration"]["last_reload"].clone();
    after["uptime_seconds"] = before["uptime_seconds"].clone();
    assert_eq!(after, before, "nothing has changed");
    connect_and_echo(it);
}

fn connect_and_echo(it: &Controlled) {
    expect_echo(connect(it.server.address()), b"as before");
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let it = Controlled::start();
    for (text, told) in [
        ("[frontend.e\n".to_owned(), "a.toml:5:12: "),
        (TEXT.replace("backends", "bakends"), "unknown key; did you mean 'backends'?"),
        (TEXT.replace("upstream = 'web'", "upstream = 'wbe'"), "wbe"),
        (format!("include = 'none.toml'\n{TEXT}"), "include"),
    ] {
        it.write(&text);
        expect_unchanged(&it, ("configuration", told));
    }
    fs::remove_file(it.folder.file("a.toml")).unwrap();
    expect_unchanged(&it, ("configuration", "No such file or directory"));
    it.write(TEXT);
    assert!(it.reload().is_ok());
    it.server.stop();
}

#[test]
fn an_address_in_use_changes_nothing() {
    let it = Controlled::start();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    it.write(&format!(
        "{TEXT}[frontend.x]\nlisten = ['127.0.0.1:0', '{address}']\nservice = 'echo'\n"
    ));
    let place = "a.toml:15:26: frontend.x.listen[1]: cannot listen on ";
    expect_unchanged(&it, ("bind", &format!("{place}{address}: it is in use")));
    it.server.stop();
}

#[test]
fn a_name_that_does_not_resolve_changes_nothing() {
    let it = Controlled::start();
    it.write(&TEXT.replace("'127.0.0.1:1'", "'name.invalid:80'"));
    let told =
        "a.toml:13:13: upstream.web.backends[0] = 'name.invalid:80': the name cannot be resolved: ";
    expect_unchanged(&it, ("upstream", told));
    it.server.stop();
}

#[test]
fn a_log_that_cannot_be_opened_changes_nothing() {
    let it = Controlled::start();
    let log = it.folder.file("none/access.log");
    it.write(&TEXT.replace("upstream = 'web'", &format!("upstream = 'web'\naccess_log = '{log}'")));
    let told =
        format!("a.toml:12:14: frontend.p.access_log: the access log {log} cannot be opened");
    expect_unchanged(&it, ("access-log", &told));
    assert!(it.server.stderr().contains("make its directory first"), "{}", it.server.stderr());
    it.server.stop();
}

#[test]
fn a_file_that_may_not_be_read_changes_nothing() {
    if is_root() {
        return skipped("that a file that may not be read changes nothing: root reads everything");
    }
    let it = Controlled::start();
    let path = it.folder.file("a.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    expect_unchanged(&it, ("configuration", "Permission denied"));
    it.server.stop();
}

/// However many come, signals behind them get through.
#[test]
fn a_flood_of_hangups_keeps_no_signal_waiting() {
    let it = Controlled::start();
    for _ in 0..200 {
        it.server.signal(libc::SIGHUP);
    }
    connect_and_echo(&it);
    let told = |log: &str| log.matches("SIGHUP: reloaded").count();
    eventually(SOON, "it is reloaded", || told(&it.server.stderr()) >= 1);
    // One that waits for its turn as the drain begins is refused.
    let log = it.server.stop();
    assert!((1..=200).contains(&told(&log)), "{log}");
}

/// Without a file to reload.
#[test]
fn rotated_logs_are_followed() {
    let folder = crate::folder::Folder::new();
    let log = folder.file("access.log");
    let server = Server::start(&["proxy", "--to", "127.0.0.1:1", "--access-log", &log]);
    for number in 0..2 {
        let rotated = folder.file(&format!("access.log.{number}"));
        fs::rename(&log, &rotated).unwrap();
        server.signal(libc::SIGHUP);
        eventually(SOON, "there is a new file", || fs::exists(&log).unwrap());
        // The reset may come before the connect is seen to be done.
        drop(TcpStream::connect(server.address()));
        eventually(SOON, "entries go there", || fs::metadata(&log).unwrap().len() > 0);
    }
    let told = server.stop();
    assert!(told.contains("the access log is opened again"), "{told}");
}
