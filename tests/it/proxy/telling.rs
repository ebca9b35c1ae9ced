//! What the log says of backends: that one is there, that it fails, that it is well again.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{SOON, eventually};

use super::backend::{Backend, BlackHole, Refusing, echo, held_address};
use super::{Proxy, expect_reset, who_answers};

/// Whether a machine is so slow that the second of a kind may be told at once.
fn is_late(start: Instant) -> bool {
    start.elapsed() > Duration::from_secs(9)
}

/// Waits for a line of the log in which all of this stands.
#[track_caller]
fn expect_line(proxy: &Proxy, parts: &[&str]) {
    let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
    eventually(SOON, &format!("a line has {parts:?}"), || {
        proxy.server.stderr().lines().any(has_all)
    });
}

/// How many lines have this in them.
fn lines_with(proxy: &Proxy, part: &str) -> usize {
    proxy.server.stderr().lines().filter(|line| line.contains(part)).count()
}

/// The line of a backend in the report of SIGUSR1.
#[track_caller]
fn report(proxy: &Proxy, to: &str) -> String {
    let of_report = |line: &str| line.contains(&format!("backend {to}: upstream="));
    let before = proxy.server.stderr().lines().filter(|line| of_report(line)).count();
    let mut found = String::new();
    proxy.server.signal(libc::SIGUSR1);
    eventually(SOON, "it is reported", || {
        let log = proxy.server.stderr();
        found = log.lines().filter(|line| of_report(line)).nth(before).unwrap_or("").to_owned();
        !found.is_empty()
    });
    found
}

/// Nothing of this was told once, and the report said that it is up.
#[test]
fn the_only_backend_refuses_every_connection_and_comes_back() {
    const CLIENTS: usize = 12;
    let (_holder, address) = held_address();
    let to = address.to_string();
    let proxy = Proxy::start_to(&[&to], &[]);
    expect_line(&proxy, &["INFO", &format!("backend {to} added; its health is not checked")]);
    let line = report(&proxy, &to);
    assert!(line.ends_with(": upstream=default state=Unknown open=0 connecting=0"), "{line:?}");
    let log = proxy.server.stderr();
    // Its threads have made turns, and nothing else has been counted.
    let counted = log.lines().find_map(|line| line.split_once("INFO proxy: ")).expect("it is told");
    assert!(!counted.1.contains("connect"), "{log}");
    for _ in 0..CLIENTS {
        expect_reset(proxy.address());
    }
    for entry in proxy.ended(CLIENTS) {
        assert_eq!(entry["ended"], "connect-failed", "{entry:#}");
        assert_eq!((&entry["backend"], &entry["errno"]), (&json!(to), &json!("ECONNREFUSED")));
        assert_eq!(entry["attempts"], 1, "{entry:#}");
    }
    expect_line(
        &proxy,
        &[
            "WARN",
            &to,
            "cannot be connected to: ECONNREFUSED",
            "it goes on getting connections, since at most 50 % of the backends may be out",
        ],
    );
    expect_line(&proxy, &["WARN", &to, "is not ejected although 3 connects in a row failed"]);
    expect_line(
        &proxy,
        &["ERROR", "no healthy backend for upstream default: 1 of 1 down, ejected or failing"],
    );
    for told in ["cannot be connected to", "is not ejected", "no healthy backend"] {
        assert_eq!(lines_with(&proxy, told), 1, "{told}");
    }
    let line = report(&proxy, &to);
    assert!(line.contains("upstream=default state=Failing open=0 connecting=0 "), "{line}");
    assert!(line.contains("connects_refused=12"), "{line}");
    let log = proxy.server.stderr();
    assert!(log.contains("connect_failures=12") && !log.contains("connect_retries"), "{log}");

    let backend = Backend::start_on(address, echo);
    crate::client::expect_alive(proxy.address());
    expect_line(&proxy, &["INFO", &to, "accepts connections again, after 12 that failed"]);
    expect_line(&proxy, &["INFO", "a healthy backend for upstream default again, after"]);
    assert!(report(&proxy, &to).contains("state=Up"));
    drop(backend);
    proxy.stop();
}

/// With another one it is ejected, and it is never so that none is healthy.
#[test]
fn one_of_two_that_refuses_is_no_outage() {
    let (refusing, backend) = (Refusing::new(), Backend::named("good"));
    let to = [&*refusing.to(), &backend.to()];
    let proxy = Proxy::start_to(&to, &["--balance", "round-robin", "--workers", "1"]);
    for _ in 0..8 {
        assert_eq!(who_answers(proxy.address()).0, "good");
    }
    let told = "cannot be connected to: ECONNREFUSED";
    expect_line(&proxy, &["WARN", to[0], told, "; 3 such failures in a row eject it"]);
    let ejected = "is ejected for 1s: 3 connects in a row failed, the last with ECONNREFUSED";
    expect_line(&proxy, &["WARN", to[0], ejected]);
    let log = proxy.server.stderr();
    assert!(!log.contains("no healthy backend") && !log.contains("not ejected"), "{log}");
    proxy.stop();
}

/// Which route is without one is told, and each has its own.
#[test]
fn of_a_route_its_name_is_told() {
    let (refusing, backend) = (Refusing::new(), Backend::named("default"));
    let route = format!("a.example.org={}", refusing.to());
    let arguments = ["--route", &route, "--check-interval", "100ms"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let routed = format!("backend {} of upstream a.example.org", refusing.to());
    expect_line(&proxy, &["INFO", &format!("{routed} added, not yet checked")]);
    expect_line(&proxy, &["WARN", &format!("{routed} is down: no connection: ECONNREFUSED")]);
    expect_line(&proxy, &["ERROR", "no healthy backend for upstream a.example.org"]);
    assert!(report(&proxy, &refusing.to()).contains("upstream=a.example.org state=Down"));
    expect_line(&proxy, &["INFO", &format!("backend {} is up", backend.to())]);
    assert!(report(&proxy, &backend.to()).contains("upstream=default state=Up"));
    proxy.stop();
}

#[test]
fn with_checks_a_backend_is_up_when_its_first_check_has_passed() {
    let backend = Backend::start(|mut stream| {
        let _ = stream.read(&mut [0]);
    });
    let arguments = ["--check-interval", "100ms"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let to = backend.to();
    expect_line(&proxy, &["INFO", &format!("backend {to} added, not yet checked")]);
    let first = format!("backend {to} is up: its first health check has passed");
    expect_line(&proxy, &["INFO", &first]);
    let passed =
        || report(&proxy, &to).split_once("checks_passed=").map(|(_, rest)| rest.to_owned());
    eventually(SOON, "more have passed", || {
        let passed = passed().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        passed.is_some_and(|count| count >= 3)
    });
    assert_eq!(lines_with(&proxy, "first health check"), 1);
    proxy.stop();
}

/// The log shows each change of one that comes and goes for a while only.
#[test]
fn one_that_comes_and_goes_does_not_flood_the_log() {
    const ROUNDS: usize = 10;
    let (_holder, address) = held_address();
    let proxy = Proxy::start_to(&[&address.to_string()], &["--workers", "1"]);
    for round in 0..ROUNDS {
        expect_reset(proxy.address());
        proxy.ended(2 * round + 1);
        let backend = Backend::start_on(address, echo);
        crate::client::expect_alive(proxy.address());
        drop(backend);
        proxy.ended(2 * round + 2);
    }
    let begun = || lines_with(&proxy, "cannot be connected to");
    eventually(SOON, "each that is told is over", || {
        begun() > 0 && begun() == lines_with(&proxy, "accepts connections again")
    });
    // Two are ten seconds apart.
    let told = begun();
    assert!(told < ROUNDS / 2, "{told}");
    let Proxy { server, folder: _folder } = proxy;
    let log = server.stop();
    if told == 1 {
        let left = ROUNDS - 1;
        let rest = format!(
            "WARN backend {address} could not be connected to {left} times more since the last such \
             line, the last time with ECONNREFUSED"
        );
        let lines = log.lines().filter(|line| line.contains(&rest));
        let over = lines.filter(|line| line.ends_with("; it accepts connections again"));
        assert_eq!(over.count(), 1, "{log}");
    }
}

/// Nothing else happens that would tell it, without checks and without clients.
#[test]
fn a_second_outage_is_told_when_its_time_has_come() {
    let (_holder, address) = held_address();
    let arguments = ["--eject-after", "1", "--workers", "1"];
    let proxy = Proxy::start_to(&[&address.to_string()], &arguments);
    let outages = || lines_with(&proxy, "no healthy backend for upstream default: 1 of 1");
    let failures = || lines_with(&proxy, " cannot be connected to: ");
    expect_reset(proxy.address());
    eventually(SOON, "it is told", || (outages(), failures()) == (1, 1));
    let backend = Backend::start_on(address, echo);
    crate::client::expect_alive(proxy.address());
    drop(backend);
    eventually(SOON, "its end is told", || {
        lines_with(&proxy, "a healthy backend for upstream") == 1
    });
    proxy.ended(2);
    expect_reset(proxy.address());
    proxy.ended(3);
    eventually(3 * SOON, "so is the second", || (outages(), failures()) == (2, 2));
    let _backend = Backend::start_on(address, echo);
    crate::client::expect_alive(proxy.address());
    eventually(SOON, "and its end", || lines_with(&proxy, "a healthy backend for upstream") == 2);
    proxy.stop();
}

/// Whether it lasts or is over.
#[test]
fn an_outage_that_was_suppressed_is_told_at_the_end() {
    for lasts in [true, false] {
        let (start, (_holder, address)) = (Instant::now(), held_address());
        let proxy = Proxy::start_to(&[&address.to_string()], &["--eject-after", "1"]);
        for round in 0..2 {
            expect_reset(proxy.address());
            if round == 0 || !lasts {
                let backend = Backend::start_on(address, echo);
                crate::client::expect_alive(proxy.address());
                drop(backend);
            }
        }
        proxy.ended(if lasts { 3 } else { 4 });
        let begins = "ERROR no healthy backend for upstream default: 1 of 1";
        assert!(lines_with(&proxy, begins) <= 1 || is_late(start), "{}", proxy.server.stderr());
        let Proxy { server, folder: _folder } = proxy;
        let log = server.stop();
        let over =
            "WARN no healthy backend for upstream default once more since the last such line, for ";
        let expected = if lasts { (2, 0) } else { (1, 1) };
        let told = (log.matches(begins).count(), log.matches(over).count());
        assert!(told == expected || is_late(start), "{told:?}: {log}");
    }
}

/// A connect that hangs is neither an open connection nor a backend that is up.
#[test]
fn a_backend_whose_connects_hang_is_not_up() {
    let hole = BlackHole::new();
    let arguments = ["--connect-timeout", "2s", "--retries", "0"];
    let proxy = Proxy::start_to(&[&hole.to()], &arguments);
    let mut client = crate::client::connect(proxy.address());
    eventually(SOON, "it is being connected to", || {
        report(&proxy, &hole.to()).contains("state=Unknown open=0 connecting=1")
    });
    let _ = client.read(&mut [0]);
    let line = report(&proxy, &hole.to());
    assert!(line.contains("state=Failing open=0 connecting=0 connects_timed_out=1"), "{line}");
    proxy.stop();
}
