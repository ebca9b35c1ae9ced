//! HAProxy in HTTP mode: answers of its own, and those of nginx behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::json;

use super::{Case, Closed, Line, Measured, OPERATIONS};
use super::{agree, all_differ, alone, await_lines, lines, run};
use crate::folder::Folder;
use crate::foreign::{Foreign, free_address, haproxy, nginx};

/// The last field is the path.
const LOG: &str = "
    log stdout format raw local0
    log-format \"%ST %ci:%cp %HM %HPO\"
";

const ANSWERS: &str = "
    http-request return status 204 if { path /none }
    http-request return status 200 content-type text/plain string hello if { path /own }
    http-request return status 200 errorfile @old@ if { path /old }
    http-request deny deny_status 403 if { path /denied }
    default_backend behind
";

/// A whole answer for HAProxy to give. It keeps what version that is.
const OLD: &str = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold";

const fn kept(path: &'static str, options: &'static [&'static str], status: &'static str) -> Case {
    Case { path, options, status, closed: Closed::Never }
}

const CASES: &[Case] = &[
    kept("/none", &[], "204"),
    kept("/old", &["--expect-body-size", "3"], "200"),
    kept("/own", &["--expect-body-size", "5"], "200"),
    kept("/denied", &["--expect-status", "403"], "403"),
    kept("/plain", &["--expect-body-size", "20000"], "200"),
    kept("/head", &["-m", "HEAD"], "200"),
    kept("/zipped", &["-H", "Accept-Encoding: gzip", "--verify"], "200"),
    kept("/missing", &["--expect-status", "404"], "404"),
    kept("/posted", &["--body", "abc", "-H", "Expect: 100-continue"], "204"),
    kept("/few", &["--pipeline", "8"], "200"),
];

struct Haproxy {
    running: Foreign,
    folder: Folder,
    address: SocketAddr,
    _behind: Foreign,
}

impl Haproxy {
    /// With more in its frontend, and nginx behind it.
    #[track_caller]
    fn start(more: &str) -> Option<Self> {
        let (folder, address, behind) = (Folder::new(), free_address(), free_address());
        for file in ["plain", "head", "zipped", "few"] {
            folder.write(file, &"0123456789".repeat(2_000));
        }
        let home = folder.0.display();
        let http = format!(
            "server {{ listen {behind}; root {home}; keepalive_requests 10;\n\
             location = /zipped {{ gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; }}\n\
             location = /posted {{ return 204; }} }}"
        );
        let nginx = nginx(&folder, &http, behind)?;
        let answers = ANSWERS.replace("@old@", &folder.write("old", OLD));
        let text = format!(
            "frontend front\n mode http\n bind {address}\n{LOG}{more}{answers}\
             backend behind\n mode http\n server s {behind}\n"
        );
        let running = haproxy(&folder, &text, address)?;
        Some(Self { running, folder, address, _behind: nginx })
    }

    #[track_caller]
    fn run(&self, path: &str, options: &[&str]) -> Measured {
        run(&format!("http://{}{path}", self.address), options)
    }

    /// Ends it; says what it has logged, of `count` requests at least. The look whether it accepts
    /// asked for nothing.
    #[track_caller]
    fn end(self, count: u64) -> Vec<Line> {
        let log = self.folder.file("haproxy.log");
        await_lines(&log, count, |line| line.contains(" /"));
        // It ends when all connections have, and has logged these then.
        self.running.end(libc::SIGUSR1);
        // It tells of its own end there too.
        let is_request = |line: &Line| line.status().bytes().all(|byte| byte.is_ascii_digit());
        lines(&log).into_iter().filter(is_request).collect()
    }
}

fn of<'a>(log: &'a [Line], path: &str) -> Vec<&'a Line> {
    log.iter().filter(|line| line.0[3..] == [path]).collect()
}

#[track_caller]
fn expect_agreement(option: &str, cases: &[Case]) {
    let _alone = alone();
    all_differ(cases);
    let Some(haproxy) = Haproxy::start(option) else { return };
    let measured: Vec<_> =
        cases.iter().map(|case| (case, haproxy.run(case.path, case.options))).collect();
    let log = haproxy.end(cases.len() as u64 * OPERATIONS);
    for (case, run) in measured {
        agree(case, &run, &of(&log, case.path));
    }
}

#[test]
fn what_haproxy_answers_is_counted_as_it_logs_it() {
    expect_agreement("", CASES);
}

#[test]
fn connections_that_haproxy_closes_behind_each_answer_are_counted() {
    // It does not close behind an answer that says the opposite.
    let is_closed = |case: &&Case| case.path != "/old";
    let closed = |case: &Case| Case { closed: Closed::Each, ..*case };
    let cases: Vec<_> = CASES.iter().filter(is_closed).map(closed).collect();
    expect_agreement("option httpclose\n", &cases);
}

#[test]
fn connections_that_haproxy_ends_while_they_rest_are_opened_again() {
    let _alone = alone();
    let Some(haproxy) = Haproxy::start("timeout http-keep-alive 50ms\n") else { return };
    let run = haproxy.run("/own", &["--think", "100ms"]);
    let log = haproxy.end(OPERATIONS);
    let case = Case { closed: Closed::AtRest, ..kept("/own", &[], "200") };
    agree(&case, &run, &of(&log, case.path));
}

/// The connections are opened before they are needed, and HAProxy ends those that nobody uses with a
/// 408. It is nobody's answer. (On a machine that is too busy all are used in time.)
#[test]
fn connections_that_haproxy_ends_before_their_first_request_are_opened_again() {
    let _alone = alone();
    let Some(haproxy) = Haproxy::start("timeout http-request 100ms\n") else { return };
    let run = haproxy.run("/own", &["-c", "40", "--rate", "100"]);
    let log = haproxy.end(run.count("completed"));
    assert_eq!(run.count("completed"), of(&log, "/own").len() as u64, "{}", run.exit.stdout);
    // A request that crosses a 408 on its way takes that for its answer, as it has to.
    let crossed = run.count("failed");
    let faults =
        if crossed == 0 { json!({}) } else { json!({"verify": {"wrong-status": crossed}}) };
    assert_eq!(run.json["faults"], faults, "{}", run.exit.stdout);
    // The first connection of the log is that of the look whether it accepts.
    let connections: BTreeSet<_> = log[1..].iter().map(Line::connection).collect();
    assert_eq!(run.count("connections"), connections.len() as u64, "{connections:?}");
}
