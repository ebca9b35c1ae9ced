//! Groups of options as they are typed; each command takes those that mean something to it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use uring_acceptor::config::Engine;
use uring_acceptor::load::place::Place;
use uring_acceptor::load::request::{Field, Order};
use uring_acceptor::load::status::StatusSet;

use super::Outputs;
use super::address::place;
use super::engines::EngineName;
use super::human::Human;
use super::values::{
    Arriving, Closing, Ordering, body_bytes, connections, count, deadline, message_bytes, pid,
    pipeline, rate, requests, threads, warm_up, window,
};

#[derive(Debug, Args)]
pub(super) struct Address {
    // No doc comment: rustdoc takes the brackets for a link.
    #[arg(help = "Where to: HOST:PORT, IP:PORT, [IPv6]:PORT, unix:PATH or unix:@NAME", value_name = "ADDR", value_parser = place)]
    pub(super) address: Place,
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
    /// Connections at a time, each starting its next operation when the last one is done. With
    /// --rate, in rr and http: connections that stay open, and operations wait for a free one
    /// [default: 64, without --rate]
    #[arg(short, long, value_name = "N", value_parser = connections)]
    pub(super) connections: Option<usize>,
    /// Starts per second, planned beforehand; latency counts from the planned start
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How planned starts are spread [default: poisson]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) arrival: Option<Arriving>,
    /// Operations in flight at most, with --rate and without --connections; a run with more that
    /// are due is invalid [default: 4096]
    #[arg(long, value_name = "N", value_parser = connections)]
    pub(super) max_inflight: Option<usize>,
}

/// The pace of a command whose connections stay open.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct KeptPace {
    #[command(flatten)]
    pub(super) pace: PaceOptions,
    /// Pause of a connection between two of its operations [default: none]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(super) think: Option<Human>,
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
#[command(next_help_heading = "Requests")]
pub(super) struct HttpOptions {
    /// Requests until a connection is replaced; 1: one connection each [default: no end]
    #[arg(long, value_name = "N", value_parser = requests)]
    pub(super) requests_per_connection: Option<u32>,
    /// Requests that are sent on a connection without waiting for their answers
    #[arg(long, value_name = "K", value_parser = pipeline, default_value_t = 1)]
    pub(super) pipeline: usize,
    /// Method of the request [default: GET, with a body POST]
    #[arg(short, long, value_name = "METHOD")]
    pub(super) method: Option<String>,
    /// A header, 'Name: value'; repeatable; replaces the default of its name, and an empty value
    /// takes that out
    #[arg(short = 'H', long, value_name = "HEADER", value_parser = Field::parse)]
    pub(super) header: Vec<Field>,
    /// The User-Agent header [default: uring-acceptor-loadgen/VERSION]
    #[arg(long, value_name = "TEXT")]
    pub(super) user_agent: Option<String>,
    /// Body of the request
    #[arg(long, value_name = "TEXT")]
    pub(super) body: Option<String>,
    /// Body of the request, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    pub(super) body_file: Option<PathBuf>,
    /// Send the requests in FILE: a path on each line, or a JSON object with method, path, headers
    /// and body, each of which may be left out
    #[arg(long, value_name = "FILE")]
    pub(super) requests: Option<PathBuf>,
    /// How the requests of a file follow each other, in each thread
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Ordering(Order::InTurn))]
    pub(super) order: Ordering,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Answers")]
pub(super) struct AnswerOptions {
    /// Statuses that are a success: 2xx, 204, 200-206, or a list; others are failures
    /// [default: all below 400]
    #[arg(long, value_name = "STATUS")]
    pub(super) expect_status: Option<StatusSet>,
    /// Size that each body must have [default: any]
    #[arg(long, value_name = "BYTES", value_parser = body_bytes)]
    pub(super) expect_body_size: Option<usize>,
    /// Each body must have the size of the first one to the same request
    #[arg(long, conflicts_with = "expect_body_size")]
    pub(super) verify: bool,
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
    /// Use the IPv4 addresses of a name only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// Use the IPv6 addresses of a name only
    #[arg(short = '6', long)]
    pub(super) ipv6: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Generator")]
pub(super) struct Observing {
    /// Threads, each with a ring; more than this process has CPUs take turns
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
