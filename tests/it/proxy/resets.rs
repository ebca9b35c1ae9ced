//! An end that resets its connection, at whatever moment: the other end never sees a regular end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Random, reset};
use crate::harness::SOON;

use super::backend::{Backend, held_address};
use super::{Proxy, Seen, is_reset, often};

const CONNECTIONS: u64 = 2_000;

/// What the other end does until its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says nothing.
    Silent,
    /// Says so many bytes.
    Says(usize),
    /// The same, and sends its FIN behind them.
    Ends(usize),
    /// Says all that it can, so that a send of the proxy is in flight.
    Floods,
}

impl Manner {
    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Silent,
            _ => Self::draw_loud(random),
        }
    }

    fn draw_loud(random: &mut Random) -> Self {
        let bytes = 1 + random.below(5_000) as usize;
        [Self::Says(bytes), Self::Ends(bytes), Self::Floods][random.below(3) as usize]
    }
}

/// What the first sign of its end is on a connection of this manner. An error of a write is as good as one
/// of a read: only one of them is told of the reset.
#[track_caller]
fn end_of(mut stream: &TcpStream, manner: Manner) -> Seen {
    stream.set_nonblocking(true).expect("it can be set");
    let mut left = match manner {
        Manner::Silent => 0,
        Manner::Says(bytes) | Manner::Ends(bytes) => bytes,
        Manner::Floods => usize::MAX,
    };
    let (start, mut buffer) = (Instant::now(), [7; 64 * 1024]);
    loop {
        while left > 0 {
            match stream.write(&buffer[..left.min(64 * 1024)]) {
                Ok(count) => left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Seen::Reset,
                // What the kernel says of a reset that a FIN came before.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Seen::Fin,
                Err(error) => panic!("{manner:?}: {error}"),
            }
        }
        if left == 0 && matches!(manner, Manner::Ends(_)) {
            // Fails where the reset has come already, and leaves it to the read.
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Seen::Fin,
            Ok(_) => {}
            Err(error) if is_reset(error.kind()) => return Seen::Reset,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{manner:?}: {error}"),
        }
        assert!(start.elapsed() < SOON, "{manner:?}: it does not end");
        thread::sleep(Duration::from_micros(50));
    }
}

/// A new connection; `None` if it was reset already.
#[track_caller]
fn connect(address: SocketAddr) -> Option<TcpStream> {
    match TcpStream::connect_timeout(&address, SOON) {
        Ok(stream) => Some(stream),
        Err(error) if is_reset(error.kind()) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Resets a connection: at once, after a while, after bytes came or went, or
/// when nothing was read for so long that the proxy cannot send any more.
fn reset_sometime(mut stream: TcpStream, random: &mut Random) {
    let moment = random.below(5);
    let mut pause = |most_us: u64| thread::sleep(Duration::from_micros(random.below(most_us)));
    match moment {
        0 => {}
        1 => pause(3_000),
        2 => {
            stream.set_read_timeout(Some(Duration::from_millis(2))).expect("not zero");
            let _ = stream.read(&mut [0; 100]);
        }
        3 => {
            let _ = stream.write(&[7; 3_000]);
            pause(500);
        }
        _ => pause(60_000),
    }
    reset(stream);
}

/// So many clients, none of which may see a FIN.
#[track_caller]
fn expect_resets(address: SocketAddr, seed: u64, draw: fn(&mut Random) -> Manner) {
    often(CONNECTIONS, |number| {
        let manner = draw(&mut Random::seeded(seed.wrapping_add(number)));
        let Some(stream) = connect(address) else { return };
        assert_eq!(end_of(&stream, manner), Seen::Reset, "number {number}, {manner:?}");
    });
}

/// Each connection has ended for one of these reasons, some for the first.
#[track_caller]
fn expect_words(proxy: Proxy, words: &[&str]) {
    let entries = proxy.ended(CONNECTIONS as usize);
    let other = entries.iter().find(|entry| words.iter().all(|word| entry["ended"] != *word));
    assert_eq!(other, None);
    assert!(entries.iter().any(|entry| entry["ended"] == words[0]));
    proxy.stop();
}

/// A reset that comes before the answer to the connect was seen is a connect that has failed.
const ARGUMENTS: [&str; 4] = ["--retries", "0", "--eject-after", "0"];

/// Backends reset connections that they have accepted.
#[track_caller]
fn backends_reset(arguments: &[&str]) {
    let seed = Random::printed().below(u64::MAX);
    let count = AtomicU64::new(0);
    let backend = Backend::start(move |stream| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        reset_sometime(stream, &mut Random::seeded(!seed.wrapping_add(number)));
    });
    let proxy = Proxy::start(&[&backend], &[&ARGUMENTS, arguments].concat());
    expect_resets(proxy.address(), seed, Manner::draw);
    backend.expect_no_panic();
    expect_words(proxy, &["backend-reset", "connect-failed"]);
}

#[test]
fn after_the_accept() {
    backends_reset(&[]);
}

/// With buffers so small nearly every flood goes through a pipe.
#[test]
fn after_the_accept_while_splicing() {
    backends_reset(&["--buffer-size", "1024"]);
}

/// The same the other way round.
#[test]
fn by_the_client() {
    let seed = Random::printed().below(u64::MAX);
    let count = AtomicU64::new(0);
    let backend = Backend::start(move |stream| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let manner = Manner::draw(&mut Random::seeded(seed.wrapping_add(number)));
        assert_eq!(end_of(&stream, manner), Seen::Reset, "number {number}, {manner:?}");
    });
    let proxy = Proxy::start(&[&backend], &ARGUMENTS);
    let address = proxy.address();
    often(CONNECTIONS, |number| {
        let stream = connect(address).expect("nobody resets it");
        reset_sometime(stream, &mut Random::seeded(!seed.wrapping_add(number)));
    });
    expect_words(proxy, &["client-reset"]);
    backend.expect_no_panic();
}

/// Ends whoever looks at it, after a panic too.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The kernel resets what is in the queue of a listener that is closed. Where the last ACK of the handshake
/// meets the close it forgets the connection without a word (seen on Linux 6.18, once in some thousands),
/// and only who sends something learns of it.
#[test]
fn before_the_accept() {
    let mut random = Random::printed();
    let seed = random.below(u64::MAX);
    let over = AtomicBool::new(false);
    let (_holder, address) = held_address();
    let proxy = Proxy::start_to(&[&address.to_string()], &ARGUMENTS);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                // Nobody else has the address, but what the last listener had may not be gone yet.
                let Ok(_listener) = TcpListener::bind(address) else { continue };
                thread::sleep(Duration::from_micros(random.below(3_000)));
            }
        });
        let _over = SetWhenDropped(&over);
        expect_resets(proxy.address(), seed, Manner::draw_loud);
    });
    expect_words(proxy, &["backend-reset", "connect-failed"]);
}
