//! nginx: its access log has a line for each request, with the connection and the bytes of the body.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use serde_json::json;

use super::{
    Case, Closed, Line, OPERATIONS, agree, all_differ, alone, await_lines, ended, lines, run,
    same_counts,
};
use crate::client::connect;
use crate::folder::Folder;
use crate::foreign::{Foreign, free_address, free_address_on, nginx};
use crate::harness::skipped;

/// Longer than what a socket takes at once, so that the answer comes before the request has gone.
const BODY_BYTES: usize = 2 << 20;

/// What goes before the answer to a request that asks for it.
const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// What each path does. `@address@` is the server itself.
const LOCATIONS: &str = "
    location = /none { return 204; }
    location = /moved { return 301 /; }
    location = /zipped { gzip on; gzip_min_length 1; gzip_types *; }
    location = /few { keepalive_requests 10; }
    location = /few-at-once { keepalive_requests 10; }
    location = /shut { keepalive_timeout 0; }
    location = /proxied { proxy_pass http://@address@/behind; proxy_http_version 1.0; }
    location = /streamed { proxy_pass http://@address@/behind-zipped; proxy_http_version 1.1;
                           proxy_set_header Accept-Encoding gzip; }
    location = /behind { access_log off; }
    location = /behind-none { access_log off; return 204; }
    location = /behind-zipped { access_log off; gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; }
    location = /expected { proxy_pass http://@address@/behind-none; client_max_body_size 9m; }
    location = /posted { proxy_pass http://@address@/behind-none; client_max_body_size 9m; }
    location = /large { client_max_body_size 1k; }
    location = /large-and-reset { client_max_body_size 1k; lingering_close off; }
";

/// Files that are served as they are.
const FILES: &[&str] = &[
    "/plain",
    "/head",
    "/part",
    "/zipped",
    "/few",
    "/few-at-once",
    "/shut",
    "/at-once",
    "/rate",
    "/behind",
    "/behind-zipped",
];

const fn kept(path: &'static str, options: &'static [&'static str], status: &'static str) -> Case {
    Case { path, options, status, closed: Closed::Never }
}

const CASES: &[Case] = &[
    kept("/plain", &[], "200"),
    kept("/none", &[], "204"),
    kept("/head", &["-m", "HEAD"], "200"),
    kept("/part", &["-H", "Range: bytes=2-11", "--expect-body-size", "10"], "206"),
    kept("/moved", &[], "301"),
    kept("/missing", &["--expect-status", "404"], "404"),
    kept("/zipped", &["-H", "Accept-Encoding: gzip", "--verify"], "200"),
    kept("/proxied", &[], "200"),
    kept("/streamed", &[], "200"),
    kept("/expected", &["--body", "abc", "-H", "Expect: 100-continue"], "204"),
    kept("/posted", &["--body-file", "@body@"], "204"),
    kept("/at-once", &["--pipeline", "8"], "200"),
    kept("/rate", &["--rate", "500"], "200"),
    Case { path: "/few", options: &[], status: "200", closed: Closed::AfterTen },
    Case { path: "/shut", options: &[], status: "200", closed: Closed::Each },
];

struct Nginx {
    running: Foreign,
    folder: Folder,
    address: SocketAddr,
}

impl Nginx {
    /// With all locations and files, and more in the block of its server.
    #[track_caller]
    fn start(address: SocketAddr, more: &str) -> Option<Self> {
        let folder = Folder::new();
        for file in FILES {
            folder.write(&file[1..], &"0123456789".repeat(2_000));
        }
        let home = folder.0.display();
        let locations = LOCATIONS.replace("@address@", &address.to_string());
        let http = format!(
            "log_format counted '$status $connection $body_bytes_sent $sent_http_transfer_encoding \
             $request_method $request_uri $upstream_status';\n\
             server {{ listen {address}; root {home}; access_log {home}/counted.log counted;\n\
             {more}\n{locations} }}"
        );
        let running = nginx(&folder, &http, address)?;
        Some(Self { running, folder, address })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it; says what it has logged, of `count` requests at least.
    #[track_caller]
    fn end(self, count: u64) -> Vec<Line> {
        let log = self.folder.file("counted.log");
        await_lines(&log, count, |_| true);
        self.running.end(libc::SIGTERM);
        lines(&log)
    }
}

fn of<'a>(log: &'a [Line], path: &str) -> Vec<&'a Line> {
    log.iter().filter(|line| line.0[5] == path).collect()
}

#[test]
fn what_nginx_answers_is_counted_as_it_logs_it() {
    let _alone = alone();
    all_differ(CASES);
    let Some(nginx) = Nginx::start(free_address(), "") else { return };
    let body = nginx.folder.write("body", &"b".repeat(100_000));
    let fill = |option: &&'static str| if *option == "@body@" { &body } else { *option };
    let measured: Vec<_> = CASES
        .iter()
        .map(|case| {
            let options: Vec<_> = case.options.iter().map(fill).collect();
            (case, run(&nginx.url(case.path), &options))
        })
        .collect();
    let log = nginx.end(CASES.len() as u64 * OPERATIONS);
    for (case, run) in measured {
        let logged = of(&log, case.path);
        agree(case, &run, &logged);
        let is_chunked = logged.iter().all(|line| line.0[3] == "chunked");
        assert_eq!(is_chunked, ["/zipped", "/streamed"].contains(&case.path), "{}", case.path);
        let sent: u64 = logged.iter().map(|line| line.0[2].parse::<u64>().expect("a count")).sum();
        let bodies = run.json["answers"]["body_bytes"].as_u64().expect("a count");
        match case.path {
            // nginx takes these for a part of the body too.
            "/expected" => assert_eq!(sent - bodies, OPERATIONS * INTERIM.len() as u64),
            path if is_chunked => assert!(bodies < sent, "{path}: {bodies} {sent}"),
            path => assert_eq!(bodies, sent, "{path}"),
        }
    }
}

/// The value of a header in the answer to a GET.
#[track_caller]
fn header(address: SocketAddr, path: &str, name: &str) -> String {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a FIN comes behind it");
    let found = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in: {answer}")).to_owned()
}

#[test]
fn a_page_that_nginx_has_not_changed_is_a_304() {
    let _alone = alone();
    let Some(nginx) = Nginx::start(free_address(), "") else { return };
    let tag = format!("If-None-Match: {}", header(nginx.address, "/plain", "ETag"));
    let run = run(&nginx.url("/plain"), &["-H", &tag]);
    let log = nginx.end(1 + OPERATIONS);
    agree(&kept("/plain", &[], "304"), &run, &of(&log, "/plain")[1..]);
}

#[test]
fn a_status_of_nginx_that_is_not_expected_is_a_failure_and_an_answer() {
    let _alone = alone();
    let Some(nginx) = Nginx::start(free_address(), "") else { return };
    let run = run(&nginx.url("/missing"), &[]);
    let log = nginx.end(OPERATIONS);
    assert_eq!(run.json["faults"], json!({"verify": {"wrong-status": OPERATIONS}}));
    same_counts("/missing", &run, log.iter().map(Line::status));
    assert_eq!((run.count("connections"), ended(&run)), (4, 0));
}

/// nginx says in its tenth answer that it ends the connection, and reads no request behind that.
#[test]
fn requests_that_nginx_did_not_read_are_sent_again() {
    let _alone = alone();
    let Some(nginx) = Nginx::start(free_address(), "") else { return };
    let run = run(&nginx.url("/few-at-once"), &["--pipeline", "8"]);
    let log = nginx.end(OPERATIONS);
    let case = Case { closed: Closed::AfterTen, ..kept("/few-at-once", &[], "200") };
    agree(&case, &run, &of(&log, case.path));
    assert!(run.count("resent") > 0, "{}", run.exit.stdout);
}

/// The answer comes, and the connection ends, while the body is still being sent.
#[test]
fn a_body_that_nginx_refuses_ends_with_its_413() {
    let _alone = alone();
    let Some(nginx) = Nginx::start(free_address(), "") else { return };
    let body = nginx.folder.write("body", &"b".repeat(BODY_BYTES));
    let options = ["--body-file", &body, "--expect-status", "413"];
    let paths = ["/large", "/large-and-reset"];
    let measured = paths.map(|path| (path, run(&nginx.url(path), &options)));
    let log = nginx.end(2 * OPERATIONS);
    for (path, run) in measured {
        let case = Case { closed: Closed::Each, ..kept(path, &[], "413") };
        agree(&case, &run, &of(&log, path));
    }
}

/// An idle connection ends without a word. What crosses that FIN is sent again.
#[test]
fn connections_that_nginx_ends_while_they_rest_are_opened_again() {
    let _alone = alone();
    let Some(nginx) = Nginx::start(free_address(), "keepalive_timeout 50ms;") else { return };
    let run = run(&nginx.url("/plain"), &["--think", "100ms"]);
    let log = nginx.end(OPERATIONS);
    let case = Case { closed: Closed::AtRest, ..kept("/plain", &[], "200") };
    agree(&case, &run, &of(&log, case.path));
}

#[test]
fn localhost_is_found_on_the_one_family_that_nginx_listens_on() {
    let _alone = alone();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let found =
            ("localhost", 0).to_socket_addrs().is_ok_and(|mut all| all.any(|a| a.ip() == ip));
        let Some(address) = free_address_on(ip).filter(|_| found) else {
            skipped(&format!("localhost is not {ip} on this machine"));
            continue;
        };
        let Some(nginx) = Nginx::start(address, "") else { return };
        let url = format!("http://localhost:{}/plain", address.port());
        let run = run(&url, &[]);
        let log = nginx.end(OPERATIONS);
        agree(&kept("/plain", &[], "200"), &run, &of(&log, "/plain"));
    }
}
