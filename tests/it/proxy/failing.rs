//! Backends that are down, that do not answer, that come and go.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::expect_alive;
use crate::harness::{SOON, eventually};

use super::backend::{Backend, BlackHole, Flapping, Refusing};
use super::{Proxy, expect_reset, who_answers};

const CLIENTS: usize = 20;

#[test]
fn one_of_two_refuses() {
    let (refusing, backend) = (Refusing::new(), Backend::named("good"));
    for balance in ["least-connections", "round-robin", "random", "source-hash"] {
        let to = [&*refusing.to(), &backend.to()];
        let proxy = Proxy::start_to(&to, &["--balance", balance, "--eject-after", "0"]);
        for _ in 0..CLIENTS {
            assert_eq!(who_answers(proxy.address()).0, "good", "{balance}");
        }
        let entries = proxy.ended(CLIENTS);
        assert!(entries.iter().all(|entry| entry["backend"] == backend.to()), "{entries:#?}");
        assert!(entries.iter().all(|entry| entry["ended"] == "client"), "{entries:#?}");
        let retried = entries.iter().filter(|entry| entry["failed_connects"] == 1).count();
        match balance {
            "round-robin" => assert!((9..=11).contains(&retried), "{retried} of {CLIENTS}"),
            "source-hash" => assert!(retried == 0 || retried == CLIENTS, "{retried}"),
            _ => {}
        }
        proxy.stop();
    }
}

/// Beyond a few failures in a row nobody is sent there for a while.
#[test]
fn one_that_refuses_is_ejected() {
    let (refusing, backend) = (Refusing::new(), Backend::named("good"));
    let to = [&*refusing.to(), &backend.to()];
    let arguments = ["--balance", "round-robin", "--eject-after", "2", "--workers", "1"];
    let proxy = Proxy::start_to(&to, &arguments);
    let start = Instant::now();
    for _ in 0..CLIENTS {
        assert_eq!(who_answers(proxy.address()).0, "good");
    }
    let entries = proxy.ended(CLIENTS);
    let retried = entries.iter().filter(|entry| entry["failed_connects"] == 1).count();
    // The first ejection is one of a second; on a machine that is slower than that it ends.
    if start.elapsed() < Duration::from_secs(1) {
        assert_eq!(retried, 2, "{entries:#?}");
    }
    eventually(SOON, "it is told", || proxy.server.stderr().contains("is ejected"));
    proxy.stop();
}

#[test]
fn all_refuse() {
    let refusing = [Refusing::new(), Refusing::new(), Refusing::new(), Refusing::new()];
    let to: Vec<String> = refusing.iter().map(Refusing::to).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for (retries, connects) in [("0", 1), ("2", 3), ("100", 4)] {
        let proxy = Proxy::start_to(&to, &["--retries", retries]);
        expect_reset(proxy.address());
        let entry = proxy.expect_ended("connect-failed");
        assert_eq!(entry["failed_connects"], connects, "{entry:#}");
        assert_eq!(entry["attempts"], connects, "{entry:#}");
        assert!(to.iter().any(|to| entry["backend"] == *to), "{entry:#}");
        assert_eq!(entry["errno"], "ECONNREFUSED", "{entry:#}");
        proxy.stop();
    }
}

#[test]
fn one_of_two_does_not_answer() {
    let (hole, backend) = (BlackHole::new(), Backend::named("good"));
    let to = [&*hole.to(), &backend.to()];
    let arguments = ["--connect-timeout", "200ms", "--balance", "round-robin", "--workers", "1"];
    let proxy = Proxy::start_to(&to, &arguments);
    for _ in 0..4 {
        assert_eq!(who_answers(proxy.address()).0, "good");
    }
    let entries = proxy.ended(4);
    let retried = entries.iter().filter(|entry| entry["failed_connects"] == 1).count();
    assert_eq!(retried, 2, "{entries:#?}");
    for entry in entries {
        let failed = entry["failed_connects"] == 1;
        assert_eq!(entry["attempts"], if failed { 2 } else { 1 }, "{entry:#}");
        let errno = if failed { "ETIMEDOUT".into() } else { serde_json::Value::Null };
        assert_eq!((&entry["errno"], &entry["backend"]), (&errno, &backend.to().into()));
    }
    proxy.stop();
}

/// What comes before a backend is there is kept for the one that answers.
#[test]
fn what_a_client_sends_meanwhile_is_not_lost() {
    let (hole, backend) = (BlackHole::new(), Backend::echo());
    let to = [&*hole.to(), &backend.to()];
    let arguments = ["--connect-timeout", "200ms", "--balance", "round-robin", "--workers", "1"];
    let proxy = Proxy::start_to(&to, &arguments);
    for _ in 0..2 {
        expect_alive(proxy.address());
    }
    proxy.stop();
}

/// Echoes until told otherwise; a reset is allowed, anything else is not. A backend that goes resets what
/// it has, so an end would be one that the proxy has made.
fn hammer(address: SocketAddr, over: &AtomicBool) -> Result<(u64, u64), String> {
    let (mut good, mut bad) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        match one_echo(address) {
            Ok(()) => good += 1,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => bad += 1,
                _ => return Err(format!("after {good} good and {bad} reset ones: {error}")),
            },
        }
    }
    Ok((good, bad))
}

fn one_echo(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_nodelay(true)?;
    let mut back = [0; 64];
    for _ in 0..10 {
        stream.write_all(&[0x5A; 64])?;
        stream.read_exact(&mut back)?;
        if back != [0x5A; 64] {
            return Err(std::io::Error::other("wrong bytes"));
        }
    }
    Ok(())
}

#[test]
fn one_that_comes_and_goes_under_load() {
    let flapping = Flapping::every(Duration::from_millis(100));
    let proxy = Proxy::start_to(&[&flapping.to()], &[]);
    let address = proxy.address();
    let over = AtomicBool::new(false);
    let results: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| hammer(address, &over))).collect();
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    let (mut good, mut bad) = (0, 0);
    for result in results {
        let (some_good, some_bad) = result.expect("resets and nothing else");
        (good, bad) = (good + some_good, bad + some_bad);
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} reset: it did not flap");
    let settled = flapping.settle();
    for _ in 0..CLIENTS {
        expect_alive(address);
    }
    drop(settled);
    proxy.stop();
}

/// With another beside it nobody is refused; only who had a connection to it is reset.
#[test]
fn one_of_two_comes_and_goes() {
    let (flapping, steady) = (Flapping::every(Duration::from_millis(100)), Backend::echo());
    let proxy = Proxy::start_to(&[&flapping.to(), &steady.to()], &[]);
    let address = proxy.address();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| hammer(address, &over));
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::SeqCst);
        let (good, _) = client.join().expect("no panic").expect("resets and nothing else");
        assert!(good > 0);
    });
    let entries = proxy.stop();
    let allowed = ["client", "backend", "backend-reset", "client-reset"];
    let other = entries.iter().find(|entry| !allowed.iter().any(|word| entry["ended"] == *word));
    assert_eq!(other, None);
}
