//! The access log.

use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::client::{connect, expect_end, finish_sending};
use serde_json::Value;

use crate::harness::{Launch, SOON, Server, eventually};

use super::backend::Backend;
use super::{Folder, Proxy, Seen, line, seen};

const FIELDS: [&str; 17] = [
    "time",
    "frontend",
    "client",
    "backend",
    "accept_queue_ms",
    "dispatch_ms",
    "connect_ms",
    "first_byte_ms",
    "total_ms",
    "from_client_bytes",
    "from_backend_bytes",
    "attempts",
    "failed_connects",
    "errno",
    "ended_by",
    "ended",
    "reason",
];

/// One connection: three bytes there, and the name, a newline and the bytes back.
#[track_caller]
fn use_once(address: std::net::SocketAddr) -> String {
    let mut client = connect(address);
    client.write_all(b"abc").expect("it is open");
    assert_eq!(line(&client), "name");
    finish_sending(&client);
    let mut rest = [0; 3];
    std::io::Read::read_exact(&mut client, &mut rest).expect("it comes back");
    expect_end(&client);
    client.local_addr().expect("it is connected").to_string()
}

#[test]
fn every_field_of_a_line_in_json() {
    let backend = Backend::named("name");
    let proxy = Proxy::start(&[&backend], &[]);
    let client = use_once(proxy.address());
    let entry = proxy.expect_ended("client");
    let mut names: Vec<_> = entry.as_object().expect("it is an object").keys().collect();
    let mut wanted = FIELDS.to_vec();
    names.sort();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    assert_eq!((&entry["client"], &entry["backend"]), (&client.into(), &backend.to().into()));
    assert_eq!(entry["from_client_bytes"], 3);
    assert_eq!(entry["from_backend_bytes"], 8);
    assert_eq!((&entry["attempts"], &entry["failed_connects"]), (&1.into(), &0.into()));
    assert!(entry["errno"].is_null() && entry["reason"].is_null(), "{entry:#}");
    expect_time(entry["time"].as_str().expect("it is text"));
    let ms = |name: &str| entry[name].as_f64().unwrap_or_else(|| panic!("no {name}: {entry:#}"));
    for name in ["accept_queue_ms", "dispatch_ms"] {
        assert!(ms(name) >= 0.0, "{entry:#}");
    }
    // Each is rounded to a microsecond.
    let in_order = ms("dispatch_ms") + ms("first_byte_ms") <= ms("total_ms") + 0.002;
    assert!(0.0 <= ms("connect_ms") && ms("connect_ms") <= ms("first_byte_ms"), "{entry:#}");
    assert!(in_order, "{entry:#}");
    proxy.stop();
}

/// Both logs tell time in one form, that of RFC 3339, in UTC.
#[track_caller]
fn expect_time(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{text}");
    let time = humantime::parse_rfc3339(text).expect("it is a time");
    let age = SystemTime::now().duration_since(time).expect("it is over");
    assert!(age < Duration::from_secs(60), "{text}");
}

#[test]
fn both_logs_tell_time_in_one_form() {
    let backend = Backend::named("name");
    let proxy = Proxy::start(&[&backend], &[]);
    let first = || proxy.server.stderr().lines().next().map(str::to_owned);
    eventually(SOON, "there is a line", || first().is_some_and(|line| line.contains("added")));
    expect_time(first().expect("it is there").split(' ').next().expect("the time"));
    proxy.stop();
}

/// What has spaces in it is in quotes, as JSON writes it, and the last of the line.
#[test]
fn a_reason_in_a_line_of_text() {
    let (backend, folder) = (Backend::named("name"), Folder::new());
    let path = folder.file("access.log");
    let arguments = ["--access-log", &path, "--proxy-protocol-in", "127.0.0.0/8"];
    let server = Server::start(&[&["proxy", "--to", &backend.to()][..], &arguments].concat());
    let mut client = connect(server.address());
    client.write_all(b"GET \"/\"\r\n").expect("it is open");
    assert_eq!(seen(&client), Seen::Reset);
    server.stop();
    let text = std::fs::read_to_string(&path).expect("there is a log");
    let reason =
        text.trim_end().split_once(" ended=bad-proxy-header reason=").expect("it is there").1;
    let reason: String = serde_json::from_str(reason).expect("it is a string of JSON");
    assert_eq!(reason, r#"not a PROXY header: begins with 'GET \"/\"\r\n'"#);
}

/// `name=value` in a fixed order, numbers aside.
#[test]
fn the_shape_of_a_line_of_text() {
    let (backend, folder) = (Backend::named("name"), Folder::new());
    let path = folder.file("access.log");
    let server = Server::start(&["proxy", "--to", &backend.to(), "--access-log", &path]);
    let client = use_once(server.address());
    server.stop();
    let text = std::fs::read_to_string(&path).expect("there is a log");
    let words: Vec<_> = text.trim_end().split(' ').collect();
    let pairs: Vec<_> = words.iter().map(|word| word.split_once('=').expect("a pair")).collect();
    assert_eq!(pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), FIELDS);
    let value = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    assert_eq!(value("client"), Some(&*client));
    assert_eq!(value("backend"), Some(&*backend.to()));
    assert_eq!(value("from_client_bytes"), Some("3"));
    assert_eq!(value("frontend"), Some("proxy"));
    assert_eq!((value("ended_by"), value("ended")), (Some("client"), Some("client")));
    assert_eq!((value("errno"), value("reason")), (Some("-"), Some("-")));
    expect_time(value("time").expect("it is there"));
    for (name, value) in pairs.iter().filter(|(name, _)| name.ends_with("_ms")) {
        assert!(value.parse::<f64>().is_ok_and(|ms| ms >= 0.0), "{name}={value}");
    }
}

#[test]
fn on_stdout() {
    let backend = Backend::named("name");
    for quiet in ["-q", "-v"] {
        let arguments = ["--access-log", "-", "--access-log-format", "json", quiet];
        let server = Server::start(&[&["proxy", "--to", &backend.to()][..], &arguments].concat());
        use_once(server.address());
        server.signal(libc::SIGTERM);
        let exit = server.wait(SOON);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        // Nothing else is there, and the `listening` line was on stderr.
        let entry: Value = serde_json::from_str(&exit.stdout).expect("it is an entry");
        assert_eq!(entry["ended"], "client");
        assert_eq!(exit.stderr.matches("listening ").count(), 1, "{}", exit.stderr);
    }
}

/// With a log in JSON each line of stderr is JSON as well.
#[test]
fn on_stdout_with_both_logs_in_json() {
    let backend = Backend::named("name");
    let arguments = ["proxy", "--to", &backend.to(), "--access-log", "-", "--log-format", "json"];
    let launch = Launch::new(&arguments).without_listeners();
    let server = launch.start();
    let mut lines = Vec::new();
    eventually(SOON, "it listens", || {
        let log = server.stderr();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        lines =
            whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect();
        lines.iter().any(|line| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.starts_with("listening 127.0.0.1:") && message.ends_with(" proxy")
        })
    });
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait(SOON).code, Some(0));
}

#[test]
fn a_signal_tells_of_each_backend() {
    let backend = Backend::named("name");
    let proxy = Proxy::start(&[&backend], &[]);
    use_once(proxy.address());
    proxy.expect_ended("client");
    proxy.server.signal(libc::SIGUSR1);
    let expected = [
        format!("backend {}", backend.to()),
        "upstream=default state=Up open=0 connecting=0 connects=1".to_owned(),
        "bytes_to=3".to_owned(),
    ];
    eventually(SOON, "all of it is logged", || {
        let log = proxy.server.stderr();
        expected.iter().all(|part| log.contains(part))
    });
    // It goes on.
    use_once(proxy.address());
    proxy.stop();
}
