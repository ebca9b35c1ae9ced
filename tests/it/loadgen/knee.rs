//! The search for the knee, against servers whose capacity is known: they sleep for each answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::scripted::{Scripted, Then};
use super::{DONE, FAILED, Folder, INVALID, alone};
use crate::client::IO_TIMEOUT;
use crate::harness::{Exit, Launch, SOON, eventually};

/// A sleep is never shorter, so no more than 500 operations a second can be done.
const SERVICE: Duration = Duration::from_millis(2);
const CAPACITY: f64 = 500.0;

/// Steps of 400 ms that may end with 30 ms of arrears, so a knee may lie 8 % above the capacity.
const SEARCH: [&str; 9] = [
    "--find-knee",
    "-d",
    "400ms",
    "--warm-up",
    "50ms",
    "--p99-limit",
    "30ms",
    "--arrival",
    "uniform",
];
const SEEN_MAX: f64 = 1.12 * CAPACITY;

/// Ends by itself, on a slow machine too.
const LONG: Duration = Duration::from_secs(60);

/// Echoes 64 bytes on one connection after another. Its thread ends with the process.
fn one_at_a_time() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 64];
            let _ = stream.set_read_timeout(Some(IO_TIMEOUT));
            let _ = stream.read_exact(&mut bytes);
            thread::sleep(SERVICE);
            let _ = stream.write_all(&bytes);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, served)
}

/// Runs a search with its files, and holds what any must hold to.
#[track_caller]
fn search(name: &str, arguments: &[&str]) -> (Exit, Value) {
    let folder = Folder::new(name);
    let [json, csv] = ["knee.json", "knee.csv"].map(|name| folder.file(name));
    let files = ["--json", &json, "--csv", &csv];
    let exit = Launch::loadgen(&[arguments, &SEARCH, &files].concat()).run_within(LONG);
    let text = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {exit:?}"));
    let json: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(json["schema"], "uring-acceptor/loadgen-knee");
    assert_eq!(json["complete"], true, "{exit:?}");
    let expected = match (json["knee_per_second"].as_f64(), json["trusted"] == true) {
        (None, _) => FAILED,
        (Some(_), true) => DONE,
        (Some(_), false) => INVALID,
    };
    assert_eq!(exit.code, Some(expected), "{exit:?}");
    let steps = json["steps"].as_array().expect("it is a list").len();
    let lines = fs::read_to_string(&csv).expect("it was written").lines().count();
    assert_eq!(lines, steps + 1);
    let shown = ["rising", "falling", "halving", "at 50 %  ", "at 80 %  "];
    let is_step = |line: &&str| shown.iter().any(|name| line.starts_with(name));
    assert_eq!(exit.stdout.lines().filter(is_step).count(), steps, "{}", exit.stdout);
    (exit, json)
}

#[track_caller]
fn finds_the_capacity(exit: &Exit, json: &Value) {
    let knee = json["knee_per_second"].as_f64().unwrap_or_else(|| panic!("no knee: {exit:?}"));
    assert!(knee <= SEEN_MAX, "{knee}: {}", exit.stdout);
    assert!(json["broken_per_second"].as_f64() > Some(knee), "{}", exit.stdout);
    for line in ["knee: ", "limit: ", "cause: ", "at 50 % (", "at 80 % ("] {
        assert!(exit.stdout.lines().any(|own| own.starts_with(line)), "{line}: {}", exit.stdout);
    }
    let half = json["half_step"].as_u64().expect("it was made") as usize;
    let rate = json["steps"][half]["rate_per_second"].as_f64().expect("it is a number");
    assert!((rate - knee / 2.0).abs() < 1e-6, "{rate} of {knee}");
}

#[test]
fn the_capacity_of_a_server_with_short_connections() {
    let _alone = alone();
    let (address, _) = one_at_a_time();
    let address = address.to_string();
    let arguments = ["crr", &address, "-c", "4", "--max-inflight", "100"];
    let (exit, json) = search("knee-crr", &arguments);
    finds_the_capacity(&exit, &json);
    let report = &json["steps"][0]["report"];
    assert_eq!(report["schema"], "uring-acceptor/loadgen");
    assert_eq!(report["plan"]["pace"]["open"]["max_inflight"], 100);
    assert_eq!(json["cause"], "server-not-observed");
}

#[test]
fn the_capacity_of_a_connection_that_stays_open() {
    let _alone = alone();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Scripted::pausing(answer, Then::Keep, |_| SERVICE);
    let (address, pid) = (server.address.to_string(), std::process::id().to_string());
    let arguments = ["http", &address, "-c", "1", "--server-pid", &pid];
    let (exit, json) = search("knee-http", &arguments);
    finds_the_capacity(&exit, &json);
    for step in json["steps"].as_array().expect("it is a list") {
        assert_eq!(step["report"]["plan"]["pace"]["fixed"]["connections"], 1);
        assert!(step["server_cpus"].as_f64().is_some(), "{step}");
    }
    assert_ne!(json["cause"], "server-not-observed");
}

#[test]
fn an_interrupt_ends_a_search_with_what_there_is() {
    let _alone = alone();
    let folder = Folder::new("knee-interrupted");
    let json = folder.file("knee.json");
    let (address, served) = one_at_a_time();
    let address = address.to_string();
    let arguments = ["crr", &address, "-c", "4", "--max-inflight", "100", "--json", &json];
    let running = Launch::loadgen(&[&arguments[..], &SEARCH].concat()).start();
    // The closed loop makes 500 of them, the first step 20.
    eventually(SOON, "steps are made", || served.load(Ordering::Relaxed) > 600);
    running.signal(libc::SIGINT);
    let exit = running.wait(SOON);
    assert_eq!(exit.code, Some(FAILED), "{exit:?}");
    assert!(exit.stderr.contains("stopped before"), "{}", exit.stderr);
    assert!(exit.stdout.contains("rising"), "{}", exit.stdout);
    let text = fs::read_to_string(&json).expect("it was written");
    let json: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&json["complete"], &json["trusted"]), (&false.into(), &false.into()));
}

#[test]
fn nobody_there() {
    let _alone = alone();
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
    let address = gone.expect("it was bound").to_string();
    let exit = Launch::loadgen(&["crr", &address, "--find-knee", "-d", "200ms"]).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(FAILED), ""), "{exit:?}");
    assert!(exit.stderr.contains("failed in connect: ECONNREFUSED"), "{}", exit.stderr);
}
