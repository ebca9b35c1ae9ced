//! Every byte arrives, in order and once, and the end comes behind the last one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::client::{Pattern, Random, connect, expect_end, finish_sending};
use crate::harness::{SOON, eventually};

use super::backend::Backend;
use super::{Proxy, often};

/// Which end says its last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The backend begins when the client has ended.
    Client,
    /// The client begins, but for the header, when the backend has ended.
    Backend,
    /// Both at once.
    Both,
}

/// What goes over one connection. Both ends compute it from the seed, which goes first.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    seed: u64,
    up: u64,
    down: u64,
    order: Order,
    /// Largest piece of one write.
    piece: u64,
    /// One write of so many is followed by a pause.
    pause_every: u64,
}

impl Transfer {
    const HEADER_BYTES: usize = 8;

    fn of(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let mut size = || match random.below(8) {
            0 => 0,
            1 => 1,
            2 | 3 => random.below(200),
            4..=6 => random.below(20_000),
            // Enough for pipes, too.
            _ => random.below(1_500_000),
        };
        let (up, down) = (size(), size());
        let order = [Order::Client, Order::Backend, Order::Both][random.below(3) as usize];
        let piece = [1 << 4, 1 << 9, 1 << 14, 1 << 18][random.below(4) as usize];
        // Pieces of 16 bytes would take long for a megabyte.
        let piece = if up.max(down) > 20_000 { piece.max(1 << 12) } else { piece };
        let pause_every = [4, 32, u64::MAX, u64::MAX][random.below(4) as usize];
        Self { seed, up, down, order, piece, pause_every }
    }

    fn upwards(self) -> Pattern {
        Pattern { seed: self.seed }
    }

    fn downwards(self) -> Pattern {
        Pattern { seed: !self.seed }
    }

    /// Sends so many bytes in pieces, then a FIN.
    fn send(self, pattern: Pattern, total: u64, mut stream: &TcpStream) {
        let mut random = Random::seeded(self.seed ^ total);
        let mut position = 0;
        while position < total {
            let most = self.piece.min(total - position);
            let bytes = pattern.bytes(position, 1 + random.below(most) as usize);
            stream.write_all(&bytes).unwrap_or_else(|error| panic!("{self:?}: {error}"));
            position += bytes.len() as u64;
            if random.below(self.pause_every) == 0 {
                thread::sleep(Duration::from_micros(random.below(2000)));
            }
        }
        finish_sending(stream);
    }

    fn client(self, address: SocketAddr) {
        let mut stream = connect(address);
        stream.write_all(&self.seed.to_le_bytes()).expect("it is open");
        let receive = || {
            self.downwards().expect(&stream, self.down);
            expect_end(&stream);
        };
        let send = || self.send(self.upwards(), self.up, &stream);
        self.exchange(self.order == Order::Backend, receive, send);
    }

    fn backend(mut stream: TcpStream) {
        let mut header = [0; Self::HEADER_BYTES];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            // Whoever looks whether this is alive.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(error) => panic!("no header: {error}"),
        }
        let this = Self::of(u64::from_le_bytes(header));
        let receive = || {
            this.upwards().expect(&stream, this.up);
            expect_end(&stream);
        };
        let send = || this.send(this.downwards(), this.down, &stream);
        this.exchange(this.order == Order::Client, receive, send);
    }

    /// One after the other, or both at once.
    fn exchange(self, receive_first: bool, receive: impl FnOnce(), send: impl FnOnce() + Send) {
        if self.order == Order::Both {
            thread::scope(|scope| {
                scope.spawn(send);
                receive();
            });
        } else if receive_first {
            receive();
            send();
        } else {
            send();
            receive();
        }
    }
}

/// Some thousands with optimisation, some hundreds without.
const TRANSFERS: u64 = if cfg!(debug_assertions) { 300 } else { 5_000 };

/// As many transfers through a proxy with these arguments; none may lack a byte.
#[track_caller]
fn transfer_all(arguments: &[&str]) {
    let seed = Random::printed().below(u64::MAX);
    let backend = Backend::start(Transfer::backend);
    let proxy = Proxy::start(&[&backend], arguments);
    let address = proxy.address();
    often(TRANSFERS, |number| Transfer::of(seed.wrapping_add(number)).client(address));
    backend.expect_no_panic();
    let entries = proxy.ended(TRANSFERS as usize);
    // Which of two FINs came first is for the transfer to say, unless both come at once.
    let wanted = |word: &str| entries.iter().filter(|entry| entry["ended"] == word).count();
    assert_eq!(wanted("client") + wanted("backend"), entries.len(), "{entries:#?}");
    let total = |field: &str| entries.iter().filter_map(|entry| entry[field].as_u64()).sum::<u64>();
    let all = || (0..TRANSFERS).map(|number| Transfer::of(seed.wrapping_add(number)));
    let headers = TRANSFERS * Transfer::HEADER_BYTES as u64;
    assert_eq!(total("from_client_bytes"), headers + all().map(|one| one.up).sum::<u64>());
    assert_eq!(total("from_backend_bytes"), all().map(|one| one.down).sum::<u64>());
    proxy.stop();
}

#[test]
fn thousands_of_transfers_in_every_order_of_ends() {
    transfer_all(&["--workers", "2"]);
}

/// The same with so few and so small buffers that receives starve all the time.
#[test]
fn thousands_of_transfers_with_hardly_a_buffer() {
    transfer_all(&["--workers", "1", "--buffers", "4", "--buffer-size", "1024"]);
}

/// Each way, in the tests with few large transfers.
const TOTAL: u64 = 64 << 20;

/// Much both ways at once. Returns how many bytes were spliced.
fn much(arguments: &[&str]) -> u64 {
    let (up, down) = (Pattern { seed: 1 }, Pattern { seed: 2 });
    let backend = Backend::start(move |stream| {
        thread::scope(|scope| {
            scope.spawn(|| {
                down.send(&stream, TOTAL).expect("it is taken");
                finish_sending(&stream);
            });
            up.expect(&stream, TOTAL);
            expect_end(&stream);
        });
    });
    let proxy = Proxy::start(&[&backend], arguments);
    let stream = connect(proxy.address());
    thread::scope(|scope| {
        scope.spawn(|| {
            up.send(&stream, TOTAL).expect("it is taken");
            finish_sending(&stream);
        });
        down.expect(&stream, TOTAL);
        expect_end(&stream);
    });
    let entry = &proxy.ended(1)[0];
    backend.expect_no_panic();
    assert_eq!(entry["from_client_bytes"], TOTAL, "{entry:#}");
    assert_eq!(entry["from_backend_bytes"], TOTAL, "{entry:#}");
    proxy.server.signal(libc::SIGUSR1);
    eventually(SOON, "the counters are logged", || proxy.server.stderr().contains("proxy: "));
    let log = proxy.server.stderr();
    proxy.stop();
    let (_, spliced) = log.split_once("spliced_bytes=").unwrap_or(("", "0"));
    let digits = spliced.find(|other: char| !other.is_ascii_digit()).unwrap_or(spliced.len());
    spliced[..digits].parse().expect("digits are a number")
}

#[test]
fn large_transfers_are_spliced() {
    let spliced = much(&[]);
    assert!(spliced > TOTAL / 2, "{spliced} of {} bytes", 2 * TOTAL);
}

#[test]
fn large_transfers_are_copied_when_that_is_wished() {
    assert_eq!(much(&["--no-splice"]), 0);
}
