//! One health check: connect, send, wait for an answer; bounded in bytes and in time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket, Type};

use super::address::EndpointAddress;
use super::common::lock;
use super::counters::ConnectFailure;
use crate::config::upstream::{ActiveCheck, ActiveHealth, CheckBytes, SourceAddress};
use crate::sys::{self, Errno};

/// Most bytes of an answer that are looked at.
const ANSWER_MAX_BYTES: usize = 16 * 1024;
const READ_BYTES: usize = 2048;

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// In words for the operator.
    Failed(String),
    /// This machine could not check; that says nothing about the endpoint.
    Unable,
}

/// The sockets of checks under way, so that they can be ended early.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<FlightState>);

#[derive(Debug, Default)]
struct FlightState {
    stopped: bool,
    sockets: Vec<Weak<Socket>>,
}

impl Flights {
    /// A check begins; false if it must not.
    fn begin(&self, socket: &Arc<Socket>) -> bool {
        let mut state = lock(&self.0);
        state.sockets.retain(|socket| socket.strong_count() > 0);
        state.sockets.push(Arc::downgrade(socket));
        !state.stopped
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.0).sockets.iter().filter(|socket| socket.strong_count() > 0).count()
    }

    /// Ends what is under way and lets nothing begin. shutdown(2) ends a connect that waits too.
    pub(super) fn stop(&self) {
        let mut state = lock(&self.0);
        state.stopped = true;
        for socket in state.sockets.drain(..).filter_map(|socket| socket.upgrade()) {
            // ENOTCONN: it has not begun to connect, or is over.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Checks the endpoint at an address, from the first of the sources that has a port.
pub(super) fn probe(
    (address, sources): (&EndpointAddress, &[SourceAddress]),
    rules: &ActiveHealth,
    flights: &Flights,
) -> Outcome {
    let to = address.to_sock_addr();
    let towards = |to| sources.iter().filter_map(move |source| source.towards(to));
    let from: Vec<Option<SocketAddr>> = match address {
        EndpointAddress::Tcp(to) if !sources.is_empty() => towards(*to).map(Some).collect(),
        _ => vec![None],
    };
    let deadline = Instant::now() + rules.timeout;
    for from in from {
        let Ok(socket) = Socket::new(to.domain(), Type::STREAM, None) else { break };
        let socket = Arc::new(socket);
        if !flights.begin(&socket) {
            break;
        }
        return match connect(&socket, (from, &to), deadline) {
            Ok(()) => check(&socket, rules, deadline),
            Err(error) if lacks_local(&error, from) => continue,
            Err(error) => connect_failed(&error, rules.timeout),
        };
    }
    Outcome::Unable
}

/// Whether a connect has failed since this machine has no port or address for it.
fn lacks_local(error: &io::Error, from: Option<SocketAddr>) -> bool {
    match Errno::of(error) {
        Errno::EADDRNOTAVAIL => true,
        // An address that is bound to and not there, or of another interface.
        Errno::EINVAL => from.is_some(),
        _ => false,
    }
}

fn connect(
    socket: &Socket,
    (from, to): (Option<SocketAddr>, &SockAddr),
    deadline: Instant,
) -> io::Result<()> {
    // As connections do.
    let _ = sys::set_any_local_port(socket.as_fd());
    if let Some(from) = from {
        sys::bind_without_port(socket.as_fd(), from)?;
    }
    socket.connect_timeout(to, left_until(deadline)?)
}

/// Of one that is connected.
fn check(socket: &Socket, rules: &ActiveHealth, deadline: Instant) -> Outcome {
    let ActiveCheck::SendExpect { send, expect } = &rules.check else { return Outcome::Passed };
    match exchange(socket, [send, expect], deadline) {
        Ok(outcome) => outcome,
        Err(error) if is_timeout(&error) => {
            let timeout = humantime::format_duration(rules.timeout);
            Outcome::Failed(format!("no such answer within {timeout}"))
        }
        Err(error) => Outcome::Failed(format!("the check broke off: {error}")),
    }
}

fn connect_failed(error: &io::Error, timeout: Duration) -> Outcome {
    if is_timeout(error) {
        let timeout = humantime::format_duration(timeout);
        return Outcome::Failed(format!("no connection within {timeout}"));
    }
    match error.raw_os_error().map(Errno) {
        Some(errno) if !ConnectFailure::of(errno).blames_endpoint() => Outcome::Unable,
        Some(errno) => Outcome::Failed(format!("no connection: {errno}")),
        None => Outcome::Failed(format!("no connection: {error}")),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn exchange(
    mut socket: &Socket,
    [send, expect]: [&CheckBytes; 2],
    deadline: Instant,
) -> io::Result<Outcome> {
    socket.set_write_timeout(Some(left_until(deadline)?))?;
    socket.write_all(send.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; READ_BYTES];
    while answer.len() < ANSWER_MAX_BYTES {
        socket.set_read_timeout(Some(left_until(deadline)?))?;
        let count = match socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(Outcome::Failed("it closed without the expected answer".into()));
        }
        answer.extend_from_slice(&buffer[..count]);
        if answer.windows(expect.as_bytes().len()).any(|part| part == expect.as_bytes()) {
            return Ok(Outcome::Passed);
        }
    }
    Ok(Outcome::Failed(format!("{ANSWER_MAX_BYTES} bytes without the expected answer")))
}

/// Never zero, which would mean no timeout at all.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
