//! Connections that come and go, and requests of HTTP on one that stays.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::{CLIENTS, Ended, Load, Report, is_over, open};
use crate::client::Pattern;

const MESSAGE_BYTES: usize = 64;

/// Between two of a client, so that local ports last.
const PAUSE: Duration = Duration::from_millis(1);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BODY: &[u8] = b"hello\n";

/// An error of a read or a write: both deadlines are [`PATIENCE`](super::PATIENCE).
fn ended(error: &io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ended::Cut("no answer".to_owned()),
        io::ErrorKind::UnexpectedEof => Ended::Cut("FIN in place of an answer".to_owned()),
        _ => Ended::Reset(error.to_string()),
    }
}

/// Does something again and again until it is over.
fn repeat(over: &AtomicBool, mut act: impl FnMut(u64) -> Result<Duration, Ended>) -> Report {
    let mut report = Report::default();
    let mut number = 0;
    while !is_over(over) {
        match act(number) {
            Ok(took) => report.trip(took),
            Err(ended) => report.count(&ended),
        }
        number += 1;
        thread::sleep(PAUSE);
    }
    report
}

/// Connect, a message there and back, close.
fn exchange(to: SocketAddr, seed: u64) -> Result<Duration, Ended> {
    let start = Instant::now();
    let mut stream = open(to)?;
    let message = Pattern { seed }.bytes(0, MESSAGE_BYTES);
    let mut back = [0; MESSAGE_BYTES];
    let done = stream.write_all(&message).and_then(|()| stream.read_exact(&mut back));
    done.map_err(|error| ended(&error))?;
    if back[..] != message[..] {
        return Err(Ended::Wrong("other bytes came back".to_owned()));
    }
    Ok(start.elapsed())
}

/// A few clients that connect, exchange a message and close, one connection after another.
pub(crate) fn connects(to: SocketAddr) -> Load {
    Load::start((0..CLIENTS).map(|client| {
        move |over: &AtomicBool| {
            repeat(over, |number| exchange(to, ((client as u64) << 32) | number))
        }
    }))
}

/// A client of HTTP, with the connection that it keeps.
struct Client {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A request and its response. The connection goes with an error, and where the server says that it closes it.
    fn request(&mut self) -> Result<Duration, Ended> {
        let start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(open(self.to)?),
        };
        stream.get_mut().write_all(REQUEST).map_err(|error| ended(&error))?;
        let head = head(&mut stream).map_err(|error| ended(&error))?;
        let mut body = [0; BODY.len()];
        stream.read_exact(&mut body).map_err(|error| ended(&error))?;
        if !head.starts_with("http/1.1 200 ") || body != BODY || !stream.buffer().is_empty() {
            let more = String::from_utf8_lossy(stream.buffer());
            return Err(Ended::Wrong(format!("{head:?} and then {body:?}, {more:?}")));
        }
        if !head.contains("\r\nconnection: close\r\n") {
            self.stream = Some(stream);
        }
        Ok(start.elapsed())
    }
}

/// All lines before the body, in lower case.
fn head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head.to_ascii_lowercase())
}

/// A few clients that send requests to `acceptor http`, each on a connection that is kept.
pub(crate) fn requests(to: SocketAddr) -> Load {
    Load::start((0..CLIENTS).map(|_| {
        move |over: &AtomicBool| {
            let mut client = Client { to, stream: None };
            repeat(over, |_| client.request())
        }
    }))
}
