//! What a run is to do.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Engine;

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// What one operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connect, wait for the first byte or the FIN of the server, close.
    Accept,
    /// Connect, request, whole response, close. One operation is all of it.
    Crr,
    /// Request and response on a connection that stays open. One operation is one exchange.
    Rr,
    /// HTTP/1.1 GET; one operation is one request. 1 request per connection is crr, `None` keeps it.
    Http {
        /// After so many requests the connection is closed and a new one made.
        requests_per_connection: Option<u32>,
    },
    /// Open connections at a pace, keep them, and poke each with one request and response.
    Hold,
    /// As many bytes as go through. One operation is one chunk of `request_bytes` sent, and, where the
    /// server echoes, the same bytes received.
    Stream {
        /// Whether the server sends the bytes back.
        echo: bool,
    },
    /// All connections at once: connect, request, response, close.
    Storm,
}

/// When operations start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection starts its next operation when the last one is done.
    Closed {
        /// Connections at a time.
        connections: usize,
    },
    /// Starts are planned beforehand and never wait for earlier ones.
    Open {
        /// Starts per second over all threads.
        rate: f64,
        /// How they are spread.
        arrival: Arrival,
        /// Operations in flight at most; what is due beyond that is counted as not started.
        max_inflight: usize,
    },
}

/// How planned starts are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Independent of each other, as many users are.
    Poisson,
    /// Evenly.
    Uniform,
}

/// Who ends a connection, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseStyle {
    /// The client sends its FIN first.
    Fin,
    /// The client resets (SO_LINGER 0).
    Rst,
    /// The client waits for the server's FIN.
    Server,
    /// The client sends its FIN after the request, reads until the server's, then closes.
    Half,
}

/// Local addresses of the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// The kernel chooses.
    Kernel,
    /// These in turn, each with as many ports as the kernel has for it.
    Rotate(Vec<IpAddr>),
}

/// How long one step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start to the completed handshake.
    pub connect: Duration,
    /// From the request to the whole response, or the end where that is waited for.
    pub response: Duration,
}

/// What a run is to do, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// What one operation is.
    pub mode: Mode,
    /// When operations start.
    pub pace: Pace,
    /// How connections end.
    pub close: CloseStyle,
    /// Bytes of a request; not for HTTP.
    pub request_bytes: usize,
    /// Bytes of a response; for HTTP those of the body, `None` takes what Content-Length says.
    pub response_bytes: Option<usize>,
    /// HTTP: path and host.
    pub http_path: String,
    /// The window that is measured.
    pub duration: Duration,
    /// Not measured, before the window.
    pub warm_up: Duration,
    /// Ends the run early after so many operations.
    pub count: Option<u64>,
    /// Threads, each with a ring.
    pub threads: usize,
    /// What their rings run on.
    pub engine: Engine,
    /// Limits of one step.
    pub timeouts: Timeouts,
    /// Local addresses.
    pub sources: Sources,
    /// Seed of the arrivals and payloads.
    pub seed: u64,
    /// Process whose CPU time, memory and switches are observed.
    pub server_pid: Option<u32>,
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A short closed loop against a port that a test fills in.
    pub(in crate::load) fn plan(mode: Mode) -> Plan {
        Plan {
            target: Target::Tcp(SocketAddr::from(([127, 0, 0, 1], 9))),
            mode,
            pace: Pace::Closed { connections: 4 },
            close: CloseStyle::Fin,
            request_bytes: 64,
            response_bytes: None,
            http_path: "/".into(),
            duration: Duration::from_millis(300),
            warm_up: Duration::ZERO,
            count: None,
            threads: 1,
            engine: Engine::Auto,
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                response: Duration::from_secs(5),
            },
            sources: Sources::Kernel,
            seed: 1,
            server_pid: None,
        }
    }
}
