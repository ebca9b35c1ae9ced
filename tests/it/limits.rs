//! `--max-connections` is exact, and the excess waits in the kernel's queue.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::connect;
use crate::harness::{SOON, Server, eventually, meanwhile};
use crate::process;

const LIMIT: usize = 5;
const CLIENTS: usize = 12;

/// Long enough for a server that would take one too many to do so.
const A_WHILE: Duration = Duration::from_millis(300);

/// Clients that have all sent a byte and look without waiting whether it came back.
struct Crowd {
    silent: Vec<TcpStream>,
    echoed: Vec<TcpStream>,
}

impl Crowd {
    fn new(address: SocketAddr, count: usize) -> Self {
        let client = |_| {
            let mut stream = connect(address);
            stream.write_all(b"?").expect("the kernel has taken the connection");
            stream.set_nonblocking(true).expect("it can be set");
            stream
        };
        Self { silent: (0..count).map(client).collect(), echoed: Vec::new() }
    }

    /// How many connections have been echoed and are still open.
    #[track_caller]
    fn echoed(&mut self) -> usize {
        for mut stream in std::mem::take(&mut self.silent) {
            match stream.read(&mut [0; 1]) {
                Ok(1) => self.echoed.push(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.silent.push(stream),
                other => panic!("a waiting connection saw {other:?}"),
            }
        }
        self.echoed.len()
    }
}

#[test]
fn exactly_as_many_as_allowed_and_the_others_wait() {
    let server = Server::start(&["echo", "--max-connections", "5", "--acceptors", "1"]);
    let mut crowd = Crowd::new(server.address(), CLIENTS);
    let queued = || process::accept_queue(server.address().port());
    eventually(SOON, "five were echoed", || crowd.echoed() == LIMIT);
    meanwhile(A_WHILE, "five were echoed", || crowd.echoed() == LIMIT);
    assert_eq!(queued(), (CLIENTS - LIMIT) as u64, "in the kernel's queue");
    for left in (0..CLIENTS - LIMIT).rev() {
        drop(crowd.echoed.pop());
        eventually(SOON, "one more was let in", || crowd.echoed() == LIMIT);
        meanwhile(A_WHILE / 3, "only one more was let in", || crowd.echoed() == LIMIT);
        assert_eq!(queued(), left as u64, "in the kernel's queue");
    }
    drop(crowd);
    server.stop();
}

#[test]
fn never_more_than_allowed_when_every_worker_accepts() {
    let server =
        Server::start(&["echo", "--max-connections", "5", "--acceptors", "0", "--workers", "2"]);
    let mut crowd = Crowd::new(server.address(), CLIENTS);
    eventually(SOON, "some were echoed", || crowd.echoed() > 0);
    let mut served = 0;
    while served < CLIENTS {
        meanwhile(A_WHILE / 3, "at most five were echoed", || crowd.echoed() <= LIMIT);
        eventually(SOON, "another was let in", || crowd.echoed() > 0);
        drop(crowd.echoed.pop());
        served += 1;
    }
    assert!(crowd.silent.is_empty(), "some were never served");
    server.stop();
}

/// A limit that is reached and left over and over must not lose or gain a place.
#[test]
fn the_limit_holds_through_a_storm_of_short_connections() {
    const ROUNDS: usize = 40;
    let server = Server::start(&["echo", "--max-connections", "5"]);
    for _ in 0..ROUNDS {
        let mut crowd = Crowd::new(server.address(), CLIENTS);
        let mut served = 0;
        while served < CLIENTS {
            eventually(SOON, "another was let in", || crowd.echoed() > 0);
            assert!(crowd.echoed.len() <= LIMIT, "{} were open at once", crowd.echoed.len());
            served += crowd.echoed.drain(..).count();
        }
    }
    let mut crowd = Crowd::new(server.address(), CLIENTS);
    eventually(SOON, "five were echoed", || crowd.echoed() == LIMIT);
    meanwhile(A_WHILE, "five were echoed", || crowd.echoed() == LIMIT);
    drop(crowd);
    server.stop();
}
