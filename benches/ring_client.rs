//! A closed-loop load client on one ring, until the load generator replaces it.
//!
//! `ring_client ADDR MODE CONNECTIONS SECONDS` with MODE
//! - `crr`: connect, send 64 bytes, receive them, close;
//! - `rr`: send and receive 64 bytes on open connections;
//! - `http`: connect, GET, receive until the server has closed.
//!
//! The last two bytes of an IPv4 loopback address rotate, so that ports do not run out. Prints
//! `operations N seconds S errors E`; a wrong answer ends the program.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

const MESSAGE_BYTES: usize = 64;
const RECEIVE_BYTES: usize = 512;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// Addresses that crr and http rotate through.
const ADDRESSES: u32 = 200;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Crr,
    Rr,
    Http,
}

const CONNECT: u64 = 0;
const SEND: u64 = 1;
const RECEIVE: u64 = 2;
const IGNORE: u64 = 3;

struct Connection {
    socket: i32,
    address: libc::sockaddr_in,
    received: usize,
    buffer: Box<[u8; RECEIVE_BYTES]>,
}

struct Client {
    mode: Mode,
    target: SocketAddrV4,
    request: Vec<u8>,
    connections: Vec<Connection>,
    started: u32,
    operations: u64,
    errors: u64,
}

fn socket() -> i32 {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "no socket: {}", std::io::Error::last_os_error());
    let on = 1_i32;
    // SAFETY: the option's value is an int.
    unsafe {
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), 4)
    };
    socket
}

impl Client {
    /// Connect, send and receive as one chain.
    fn begin(&mut self, slot: usize, push: &mut impl FnMut(squeue::Entry)) {
        let offset = if self.mode == Mode::Rr { 0 } else { self.started % ADDRESSES };
        self.started += 1;
        let ip = if self.target.ip().is_loopback() {
            Ipv4Addr::from(u32::from(*self.target.ip()) + offset)
        } else {
            *self.target.ip()
        };
        let connection = &mut self.connections[slot];
        connection.socket = socket();
        connection.address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: self.target.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
            sin_zero: [0; 8],
        };
        let address = (&raw const connection.address).cast();
        let connect = opcode::Connect::new(Fd(connection.socket), address, 16).build();
        push(connect.flags(squeue::Flags::IO_LINK).user_data(CONNECT << 56 | slot as u64));
        self.exchange(slot, push);
    }

    fn exchange(&mut self, slot: usize, push: &mut impl FnMut(squeue::Entry)) {
        let fd = Fd(self.connections[slot].socket);
        self.connections[slot].received = 0;
        let send = opcode::Send::new(fd, self.request.as_ptr(), self.request.len() as u32);
        push(send.build().flags(squeue::Flags::IO_LINK).user_data(SEND << 56 | slot as u64));
        self.receive(slot, push);
    }

    fn receive(&mut self, slot: usize, push: &mut impl FnMut(squeue::Entry)) {
        let connection = &mut self.connections[slot];
        let room = &mut connection.buffer[connection.received..];
        let entry = opcode::Recv::new(Fd(connection.socket), room.as_mut_ptr(), room.len() as u32);
        push(entry.build().user_data(RECEIVE << 56 | slot as u64));
    }

    fn received(&mut self, slot: usize, result: i32, push: &mut impl FnMut(squeue::Entry)) {
        let connection = &mut self.connections[slot];
        connection.received += result.max(0) as usize;
        let done = match self.mode {
            Mode::Http => result == 0,
            Mode::Crr | Mode::Rr => connection.received >= self.request.len(),
        };
        if result < 0 || (result == 0 && !done) {
            self.errors += 1;
        } else if !done {
            return self.receive(slot, push);
        } else {
            self.check(slot);
            self.operations += 1;
        }
        if self.mode == Mode::Rr && result > 0 {
            return self.exchange(slot, push);
        }
        let close = opcode::Close::new(Fd(self.connections[slot].socket)).build();
        push(close.flags(squeue::Flags::SKIP_SUCCESS).user_data(IGNORE << 56));
        self.begin(slot, push);
    }

    fn check(&self, slot: usize) {
        let connection = &self.connections[slot];
        let answer = &connection.buffer[..connection.received];
        match self.mode {
            Mode::Http => assert!(
                answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"hello\n"),
                "wrong answer: {}",
                String::from_utf8_lossy(answer)
            ),
            Mode::Crr | Mode::Rr => assert_eq!(answer, self.request, "wrong echo"),
        }
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, mode, connections, seconds] = arguments.as_slice() else {
        eprintln!("usage: ring_client ADDR crr|rr|http CONNECTIONS SECONDS");
        std::process::exit(2);
    };
    let mode = match mode.as_str() {
        "crr" => Mode::Crr,
        "rr" => Mode::Rr,
        _ => Mode::Http,
    };
    let request = match mode {
        Mode::Http => GET.to_vec(),
        Mode::Crr | Mode::Rr => (0..MESSAGE_BYTES as u8).collect(),
    };
    let count: usize = connections.parse().expect("a number of connections");
    let seconds: f64 = seconds.parse().expect("a number of seconds");
    let connection = |_| Connection {
        socket: -1,
        // SAFETY: all zeroes are a valid address.
        address: unsafe { std::mem::zeroed() },
        received: 0,
        buffer: Box::new([0; RECEIVE_BYTES]),
    };
    let mut client = Client {
        mode,
        target: address.parse().expect("an IPv4 address and port"),
        request,
        connections: (0..count).map(connection).collect(),
        started: 0,
        operations: 0,
        errors: 0,
    };
    let entries = (4 * count).next_power_of_two().clamp(256, 16_384) as u32;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4 * entries)
        .build(entries)?;
    let (mut submitter, mut submissions, mut completions) = ring.split();
    submitter.register_ring_fd()?;
    let mut push = |entry: squeue::Entry| {
        // SAFETY: requests, addresses and buffers live as long as the ring.
        unsafe { submissions.push(&entry).expect("the queue is sized for all connections") };
        submissions.sync();
    };
    (0..count).for_each(|slot| client.begin(slot, &mut push));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        submitter.submit_and_wait(1)?;
        completions.sync();
        for completion in &mut completions {
            let (user_data, result) = (completion.user_data(), completion.result());
            let slot = (user_data & 0xFFFF_FFFF) as usize;
            match user_data >> 56 {
                RECEIVE => client.received(slot, result, &mut push),
                CONNECT | SEND if result < 0 => client.errors += 1,
                _ => {}
            }
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!("operations {} seconds {elapsed:.3} errors {}", client.operations, client.errors);
    Ok(())
}
