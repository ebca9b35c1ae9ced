//! `acceptor proxy`: bytes, FINs and resets pass both ways, whatever backends and clients do.
//!
//! What happened to a connection is read from the access log, which each proxy here writes as JSON.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually};
use backend::Backend;

mod backend;
mod balance;
mod command_line;
mod deadlines;
mod endings;
mod failing;
mod foreign;
mod full;
mod header;
mod health;
mod http;
mod log;
mod names;
mod pressure;
mod resets;
mod sources;
mod stalls;
mod telling;
mod tls;
mod transfers;
mod unix;

/// Long enough for something that must not happen to happen.
const A_WHILE: Duration = Duration::from_millis(200);

/// Does something so many times, with the number of each, several at once.
fn often(times: u64, act: impl Fn(u64) + Sync) {
    const AT_ONCE: usize = 8;
    let next = AtomicU64::new(0);
    let numbers = || std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| numbers().take_while(|number| *number < times).for_each(&act));
        }
    });
}

/// A running proxy and its access log.
struct Proxy {
    server: Server,
    folder: Folder,
}

impl Proxy {
    /// To these backends, with more `arguments`.
    #[track_caller]
    fn start(backends: &[&Backend], arguments: &[&str]) -> Self {
        let to: Vec<String> = backends.iter().map(|backend| backend.to()).collect();
        Self::start_to(&to.iter().map(String::as_str).collect::<Vec<_>>(), arguments)
    }

    /// To these addresses, with more `arguments`.
    #[track_caller]
    fn start_to(to: &[&str], arguments: &[&str]) -> Self {
        Self::launch(to, arguments, |launch| launch)
    }

    #[track_caller]
    fn launch(to: &[&str], more: &[&str], change: impl FnOnce(Launch) -> Launch) -> Self {
        let folder = Folder::new();
        let log = folder.file("access.log");
        let mut arguments = vec!["proxy", "--access-log", &log, "--access-log-format", "json"];
        to.iter().for_each(|to| arguments.extend(["--to", to]));
        arguments.extend(more);
        let server = change(Launch::new(&arguments)).start();
        Self { server, folder }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What the access log says so far.
    fn entries(&self) -> Vec<Value> {
        entries_of(&self.folder.0.join("access.log"))
    }

    /// Waits until this many connections have ended and says how.
    #[track_caller]
    fn ended(&self, count: usize) -> Vec<Value> {
        eventually(SOON, "the access log has an entry for each", || self.entries().len() >= count);
        let entries = self.entries();
        assert_eq!(entries.len(), count, "{entries:#?}");
        entries
    }

    /// Holds that one connection has ended, for this reason.
    #[track_caller]
    fn expect_ended(&self, word: &str) -> Value {
        let entry = self.ended(1).remove(0);
        assert_eq!(entry["ended"], word, "{entry:#}");
        entry
    }

    /// Drains it and gives the whole access log.
    #[track_caller]
    fn stop(self) -> Vec<Value> {
        let Self { server, folder } = self;
        server.stop();
        entries_of(&folder.0.join("access.log"))
    }
}

#[track_caller]
fn entries_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("there is a log");
    // The last line may be written just now.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// How a connection ended, as its peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Fin,
    Reset,
}

/// Waits for the end of a connection, past the bytes before it.
///
/// # Panics
/// When it does not end.
#[track_caller]
fn seen(mut stream: impl Read) -> Seen {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Seen::Fin,
            Ok(_) => {}
            Err(error) if is_reset(error.kind()) => return Seen::Reset,
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

/// Holds that a new connection is reset. On a fast machine that happens while it is being made.
#[track_caller]
fn expect_reset(address: SocketAddr) {
    match TcpStream::connect_timeout(&address, SOON) {
        Ok(stream) => {
            stream.set_read_timeout(Some(SOON)).expect("not zero");
            assert_eq!(seen(&stream), Seen::Reset);
        }
        Err(error) => assert!(is_reset(error.kind()), "{error}"),
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Reads a line without its newline.
#[track_caller]
fn line(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while bytes.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("a line comes");
        bytes.push(byte[0]);
    }
    bytes.pop();
    String::from_utf8(bytes).expect("it is text")
}

/// Connects and says which backend answers; keeps the connection.
#[track_caller]
fn who_answers(address: SocketAddr) -> (String, TcpStream) {
    let stream = crate::client::connect(address);
    (line(&stream), stream)
}
