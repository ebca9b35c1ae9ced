//! HTTP answers as servers give them: what counts, what fails and by which name, and what is sent.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Scripted, Then};
use super::{Folder, Measured, alone};

const OPERATIONS: u64 = 60;

/// An answer: its name, the bytes, what the server does behind it, further options.
type Case = (&'static str, &'static [u8], Then, &'static [&'static str]);

/// Runs 60 requests on 4 connections.
#[track_caller]
fn run(name: &str, server: &Scripted, options: &[&str]) -> Measured {
    let address = server.address.to_string();
    let count = if options.contains(&"-n") { [].as_slice() } else { &["-n", "60"] };
    let all = [&["http", &address, "-c", "4", "--warm-up", "0s", "-d", "10s"], count].concat();
    Measured::run(name, &[&all, options].concat())
}

const RIGHT: &[Case] = &[
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", Then::Keep, &[]),
    ("304", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", Then::Keep, &[]),
    ("head", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", Then::Keep, &["-m", "HEAD"]),
    (
        "interim",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
        &["--expect-status", "200"],
    ),
    (
        "chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\nX: y\r\n\r\n",
        Then::Keep,
        &["--expect-body-size", "7"],
    ),
    ("empty reason", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Then::Keep, &[]),
    ("1.0 kept", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", Then::Keep, &[]),
    ("301", b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Then::Keep, &[]),
    ("404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Then::Keep, &["--expect-status", "4xx"]),
];

const RIGHT_AND_CLOSED: &[Case] = &[
    (
        "announced",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Then::Close,
        &[],
    ),
    (
        "no length",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        Then::Close,
        &["--expect-body-size", "13"],
    ),
    ("1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close, &[]),
    ("1.0 without a length", b"HTTP/1.0 200 OK\r\n\r\nok", Then::Close, &[]),
    // The server waits for the client to go.
    (
        "announced and kept",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
        &["-n", "8"],
    ),
];

const WRONG: &[(Case, &str, &str)] = &[
    (
        ("short, FIN", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Then::Close, &[]),
        "receive",
        "early-end",
    ),
    (
        ("short, reset", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Then::Reset, &[]),
        "receive",
        "ECONNRESET",
    ),
    (("cut head", b"HTTP/1.1 200 O", Then::Close, &[]), "receive", "early-end"),
    (("garbage", b"SSH-2.0-OpenSSH_9.2\r\n", Then::Close, &[]), "verify", "not-http"),
    (
        ("two answers", b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Then::Keep, &[]),
        "verify",
        "unasked-answer",
    ),
    (
        ("503", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Then::Keep, &[]),
        "verify",
        "wrong-status",
    ),
    (
        ("not 2xx", b"HTTP/1.1 304 Not Modified\r\n\r\n", Then::Keep, &["--expect-status", "2xx"]),
        "verify",
        "wrong-status",
    ),
    (
        (
            "size",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Then::Keep,
            &["--expect-body-size", "3"],
        ),
        "verify",
        "wrong-size",
    ),
    (
        (
            "bad length",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
            Then::Close,
            &[],
        ),
        "verify",
        "bad-length",
    ),
    (
        (
            "bad chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            Then::Close,
            &[],
        ),
        "verify",
        "bad-chunk",
    ),
];

#[test]
fn right_answers_count_on_connections_that_stay_open() {
    let _alone = alone();
    for (name, answer, then, options) in RIGHT {
        let server = Scripted::start(answer, *then);
        let run = run("right", &server, options);
        assert_eq!((run.count("completed"), server.requests()), (OPERATIONS, OPERATIONS), "{name}");
        let connections = (run.count("connections"), run.count("closed_by_server"));
        assert_eq!(connections, (4, 0), "{name}");
        assert_eq!(run.json["faults"], json!({}), "{name}");
    }
}

#[test]
fn right_answers_count_where_the_server_closes_behind_them() {
    let _alone = alone();
    for (name, answer, then, options) in RIGHT_AND_CLOSED {
        let server = Scripted::start(answer, *then);
        let run = run("closed", &server, options);
        let done = run.count("completed");
        assert!(done >= 8, "{name}: {done}");
        assert_eq!((run.json["faults"].clone(), server.requests()), (json!({}), done), "{name}");
        // Who closes is told by whose FIN comes first.
        let (who, words) = match then {
            Then::Keep => {
                ("closed_by_client", "closed by the client after the server announced it")
            }
            _ => ("closed_by_server", "closed by the server"),
        };
        // A FIN that a busy machine delays is not the first.
        assert!(run.count(who) > 0 && run.count("connections") == done, "{name}");
        let closed = run.count("closed_by_server") + run.count("closed_by_client");
        assert_eq!(closed, done, "{name}");
        assert!(run.exit.stdout.contains(words), "{}", run.exit.stdout);
    }
}

#[test]
fn wrong_answers_fail_by_their_kind() {
    let _alone = alone();
    for ((name, answer, then, options), phase, fault) in WRONG {
        let server = Scripted::start(answer, *then);
        let run = run("wrong", &server, options);
        assert_eq!(run.json["faults"], json!({*phase: {*fault: OPERATIONS}}), "{name}");
        assert_eq!(server.requests(), OPERATIONS, "{name}");
    }
}

#[test]
fn answers_are_counted_by_class_and_status() {
    let _alone = alone();
    let answer = b"HTTP/1.1 206 Partial\r\nContent-Length: 2\r\n\r\nok";
    let run = run("classes", &Scripted::start(answer, Then::Keep), &[]);
    let answers = json!({"classes": {"2xx": 60}, "statuses": {"206": 60}, "body_bytes": 120});
    assert_eq!(run.json["answers"], answers);
    assert!(run.exit.stdout.contains("2xx 60 (206); bodies of 120 B"), "{}", run.exit.stdout);
}

/// `keepalive_requests` of a server that does not announce it.
#[test]
fn a_kept_connection_that_is_dropped_sends_its_request_again() {
    let _alone = alone();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for options in [&[][..], &["--pipeline", "4"]] {
        let server = Scripted::start(answer, Then::DropAfter(3));
        let run = run("dropped", &server, options);
        assert_eq!((run.count("completed"), server.requests()), (OPERATIONS, OPERATIONS));
        assert!(run.count("resent") > 0, "{}", run.exit.stdout);
        assert!(run.exit.stdout.contains("requests sent again"), "{}", run.exit.stdout);
    }
}

#[test]
fn a_head_of_eighty_cookies_is_no_fault() {
    let _alone = alone();
    let cookies: String =
        (0..80).map(|n| format!("Set-Cookie: name{n}=some-value-or-other-{n}\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 2\r\n\r\nok");
    let run = run("cookies", &Scripted::start(answer.leak().as_bytes(), Then::Keep), &[]);
    assert_eq!(run.count("completed"), OPERATIONS);
}

#[test]
fn a_page_of_another_length_fails_only_where_that_is_asked_for() {
    let _alone = alone();
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let run = run("verify", &Scripted::start(two, Then::Keep), &["--verify"]);
    assert_eq!(run.count("completed"), OPERATIONS);
}

#[test]
fn requests_leave_as_they_were_described() {
    let _alone = alone();
    let folder = Folder::new("requests");
    let file = folder.file("requests");
    std::fs::write(
        &file,
        "/one\n{\"path\":\"/two\",\"method\":\"PUT\",\"body\":\"b\",\"headers\":{\"A\":\"own\"}}\n",
    )
    .unwrap();
    let server = Scripted::start(b"HTTP/1.1 204 No\r\n\r\n", Then::Keep);
    let host = format!("http://localhost:{}/one", server.address.port());
    let options = [
        "-c",
        "1",
        "-n",
        "4",
        "--warm-up",
        "0s",
        "-d",
        "10s",
        "-H",
        "A: all",
        "--user-agent",
        "me",
    ];
    let run =
        Measured::run("sent", &[&["http", &host][..], &options, &["--requests", &file]].concat());
    assert_eq!(run.count("completed"), 4);
    let host = format!("Host: localhost:{}\r\nUser-Agent: me", server.address.port());
    let one = format!("GET /one HTTP/1.1\r\n{}\r\nA: all\r\n\r\n", host);
    let two = format!("PUT /two HTTP/1.1\r\n{}\r\nA: own\r\nContent-Length: 1\r\n\r\nb", host);
    let sorted =
        |head: &String| head.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let seen: Vec<_> = server.heads().iter().map(sorted).collect();
    let right = [one.clone(), one, two.clone(), two].map(|head| sorted(&head));
    assert_eq!(seen, right);
}

/// Two connections at 200 a second, and a server that stands still for half a second: all that is due
/// meanwhile has waited, and shows it.
#[test]
fn a_stall_shows_in_the_latency_of_all_that_was_due_in_it() {
    let _alone = alone();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let pause = |n| Duration::from_millis(if n == 50 || n == 51 { 500 } else { 0 });
    let server = Scripted::pausing(answer, Then::Keep, pause);
    let address = server.address.to_string();
    let options =
        ["-c", "2", "--rate", "200", "--arrival", "uniform", "--warm-up", "0s", "-d", "2s"];
    let run = Measured::run("stall", &[&["http", &address][..], &options].concat());
    assert_eq!(run.count("started") + run.count("not_started"), 400);
    // Half a second is 100 of 400 starts, and the first half of these waited at least 250 ms.
    let p90 = run.json["latencies"]["total"]["summary"]["p90_us"].as_f64().unwrap();
    let service = run.json["latencies"]["service"]["summary"]["p90_us"].as_f64().unwrap();
    assert!(p90 > 100_000.0 && p90 > 2.0 * service, "{p90} {service}");
    assert!(run.count("queued") >= 50, "{}", run.count("queued"));
    run.says(&["while all connections were busy"]);
}
