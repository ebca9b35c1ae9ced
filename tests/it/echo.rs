//! Every byte comes back, in order, whatever the size and however many connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::client::{Pattern, connect, expect_alive, expect_end, finish_sending, read_to_the_end};
use crate::harness::{SOON, Server, eventually};

const MIB: u64 = 1024 * 1024;

/// Sends `total` bytes on one thread and checks them on another, then expects the FIN.
#[track_caller]
fn round_trip(stream: &TcpStream, total: u64) {
    let pattern = Pattern { seed: total };
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pattern.send(stream, total).expect("the server takes the bytes");
            finish_sending(stream);
        });
        pattern.expect(stream, total);
        writer.join().expect("the writer has ended");
    });
    expect_end(stream);
}

#[test]
fn bytes_come_back_as_they_were() {
    let server = Server::start(&["echo"]);
    for total in [1, 2, 4095, 4096, 4097, 64 * 1024 + 1, MIB] {
        round_trip(&connect(server.address()), total);
    }
    server.stop();
}

#[test]
fn small_buffers_carry_large_streams() {
    let server = Server::start(&["echo", "--buffers", "4", "--buffer-size", "512"]);
    round_trip(&connect(server.address()), MIB);
    server.stop();
}

#[test]
fn a_large_stream_comes_back_as_it_was() {
    let total = if cfg!(debug_assertions) { 64 * MIB } else { 256 * MIB };
    let mib = total / MIB;
    crate::harness::notice(&format!("echoing {mib} MiB; a release build does 256 MiB"));
    let server = Server::start(&["echo"]);
    round_trip(&connect(server.address()), total);
    server.stop();
}

/// An answer in one piece for each request, so that every boundary is met.
#[test]
fn many_round_trips_on_one_connection() {
    let server = Server::start(&["echo"]);
    let mut stream = connect(server.address());
    let pattern = Pattern { seed: 3 };
    let mut position = 0;
    for count in 1..600 {
        let bytes = pattern.bytes(position, count);
        crate::client::expect_echo(&mut stream, &bytes);
        position += count as u64;
    }
    drop(stream);
    server.stop();
}

#[test]
fn a_thousand_connections_do_not_mix_their_bytes() {
    const CONNECTIONS: u64 = 1000;
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 4;
    const BYTES: usize = 1000;
    crate::process::raise_descriptor_limit();
    let server = Server::start(&["echo"]);
    let before = server.open_files();
    let address = server.address();
    let interleave = |thread: u64| {
        let seeds = (0..CONNECTIONS / THREADS).map(|index| index * THREADS + thread);
        let mut all: Vec<_> = seeds.map(|seed| (Pattern { seed }, connect(address))).collect();
        for round in 0..ROUNDS {
            let position = round * BYTES as u64;
            for (pattern, stream) in &mut all {
                stream.write_all(&pattern.bytes(position, BYTES)).expect("the server reads");
            }
            for (pattern, stream) in &mut all {
                let mut back = vec![0; BYTES];
                stream.read_exact(&mut back).expect("the bytes come back");
                assert!(back == pattern.bytes(position, BYTES), "{pattern:?} in round {round}");
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || interleave(thread));
        }
    });
    eventually(SOON, "every descriptor was given back", || server.open_files() <= before);
    server.stop();
}

#[test]
fn every_policy_and_every_arrangement_of_threads_serves() {
    for arrangement in [
        &["--workers", "1", "--acceptors", "0"][..],
        &["--workers", "1", "--acceptors", "1"],
        &["--workers", "2", "--acceptors", "0"],
        &["--workers", "2", "--acceptors", "1"],
        &["--workers", "2", "--acceptors", "2"],
        &["--workers", "2", "--dispatch", "round-robin"],
        &["--workers", "2", "--dispatch", "source-hash"],
        &["--workers", "2", "--dispatch", "incoming-cpu"],
        &["--workers", "2", "--dispatch", "least-connections"],
        &["--defer-accept"],
        &["--nagle", "--keepalive", "30s", "--user-timeout", "20s"],
    ] {
        let mut arguments = vec!["echo"];
        arguments.extend(arrangement);
        let server = Server::start(&arguments);
        for _ in 0..20 {
            expect_alive(server.address());
        }
        server.stop();
    }
}

#[test]
fn discard_reads_everything_and_answers_nothing() {
    let server = Server::start(&["discard"]);
    assert_eq!(server.listening()[0].service, "discard");
    let stream = connect(server.address());
    Pattern { seed: 1 }.send(&stream, 8 * MIB).expect("the server reads");
    finish_sending(&stream);
    assert_eq!(read_to_the_end(&stream).expect("the connection ends"), 0);
    server.stop();
}
