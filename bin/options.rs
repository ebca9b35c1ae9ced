//! The command line, in two stages: as typed (clap), then checked (a [`Config`]).
//!
//! Every default comes from [`Config::default`], so the help text cannot drift from the program.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;
use uring_acceptor::config::{
    Acceptors, Config, CpuList, Limits, Listen, RingSizes, SocketOptions, Threads, Timeouts,
};

mod doctor;
#[path = "engines.rs"]
mod engines;
#[path = "human.rs"]
mod human;
mod proxy;
#[path = "usage.rs"]
mod usage;
mod values;
pub(crate) use doctor::Examination;
use engines::EngineName;
use human::Human;
pub(crate) use proxy::ProxyChoice;
use values::{
    BodyBytes, Policy, acceptors, buffer_bytes, completion_entries, interval, keepalive,
    stats_interval, threads, timeout, up_to,
};

/// What the command line asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Task {
    /// Run a service.
    Serve(Box<Options>),
    /// Look at the machine.
    Examine(Box<Examination>),
    /// What the child process of an examination does.
    Probe,
}

/// How a service is run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// The protocol to run.
    pub(crate) service: ServiceChoice,
    /// What the server is told.
    pub(crate) config: Config,
    /// How the log is written.
    pub(crate) logging: Logging,
    /// Time between two lines of live figures; `None` is off.
    pub(crate) stats_interval: Option<Duration>,
}

/// The protocol to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServiceChoice {
    /// Everything comes back.
    Echo,
    /// Everything is dropped.
    Discard,
    /// HTTP with one fixed answer.
    Http {
        /// The body of the answer.
        body: Vec<u8>,
    },
    /// Everything goes to a backend and back.
    Proxy(Box<ProxyChoice>),
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logging {
    /// Its form.
    pub(crate) format: LogFormat,
    /// The least important level that is written.
    pub(crate) level: LevelFilter,
}

/// The form of a log line: for people, or one JSON object each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Parses the arguments of this process. Prints help, version or the error and exits (0 or 2) where
/// that is what was asked for or deserved.
pub(crate) fn parse() -> Task {
    try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses `arguments`, the first of which is the program's name.
pub(crate) fn try_parse_from<I, T>(arguments: I) -> Result<Task, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    usage::parse(arguments, &[], CommandLine::checked)
}

/// Answer TCP connections from a listening socket that tells the truth about its queue
#[derive(Debug, Parser)]
#[command(
    name = "acceptor",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Serve(Box<Service>),
    /// Say whether a server can run here, what limits it, and how to mend that
    Doctor(doctor::Typed),
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Send back whatever comes (RFC 862)
    Echo(Common),
    /// Read and drop whatever comes (RFC 863)
    Discard(Common),
    /// Answer every HTTP request with the same body
    Http {
        #[command(flatten)]
        body: Body,
        #[command(flatten)]
        common: Common,
    },
    /// Pass every connection on to a backend
    Proxy {
        #[command(flatten)]
        proxy: Box<proxy::Typed>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Body {
    /// The body of every answer [default: hello and a newline]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Answer with this many bytes of filler instead
    #[arg(long, value_name = "BYTES")]
    body_size: Option<BodyBytes>,
}

const AFTER_HELP: &str = "\
`acceptor SERVICE --help` lists the options of a service; `acceptor doctor` tells what this \
machine allows.

Each listener that accepts is a line on stdout, `listening ADDRESS SERVICE`, with the port that \
was chosen; everything else goes to stderr, and so do these lines with `--access-log -`, which \
has stdout for itself.

SIGTERM and SIGINT drain: no new connections, those that wait in the kernel's queue are served, \
open ones may finish. A second signal stops at once.

Exit status: 0 clean stop, 1 failure while running, 2 usage or configuration, 69 this machine \
cannot run it.";

/// The body of an HTTP answer when none is given.
const DEFAULT_BODY: &str = "hello\n";

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    listening: Listening,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    deadlines: Deadlines,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening")]
struct Listening {
    /// Where to listen: IP:PORT, NAME:PORT, :PORT (all addresses), unix:PATH, unix:@NAME; port 0: a
    /// free one; repeatable
    #[arg(long, value_name = "ADDR", default_values_t = Config::default().listen)]
    listen: Vec<Listen>,
    /// Length of the accept queue [default: net.core.somaxconn]
    #[arg(long, value_name = "N", value_parser = up_to(i32::MAX as u32))]
    backlog: Option<NonZeroU32>,
    /// Take a connection only when its first bytes are there (TCP_DEFER_ACCEPT)
    #[arg(long)]
    defer_accept: bool,
    /// Let N connections wait with data in their SYN (TCP_FASTOPEN) [default: off]
    #[arg(long, value_name = "N", value_parser = up_to(i32::MAX as u32))]
    fast_open: Option<NonZeroU32>,
    /// Let the kernel gather small writes (TCP_NODELAY off)
    #[arg(long)]
    nagle: bool,
    /// Probe a peer that has been silent this long (SO_KEEPALIVE) [default: off]
    #[arg(long, value_name = "TIME", value_parser = keepalive)]
    keepalive: Option<Human>,
    /// Give up when sent bytes stay unacknowledged this long (TCP_USER_TIMEOUT) [default: kernel]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    user_timeout: Option<Human>,
    /// An IPv6 wildcard takes IPv6 only, not both (IPV6_V6ONLY)
    #[arg(long)]
    v6_only: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Threads and limits")]
struct Running {
    /// Threads that read and write [default: the CPUs this process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    workers: Option<NonZeroUsize>,
    /// Threads that only accept; 0: each worker accepts; auto: 1, or 0 with one worker
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = acceptors)]
    acceptors: Acceptors,
    /// Which worker gets a connection
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Policy(Config::default().dispatch))]
    dispatch: Policy,
    /// Open connections; more wait in the accept queue [default: from RLIMIT_NOFILE]
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    max_connections: Option<NonZeroU32>,
    /// Pin threads to these CPUs in turn, workers first: 0-3,8 [default: no pinning]
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// Receive buffers of each worker [default: one per connection, as far as they go]
    #[arg(long, value_name = "N", value_parser = up_to(*RingSizes::BUFFERS.end()))]
    buffers: Option<NonZeroU32>,
    /// Size of a receive buffer [default: 16384; proxy: 32768]
    #[arg(long, value_name = "BYTES", value_parser = buffer_bytes)]
    buffer_size: Option<u32>,
    /// What reads and writes; auto: io_uring, or epoll where that is refused
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = EngineName(Config::default().engine))]
    engine: EngineName,
    /// Completion queue entries of each io_uring [default: from the backlog]
    #[arg(long, value_name = "N", value_parser = completion_entries)]
    cq_entries: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Deadlines (TIME: 500ms, 60s, 5m)")]
struct Deadlines {
    /// From accept to the first byte
    #[arg(long, value_name = "TIME", value_parser = timeout,
          default_value_t = Human(Timeouts::default().first_byte))]
    first_byte_timeout: Human,
    /// Without a byte, after the first
    #[arg(long, value_name = "TIME", value_parser = timeout,
          default_value_t = Human(Timeouts::default().idle))]
    idle_timeout: Human,
    /// With bytes to send and a peer that takes none [default: 30s; proxy: as --idle-timeout]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    write_stall_timeout: Option<Human>,
    /// From the first signal to the end of the last session; 0s: at once
    #[arg(long, value_name = "TIME", value_parser = interval,
          default_value_t = Human(Timeouts::default().drain))]
    drain_timeout: Human,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Time between two lines of live figures on a terminal; 0s: none
    #[arg(long, value_name = "TIME", value_parser = stats_interval,
          default_value_t = Human(Duration::from_secs(1)))]
    stats_interval: Human,
    /// Form of the log on stderr
    #[arg(long, value_enum, value_name = "FORM", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log more; twice for everything
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
}

impl CommandLine {
    fn checked(self) -> Result<Task, String> {
        match self.command {
            Command::Serve(service) => {
                let (service, common) = service.split();
                let options = common.options(service);
                check(&options.config).and_then(|()| options.service.check())?;
                Ok(Task::Serve(Box::new(options)))
            }
            Command::Doctor(typed) => typed.checked(),
        }
    }
}

/// All that can be known without looking at the machine.
fn check(config: &Config) -> Result<(), String> {
    no_address_twice(&config.listen)?;
    config.validate().map_err(|error| error.to_string())
}

impl ServiceChoice {
    /// Bulk goes through a proxy with the fewest system calls in the largest buffers; the memory of
    /// a buffer becomes resident only as far as it is used.
    fn buffer_bytes(&self) -> u32 {
        match self {
            Self::Echo | Self::Discard | Self::Http { .. } => RingSizes::default().buffer_bytes,
            Self::Proxy(_) => *RingSizes::BUFFER_BYTES.end(),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Echo | Self::Discard | Self::Http { .. } => Ok(()),
            Self::Proxy(proxy) => proxy.config.validate().map_err(|error| error.to_string()),
        }
    }
}

impl Service {
    fn split(self) -> (ServiceChoice, Common) {
        match self {
            Self::Echo(common) => (ServiceChoice::Echo, common),
            Self::Discard(common) => (ServiceChoice::Discard, common),
            Self::Http { body, common } => (ServiceChoice::Http { body: body.bytes() }, common),
            Self::Proxy { proxy, common } => {
                let write_stall = common.deadlines.write_stall_timeout;
                (ServiceChoice::Proxy(Box::new(proxy.choice(write_stall))), common)
            }
        }
    }
}

impl Body {
    fn bytes(self) -> Vec<u8> {
        match (self.body, self.body_size) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(BodyBytes(size))) => vec![b'x'; size],
            (None, None) => DEFAULT_BODY.as_bytes().to_vec(),
        }
    }
}

impl Common {
    fn options(self, service: ServiceChoice) -> Options {
        let Self { listening, running, deadlines, output } = self;
        let mut config = Config::default();
        config.socket = listening.socket_options();
        config.listen = listening.listen;
        config.dispatch = running.dispatch.0;
        config.engine = running.engine.0;
        config.limits = running.limits();
        config.ring = running.ring_sizes(service.buffer_bytes());
        config.threads = running.threads();
        config.timeouts = deadlines.timeouts();
        let stats_interval = output.stats_interval();
        Options { service, config, logging: output.logging(), stats_interval }
    }
}

impl Listening {
    fn socket_options(&self) -> SocketOptions {
        SocketOptions {
            backlog: self.backlog,
            nodelay: !self.nagle,
            defer_accept: self.defer_accept,
            fast_open: self.fast_open,
            keepalive_idle: self.keepalive.map(|time| time.0),
            user_timeout: self.user_timeout.map(|time| time.0),
            v6_only: self.v6_only,
        }
    }
}

impl Running {
    fn limits(&self) -> Limits {
        let max_connections = self.max_connections.map(|count| {
            NonZeroUsize::try_from(count).expect("a usize has at least 32 bits on Linux")
        });
        Limits { max_connections, ..Config::default().limits }
    }

    fn ring_sizes(&self, default_buffer_bytes: u32) -> RingSizes {
        RingSizes {
            completion_entries: self.cq_entries,
            buffer_bytes: self.buffer_size.unwrap_or(default_buffer_bytes),
            buffers: self.buffers,
            ..RingSizes::default()
        }
    }

    fn threads(self) -> Threads {
        Threads { workers: self.workers, acceptors: self.acceptors, cpus: self.cpus }
    }
}

impl Deadlines {
    fn timeouts(&self) -> Timeouts {
        let defaults = Timeouts::default();
        Timeouts {
            first_byte: self.first_byte_timeout.0,
            idle: self.idle_timeout.0,
            write_stall: self.write_stall_timeout.map_or(defaults.write_stall, |time| time.0),
            drain: self.drain_timeout.0,
            ..defaults
        }
    }
}

impl Output {
    fn logging(&self) -> Logging {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::INFO,
            (false, 1) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        Logging { format: self.log_format, level }
    }

    fn stats_interval(&self) -> Option<Duration> {
        Some(self.stats_interval.0).filter(|interval| !interval.is_zero())
    }
}

/// With SO_REUSEPORT a second bind of the same port would succeed and silently share it.
fn no_address_twice(listen: &[Listen]) -> Result<(), String> {
    for (index, address) in listen.iter().enumerate() {
        if !address.any_port() && listen[..index].contains(address) {
            return Err(format!("--listen {address} is given twice; give each address once"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
