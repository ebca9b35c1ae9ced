//! Groups of options as they are typed; each command takes those that mean something to it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use uring_acceptor::config::Engine;
use uring_acceptor::load::place::Place;
use uring_acceptor::load::request::Field;
use uring_acceptor::load::status::StatusSet;

use super::Outputs;
use super::address::place;
use super::engines::EngineName;
use super::values::{
    Arriving, Closing, Ordering, body_bytes, connections, count, deadline, message_bytes, pid,
    pipeline, rate, requests, threads, warm_up, window,
};
use uring_acceptor::config::human::Human;

#[derive(Debug, Args)]
pub(super) struct Address {
    // No doc comment: rustdoc takes the brackets for a link.
    #[arg(help = "Target: HOST:PORT, IP:PORT, [IPv6]:PORT, unix:PATH or unix:@NAME", value_name = "ADDR", value_parser = place)]
    pub(super) address: Place,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct Crowd {
    /// Concurrent connections
    #[arg(short, long, value_name = "N", value_parser = connections, default_value_t = 64)]
    pub(super) connections: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct PaceOptions {
    /// Concurrent connections, each of which starts its next operation as soon as the last one is
    /// done. With --rate (rr and http only): a fixed pool of persistent connections; operations
    /// that are due wait for a free one [default: 64 without --rate]
    #[arg(short, long, value_name = "N", value_parser = connections)]
    pub(super) connections: Option<usize>,
    /// Start this many operations per second on a schedule made beforehand; latency is measured
    /// from the scheduled start (no coordinated omission)
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Distribution of the scheduled starts [default: poisson]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) arrival: Option<Arriving>,
    /// Maximum operations in flight, with --rate and without --connections; a run that would need
    /// more is invalid [default: 4096]
    #[arg(long, value_name = "N", value_parser = connections)]
    pub(super) max_inflight: Option<usize>,
}

/// The pace of a command whose connections stay open.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct KeptPace {
    #[command(flatten)]
    pub(super) pace: PaceOptions,
    /// Think time: pause on each connection between two operations [default: none]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(super) think: Option<Human>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct Sizes {
    /// Request size
    #[arg(long, value_name = "BYTES", value_parser = message_bytes, default_value_t = 64)]
    pub(super) request_size: usize,
    /// Response size [default: the request size, as an echo server answers]
    #[arg(long, value_name = "BYTES", value_parser = message_bytes)]
    pub(super) response_size: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub(super) struct HttpOptions {
    /// Replace a connection after this many requests; 1 opens one per request [default: unlimited]
    #[arg(long, value_name = "N", value_parser = requests)]
    pub(super) requests_per_connection: Option<u32>,
    /// Requests in flight on one connection (HTTP pipelining)
    #[arg(long, value_name = "K", value_parser = pipeline, default_value_t = 1)]
    pub(super) pipeline: usize,
    /// Request method [default: GET, or POST with a body]
    #[arg(short, long, value_name = "METHOD")]
    pub(super) method: Option<String>,
    /// Add a header, 'Name: value'; repeatable. It replaces the default header of that name; an
    /// empty value removes it
    #[arg(short = 'H', long, value_name = "HEADER", value_parser = Field::parse)]
    pub(super) header: Vec<Field>,
    /// User-Agent header [default: uring-acceptor-loadgen/VERSION]
    #[arg(long, value_name = "TEXT")]
    pub(super) user_agent: Option<String>,
    /// Request body
    #[arg(long, value_name = "TEXT")]
    pub(super) body: Option<String>,
    /// Read the request body from a file
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    pub(super) body_file: Option<PathBuf>,
    /// Send the requests in FILE, one per line: a path, or a JSON object with any of method, path,
    /// headers and body; what a line leaves out comes from the command line. A header with several
    /// values is a list: {"headers": {"Cookie": ["a=1", "b=2"]}}
    #[arg(long, value_name = "FILE")]
    pub(super) requests: Option<PathBuf>,
    /// Order in which each thread sends the requests of the file [default: in-turn]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub(super) order: Option<Ordering>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Answers")]
pub(super) struct AnswerOptions {
    /// Status codes that count as success: 2xx, 204, 200-206, or a list of these; all others are
    /// failures [default: everything below 400]
    #[arg(long, value_name = "STATUS")]
    pub(super) expect_status: Option<StatusSet>,
    /// Fail responses whose body has another size [default: any size]
    #[arg(long, value_name = "BYTES", value_parser = body_bytes)]
    pub(super) expect_body_size: Option<usize>,
    /// Fail responses whose body differs in size from the first one to the same request
    #[arg(long, conflicts_with = "expect_body_size")]
    pub(super) verify: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct StreamOptions {
    /// Chunk size
    #[arg(long, value_name = "BYTES", value_parser = message_bytes, default_value_t = 65_536)]
    pub(super) request_size: usize,
    /// Expect everything back, as from an echo server, and verify it
    #[arg(long)]
    pub(super) echo: bool,
}

/// The options of a run that has a state to warm up to.
#[derive(Debug, Args)]
pub(super) struct Measured {
    /// Run this long before measuring starts
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
    /// Length of the measurement
    #[arg(short, long, value_name = "TIME", value_parser = window, default_value = "5s")]
    pub(super) duration: Human,
    /// Stop after this many operations, if that comes first [default: unlimited]
    #[arg(short = 'n', long, value_name = "N", value_parser = count)]
    pub(super) count: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
pub(super) struct Connecting {
    /// How connections are closed: the client sends FIN or RST, the server closes first, or the
    /// client half-closes after its request [default: fin; http with --requests-per-connection:
    /// server]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) close: Option<Closing>,
    /// Time allowed for the TCP handshake
    #[arg(long, value_name = "TIME", value_parser = deadline, default_value = "10s")]
    pub(super) connect_timeout: Human,
    /// Time allowed from the request to the end of the response
    #[arg(long, value_name = "TIME", value_parser = deadline, default_value = "10s")]
    pub(super) response_timeout: Human,
    /// Local address to connect from; repeatable, used in turn [default: the kernel chooses;
    /// further loopback addresses when ports run short]
    #[arg(long, value_name = "IP")]
    pub(super) source: Vec<IpAddr>,
    /// Allow a target that is not this machine
    #[arg(long)]
    pub(super) allow_remote: bool,
    /// Use only the IPv4 addresses of a name
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// Use only the IPv6 addresses of a name
    #[arg(short = '6', long)]
    pub(super) ipv6: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Generator")]
pub(super) struct Observing {
    /// Threads, each with its own ring; more than there are CPUs distort the latencies
    #[arg(short, long, value_name = "N", value_parser = threads, default_value_t = 1)]
    pub(super) threads: usize,
    /// I/O engine; auto: io_uring, or epoll where io_uring is unavailable
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = EngineName(Engine::Auto))]
    pub(super) engine: EngineName,
    /// Seed for arrivals, payloads and the random order of requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Report the CPU time and memory of this process and its children
    #[arg(long, value_name = "PID", value_parser = pid)]
    pub(super) server_pid: Option<u32>,
}
