//! Upgrades that nobody notices.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use super::family::{ECHO, Family};
use super::load::{Load, Report, connects, requests, sessions, streams};
use super::{number_of, stop};
use crate::harness::{Server, eventually, notice};
use crate::process;

/// Upgrades in a row: UPGRADES in the environment. Those of the big run are 20.
const UPGRADES: usize = 3;
/// Open connections with a message a second: SESSIONS. Those of the big run are 5000.
const SESSIONS: usize = 100;
/// Streams: STREAMS. Those of the big run are 200.
const STREAMS: usize = 12;

/// Seconds under load before the first upgrade, to compare with: CALM.
const CALM: usize = 0;

/// How long the old process may be there once everything has moved.
const GONE: Duration = Duration::from_secs(10);

pub(super) const HTTP: &str = "[frontend.h]\nlisten = '127.0.0.1:0'\nservice = 'http'\n";

pub(super) fn proxy_to(backend: SocketAddr) -> String {
    format!(
        "[frontend.p]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'u'\n\
         [upstream.u]\nbackends = ['{backend}']\n"
    )
}

/// All that an echo server can be under.
fn echoes(to: SocketAddr) -> Vec<(&'static str, Load)> {
    vec![
        ("sessions", sessions(to, number_of("SESSIONS", SESSIONS))),
        ("streams", streams(to, number_of("STREAMS", STREAMS))),
        ("connects", connects(to)),
    ]
}

/// Connections that stay open all the time: a stream in four begins anew now and then.
fn lasting() -> usize {
    number_of("SESSIONS", SESSIONS) + number_of("STREAMS", STREAMS) * 3 / 4
}

/// One upgrade: the old process goes, everything moves. From when to when it was under way.
#[track_caller]
fn upgrade_once(family: &Family, lasting: usize) -> Range<Instant> {
    let old = family.pid();
    let begun = Instant::now();
    let report = family.upgrade();
    let since = Instant::now();
    notice(&format!("{}; {report:?}", crate::ENGINE));
    assert_ne!(report.pid, old);
    assert_eq!(family.pid(), report.pid);
    assert!(report.moved >= lasting, "of {lasting}: {report:?}");
    eventually(GONE, "the old process is gone", || !family.members().contains(&old));
    notice(&format!("gone after {:?}", since.elapsed()));
    family.expect_alone(report.pid);
    begun..since
}

/// Says how long answers to the sessions took within these spans.
fn notice_pauses(when: &str, report: &Report, spans: &[Range<Instant>]) {
    let trips = report.trips_within(spans);
    let Some(longest) = trips.last() else { return };
    let p99 = trips[(trips.len() * 99).div_ceil(100) - 1];
    let messages = trips.len();
    notice(&format!("{messages} messages {when}: p99 {p99:?}, longest {longest:?}"));
}

#[track_caller]
fn upgrade_under(family: &Family, loads: Vec<(&'static str, Load)>, lasting: usize) {
    // With many of them some still wait in the accept queue when all have connected.
    eventually(GONE, "all are there", || family.open() >= lasting as u64);
    let calm = Instant::now();
    thread::sleep(Duration::from_secs(number_of("CALM", CALM) as u64));
    let calm = calm..Instant::now();
    let upgrades: Vec<_> =
        (0..number_of("UPGRADES", UPGRADES)).map(|_| upgrade_once(family, lasting)).collect();
    for (name, load) in loads {
        let report = stop(name, load);
        notice_pauses("before any upgrade", &report, std::slice::from_ref(&calm));
        notice_pauses("during upgrades", &report, &upgrades);
        report.expect_unnoticed();
    }
    eventually(GONE, "nothing is open any more", || family.open() == 0);
    let log = family.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

#[test]
fn nobody_notices_upgrades_of_an_echo_server() {
    let family = Family::start(ECHO);
    let loads = echoes(family.address());
    upgrade_under(&family, loads, lasting());
    family.stop();
}

#[test]
fn nobody_notices_upgrades_of_a_proxy() {
    let backend = Server::start(&["echo"]);
    let family = Family::start(&proxy_to(backend.address()));
    let loads = echoes(family.address());
    upgrade_under(&family, loads, lasting());
    family.stop();
    backend.stop();
}

#[test]
fn nobody_notices_upgrades_of_a_server_of_http() {
    let family = Family::start(HTTP);
    let load = requests(family.address());
    upgrade_under(&family, vec![("requests", load)], 0);
    family.stop();
}

/// SIGUSR2: how it ends is in the log.
#[test]
fn nobody_notices_upgrades_by_signal() {
    let family = Family::start(ECHO);
    let loads = echoes(family.address());
    for round in 1..=number_of("UPGRADES", UPGRADES) {
        let old = family.pid();
        process::kill(old, libc::SIGUSR2);
        eventually(GONE, "it is upgraded", || {
            family.log().matches("has taken over").count() == round
        });
        assert_ne!(family.pid(), old);
        eventually(GONE, "the old process is gone", || !family.members().contains(&old));
    }
    for (name, load) in loads {
        stop(name, load).expect_unnoticed();
    }
    family.stop();
}
