//! Every request and every kind of answer, as lines.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;

use crate::control::answer::{self, Code, Failure};
use crate::control::request::{BackendChange, LIST_MAX, Listing, Request, Setting, Sort};
use crate::control::{ANSWER_TIMEOUT, CLIENTS_MAX, JOBS_MAX, LINE_MAX_BYTES, REQUEST_TIMEOUT};

/// Every request with its line: it is written so, and read so.
fn requests() -> Vec<(Request, &'static str)> {
    [commands(), lists(), bans()].concat()
}

fn bans() -> Vec<(Request, &'static str)> {
    let network = |text: &str| text.parse().unwrap();
    vec![
        (
            Request::Ban { network: network("192.0.2.7"), time: Duration::from_secs(600) },
            r#"{"version":1,"command":"ban","source":"192.0.2.7","for_seconds":600}"#,
        ),
        (
            Request::Unban { network: network("2001:db8::1") },
            r#"{"version":1,"command":"unban","source":"2001:db8::/64"}"#,
        ),
        (Request::Bans, r#"{"version":1,"command":"bans"}"#),
    ]
}

fn lists() -> Vec<(Request, &'static str)> {
    vec![
        (
            Request::Connections { listing: Listing::Each(Sort::Idle), limit: 20 },
            r#"{"version":1,"command":"connections","sort":"idle","limit":20}"#,
        ),
        (
            Request::Connections { listing: Listing::ByClient, limit: 20 },
            r#"{"version":1,"command":"connections","by":"client","limit":20}"#,
        ),
    ]
}

fn commands() -> Vec<(Request, &'static str)> {
    let backend = |change| Request::Backend { upstream: "web".to_owned(), change };
    let target = || "10.0.0.1:80".parse().unwrap();
    let (frontend, number) = (Some("web".to_owned()), |n: u32| n.try_into().unwrap());
    vec![
        (Request::Status, r#"{"version":1,"command":"status"}"#),
        (Request::Reload { dry_run: false }, r#"{"version":1,"command":"reload"}"#),
        (Request::Reload { dry_run: true }, r#"{"version":1,"command":"reload","dry_run":true}"#),
        (
            Request::Drain { frontend: "web".to_owned() },
            r#"{"version":1,"command":"drain","frontend":"web"}"#,
        ),
        (
            backend(BackendChange::Add("10.0.0.1:80,weight=3".parse().unwrap())),
            r#"{"version":1,"command":"backend","action":"add","upstream":"web","backend":"10.0.0.1:80","weight":3}"#,
        ),
        (
            backend(BackendChange::Remove("unix:/run/a.sock".parse().unwrap())),
            r#"{"version":1,"command":"backend","action":"remove","upstream":"web","backend":"unix:/run/a.sock"}"#,
        ),
        (
            backend(BackendChange::Drain(target())),
            r#"{"version":1,"command":"backend","action":"drain","upstream":"web","backend":"10.0.0.1:80"}"#,
        ),
        (
            backend(BackendChange::Up(target())),
            r#"{"version":1,"command":"backend","action":"up","upstream":"web","backend":"10.0.0.1:80"}"#,
        ),
        (
            backend(BackendChange::Down(target())),
            r#"{"version":1,"command":"backend","action":"down","upstream":"web","backend":"10.0.0.1:80"}"#,
        ),
        (
            backend(BackendChange::Auto("api.example:80".parse().unwrap())),
            r#"{"version":1,"command":"backend","action":"auto","upstream":"web","backend":"api.example:80"}"#,
        ),
        (
            backend(BackendChange::Weight(target(), "7".parse().unwrap())),
            r#"{"version":1,"command":"backend","action":"weight","upstream":"web","backend":"10.0.0.1:80","weight":7}"#,
        ),
        (
            Request::Set(Setting::MaxConnections { frontend: None, most: 5.try_into().unwrap() }),
            r#"{"version":1,"command":"set","key":"max-connections","value":5}"#,
        ),
        (
            Request::Set(Setting::MaxConnections {
                frontend: frontend.clone(),
                most: 5.try_into().unwrap(),
            }),
            r#"{"version":1,"command":"set","key":"max-connections","value":5,"frontend":"web"}"#,
        ),
        (
            Request::Set(Setting::Backlog { frontend, backlog: number(9) }),
            r#"{"version":1,"command":"set","key":"backlog","value":9,"frontend":"web"}"#,
        ),
        (
            Request::Set(Setting::LogLevel(LevelFilter::WARN)),
            r#"{"version":1,"command":"set","key":"log-level","value":"warn"}"#,
        ),
        (
            Request::Close { id: "0.17.3.5f0c2a".parse().unwrap() },
            r#"{"version":1,"command":"close","id":"0.17.3.5f0c2a"}"#,
        ),
        (Request::Shutdown, r#"{"version":1,"command":"shutdown"}"#),
    ]
}

#[test]
fn every_request_is_written_and_read() {
    for (request, line) in requests() {
        assert_eq!(request.to_line(), format!("{line}\n"));
        assert_eq!(Request::parse(line.as_bytes()), Ok(request), "{line}");
    }
}

/// A list by client is not sorted otherwise.
#[test]
fn a_list_by_client_takes_no_order() {
    let line = br#"{"version":1,"command":"connections","by":"client","sort":"age"}"#;
    let told = Request::parse(line).unwrap_err().text;
    assert_eq!(told, "`by` has an order of its own; leave `sort` out");
}

/// A field that a command does not have is told in the words of the document.
#[test]
fn a_command_without_fields_says_so() {
    for command in ["status", "shutdown"] {
        let line = format!(r#"{{"version":1,"command":"{command}","x":1}}"#);
        let told = Request::parse(line.as_bytes()).unwrap_err().text;
        assert_eq!(told, "unknown field `x`, this command has no fields but `version`");
    }
}

/// The last one would win, and be another than whoever looked at the first one thinks.
#[test]
fn a_field_that_is_given_twice_is_refused() {
    let line = br#"{"version":1,"command":"status","command":"shutdown"}"#;
    let told = Request::parse(line).unwrap_err().text;
    assert!(told.starts_with("the field \"command\" is given twice"), "{told}");
}

/// The numbers in docs/CONTROL.md are those of the program.
#[test]
fn every_limit_is_in_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONTROL.md");
    let document = std::fs::read_to_string(path).unwrap();
    for part in [
        format!("| `busy` | {JOBS_MAX} changes wait already |"),
        format!("| changes that wait for the one under way | {JOBS_MAX} |"),
        format!("| clients | {CLIENTS_MAX} |"),
        format!(
            "| a request | {} KiB, complete within {} s |",
            LINE_MAX_BYTES / 1024,
            REQUEST_TIMEOUT.as_secs()
        ),
        format!("| an answer | {} s to be read |", ANSWER_TIMEOUT.as_secs()),
    ] {
        assert!(document.contains(&part), "docs/CONTROL.md lacks {part}");
    }
}

/// docs/CONTROL.md shows each of these lines.
#[test]
fn every_request_is_in_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONTROL.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (_, line) in requests() {
        assert!(document.contains(line), "docs/CONTROL.md lacks {line}");
    }
    for code in CODES {
        let name = serde_json::to_value(code).unwrap();
        let name = name.as_str().unwrap();
        assert!(document.contains(&format!("| `{name}` |")), "docs/CONTROL.md lacks {name}");
    }
}

const CODES: [Code; 13] = [
    Code::Request,
    Code::Version,
    Code::TooLong,
    Code::Denied,
    Code::Busy,
    Code::Draining,
    Code::Unknown,
    Code::NoFile,
    Code::Configuration,
    Code::Bind,
    Code::Upstream,
    Code::AccessLog,
    Code::Failed,
];

#[test]
fn what_may_be_left_out_has_a_default() {
    let parse = |line: Value| Request::parse(line.to_string().as_bytes()).unwrap();
    assert_eq!(
        parse(json!({"version": 1, "command": "connections"})),
        Request::Connections { listing: Listing::Each(Sort::Bytes), limit: 100 }
    );
    let add = json!({"version": 1, "command": "backend", "action": "add", "upstream": "web",
                     "backend": "10.0.0.1:80,weight=9"});
    let expected = BackendChange::Add("10.0.0.1:80,weight=9".parse().unwrap());
    assert_eq!(parse(add), Request::Backend { upstream: "web".to_owned(), change: expected });
}

/// Lines that are no requests, and what is said of them.
fn wrong_lines() -> Vec<(String, Code, &'static str)> {
    let mut all = wrong_shapes();
    all.extend(wrong_values());
    all
}

fn wrong_values() -> Vec<(String, Code, &'static str)> {
    let set = |rest: Value| {
        let mut line = json!({"version": 1, "command": "set"});
        line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        line.to_string()
    };
    let backend = |action: &str, rest: &str| {
        format!(r#"{{"version":1,"command":"backend","action":"{action}","upstream":"web"{rest}}}"#)
    };
    let ban = |source: &str, seconds: u64| {
        json!({"version": 1, "command": "ban", "source": source, "for_seconds": seconds})
            .to_string()
    };
    vec![
        (ban("192.0.2.7", 0), Code::Request, "`for_seconds` is 0; it must be 1 to 31536000"),
        (ban("192.0.2.7", 31_536_001), Code::Request, "it must be 1 to 31536000"),
        (ban("::/0", 1), Code::Request, "that is everybody"),
        (ban("x", 1), Code::Request, "'x' is neither an address nor a network"),
        (backend("stop", ""), Code::Request, "unknown variant `stop`, expected one of `add`"),
        (backend("up", ""), Code::Request, "missing field `backend`"),
        (backend("up", r#","backend":"x""#), Code::Request, "'x'"),
        (backend("weight", r#","backend":"10.0.0.1:80""#), Code::Request, "missing field `weight`"),
        (
            backend("weight", r#","backend":"10.0.0.1:80","weight":257"#),
            Code::Request,
            "the weight is '257'; it must be 1 to 256",
        ),
        (
            backend("up", r#","backend":"10.0.0.1:80","weight":1"#),
            Code::Request,
            "a weight goes with the actions `add` and `weight` only",
        ),
        (
            set(json!({"key": "nice", "value": 1})),
            Code::Request,
            "expected one of `max-connections`",
        ),
        (
            set(json!({"key": "backlog", "value": 0})),
            Code::Request,
            "the value is 0; it must be 1 to",
        ),
        (set(json!({"key": "backlog", "value": "9"})), Code::Request, "the value is \"9\""),
        (
            set(json!({"key": "log-level", "value": "loud"})),
            Code::Request,
            "it must be one of error, warn, info, debug, trace",
        ),
        (
            set(json!({"key": "log-level", "value": "info", "frontend": "web"})),
            Code::Request,
            "leave `frontend` out",
        ),
        (
            format!(r#"{{"version":1,"command":"connections","limit":{}}}"#, LIST_MAX + 1),
            Code::Request,
            "it must be 1 to 100000",
        ),
        (
            r#"{"version":1,"command":"close","id":"7"}"#.to_owned(),
            Code::Request,
            "'7' names no connection",
        ),
    ]
}

fn wrong_shapes() -> Vec<(String, Code, &'static str)> {
    vec![
        (String::new(), Code::Request, "the request is no JSON"),
        ("garbage".to_owned(), Code::Request, "the request is no JSON"),
        ("\"status\"".to_owned(), Code::Request, "the request is no JSON object"),
        (r#"{"command":"status"}"#.to_owned(), Code::Request, r#"write "version": 1"#),
        (
            r#"{"version":2,"command":"status"}"#.to_owned(),
            Code::Version,
            "the version is 2; this server speaks version 1",
        ),
        (r#"{"version":1}"#.to_owned(), Code::Request, "missing field `command`"),
        (
            r#"{"version":1,"command":"stauts"}"#.to_owned(),
            Code::Request,
            "unknown variant `stauts`, expected one of `status`, `reload`, `drain`",
        ),
        (
            r#"{"version":1,"command":"status","all":true}"#.to_owned(),
            Code::Request,
            "unknown field `all`",
        ),
        (
            r#"{"version":1,"command":"reload","dryrun":true}"#.to_owned(),
            Code::Request,
            "unknown field `dryrun`, expected `dry_run`",
        ),
    ]
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    for (line, code, text) in wrong_lines() {
        let failure = Request::parse(line.as_bytes()).unwrap_err();
        assert_eq!(failure.code, code, "{line}");
        assert!(failure.text.contains(text), "{line}: {}", failure.text);
    }
    // Deep enough to overflow a stack that follows it.
    let deep = "[".repeat(60_000);
    assert_eq!(Request::parse(deep.as_bytes()).unwrap_err().code, Code::Request);
}

#[test]
fn answers_are_written_and_read() {
    let right = Ok(json!({"pid": 7}));
    assert_eq!(answer::to_line(&right), "{\"version\":1,\"ok\":true,\"result\":{\"pid\":7}}\n");
    let details = vec!["a".to_owned(), "b".to_owned()];
    let failures = [
        (
            Failure::new(Code::NoFile, "no"),
            "{\"version\":1,\"ok\":false,\"error\":{\"code\":\"no-file\",\"text\":\"no\"}}\n",
        ),
        (
            Failure { code: Code::Configuration, text: "a".to_owned(), details },
            "{\"version\":1,\"ok\":false,\"error\":{\"code\":\"configuration\",\"text\":\"a\",\
             \"details\":[\"a\",\"b\"]}}\n",
        ),
    ];
    assert_eq!(answer::parse(answer::to_line(&right).as_bytes()), Ok(right));
    for (failure, line) in failures {
        let outcome = Err(failure);
        assert_eq!(answer::to_line(&outcome), line);
        assert_eq!(answer::parse(line.as_bytes()), Ok(outcome));
    }
    // Of a newer server.
    let newer = br#"{"version":1,"ok":true,"result":{},"took_ms":1}"#;
    assert_eq!(answer::parse(newer), Ok(Ok(json!({}))));
    assert!(answer::parse(b"{\"version\":1,\"ok\":false}").is_err());
    assert!(answer::parse(b"HTTP/1.1 200 OK").is_err());
}
