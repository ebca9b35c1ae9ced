//! What a run is to do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::request::{Order, Request};
use super::status::StatusSet;
use crate::config::{Engine, UnixAddress};

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(UnixAddress),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(name) => name.fmt(formatter),
        }
    }
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
    /// HTTP/1.1; one operation is one request. 1 request per connection is crr, `None` keeps it.
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
    /// Starts are planned beforehand, on connections that stay open. What is due while all of them
    /// are busy waits for one, and its latency counts from the planned start.
    Fixed {
        /// Connections.
        connections: usize,
        /// Starts per second over all threads.
        rate: f64,
        /// How they are spread.
        arrival: Arrival,
    },
}

impl Pace {
    /// Starts per second, where they are planned.
    pub fn rate(&self) -> Option<f64> {
        match *self {
            Self::Closed { .. } => None,
            Self::Open { rate, .. } | Self::Fixed { rate, .. } => Some(rate),
        }
    }

    /// Connections, or operations on connections of their own, at a time.
    pub fn at_once(&self) -> usize {
        match *self {
            Self::Closed { connections } | Self::Fixed { connections, .. } => connections,
            Self::Open { max_inflight, .. } => max_inflight,
        }
    }
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

/// What an HTTP run sends, and which answers are right.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpPlan {
    /// At least one.
    pub requests: Vec<Request>,
    /// In which order they are sent.
    pub order: Order,
    /// Requests that may wait for their answers on one connection, at least 1.
    pub pipeline: usize,
    /// An answer with another status is a failure.
    pub expect_status: StatusSet,
    /// An answer with a body of another size is a failure.
    pub expect_body: ExpectBody,
}

impl HttpPlan {
    /// Bytes of the longest request.
    pub(super) fn largest_request_bytes(&self) -> usize {
        let bytes = self.requests.iter().map(|request| request.bytes(true).len());
        bytes.max().unwrap_or_default()
    }
}

/// The right size of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectBody {
    /// Any: a page that is made for each request has another length each time.
    Any,
    /// So many bytes.
    Bytes(u64),
    /// That of the first right answer to the same request.
    LikeTheFirst,
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
    /// Where to; connections take them in turn. At least one.
    pub targets: Vec<Target>,
    /// What one operation is.
    pub mode: Mode,
    /// When operations start.
    pub pace: Pace,
    /// How connections end.
    pub close: CloseStyle,
    /// Bytes of a request; not for HTTP.
    pub request_bytes: usize,
    /// Bytes of a response; not for HTTP.
    pub response_bytes: Option<usize>,
    /// What [`Mode::Http`] sends; nothing for the other modes.
    pub http: Option<HttpPlan>,
    /// Pause of a connection between two of its operations.
    pub think: Duration,
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
    use crate::load::request::Template;

    /// `GET /`, any body, any status below 400.
    pub(in crate::load) fn http() -> HttpPlan {
        HttpPlan {
            requests: vec![Template::get("/").render("127.0.0.1:9", true)],
            order: Order::InTurn,
            pipeline: 1,
            expect_status: StatusSet::default(),
            expect_body: ExpectBody::Any,
        }
    }

    /// A short closed loop against a port that a test fills in.
    pub(in crate::load) fn plan(mode: Mode) -> Plan {
        Plan {
            targets: vec![Target::Tcp(SocketAddr::from(([127, 0, 0, 1], 9)))],
            mode,
            pace: Pace::Closed { connections: 4 },
            close: CloseStyle::Fin,
            request_bytes: 64,
            response_bytes: None,
            http: matches!(mode, Mode::Http { .. }).then(http),
            think: Duration::ZERO,
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
