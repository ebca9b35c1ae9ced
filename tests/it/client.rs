//! Clients: connections with deadlines, and bytes that can be checked wherever they come.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long one read or write may take before the test fails.
pub(crate) const IO_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection whose reads and writes fail after [`IO_TIMEOUT`].
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)
        .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
    with_deadlines(stream)
}

/// The same with little room in the kernel, so that it is full soon.
#[track_caller]
pub(crate) fn connect_with_small_buffers(address: SocketAddr) -> TcpStream {
    const BUFFER_BYTES: usize = 32 * 1024;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(BUFFER_BYTES).expect("SO_RCVBUF can be set");
    socket.set_send_buffer_size(BUFFER_BYTES).expect("SO_SNDBUF can be set");
    socket.connect_timeout(&address.into(), IO_TIMEOUT).expect("it connects");
    with_deadlines(socket.into())
}

fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    stream.set_write_timeout(Some(IO_TIMEOUT)).expect("not zero");
    stream.set_nodelay(true).expect("it is TCP");
    stream
}

/// Closes with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
}

/// Sends `bytes` and holds that they come back.
#[track_caller]
pub(crate) fn expect_echo(mut stream: impl Read + Write, bytes: &[u8]) {
    stream.write_all(bytes).expect("the server takes the bytes");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("the bytes come back");
    assert!(back == bytes, "other bytes came back");
}

/// Holds that the server serves a new connection.
#[track_caller]
pub(crate) fn expect_alive(address: SocketAddr) {
    expect_echo(connect(address), b"are you there?");
}

/// Holds that the peer has sent its FIN and nothing before it.
#[track_caller]
pub(crate) fn expect_end(mut stream: impl Read) {
    let count = stream.read(&mut [0; 1]).expect("a FIN, not an error");
    assert_eq!(count, 0, "a byte came instead of the FIN");
}

/// Waits until the connection is over, by FIN or reset, and drops what comes before.
///
/// # Errors
/// When nothing comes any more and the connection stays open.
pub(crate) fn read_to_the_end(mut stream: impl Read) -> io::Result<usize> {
    let mut total = 0;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}

/// An endless sequence of bytes that are a function of their position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    pub(crate) seed: u64,
}

impl Pattern {
    /// The bytes from `position` on.
    pub(crate) fn fill(self, position: u64, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let place = position + at as u64;
            let word = mix(self.seed ^ mix(place / 8)).to_le_bytes();
            let inside = (place % 8) as usize;
            let count = (8 - inside).min(bytes.len() - at);
            bytes[at..at + count].copy_from_slice(&word[inside..inside + count]);
            at += count;
        }
    }

    pub(crate) fn bytes(self, position: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(position, &mut bytes);
        bytes
    }

    /// Sends the first `total` bytes.
    pub(crate) fn send(self, mut stream: impl Write, total: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut position = 0;
        while position < total {
            let count = (total - position).min(CHUNK_BYTES as u64) as usize;
            self.fill(position, &mut buffer[..count]);
            stream.write_all(&buffer[..count])?;
            position += count as u64;
        }
        Ok(())
    }

    /// Receives the first `total` bytes and holds that they are those.
    #[track_caller]
    pub(crate) fn expect(self, mut stream: impl Read, total: u64) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut wanted = vec![0; CHUNK_BYTES];
        let mut position = 0;
        while position < total {
            let most = (total - position).min(CHUNK_BYTES as u64) as usize;
            let count = stream.read(&mut buffer[..most]).unwrap_or_else(|error| {
                panic!("after {position} of {total} bytes: {error}");
            });
            assert_ne!(count, 0, "the end came after {position} of {total} bytes");
            self.fill(position, &mut wanted[..count]);
            assert!(buffer[..count] == wanted[..count], "wrong bytes behind {position}");
            position += count as u64;
        }
    }

    /// Sends without reading until nothing has gone for `quiet` or `most` bytes are on their way,
    /// and says how many went. The stream is blocking again afterwards.
    pub(crate) fn send_until_blocked(
        self,
        mut stream: &TcpStream,
        quiet: Duration,
        most: u64,
    ) -> u64 {
        stream.set_nonblocking(true).expect("it can be set");
        let mut position = 0;
        let mut pending = Vec::new();
        let mut last = Instant::now();
        while position < most && last.elapsed() < quiet {
            if pending.is_empty() {
                pending = self.bytes(position, (most - position).min(CHUNK_BYTES as u64) as usize);
            }
            match stream.write(&pending) {
                Ok(count) => {
                    pending.drain(..count);
                    position += count as u64;
                    last = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("after {position} bytes: {error}"),
            }
        }
        stream.set_nonblocking(false).expect("it can be set");
        position
    }
}

const CHUNK_BYTES: usize = 64 * 1024;

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Random numbers that a seed repeats.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `TEST_SEED`, or by the clock; printed, so that a failure can be repeated.
    pub(crate) fn printed() -> Self {
        let clock = std::time::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos();
        let given = std::env::var("TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(clock));
        eprintln!("TEST_SEED={seed} repeats this");
        Self(seed)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }
}

/// Says that nothing more will be sent.
#[track_caller]
pub(crate) fn finish_sending(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("the connection is open");
}

#[test]
fn a_pattern_does_not_depend_on_how_it_is_cut() {
    let pattern = Pattern { seed: 7 };
    let whole = pattern.bytes(0, 100);
    for cut in 0..100 {
        assert_eq!(pattern.bytes(cut as u64, 100 - cut), whole[cut..]);
    }
    assert_ne!(Pattern { seed: 8 }.bytes(0, 100), whole);
}
