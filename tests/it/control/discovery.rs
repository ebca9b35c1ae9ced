//! Files that list backends: replaced in every way, wrong in every way, under load.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::Controlled;
use crate::client::connect;
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, acceptor, eventually, meanwhile, skipped};
use crate::process::is_root;

/// Answers each byte with its own name. It goes on until the tests end.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
}

impl Backend {
    pub(super) fn start(name: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream, name));
            }
        });
        Self { address }
    }
}

fn answer(mut stream: TcpStream, name: u8) {
    while let Ok(1) = stream.read(&mut [0]) {
        if stream.write_all(&[name]).is_err() {
            return;
        }
    }
}

/// Who is behind the proxy.
pub(super) fn who(mut stream: &TcpStream) -> Option<u8> {
    let mut name = [0];
    stream.write_all(b"?").ok()?;
    stream.read_exact(&mut name).ok()?;
    Some(name[0])
}

const TEXT: &str = "\
[frontend.p]
listen = '127.0.0.1:0'
service = 'proxy'
upstream = 'web'
[frontend.q]
listen = '127.0.0.1:0'
service = 'proxy'
upstream = 'other'
[upstream.web]
backends_file = 'web.json'
[upstream.other]
backends = ['127.0.0.1:1', '127.0.0.1:2']
";

/// A proxy whose upstream `web` has its backends in `web.json`.
fn start(list: &Value) -> Controlled {
    let folder = Folder::new();
    folder.write("web.json", &list.to_string());
    start_in(folder)
}

fn start_in(folder: Folder) -> Controlled {
    Controlled::within(folder, TEXT, 2)
}

/// The file is another one from one moment to the next.
fn replace(it: &Controlled, text: impl std::fmt::Display) {
    let new = it.folder.write("web.json.new", &text.to_string());
    fs::rename(new, it.folder.file("web.json")).expect("it can be renamed");
}

/// What runs.
fn backends(it: &Controlled) -> Vec<String> {
    let status = upstream(it, "web");
    let all = status["backends"].as_array().expect("a list").iter();
    let serving = all.filter(|backend| backend["state"] != json!("draining"));
    serving
        .map(|backend| {
            let address = backend["backend"].as_str().expect("a text");
            format!("{address},weight={}", backend["weight"])
        })
        .collect()
}

fn upstream(it: &Controlled, name: &str) -> Value {
    let status = it.status();
    let all = status["upstreams"].as_array().expect("a list").iter();
    all.clone().find(|upstream| upstream["name"] == json!(name)).expect("it is there").clone()
}

#[track_caller]
fn expect(it: &Controlled, list: &[&str]) {
    eventually(2 * SOON, "the list is applied", || backends(it) == list);
}

/// How often the log says so.
fn told(it: &Controlled, text: &str) -> usize {
    it.server.stderr().matches(text).count()
}

#[test]
fn a_list_that_is_replaced_is_applied_to_its_upstream_alone() {
    let (a, b) = (Backend::start(b'a').address, Backend::start(b'b').address);
    let it = start(&json!([a]));
    let session = connect(it.server.address());
    assert_eq!(who(&session), Some(b'a'));
    it.done(&["backend", "weight", "web", &a.to_string(), "7"]);
    it.done(&["backend", "down", "other", "127.0.0.1:2"]);
    it.done(&["set", "max-connections", "77"]);
    it.done(&["drain", "q"]);
    let by_hand = it.status()["by_hand"].clone();
    assert_eq!(by_hand.as_array().map(Vec::len), Some(2), "{by_hand}");
    let marked = json!([format!("backend {a} has weight 7 in place of 1")]);
    assert_eq!(upstream(&it, "web")["by_hand"], marked);

    // It says what it said before.
    replace(&it, json!([{ "address": a }]));
    meanwhile(super::A_WHILE, "what is set by hand stays", || {
        upstream(&it, "web")["by_hand"] == marked
    });
    replace(&it, json!([{ "address": a, "weight": 2 }, { "address": b, "weight": 3 }]));
    expect(&it, &[&format!("{a},weight=2"), &format!("{b},weight=3")]);
    let (web, other) = (upstream(&it, "web"), upstream(&it, "other"));
    assert_eq!(web["by_hand"], json!([]), "the file wins");
    assert_eq!(web["backends"][0]["counters"]["connects"], json!(1), "it is the same endpoint");
    assert_eq!(web["backends"][0]["open"], json!(1));
    let file = it.folder.file("web.json");
    assert_eq!(web["backends_file"]["path"], json!(file));
    assert_eq!(web["backends_file"]["error"], json!(null));
    assert_eq!(other["backends_file"], json!(null));
    assert_eq!(other["by_hand"], json!(["backend 127.0.0.1:2 is forced down"]));
    assert_eq!(it.status()["by_hand"], by_hand);
    let line = format!(
        "backends file {file}: 2 changes: upstream web: backend {a} weight 1 -> 2; upstream web: \
         backend {b},weight=3 added; 1 value set by hand is overruled"
    );
    // The line comes when all is done.
    eventually(SOON, "it is told", || told(&it, &line) == 1);
    assert_eq!(who(&session), Some(b'a'), "the connection lives on");
    let text = it.done(&["status"]);
    assert!(text.contains(&format!("\n  upstream web: {file}, loaded 20")), "{text}");

    // A reload reads it too, and finds nothing else.
    let report = it.reload().expect("nothing is in the way");
    let changes = report["changes"].as_array().expect("a list");
    let of_web = changes.iter().filter(|change| change.to_string().contains("upstream web"));
    assert_eq!(of_web.count(), 0, "{report}");
    expect(&it, &[&format!("{a},weight=2"), &format!("{b},weight=3")]);
    drop(session);
    it.server.stop();
}

/// What is told of a list, with the place in it.
#[test]
fn a_list_that_is_wrong_changes_nothing_and_is_told_once() {
    let it = start(&json!(["127.0.0.1:1"]));
    let file = it.folder.file("web.json");
    let table = [
        ("[\n\"127.0.0.1:2\"", format!("{file}:2:13: this is not JSON: ")),
        ("[{\"adress\": \"127.0.0.1:2\"}]", format!("{file}:1:3: ")),
        ("[]", "no backend; give at least one".to_owned()),
        (
            "[\"127.0.0.1:2\",\n\"name.invalid:80\"]",
            format!(
                "{file}:2:1: upstream.web.backends[1] = \"name.invalid:80\": the name cannot be \
                 resolved: "
            ),
        ),
    ];
    // Without the control socket, which is taken.
    let alone = it.folder.write("alone.toml", TEXT);
    for (list, text) in table {
        replace(&it, list);
        let line = format!("backends file {file}: not applied, nothing has changed: ");
        eventually(2 * SOON, "it is told", || {
            let log = it.server.stderr();
            log.lines().any(|told| told.contains(&line) && told.contains(&text))
        });
        assert_eq!(backends(&it), ["127.0.0.1:1,weight=1"]);
        let error = upstream(&it, "web")["backends_file"]["error"].clone();
        assert!(error.as_str().is_some_and(|error| error.contains(&text)), "{error}");
        assert!(it.done(&["status"]).contains(", not applied: "));
        let count = told(&it, &line);
        // The same again is no news.
        replace(&it, list);
        meanwhile(4 * super::A_WHILE, "it is told once", || told(&it, &line) == count);
        let refused = it.reload().expect_err("it is wrong");
        let refused = refused["text"].as_str().expect("a text").to_owned();
        assert!(refused.contains(&text), "{refused}");
        let config = it.folder.file("a.toml");
        let check = Launch::from_file(&["check", "--config", &config], 0).run_within(4 * SOON);
        assert_eq!(check.code, Some(2));
        assert!(check.stderr.contains(&text), "{}", check.stderr);
        let start = Launch::from_file(&["run", "--config", &alone], 0).run_within(4 * SOON);
        assert!(start.code.is_some_and(|code| code != 0));
        assert!(start.stderr.contains(&text), "{}", start.stderr);
    }
    replace(&it, json!(["127.0.0.1:1"]));
    let line = format!("backends file {file} is right again: nothing changes");
    eventually(2 * SOON, "it is right again", || told(&it, &line) == 1);
    assert_eq!(upstream(&it, "web")["backends_file"]["error"], json!(null));
    fs::remove_file(&file).expect("it is there");
    let line = format!("nothing has changed: {file}: the file cannot be read: No such file");
    eventually(2 * SOON, "it is told", || told(&it, &line) == 1);
    it.folder.write("web.json", "[\"127.0.0.1:3\"]");
    expect(&it, &["127.0.0.1:3,weight=1"]);
    it.server.stop();
}

/// As editors do that know no rename.
#[test]
fn a_list_that_is_written_in_place_is_applied_when_it_is_whole() {
    let it = start(&json!(["127.0.0.1:1"]));
    let file = it.folder.file("web.json");
    fs::write(&file, "[\n  \"127.0.0.1:2\",\n").expect("it can be written");
    let line = format!("{file}:3:1: this is not JSON: ");
    eventually(2 * SOON, "half a file is told", || told(&it, &line) == 1);
    assert_eq!(backends(&it), ["127.0.0.1:1,weight=1"]);
    let mut rest = fs::File::options().append(true).open(&file).expect("it is there");
    rest.write_all(b"  \"127.0.0.1:3\"\n]\n").expect("it can be written");
    drop(rest);
    expect(&it, &["127.0.0.1:2,weight=1", "127.0.0.1:3,weight=1"]);
    assert_eq!(told(&it, &line), 1);
    it.server.stop();
}

/// A new version of what a ConfigMap holds, as Kubernetes makes it: `..data` becomes another symlink.
fn mount(folder: &Folder, number: u32) {
    fs::create_dir_all(folder.file(&format!("mount/..{number}"))).expect("it is new");
    folder.write(&format!("mount/..{number}/web.json"), &format!("[\"127.0.0.1:{number}\"]"));
    symlink(format!("..{number}"), folder.file("mount/..data_tmp")).expect("it is new");
    fs::rename(folder.file("mount/..data_tmp"), folder.file("mount/..data")).expect("it is there");
}

#[test]
fn a_list_behind_symlinks_is_followed_when_they_are_swapped() {
    let folder = Folder::new();
    mount(&folder, 1);
    symlink("..data/web.json", folder.file("mount/web.json")).expect("it is new");
    symlink(folder.file("mount/web.json"), folder.file("web.json")).expect("it is new");
    let it = start_in(folder);
    for number in 2..4 {
        mount(&it.folder, number);
        let old = it.folder.file(&format!("mount/..{}", number - 1));
        fs::remove_dir_all(old).expect("it is there");
        expect(&it, &[&format!("127.0.0.1:{number},weight=1")]);
    }
    assert_eq!(told(&it, "not applied"), 0, "{}", it.server.stderr());
    it.server.stop();
}

/// The directory goes, and comes again.
#[test]
fn a_list_is_followed_when_its_directory_comes_again() {
    let folder = Folder::new();
    fs::create_dir_all(folder.file("deep/er")).expect("it is new");
    let list = folder.write("deep/er/list.json", "[\"127.0.0.1:1\"]");
    symlink(list, folder.file("web.json")).expect("it is new");
    let it = start_in(folder);
    for port in 2..4 {
        fs::remove_dir_all(it.folder.file("deep")).expect("it is there");
        eventually(2 * SOON, "it is missed", || told(&it, "No such file") == port - 1);
        fs::create_dir_all(it.folder.file("deep/er")).expect("it is new");
        it.folder.write("deep/er/list.json", &format!("[\"127.0.0.1:{port}\"]"));
        expect(&it, &[&format!("127.0.0.1:{port},weight=1")]);
    }
    it.server.stop();
}

#[test]
fn a_list_that_may_not_be_read_is_told_until_it_may() {
    if is_root() {
        return skipped("that a list that may not be read is told: root reads everything");
    }
    let it = start(&json!(["127.0.0.1:1"]));
    let new = it.folder.write("new", "[\"127.0.0.1:2\"]");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o000)).expect("it is ours");
    let file = it.folder.file("web.json");
    fs::rename(new, &file).expect("it can be renamed");
    eventually(2 * SOON, "it is told", || told(&it, "Permission denied") == 1);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    expect(&it, &["127.0.0.1:2,weight=1"]);
    it.server.stop();
}

/// Upstreams that come and go by reloads begin and end to be followed.
#[test]
fn a_list_is_followed_from_one_reload_to_another() {
    let it = start(&json!(["127.0.0.1:1"]));
    let plain = TEXT.replace("backends_file = 'web.json'", "backends = ['127.0.0.1:5']");
    it.write(&plain);
    let report = it.reload().expect("nothing is in the way").to_string();
    let file = it.folder.file("web.json");
    assert!(report.contains(&format!("backends_file {file} -> unset")), "{report}");
    replace(&it, json!(["127.0.0.1:2"]));
    meanwhile(4 * super::A_WHILE, "nobody looks at it", || {
        backends(&it) == ["127.0.0.1:5,weight=1"]
    });
    it.write(&TEXT.replace("web.json", "new.json"));
    let refused = it.reload().expect_err("there is no such file");
    assert!(refused["text"].as_str().unwrap().contains("a.toml:14:17: "), "{refused}");
    it.folder.write("new.json", "[\"127.0.0.1:3\"]");
    let exit = it.ctl(&["reload", "--dry-run"]);
    let told = "upstream web: backend 127.0.0.1:3 added";
    assert!(exit.stdout.contains(told), "{} {}", exit.stdout, exit.stderr);
    it.reload().expect("nothing is in the way");
    assert_eq!(backends(&it), ["127.0.0.1:3,weight=1"]);
    it.folder.write("new.json", "[\"127.0.0.1:4\"]");
    expect(&it, &["127.0.0.1:4,weight=1"]);
    it.server.stop();
}

/// A server started from a command line in front of which is a shell with a namespace of its own.
#[test]
fn without_inotify_lists_are_compared_now_and_then() {
    let may = Command::new("unshare")
        .args(["-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_inotify_instances"])
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        return skipped("lists without inotify: unshare(1) makes no user namespace here");
    }
    let folder = Folder::new();
    folder.write("web.json", "[\"127.0.0.1:1\"]");
    let path = folder.write("a.toml", &super::in_full(&folder, TEXT));
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let program = acceptor().to_str().expect("a path in text").to_owned();
    let command = ["-Ur", "sh", "-c", script, "sh", &program, "run", "--config", path.as_str()];
    let server = Launch::program("unshare", &command, 2).start();
    let it = Controlled { folder, server };
    let line = "files cannot be watched, so they are compared every 5s: this user has too \
                many inotify instances; raise fs.inotify.max_user_instances with sysctl(8)";
    eventually(SOON, "it is told", || told(&it, line) == 1);
    // The first may be seen by the look that follows the start.
    for port in 2..4 {
        replace(&it, json!([format!("127.0.0.1:{port}")]));
        expect(&it, &[&format!("127.0.0.1:{port},weight=1")]);
    }
    assert_eq!(told(&it, line), 1);
    it.server.stop();
}

/// Clients come all the time while lists are replaced: each gets its answers.
#[test]
fn no_connection_fails_while_lists_are_replaced() {
    let all: Vec<_> = (b'a'..=b'c').map(|name| Backend::start(name).address).collect();
    let it = start(&json!([all[0]]));
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = it.server.address();
    let held = connect(address);
    assert_eq!(who(&held), Some(b'a'));
    let client = |_| {
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let stream = connect(address);
                let first = who(&stream).expect("it is answered");
                assert_eq!(who(&stream), Some(first), "it stays where it is");
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = (0..3).map(client).collect();
    for lists in [json!([all[1]]), json!([all[1], all[2]]), json!([all[2]]), json!([all[0]])] {
        replace(&it, &lists);
        let list: Vec<_> =
            lists.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let list: Vec<_> = list.iter().map(|it| format!("{it},weight=1")).collect();
        expect(&it, &list.iter().map(String::as_str).collect::<Vec<_>>());
        let before = served.load(Ordering::Relaxed);
        eventually(2 * SOON, "clients go on", || served.load(Ordering::Relaxed) > before + 20);
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("no connection failed"));
    assert_eq!(who(&held), Some(b'a'), "it was never touched");
    drop(held);
    it.server.stop();
}

/// A program that names no file starts no thread for it.
#[test]
fn without_lists_nothing_is_watched() {
    let server = Server::start(&["echo"]);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let names = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")));
    let names: Vec<_> = names.flatten().collect();
    assert!(names.iter().all(|name| name.trim() != "watched-files"), "{names:?}");
    server.stop();
}
