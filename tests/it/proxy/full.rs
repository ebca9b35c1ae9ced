//! `--backend-max-connections` is exact, and there is a line for those who wait.

use std::io::{ErrorKind, Read, Write};

use crate::client::{connect, expect_echo, finish_sending};
use crate::harness::{SOON, eventually};

use super::backend::Backend;
use super::{Proxy, Seen, expect_reset, line, seen, who_answers};

#[test]
fn those_beyond_the_limit_wait_in_order() {
    let backend = Backend::named("only");
    let proxy = Proxy::start(&[&backend], &["--backend-max-connections", "2", "--workers", "1"]);
    let held = [who_answers(proxy.address()).1, who_answers(proxy.address()).1];
    let third = connect(proxy.address());
    let mut fourth = connect(proxy.address());
    fourth.write_all(b"early").expect("it is open");
    for waiting in [&third, &fourth] {
        waiting.set_read_timeout(Some(super::A_WHILE)).expect("not zero");
        let error = (&*waiting).read(&mut [0; 1]).expect_err("it waits");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        waiting.set_read_timeout(Some(SOON)).expect("not zero");
    }
    assert_eq!(backend.accepted(), 2);
    let [one, two] = held;
    drop(one);
    assert_eq!(line(&third), "only");
    assert_eq!(backend.accepted(), 3);
    drop(two);
    assert_eq!(line(&fourth), "only");
    let mut early = [0; 5];
    fourth.read_exact(&mut early).expect("it comes back");
    assert_eq!(&early, b"early");
    drop((third, fourth));
    let entries = proxy.stop();
    assert_eq!(entries.len(), 4);
}

#[test]
fn the_line_has_an_end() {
    let backend = Backend::named("only");
    let arguments = ["--backend-max-connections", "1", "--queue", "1", "--workers", "1"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let (_, first) = who_answers(proxy.address());
    let second = connect(proxy.address());
    second.set_nonblocking(true).expect("it can be set");
    expect_reset(proxy.address());
    proxy.expect_ended("queue-full");
    second.set_nonblocking(false).expect("it can be set");
    drop(first);
    assert_eq!(line(&second), "only");
    drop(second);
    proxy.stop();
}

/// Who gives up while waiting makes room for the next.
#[test]
fn a_client_that_gives_up_leaves_the_line() {
    let backend = Backend::named("only");
    let arguments = ["--backend-max-connections", "1", "--queue", "1", "--workers", "1"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let (_, first) = who_answers(proxy.address());
    crate::client::reset(connect(proxy.address()));
    proxy.expect_ended("client-reset");
    let next = connect(proxy.address());
    drop(first);
    assert_eq!(line(&next), "only");
    drop(next);
    proxy.stop();
}

/// Two threads share one limit.
#[test]
fn never_more_than_allowed_under_a_storm() {
    const LIMIT: usize = 3;
    let open = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let backend = Backend::start({
        use std::sync::atomic::Ordering::SeqCst;
        let (open, most) = (open, most.clone());
        move |stream| {
            most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            let mut request = [0; 4];
            let result = (&stream).read_exact(&mut request);
            // Before the last byte leaves: after it the proxy may connect again.
            open.fetch_sub(1, SeqCst);
            if result.is_ok() {
                let _ = (&stream).write_all(&request);
            }
        }
    });
    let arguments = ["--backend-max-connections", "3", "--workers", "2"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let address = proxy.address();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut client = connect(address);
                    expect_echo(&mut client, b"work");
                    finish_sending(&client);
                    assert_eq!(seen(&client), Seen::Fin);
                }
            });
        }
    });
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=LIMIT).contains(&most), "{most} at once");
    eventually(SOON, "all have been logged", || proxy.entries().len() == 240);
    proxy.stop();
}
