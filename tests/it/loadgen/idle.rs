//! What servers do on connections that are kept: bytes that nobody asked for, closes with and without a word.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;

use super::scripted::{Scripted, Then};
use super::{DONE, FAILED, Folder, INVALID, Measured, alone};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TIMED_OUT: &[&[u8]] = &[b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\nno"];

/// What counts a connection on which something came while it was idle.
const UNASKED: &str = "unasked";
const BY_SERVER: &str = "closed_by_server";
const BY_CLIENT: &str = "closed_by_client";

/// What comes behind each answer while the connection is idle, in pieces; whether the server closes behind
/// that; what it counts as.
type Case = (&'static [&'static [u8]], bool, &'static str);

const CASES: &[Case] = &[
    (&[ANSWER], false, UNASKED),
    (&[ANSWER], true, UNASKED),
    (&[b"HTTP/1.1 200 OK\r\nConte"], true, UNASKED),
    (&[b"HTTP/1.1 200 OK\r\nConte"], false, UNASKED),
    (&[b"garbage\r\n"], true, UNASKED),
    (TIMED_OUT, true, BY_SERVER),
    (TIMED_OUT, false, BY_CLIENT),
    (&[b"HTTP/1.1 408 Req", b"uest Timeout\r\nConnection: close\r\n\r\n"], true, BY_SERVER),
    (&[b"HTTP/1.1 503 Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"], true, BY_SERVER),
    (&[b""], true, BY_SERVER),
];

/// A connection is idle for longer than the server waits.
const PACES: &[&[&str]] = &[&["--think", "150ms"], &["--rate", "12", "--arrival", "uniform"]];

#[test]
fn what_comes_on_an_idle_connection_is_nobodys_answer() {
    let _alone = alone();
    for (case @ (late, closes, counted), pace) in
        CASES.iter().flat_map(|case| PACES.iter().map(move |pace| (case, pace)))
    {
        let server = Scripted::start(ANSWER, Then::Late(late, *closes));
        let address = server.address.to_string();
        let options = ["-c", "2", "-n", "8", "--warm-up", "0s", "-d", "20s"];
        let run = Measured::run("idle", &[&["http", &address], &options[..], pace].concat());
        let what = format!("{case:?} {pace:?}: {}", run.exit.stdout);
        // Each operation was sent once and had its own answer.
        assert_eq!((run.count("completed"), server.requests()), (8, 8), "{what}");
        assert_eq!((&run.json["faults"], run.count("resent")), (&json!({}), 0), "{what}");
        assert_eq!(run.json["answers"]["statuses"], json!({"200": 8}), "{what}");
        // The last connections may end before anything comes.
        let closed = [BY_SERVER, BY_CLIENT].map(|name| run.count(name));
        let goodbyes = closed[0] + closed[1];
        let (unasked, others) = if *counted == UNASKED {
            (run.count(UNASKED), goodbyes)
        } else {
            (goodbyes, run.count(UNASKED))
        };
        assert!((5..=8).contains(&unasked) && others == 0, "{what}");
        // A FIN that a busy machine delays by more than the client waits comes too late to be the first.
        let named = match *counted {
            BY_SERVER => closed[0] > 0,
            BY_CLIENT => closed[0] == 0,
            _ => true,
        };
        assert!(named, "{what}");
        if *counted == UNASKED {
            assert_eq!(run.exit.code, Some(FAILED), "{what}");
            run.says(&["failed while idle: unasked-answer on", "note: on "]);
        } else {
            assert!(matches!(run.exit.code, Some(DONE | INVALID)), "{what}");
        }
    }
}

/// A method that is not idempotent may have been acted on.
#[test]
fn a_post_that_is_not_sent_again_is_noted() {
    let _alone = alone();
    let server = Scripted::start(ANSWER, Then::DropAfter(3));
    let address = server.address.to_string();
    let options = ["-m", "POST", "-c", "2", "-n", "40", "--warm-up", "0s"];
    let run = Measured::run("post", &[&["http", &address], &options[..]].concat());
    assert_eq!((run.count("resent"), run.count("not_resent")), (0, run.count("failed")));
    assert!(run.count("failed") >= 8, "{}", run.exit.stdout);
    assert_eq!(run.exit.code, Some(FAILED));
    let words = "requests failed because the server closed their kept connection";
    run.says(&["note: ", words, "RFC 9110, section 9.2.2"]);
    let notes = run.json["notes"].as_array().expect("a list");
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains(words))));
}

#[test]
fn a_server_that_ignores_the_wish_to_close_fails_with_a_hint() {
    let _alone = alone();
    let server = Scripted::start(ANSWER, Then::Keep);
    let address = server.address.to_string();
    let common = ["http", &address, "--requests-per-connection", "1", "-c", "2", "-n", "4"];
    let options = ["--warm-up", "0s", "-d", "20s", "--response-timeout", "200ms"];
    let run = Measured::run("ignored", &[&common[..], &options].concat());
    assert_eq!(run.json["faults"], json!({"close": {"timed-out": 4}}), "{}", run.exit.stdout);
    run.says(&["4 operations had their whole answer", "'Connection: close'", "--close fin"]);
    let run = Measured::run("fin", &[&common[..], &options, &["--close", "fin"]].concat());
    assert_eq!((&run.json["faults"], run.count("completed")), (&json!({}), 4));
}

/// The kernel had taken a part of each body before the server reset the connection.
#[test]
fn what_has_gone_out_of_a_request_that_was_cut_short_counts_as_sent() {
    const TAKEN: usize = 100_000;
    let _alone = alone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read_exact(&mut vec![0; TAKEN]);
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    let folder = Folder::new("cut-short");
    let body = folder.file("body");
    std::fs::write(&body, vec![b'x'; 16 << 20]).expect("it can be written");
    let options = ["--body-file", &body, "-c", "2", "-n", "4", "--warm-up", "0s"];
    let run = Measured::run("short", &[&["http", &address], &options[..]].concat());
    assert_eq!(run.count("failed"), 4, "{}", run.exit.stdout);
    let phases: Vec<_> = run.json["faults"].as_object().expect("an object").keys().collect();
    assert_eq!(phases, ["send"], "{}", run.exit.stdout);
    let sent = run.count("sent_bytes") as usize;
    assert!((4 * TAKEN..4 * (16 << 20)).contains(&sent), "{sent}: {}", run.exit.stdout);
}
