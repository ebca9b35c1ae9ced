//! Clients that do as they please: others are answered, and no byte of the data path is wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Controlled, TEXT, answer, ask};
use crate::client::{connect, expect_echo};
use crate::harness::{SOON, eventually};

/// Runs `hostile` while sessions echo, and holds that all of their answers are right.
fn under_load(it: &Controlled, hostile: impl FnOnce()) {
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..2_u8 {
            let (stop, rounds) = (&stop, &rounds);
            let address = it.server.address();
            scope.spawn(move || {
                let bytes = [number; 1000];
                while !stop.load(Ordering::Relaxed) {
                    let mut session = connect(address);
                    (0..20).for_each(|_| expect_echo(&mut session, &bytes));
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        hostile();
        let before = rounds.load(Ordering::Relaxed);
        eventually(SOON, "sessions go on", || rounds.load(Ordering::Relaxed) > before + 2);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn garbage_is_refused_and_the_connection_goes_on() {
    let it = Controlled::start();
    let mut stream = it.connect();
    for garbage in [&b"\n"[..], b"GET / HTTP/1.1\n", b"{}\n", b"\xff\xfe\0\n", b"[[[[[[[[\n"] {
        stream.write_all(garbage).unwrap();
        assert_eq!(answer(&stream)["error"]["code"], json!("request"));
    }
    assert_eq!(ask(&stream, &json!({"version": 1, "command": "status"}))["ok"], json!(true));
    it.server.stop();
}

/// As a shell writes it that was told to write no newline.
#[test]
fn a_request_without_the_end_of_its_line_is_answered_at_the_end_of_all() {
    let it = Controlled::start();
    for (request, ok) in [(r#"{"version":1,"command":"status"}"#, true), ("{\"vers", false)] {
        let mut stream = UnixStream::connect(it.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["ok"], json!(ok), "{text}");
    }
    it.server.stop();
}

/// Each of them holds its place and does nothing that lets it go.
#[test]
fn a_thousand_clients_that_do_nothing_do_not_keep_others_out() {
    let it = Controlled::start();
    under_load(&it, || {
        let socket = it.socket();
        let flood = std::thread::spawn(move || {
            let one = |number: usize| {
                let mut stream = UnixStream::connect(&socket).ok()?;
                // Half of them send half a line.
                let _ = stream.write_all(if number.is_multiple_of(2) { b"{\"vers" } else { b"" });
                Some(stream)
            };
            (0..1000).filter_map(one).collect::<Vec<_>>()
        });
        for _ in 0..3 {
            assert_eq!(it.status()["phase"], json!("serving"));
        }
        let held = flood.join().unwrap();
        assert!(held.len() > 500, "{}", held.len());
        assert_eq!(it.status()["phase"], json!("serving"));
        assert!(it.server.open_files() < 150, "{} descriptors", it.server.open_files());
    });
    it.server.stop();
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_early() {
    let it = Controlled::start();
    let before = it.server.rss();
    under_load(&it, || {
        let mut stream = it.connect();
        let piece = vec![b'x'; 1 << 20];
        let sent = (0..100).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert!(sent < 100, "the server has not taken it all");
        assert_eq!(answer(&stream)["error"]["code"], json!("too-long"));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(it.server.rss() < before + (50 << 20), "the line was not kept");
    it.server.stop();
}

/// They ask and ask, and never read: each has one answer that waits for it, and no more.
#[test]
fn clients_that_never_read_do_not_keep_others_waiting() {
    let it = Controlled::start();
    under_load(&it, || {
        let mut stuck: Vec<UnixStream> = (0..8).map(|_| it.connect()).collect();
        let request = b"{\"version\":1,\"command\":\"status\"}\n".repeat(20_000);
        for stream in &mut stuck {
            stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            let _ = stream.write_all(&request);
        }
        assert_eq!(it.status()["phase"], json!("serving"));
        assert_eq!(it.done(&["set", "log-level", "warn"]), "log-level: warn");
    });
    it.server.stop();
}

/// An address in use is tried again for a second, in which the status of others comes.
#[test]
fn a_reload_that_takes_long_keeps_nobody_waiting() {
    let it = Controlled::start();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    it.write(&format!("{TEXT}[frontend.x]\nlisten = '{address}'\nservice = 'echo'\n"));
    // On a machine that stands still for a second the reload may be over before: it is tried again.
    let is_overtaken = (0..5).any(|_| {
        let mut reload = it.connect();
        reload.write_all(b"{\"version\":1,\"command\":\"reload\"}\n").unwrap();
        assert_eq!(it.status()["phase"], json!("serving"));
        reload.set_nonblocking(true).unwrap();
        let nothing = (&reload).read(&mut [0; 1]).is_err();
        reload.set_nonblocking(false).unwrap();
        if nothing {
            assert_eq!(answer(&reload)["error"]["code"], json!("bind"));
        }
        nothing
    });
    assert!(is_overtaken, "a status came before the answer of a reload that was asked for before");
    it.server.stop();
}
