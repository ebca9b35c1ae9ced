//! What the peers share: the command line, the listener, and the scan for the ends of HTTP heads.
//!
//! Every peer is `PEER ADDR echo|http`, has one thread, and is written as its runtime's
//! documentation advises. Reading and writing are the runtime's own; nothing here does input or
//! output once the listener is open.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use memchr::memmem;
use socket2::{Domain, Protocol, Socket, Type};

/// Length of the accept queue; net.core.somaxconn may cut it.
pub const BACKLOG: i32 = 4096;
/// Receive buffer of a connection.
pub const BUFFER_BYTES: usize = 4096;
/// Entries of the submission queue, for runtimes that have one.
pub const RING_ENTRIES: u32 = 1024;
/// A longer head ends the connection.
const HEAD_BYTES_MAX: usize = 8192;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
    Connection: keep-alive\r\n\r\nhello\n";
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
    Connection: close\r\n\r\nhello\n";

/// What a peer does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Everything comes back.
    Echo,
    /// Every request is answered with `hello`.
    Http,
}

/// Parses the command line, opens the listener and runs `serve` with both.
pub fn run(serve: impl FnOnce(TcpListener, Service) -> io::Result<()>) -> ExitCode {
    let Some((address, service)) = options() else {
        eprintln!("usage: PEER ADDR echo|http");
        return ExitCode::from(2);
    };
    match listener(address).and_then(|listener| serve(listener, service)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Option<(SocketAddr, Service)> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, service] = arguments.as_slice() else { return None };
    let service = match service.as_str() {
        "echo" => Service::Echo,
        "http" => Service::Http,
        _ => return None,
    };
    Some((address.parse().ok()?, service))
}

/// A blocking listener; epoll's users make it non-blocking.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
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
