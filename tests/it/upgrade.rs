//! The load that upgrades are tested with. Nobody notices a server that stays; one that is killed or spoils bytes is
//! noticed, so the load can tell.
//!
//! The upgrades themselves are below. They are small unless the environment says otherwise; the big run is
//! `UPGRADES=20 SESSIONS=5000 STREAMS=200 KILLS=100 cargo test --release --test it upgrade::`, and takes 20,000 descriptors.
//! With `LONGER=20` the same load is on a server that stays, for so many times as long.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::Server;
use load::{Load, Report, SESSIONS, STREAMS, connects, requests, sessions, sessions_with, streams};

mod changed;
mod draining;
mod family;
mod interrupted;
mod limits;
mod load;
mod started;
mod steps;
mod strangers;
mod supervised;
mod under_load;

/// Long enough for each session to have its turn.
const A_WHILE: Duration = Duration::from_millis(1200);

/// So many of each when many do not matter.
const FEW: usize = 8;

/// How many of something there are to be: what the environment says, for runs that take longer.
fn number_of(variable: &str, otherwise: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(otherwise, |text| text.parse().expect("a number"))
}

#[track_caller]
fn stop(name: &str, load: Load) -> Report {
    let report = load.stop();
    eprintln!("{name}: {:?}", Report { trips: Vec::new(), ..report.clone() });
    report
}

/// All that an echo server can be under.
fn echoes(to: SocketAddr) -> [(&'static str, Load); 3] {
    [
        ("sessions", sessions(to, number_of("SESSIONS", SESSIONS))),
        ("streams", streams(to, number_of("STREAMS", STREAMS))),
        ("connects", connects(to)),
    ]
}

#[test]
fn nobody_notices_a_server_that_stays() {
    let server = Server::start(&["echo"]);
    let loads = echoes(server.address());
    thread::sleep(A_WHILE * number_of("LONGER", 1) as u32);
    for (name, load) in loads {
        stop(name, load).expect_unnoticed();
    }
    server.stop();
}

#[test]
fn nobody_notices_a_proxy_that_stays() {
    let backend = Server::start(&["echo"]);
    let to = backend.address().to_string();
    let proxy = Server::start(&["proxy", "--to", &to]);
    let loads = echoes(proxy.address());
    thread::sleep(A_WHILE * number_of("LONGER", 1) as u32);
    for (name, load) in loads {
        stop(name, load).expect_unnoticed();
    }
    proxy.stop();
}

#[test]
fn requests_are_answered() {
    let server = Server::start(&["http"]);
    let load = requests(server.address());
    thread::sleep(A_WHILE / 4);
    stop("requests", load).expect_unnoticed();
    server.stop();
}

/// The kernel resets what a killed process has with bytes unread, and says FIN for the rest.
#[test]
fn all_notice_a_server_that_is_killed() {
    let server = Server::start(&["echo"]);
    let loads = echoes(server.address());
    thread::sleep(A_WHILE / 4);
    drop(server);
    thread::sleep(A_WHILE / 4);
    let [sessions, streams, connects] = loads.map(|(name, load)| stop(name, load));
    assert_eq!(sessions.cut + sessions.reset, SESSIONS as u64);
    // One that had just been half-closed and come back whole may have been about to begin anew.
    assert_eq!(streams.cut + streams.reset + streams.refused, STREAMS as u64);
    assert!(connects.refused > 0);
    assert_eq!([sessions.wrong, streams.wrong, connects.wrong], [0; 3]);
}

#[test]
fn requests_notice_a_server_that_is_killed() {
    let server = Server::start(&["http"]);
    let load = requests(server.address());
    thread::sleep(A_WHILE / 4);
    drop(server);
    thread::sleep(A_WHILE / 8);
    let report = stop("requests", load);
    assert!(report.cut + report.reset + report.refused > 0 && report.done > 0);
}

/// A server that echoes, and spoils what it sends back when so many bytes have gone by.
fn spoiling(after: usize, spoil: fn(&mut Vec<u8>)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok).take(FEW) {
            thread::spawn(move || echo_spoiled(stream, after, spoil));
        }
    });
    address
}

fn echo_spoiled(mut stream: TcpStream, mut left: usize, spoil: fn(&mut Vec<u8>)) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut bytes = buffer[..count].to_vec();
        if left < count {
            spoil(&mut bytes);
            left = usize::MAX;
        } else {
            left -= if left == usize::MAX { 0 } else { count };
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

#[track_caller]
fn expect_wrong(spoil: fn(&mut Vec<u8>), told: &str) {
    let load = streams(spoiling(20_000, spoil), FEW);
    thread::sleep(A_WHILE / 2);
    let report = stop("streams", load);
    assert!(report.wrong >= FEW as u64 / 2, "{report:?}");
    assert!(report.told.iter().any(|line| line.contains(told)), "'{told}' is not told");
}

#[test]
fn bytes_that_are_lost_doubled_or_changed_are_noticed_with_their_place() {
    expect_wrong(|bytes| drop(bytes.drain(..100)), "came what belongs to");
    expect_wrong(|bytes| bytes.extend_from_within(..), "came what belongs to");
    expect_wrong(|bytes| bytes[50] ^= 1, "came what was never sent");
}

#[test]
fn a_message_that_is_changed_is_noticed_by_its_session() {
    let load = sessions(spoiling(10, |bytes| bytes[0] ^= 1), FEW);
    thread::sleep(A_WHILE);
    let report = stop("sessions", load);
    // On a busy machine some have not had their turn.
    assert!(report.wrong > 0 && report.done == 0, "{report:?}");
}

/// Nothing comes back, no FIN and no reset either.
#[test]
fn sessions_that_fall_silent_are_noticed() {
    let load = sessions_with(spoiling(10, Vec::clear), FEW, A_WHILE / 4);
    thread::sleep(A_WHILE);
    let report = stop("sessions", load);
    assert_eq!((report.cut, report.done), (FEW as u64, 0), "{report:?}");
}
