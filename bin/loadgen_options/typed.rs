//! Groups of options as they are typed; each command takes those that mean something to it.

use std::net::IpAddr;

use clap::Args;
use uring_acceptor::config::Engine;
use uring_acceptor::load::Target;

use super::Outputs;
use super::engines::EngineName;
use super::human::Human;
use super::values::{
    Arriving, Closing, body_bytes, connections, count, deadline, message_bytes, pid, rate,
    requests, tcp_or_unix, threads, warm_up, window,
};

#[derive(Debug, Args)]
pub(super) struct Address {
    // No doc comment: rustdoc takes the brackets for a link.
    #[arg(help = "Where to: IP:PORT, [IPv6]:PORT or unix:PATH", value_name = "ADDR", value_parser = tcp_or_unix)]
    pub(super) address: Target,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct Crowd {
    /// Connections at a time
    #[arg(short, long, value_name = "N", value_parser = connections, default_value_t = 64)]
    pub(super) connections: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct PaceOptions {
    /// Connections at a time, each starting its next operation when the last one is done
    #[arg(short, long, value_name = "N", value_parser = connections, default_value_t = 64,
          conflicts_with = "rate")]
    pub(super) connections: usize,
    /// Starts per second instead, planned beforehand, whatever the server does
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How planned starts are spread
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Arriving::POISSON, requires = "rate")]
    pub(super) arrival: Arriving,
    /// Operations in flight at most; a run with more that are due is invalid
    #[arg(long, value_name = "N", value_parser = connections, default_value_t = 4096, requires = "rate")]
    pub(super) max_inflight: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct Sizes {
    /// Size of a request
    #[arg(long, value_name = "BYTES", value_parser = message_bytes, default_value_t = 64)]
    pub(super) request_size: usize,
    /// Size of a response [default: that of a request, echoed]
    #[arg(long, value_name = "BYTES", value_parser = message_bytes)]
    pub(super) response_size: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct HttpOptions {
    /// Requests until a connection is replaced; 1: one connection each [default: no end]
    #[arg(long, value_name = "N", value_parser = requests)]
    pub(super) requests_per_connection: Option<u32>,
    /// Size that the body of a response must have [default: its Content-Length]
    #[arg(long, value_name = "BYTES", value_parser = body_bytes)]
    pub(super) response_size: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct StreamOptions {
    /// Size of a chunk
    #[arg(long, value_name = "BYTES", value_parser = message_bytes, default_value_t = 65_536)]
    pub(super) request_size: usize,
    /// The server sends everything back, and that is checked
    #[arg(long)]
    pub(super) echo: bool,
}

/// The options of a run that has a state to warm up to.
#[derive(Debug, Args)]
pub(super) struct Measured {
    /// Time before the window, not measured
    #[arg(long, value_name = "TIME", value_parser = warm_up, help_heading = "Window (TIME: 500ms, 60s, 5m)",
          default_value = "500ms")]
    pub(super) warm_up: Human,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) window: Window,
    #[command(flatten)]
    pub(super) connecting: Connecting,
    #[command(flatten)]
    pub(super) observing: Observing,
    #[command(flatten)]
    pub(super) outputs: Outputs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Window (TIME: 500ms, 60s, 5m)")]
pub(super) struct Window {
    /// Time that is measured
    #[arg(short, long, value_name = "TIME", value_parser = window, default_value = "5s")]
    pub(super) duration: Human,
    /// End after so many operations, if that is sooner [default: no end]
    #[arg(short = 'n', long, value_name = "N", value_parser = count)]
    pub(super) count: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
pub(super) struct Connecting {
    /// Who ends a connection: the client by its FIN or a reset, the server, or the client by a
    /// half-close after its request [default: fin; http with --requests-per-connection: server]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) close: Option<Closing>,
    /// From the start to the completed handshake
    #[arg(long, value_name = "TIME", value_parser = deadline, default_value = "10s")]
    pub(super) connect_timeout: Human,
    /// From the request to the whole response
    #[arg(long, value_name = "TIME", value_parser = deadline, default_value = "10s")]
    pub(super) response_timeout: Human,
    /// Connect from this address; repeatable, taken in turn [default: as ports are needed]
    #[arg(long, value_name = "IP")]
    pub(super) source: Vec<IpAddr>,
    /// The target may be another machine
    #[arg(long)]
    pub(super) allow_remote: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Generator")]
pub(super) struct Observing {
    /// Threads, each with a ring; at most the CPUs of this process
    #[arg(short, long, value_name = "N", value_parser = threads, default_value_t = 1)]
    pub(super) threads: usize,
    /// What reads and writes; auto: io_uring, or epoll where that is refused
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = EngineName(Engine::Auto))]
    pub(super) engine: EngineName,
    /// Seed of arrivals and payloads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Observe the CPU time and memory of this process and its children
    #[arg(long, value_name = "PID", value_parser = pid)]
    pub(super) server_pid: Option<u32>,
}
