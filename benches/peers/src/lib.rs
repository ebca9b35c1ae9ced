//! What the peers share: the command line, the listeners, the scan for the ends of HTTP heads, and
//! the work of uneven requests.
//!
//! A server is `PEER ADDR echo|http|uneven [WORKERS]`, a proxy `PEER ADDR BACKEND [WORKERS]`; both are
//! written as their runtime's documentation advises. One worker is the main thread; more of them are
//! a runtime per thread, each with an SO_REUSEPORT socket of its own. Reading and writing are the
//! runtime's own; nothing here does input or output once the listeners are open.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use memchr::memmem;
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};

/// Length of the accept queue; net.core.somaxconn may cut it.
pub const BACKLOG: i32 = 4096;
/// Receive buffer of a connection.
pub const BUFFER_BYTES: usize = 4096;
/// Buffer of each direction of a proxied connection: what tokio takes by itself.
pub const PROXY_BUFFER_BYTES: usize = 8192;
/// Entries of the submission queue, for runtimes that have one.
pub const RING_ENTRIES: u32 = 1024;
/// An uneven request of at least so many bytes burns CPU time; a shorter one is answered at once.
/// `examples/uneven.rs` has the same figures.
const BURNING_BYTES: usize = 128;
const BURN: Duration = Duration::from_micros(200);
/// More threads than any machine here has.
const WORKERS_MAX: usize = 256;
/// A longer head ends the connection.
const HEAD_BYTES_MAX: usize = 8192;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
    Connection: keep-alive\r\n\r\nhello\n";
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
    Connection: close\r\n\r\nhello\n";

/// What a server does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Everything comes back.
    Echo,
    /// Every request is answered with `hello`.
    Http,
    /// Everything comes back; long requests burn CPU time before.
    Uneven,
}

impl Service {
    /// The work of a request of `bytes` bytes, before it is answered.
    pub fn work(self, bytes: usize) {
        if self == Self::Uneven && bytes >= BURNING_BYTES {
            let start = thread_cpu_time();
            while thread_cpu_time() - start < BURN {
                std::hint::spin_loop();
            }
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs a server: parses the command line, opens the listeners, and calls `serve` with each.
pub fn run(serve: impl Fn(TcpListener, Service) -> io::Result<()> + Sync) -> ExitCode {
    let service = |text: &str| match text {
        "echo" => Some(Service::Echo),
        "http" => Some(Service::Http),
        "uneven" => Some(Service::Uneven),
        _ => None,
    };
    let Some((address, service, workers)) = options(service) else {
        eprintln!("usage: PEER ADDR echo|http|uneven [WORKERS]");
        return ExitCode::from(2);
    };
    finish(address, on_workers(address, workers, |listener| serve(listener, service)))
}

/// Runs a proxy, as [`run`] does, to the address of its backend.
pub fn run_proxy(serve: impl Fn(TcpListener, SocketAddr) -> io::Result<()> + Sync) -> ExitCode {
    let Some((address, backend, workers)) = proxy_options() else {
        return ExitCode::from(2);
    };
    finish(address, on_workers(address, workers, |listener| serve(listener, backend)))
}

/// Where a proxy listens, its backend and its workers; without them, how it is called is printed.
pub fn proxy_options() -> Option<(SocketAddr, SocketAddr, usize)> {
    let options = options(|text| text.parse().ok());
    if options.is_none() {
        eprintln!("usage: PEER ADDR BACKEND [WORKERS]");
    }
    options
}

fn options<T>(what: impl Fn(&str) -> Option<T>) -> Option<(SocketAddr, T, usize)> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next()?.parse().ok()?;
    let what = what(&arguments.next()?)?;
    let workers = arguments.next().map_or(Some(1), |text| text.parse().ok())?;
    let well = (1..=WORKERS_MAX).contains(&workers) && arguments.next().is_none();
    well.then_some((address, what, workers))
}

fn finish(address: SocketAddr, result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All sockets are bound before the first is served. The first thread that fails ends the process.
fn on_workers(
    address: SocketAddr,
    workers: usize,
    serve: impl Fn(TcpListener) -> io::Result<()> + Sync,
) -> io::Result<()> {
    if workers == 1 {
        return serve(listener(address, false)?);
    }
    let listeners: Vec<_> =
        (0..workers).map(|_| listener(address, true)).collect::<io::Result<_>>()?;
    std::thread::scope(|scope| {
        for (index, listener) in listeners.into_iter().enumerate() {
            let serve = &serve;
            let worker = move || {
                if let Err(error) = serve(listener) {
                    eprintln!("{address}: {error}");
                    std::process::exit(1);
                }
            };
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn_scoped(scope, worker)?;
        }
        Ok(())
    })
}

/// A blocking listener; epoll's users make it non-blocking.
fn listener(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_tcp_nodelay(true)?; // accepted connections inherit it
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What received bytes call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Requests that are now complete.
    requests: usize,
    /// Whether the connection ends after the answers.
    pub close: bool,
}

impl Reply {
    /// The answers in order; one in all but pipelined requests.
    pub fn answers(self) -> impl Iterator<Item = &'static [u8]> {
        let last = if self.close { LAST_ANSWER } else { ANSWER };
        (1..=self.requests).map(move |request| if request == self.requests { last } else { ANSWER })
    }
}

/// The part of a head that has come so far.
#[derive(Debug, Default)]
pub struct Heads {
    partial: Vec<u8>,
}

impl Heads {
    /// Takes what was received; copies only heads that come in parts.
    pub fn receive(&mut self, bytes: &[u8]) -> Reply {
        if self.partial.is_empty() {
            let (reply, used) = scan(bytes);
            self.partial.extend_from_slice(&bytes[used..]);
            return self.limited(reply);
        }
        self.partial.extend_from_slice(bytes);
        let (reply, used) = scan(&self.partial);
        self.partial.drain(..used);
        self.limited(reply)
    }

    fn limited(&self, reply: Reply) -> Reply {
        Reply { close: reply.close || self.partial.len() > HEAD_BYTES_MAX, ..reply }
    }
}

/// The reply, and how many bytes the complete heads took.
fn scan(bytes: &[u8]) -> (Reply, usize) {
    let (mut used, mut reply) = (0, Reply { requests: 0, close: false });
    while let Some(length) = memmem::find(&bytes[used..], END_OF_HEAD) {
        reply.requests += 1;
        reply.close = is_last(&bytes[used..used + length]);
        used += length + END_OF_HEAD.len();
        if reply.close {
            return (reply, bytes.len());
        }
    }
    (reply, used)
}

/// HTTP/1.1 stays open unless the head says otherwise, HTTP/1.0 closes unless it does.
fn is_last(head: &[u8]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let old = lines.next().is_some_and(|line| line.ends_with(b"HTTP/1.0"));
    let name = b"connection:";
    let connection = lines
        .find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))
        .map(|line| line[name.len()..].trim_ascii());
    match connection {
        Some(value) if value.eq_ignore_ascii_case(b"close") => true,
        Some(value) if value.eq_ignore_ascii_case(b"keep-alive") => false,
        _ => old,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(parts: &[&str]) -> Vec<(usize, bool)> {
        let mut heads = Heads::default();
        let replies = parts.iter().map(|part| heads.receive(part.as_bytes()));
        replies.map(|reply| (reply.requests, reply.close)).collect()
    }

    #[test]
    fn heads_are_found_whole_in_parts_and_pipelined() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(receive(&[get, get]), [(1, false), (1, false)]);
        assert_eq!(
            receive(&["GET / HTTP/1.1\r", "\n\r", "\n"]),
            [(0, false), (0, false), (1, false)]
        );
        assert_eq!(receive(&[&get.repeat(3)]), [(3, false)]);
    }

    #[test]
    fn the_client_says_when_it_ends() {
        assert_eq!(receive(&["GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"]), [(1, true)]);
        assert_eq!(receive(&["GET / HTTP/1.0\r\n\r\n"]), [(1, true)]);
        assert_eq!(receive(&["GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"]), [(1, false)]);
        assert_eq!(receive(&[&"x".repeat(HEAD_BYTES_MAX + 1)]), [(0, true)]);
    }
}
