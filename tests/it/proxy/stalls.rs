//! An end that takes nothing, seen although the other direction is busy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{connect, connect_with_small_buffers};
use crate::harness::SOON;

use super::backend::Backend;
use super::{Proxy, is_reset};

const STALL: Duration = Duration::from_millis(300);
/// What a timer may round off.
const ROUNDING: Duration = Duration::from_millis(50);

/// What only the deadline of a send can end.
const ARGUMENTS: [&str; 4] = ["--write-stall-timeout", "300ms", "--idle-timeout", "60s"];

/// Says something all the time and never reads, until that fails. For how long it went on.
#[track_caller]
fn chatter(mut stream: &TcpStream) -> Duration {
    let start = Instant::now();
    loop {
        if let Err(error) = stream.write_all(b"still here") {
            assert!(is_reset(error.kind()), "{error}");
            return start.elapsed();
        }
        assert!(start.elapsed() < SOON, "nobody ends it");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends as much as it can and reads all that comes. Holds that it ends with a reset.
#[track_caller]
fn flood(stream: &TcpStream) {
    let (mut to, mut from) = (stream, stream);
    let error = thread::scope(|scope| {
        let writing = scope.spawn(move || {
            loop {
                if let Err(error) = to.write_all(&[7; 64 * 1024]) {
                    return error;
                }
            }
        });
        let mut buffer = [0; 4096];
        while let Ok(1..) = from.read(&mut buffer) {}
        // Whoever sees the reset first takes it away from the other.
        let _ = stream.shutdown(Shutdown::Both);
        writing.join().expect("it does not panic")
    });
    assert!(is_reset(error.kind()), "{error}");
}

#[track_caller]
fn expect_stall(proxy: Proxy, lasted: Duration) {
    assert!(lasted + ROUNDING >= STALL, "it ended after {lasted:?}, before its deadline");
    proxy.expect_ended("write-stall");
    proxy.stop();
}

#[test]
fn a_client_that_never_reads_while_it_goes_on_sending() {
    let backend = Backend::start(|stream| flood(&stream));
    let proxy = Proxy::start(&[&backend], &ARGUMENTS);
    let lasted = chatter(&connect(proxy.address()));
    expect_stall(proxy, lasted);
    backend.expect_no_panic();
}

#[test]
fn a_backend_that_never_reads_while_it_goes_on_sending() {
    let (backend, connections) = Backend::handing_over();
    let proxy = Proxy::start(&[&backend], &ARGUMENTS);
    let client = connect(proxy.address());
    let lasted = thread::scope(|scope| {
        scope.spawn(|| flood(&client));
        chatter(&connections.next())
    });
    expect_stall(proxy, lasted);
}

/// Without the option it is as long as silence: a client may pause for a minute.
#[test]
fn the_default_is_the_idle_timeout() {
    let backend = Backend::start(|stream| flood(&stream));
    let proxy = Proxy::start(&[&backend], &["--idle-timeout", "300ms"]);
    let lasted = chatter(&connect(proxy.address()));
    expect_stall(proxy, lasted);
}

/// Some bytes are enough, however few: the kernel tells of room only when a third of its buffer is
/// free, which a slow reader may need minutes for.
#[test]
fn a_client_that_reads_slowly_is_no_stall() {
    let backend = Backend::start(|stream| flood(&stream));
    let arguments = ["--write-stall-timeout", "1s", "--idle-timeout", "60s"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let mut client = connect_with_small_buffers(proxy.address());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        client.read_exact(&mut [0; 4096]).expect("it is still open");
        thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    proxy.expect_ended("client-reset");
    proxy.stop();
}
