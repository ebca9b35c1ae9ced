//! Python's `http.server`: HTTP/1.0, and a close behind each answer.

use std::fs;
use std::net::SocketAddr;

use super::{Measured, OPERATIONS, alone, await_lines, ended, run, same_counts};
use crate::folder::Folder;
use crate::foreign::{Foreign, free_address};

struct Python {
    running: Foreign,
    folder: Folder,
    address: SocketAddr,
}

impl Python {
    #[track_caller]
    fn start() -> Option<Self> {
        let (folder, address) = (Folder::new(), free_address());
        folder.write("file", &"0123456789".repeat(2_000));
        let (log, home) = (folder.file("log"), folder.file(""));
        let port = address.port().to_string();
        let arguments = ["-m", "http.server", &port, "--bind", "127.0.0.1", "--directory", &home];
        let running = Foreign::start_into(&log, "python3", &arguments, address)?;
        Some(Self { running, folder, address })
    }

    #[track_caller]
    fn run(&self, path: &str, options: &[&str]) -> Measured {
        run(&format!("http://{}{path}", self.address), options)
    }

    /// Ends it; says which statuses it has logged, with the request of each.
    #[track_caller]
    fn end(self, count: u64) -> Vec<(String, String)> {
        let log = self.folder.file("log");
        await_lines(&log, count, |line| request(line).is_some());
        self.running.end(libc::SIGTERM);
        let text = fs::read_to_string(log).expect("it has a log");
        text.lines().filter_map(request).collect()
    }
}

/// The request and the status of a line `ADDRESS - - [TIME] "REQUEST" STATUS SIZE`.
fn request(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once('"')?;
    let (request, rest) = rest.rsplit_once('"')?;
    let status = rest.split_whitespace().next()?;
    Some((request.to_owned(), status.to_owned()))
}

/// Options, request, status.
type Case = (&'static [&'static str], &'static str, &'static str);

const CASES: &[Case] = &[
    (&["--expect-body-size", "20000"], "GET /file HTTP/1.1", "200"),
    (&["-m", "HEAD"], "HEAD /file HTTP/1.1", "200"),
    (&["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"], "GET /same HTTP/1.1", "304"),
    (&["--expect-status", "404"], "GET /missing HTTP/1.1", "404"),
    (&["--expect-status", "501", "--body", "abc"], "POST /file HTTP/1.1", "501"),
];

#[test]
fn what_python_answers_is_counted_as_it_logs_it() {
    let _alone = alone();
    let Some(python) = Python::start() else { return };
    python.folder.write("same", "the same");
    let path = |request: &str| request.split(' ').nth(1).expect("it has a path").to_owned();
    let measured: Vec<_> =
        CASES.iter().map(|(options, request, _)| python.run(&path(request), options)).collect();
    let log = python.end(CASES.len() as u64 * OPERATIONS);
    for ((_, request, status), run) in CASES.iter().zip(measured) {
        let logged = log.iter().filter(|(logged, _)| logged == request);
        same_counts(request, &run, logged.map(|(_, status)| status.as_str()));
        let statuses = serde_json::json!({*status: OPERATIONS});
        assert_eq!(run.json["answers"]["statuses"], statuses, "{request}");
        assert_eq!(run.json["faults"], serde_json::json!({}), "{request}");
        let connections = (run.count("connections"), ended(&run));
        assert_eq!(connections, (OPERATIONS, OPERATIONS), "{request}");
    }
}
