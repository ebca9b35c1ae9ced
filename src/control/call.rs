//! The other end of the control socket: one request and its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use super::answer::{self, Outcome};
use super::request::Request;
use crate::config::UnixAddress;

/// How long an answer may take: a reload looks names up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest answer, in bytes. The status of 10,000 backends has some 8 MB.
const ANSWER_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there, or not for us.
    #[error("no server can be reached at {address}: {error}{}", hint(.error))]
    Connect {
        /// Where.
        address: UnixAddress,
        /// What connect(2) said.
        error: io::Error,
    },
    /// It broke off.
    #[error("the server at {address} has not answered: {text}")]
    Answer {
        /// Where.
        address: UnixAddress,
        /// What came in place of an answer.
        text: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is it running, and with this control socket?",
        io::ErrorKind::ConnectionRefused => "; it has ended without removing its socket",
        io::ErrorKind::PermissionDenied => {
            "; the socket is for the user of the server, and for root"
        }
        _ => "",
    }
}

/// Asks a server, and waits for its answer.
///
/// # Errors
/// There is no server, or no answer. What the server refuses is its answer.
pub fn call(address: &UnixAddress, request: &Request) -> Result<Outcome, CallError> {
    let failed = |error| CallError::Connect { address: address.clone(), error };
    let stream = connect(address).map_err(failed)?;
    let text = |text: String| CallError::Answer { address: address.clone(), text };
    let line = exchange(stream, request).map_err(|error| text(told(&error)))?;
    answer::parse(&line).map_err(text)
}

/// Connects to a control socket.
///
/// # Errors
/// Those of connect(2).
pub fn connect(address: &UnixAddress) -> io::Result<UnixStream> {
    match address.abstract_name() {
        None => UnixStream::connect(address.as_sun_path()),
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.as_bytes())?),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    // A server that refuses has answered and closed already; then this fails, and the answer is there.
    let sent = stream.write_all(request.to_line().as_bytes());
    let mut line = Vec::new();
    let read = BufReader::new(stream.take(ANSWER_MAX_BYTES)).read_until(b'\n', &mut line);
    match (line.pop(), sent) {
        (Some(b'\n'), _) => Ok(line),
        (_, Err(error)) => Err(error),
        _ => read.and(Err(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!("nothing came within {}s", CALL_TIMEOUT.as_secs()),
        io::ErrorKind::UnexpectedEof => "it has closed the connection".to_owned(),
        _ => error.to_string(),
    }
}
