//! HTTP through the proxy, with the clients that people use.

use std::process::{Command, Output};

use crate::foreign::{free_address, nginx};
use crate::harness::{SOON, Server, eventually, skipped};

use super::{Folder, Proxy};

/// Runs a client to its end, if it is installed.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(arguments).output();
    if output.is_err() {
        skipped(&format!("{program} is not installed"));
    }
    output.ok()
}

#[test]
fn curl_gets_what_nginx_has() {
    let (folder, address) = (Folder::new(), free_address());
    let body = "0123456789".repeat(100_000);
    folder.write("index.html", &body);
    let home = folder.0.display();
    let http = format!("server {{ listen {address}; root {home}; }}");
    let Some(_nginx) = nginx(&folder, &http, address) else { return };
    let proxy = Proxy::start_to(&[&address.to_string()], &[]);
    let url = format!("http://{}/index.html", proxy.address());
    let Some(output) = run("curl", &["-sS", "--max-time", "10", &url, &url]) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == body.repeat(2).as_bytes(), "other bytes came");
    let entry = proxy.ended(1).remove(0);
    assert_eq!(entry["ended"], "client", "both requests went over one connection");
    proxy.stop();
}

#[test]
fn wrk_sees_no_error() {
    let backend = Server::start(&["http", "--body-size", "1000"]);
    let proxy = Proxy::start_to(&[&backend.address().to_string()], &["--workers", "2"]);
    let url = format!("http://{}/", proxy.address());
    let arguments = ["-t1", "-c16", "-d1s", "--timeout", "10s", &url];
    let Some(output) = run("wrk", &arguments) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let requests = text.lines().find(|line| line.contains(" requests in "));
    let requests = requests.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    let requests = requests.unwrap_or_else(|| panic!("no count in: {text}"));
    assert!(requests > 0 && !text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    eventually(SOON, "all have ended", || proxy.entries().len() >= 16);
    let entries = proxy.stop();
    let bytes: u64 = entries.iter().filter_map(|e| e["from_backend_bytes"].as_u64()).sum();
    assert!(bytes >= requests * 1000, "{bytes} bytes are less than {requests} bodies");
    assert!(entries.iter().all(|entry| entry["failed_connects"] == 0));
    backend.stop();
}
