//! Checks bring backends down and up; what happens when none is left.

use crate::client::{connect, expect_alive};
use crate::harness::{SOON, eventually};

use super::backend::{self, Backend, Refusing};
use super::{Proxy, expect_reset};

/// Fast checks.
const CHECKED: &[&str] = &["--check-interval", "20ms", "--fall", "2", "--rise", "2"];

#[test]
fn a_check_brings_a_backend_down_and_up() {
    let first = Backend::echo();
    let address = first.address();
    let more = ["--when-all-out", "refuse", "--retries", "0"];
    let proxy = Proxy::start(&[&first], &[CHECKED, &more].concat());
    let says = |word: &str| proxy.server.stderr().contains(&format!("backend {address} is {word}"));
    expect_alive(proxy.address());
    drop(first);
    eventually(SOON, "it is down", || says("down"));
    expect_reset(proxy.address());
    eventually(SOON, "that is in the log", || proxy.entries().len() == 2);
    assert_eq!(proxy.entries()[1]["ended"], "no-backend");
    let _again = Backend::start_on(address, backend::echo);
    eventually(SOON, "it is up", || says("up: health checks pass"));
    expect_alive(proxy.address());
    proxy.stop();
}

/// It accepts, and does not answer what it is asked.
#[test]
fn a_check_by_what_is_answered() {
    let (mute, echo) = (Backend::handing_over(), Backend::named("good"));
    let asking = ["--check-send", "PING\\n", "--check-expect", "PING", "--check-timeout", "100ms"];
    let proxy = Proxy::start(&[&mute.0, &echo], &[CHECKED, &asking].concat());
    let down = format!("backend {} is down", mute.0.to());
    eventually(SOON, "the mute one is down", || proxy.server.stderr().contains(&down));
    for _ in 0..10 {
        assert_eq!(super::who_answers(proxy.address()).0, "good");
    }
    proxy.stop();
}

/// The word in the log tells the two apart: nothing was tried, or it failed.
#[test]
fn all_out() {
    for (what, word) in [("refuse", "no-backend"), ("try-all", "connect-failed")] {
        let refusing = Refusing::new();
        let arguments = [CHECKED, &["--when-all-out", what]].concat();
        let proxy = Proxy::start_to(&[&refusing.to()], &arguments);
        eventually(SOON, "it is down", || proxy.server.stderr().contains("is down"));
        expect_reset(proxy.address());
        proxy.expect_ended(word);
        proxy.stop();
    }
}

/// When the checks are what is wrong, connections still get through.
#[test]
fn try_all_reaches_a_backend_whose_checks_fail() {
    let backend = Backend::named("well");
    let asking = ["--check-expect", "something else", "--check-timeout", "50ms"];
    let proxy = Proxy::start(&[&backend], &[CHECKED, &asking].concat());
    eventually(SOON, "it is down", || proxy.server.stderr().contains("is down"));
    assert_eq!(super::line(connect(proxy.address())), "well");
    proxy.stop();
}
