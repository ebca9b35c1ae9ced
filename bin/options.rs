//! The command line, in two stages: as typed (clap), then checked (a [`Config`]).
//!
//! Every default comes from [`Config::default`], so the help text cannot drift from the program.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::IpNet;
use uring_acceptor::config::human::{Human, interval, keepalive, network, stats_interval, timeout};
use uring_acceptor::config::{
    Acceptors, AdminAddress, Config, CpuList, Frontend, HttpConfig, Listen, LogFormat, LogTarget,
    Process, Protocol, RingSizes, SocketOptions, Threads, Timeouts, UnixAddress,
    upstream::UpstreamConfig,
};
use uring_acceptor::config_file::default_buffer_bytes;

mod control;
mod doctor;
#[path = "engines.rs"]
mod engines;
mod file;
mod look;
mod overload;
mod proxy;
mod slow;
mod sources;
#[path = "usage.rs"]
mod usage;
mod values;
pub(crate) use control::{Call, Whom, control_address};
pub(crate) use doctor::Examination;
use engines::EngineName;
pub(crate) use file::{FileToCheck, FromFile};
pub(crate) use look::{Endpoint, Order, Status as StatusAsked, Top, View};
use slow::SlowClients;
use values::{
    BodyBytes, Policy, acceptors, buffer_bytes, completion_entries, log_format, queue_wait_sample,
    threads, up_to,
};

/// What the command line asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Task {
    /// Run a service, in the place of the process that answers there.
    Serve(Box<Options>, Option<UnixAddress>),
    /// Write the file that says the same.
    Print(Box<Options>),
    /// Run what a file says.
    Run(FromFile),
    /// Ask a running server.
    Call(Box<Call>),
    /// Ask an admin endpoint, once.
    Look(StatusAsked),
    /// Ask an admin endpoint again and again.
    Watch(Top),
    /// Judge a file.
    Check(FileToCheck),
    /// Write the JSON Schema of such a file.
    Schema,
    /// Write what completes command lines in a shell.
    Complete(Shell),
    /// Write the manual pages into this folder.
    WriteManual(PathBuf),
    /// Look at the machine.
    Examine(Box<Examination>),
    /// What the child process of an examination does.
    Probe,
}

/// How a service is run.
pub(crate) use uring_acceptor::config_file::{Logging, RunSettings as Options};

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

/// The command line as a whole, for what is made from it.
pub(crate) fn command() -> clap::Command {
    CommandLine::command()
}

/// Serve TCP connections on io_uring, and report what happens in the accept queue
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
    /// Serve what a configuration file says
    Run(file::Run),
    /// Check a configuration file: read, validate, resolve names; nothing is bound
    Check(file::Check),
    /// Have a running server read its configuration file again; no connection is touched
    Reload(control::Reload),
    /// Replace a running server by the program as it is on disk now; no connection is touched
    Upgrade(control::Upgrade),
    /// Look at a running server and change it, by its control socket
    Ctl(control::Ctl),
    /// Print frontends, accept queues, upstreams and backends, from the admin endpoint
    Status(StatusAsked),
    /// Live view of a running server in the terminal, from its admin endpoint
    Top(Top),
    /// Write the JSON Schema of the configuration file, for editors
    Schema,
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Check whether a server can run here, what limits it, and how to fix that
    Doctor(doctor::Typed),
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Send back whatever is received (RFC 862)
    Echo(Common),
    /// Read and discard whatever is received (RFC 863)
    Discard(Common),
    /// Answer every HTTP request with a fixed body
    Http {
        #[command(flatten)]
        body: Body,
        #[command(flatten)]
        slow: SlowClients,
        #[command(flatten)]
        common: Common,
    },
    /// Forward every connection to a backend (TCP load balancer)
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
    /// Body of every response [default: hello and a newline]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Respond with this many filler bytes instead
    #[arg(long, value_name = "BYTES")]
    body_size: Option<BodyBytes>,
}

const AFTER_HELP: &str = "\
`acceptor SERVICE --help` lists the options of a service; `acceptor run` serves several at once, \
as a file says; `acceptor doctor` checks what this machine allows.

Once it accepts connections, each listener prints a line to stdout, `listening ADDRESS SERVICE`, \
with the port that was chosen. Everything else goes to stderr; with `--access-log -`, which takes \
stdout for itself, these lines do too.

SIGTERM and SIGINT drain: no new connections are accepted, those already in the kernel's queue \
are served, and open ones may finish. A second signal stops at once.

Exit status: 0 clean stop, 1 failure while running, 2 usage or configuration error, 69 this \
machine cannot run it.";

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    listening: Listening,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    deadlines: Deadlines,
    #[command(flatten)]
    sources: sources::Rules,
    #[command(flatten)]
    overload: overload::Overload,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening")]
struct Listening {
    /// Address to listen on: IP:PORT, NAME:PORT, :PORT (all addresses), unix:PATH or unix:@NAME; port
    /// 0 picks a free one; repeatable
    #[arg(long, value_name = "ADDR", default_values_t = Frontend::default().listen)]
    listen: Vec<Listen>,
    /// Length of the accept queue [default: net.core.somaxconn]
    #[arg(long, value_name = "N", value_parser = up_to(i32::MAX as u32))]
    backlog: Option<NonZeroU32>,
    /// Accept a connection only once its first bytes have arrived (TCP_DEFER_ACCEPT)
    #[arg(long)]
    defer_accept: bool,
    /// Accept data in the SYN, with up to N such connections pending (TCP_FASTOPEN) [default: off]
    #[arg(long, value_name = "N", value_parser = up_to(i32::MAX as u32))]
    fast_open: Option<NonZeroU32>,
    /// Let the kernel coalesce small writes (no TCP_NODELAY)
    #[arg(long)]
    nagle: bool,
    /// Sample the accept-queue wait of one connection in N; 0: none
    #[arg(long, value_name = "N", default_value_t = SocketOptions::QUEUE_WAIT_SAMPLE, value_parser = queue_wait_sample)]
    queue_wait_sample: u32,
    /// Probe a peer after this long without traffic (SO_KEEPALIVE) [default: off]
    #[arg(long, value_name = "TIME", value_parser = keepalive)]
    keepalive: Option<Human>,
    /// Drop a connection whose sent data stays unacknowledged this long (TCP_USER_TIMEOUT)
    /// [default: kernel]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    user_timeout: Option<Human>,
    /// An IPv6 wildcard accepts IPv6 only, not both families (IPV6_V6ONLY)
    #[arg(long)]
    v6_only: bool,
    /// Expect a PROXY header (v1 or v2) on connections from this network; repeatable
    #[arg(long, value_name = "CIDR", value_parser = network)]
    proxy_protocol_in: Vec<IpNet>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Threads and limits")]
struct Running {
    /// Worker threads, which read and write [default: the CPUs this process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    workers: Option<NonZeroUsize>,
    /// Threads that only accept; 0: each worker accepts for itself; auto: the first worker accepts
    /// for all; with more than 4 workers, a dedicated thread does
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = acceptors)]
    acceptors: Acceptors,
    /// How connections are assigned to workers
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Policy(Process::default().dispatch))]
    dispatch: Policy,
    /// Maximum open connections; more wait in the accept queue [default: from RLIMIT_NOFILE]
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    max_connections: Option<NonZeroU32>,
    /// Pin threads to these CPUs in turn, workers first: 0-3,8 [default: no pinning]
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// Receive buffers of each worker [default: one per connection, up to 65535]
    #[arg(long, value_name = "N", value_parser = up_to(*RingSizes::BUFFERS.end()))]
    buffers: Option<NonZeroU32>,
    /// Receive buffer size [default: 16384; proxy: 32768]
    #[arg(long, value_name = "BYTES", value_parser = buffer_bytes)]
    buffer_size: Option<u32>,
    /// I/O engine; auto: io_uring, or epoll where io_uring is unavailable
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = EngineName(Process::default().engine))]
    engine: EngineName,
    /// Control socket, for `acceptor ctl`: unix:PATH or unix:@NAME [default: none]
    #[arg(long, value_name = "ADDR", value_parser = control::control_address)]
    control: Option<UnixAddress>,
    /// Take over from the process with this control socket, its listening sockets and its connections; start
    /// normally if there is none [default: none]
    #[arg(long, value_name = "ADDR", value_parser = control::control_address)]
    take_over: Option<UnixAddress>,
    /// Serve metrics and the status over HTTP: PORT (on 127.0.0.1), IP:PORT or unix:PATH [default: none]
    #[arg(long, value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// Completion queue entries of each io_uring [default: from the backlog]
    #[arg(long, value_name = "N", value_parser = completion_entries)]
    cq_entries: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Deadlines (TIME: 500ms, 60s, 5m)")]
struct Deadlines {
    /// Maximum time from accept to the first byte
    #[arg(long, value_name = "TIME", value_parser = timeout,
          default_value_t = Human(Timeouts::default().first_byte))]
    first_byte_timeout: Human,
    /// Maximum time without a byte in either direction, after the first
    #[arg(long, value_name = "TIME", value_parser = timeout,
          default_value_t = Human(Timeouts::default().idle))]
    idle_timeout: Human,
    /// Maximum time with data to send to a peer that reads none [default: 30s; proxy: same as
    /// --idle-timeout]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    write_stall_timeout: Option<Human>,
    /// Maximum time from the first signal until open sessions are cut off; 0s: at once
    #[arg(long, value_name = "TIME", value_parser = interval,
          default_value_t = Human(Process::default().drain_timeout))]
    drain_timeout: Human,
    /// In a drain, close idle connections (http, proxy) evenly over this time; 0s: idle http
    /// connections at once, proxied ones not at all
    #[arg(long, value_name = "TIME", value_parser = interval,
          default_value_t = Human(Process::default().drain_spread))]
    drain_spread: Human,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Log a line here for each connection when it ends: a file, - (stdout; the `listening` lines go to
    /// stderr then), journald:, syslog:, syslog:PATH or syslog:IP:PORT [default: no log]
    #[arg(long, value_name = "TARGET")]
    access_log: Option<LogTarget>,
    /// Format of the access log: text or json
    #[arg(long, value_name = "FORM", value_parser = log_format(), default_value = "text")]
    access_log_format: LogFormat,
    /// Refresh interval of the live statistics on a terminal; 0s: none
    #[arg(long, value_name = "TIME", value_parser = stats_interval,
          default_value_t = Human(Duration::from_secs(1)))]
    stats_interval: Human,
    /// Format of the log on stderr
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = log_format())]
    log_format: LogFormat,
    /// Log more; give it twice for everything
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
    /// Write the configuration file that does the same, and do not serve
    #[arg(long)]
    print_config: bool,
}

impl CommandLine {
    fn checked(self) -> Result<Task, String> {
        match self.command {
            Command::Serve(service) => {
                let (options, take_over, is_printed) = service.options();
                check(&options.config)?;
                let options = Box::new(options);
                Ok(match is_printed {
                    true => Task::Print(options),
                    false => Task::Serve(options, take_over),
                })
            }
            Command::Run(typed) => Ok(Task::Run(typed.into_task())),
            Command::Check(typed) => Ok(Task::Check(typed.into_task())),
            Command::Reload(typed) => Ok(Task::Call(Box::new(typed.into_call()))),
            Command::Upgrade(typed) => Ok(Task::Call(Box::new(typed.into_call()?))),
            Command::Ctl(typed) => Ok(Task::Call(Box::new(typed.into_call()))),
            Command::Status(typed) => Ok(Task::Look(typed)),
            Command::Top(typed) => Ok(Task::Watch(typed)),
            Command::Schema => Ok(Task::Schema),
            Command::Completions { shell } => Ok(Task::Complete(shell)),
            Command::Man { folder } => Ok(Task::WriteManual(folder)),
            Command::Doctor(typed) => typed.checked(),
        }
    }
}

/// All that can be known without looking at the machine.
fn check(config: &Config) -> Result<(), String> {
    config.validate().map_err(|error| error.to_string())
}

impl Service {
    fn split(self) -> (Protocol, Vec<UpstreamConfig>, Common) {
        match self {
            Self::Echo(common) => (Protocol::Echo, Vec::new(), common),
            Self::Discard(common) => (Protocol::Discard, Vec::new(), common),
            Self::Http { body, slow, common } => {
                let http = HttpConfig { body: body.bytes(), limits: slow.limits() };
                (Protocol::Http(http), Vec::new(), common)
            }
            Self::Proxy { proxy, common } => {
                let (proxy, upstreams) = proxy.split();
                (Protocol::Proxy(Box::new(proxy)), upstreams, common)
            }
        }
    }

    /// The options, whose place is taken, and whether they are to be printed.
    fn options(self) -> (Options, Option<UnixAddress>, bool) {
        let (protocol, upstreams, common) = self.split();
        let Common { listening, running, deadlines, sources, overload, output } = common;
        let mut frontend = Frontend::new(protocol.name(), protocol);
        frontend.socket = listening.socket_options();
        frontend.listen = listening.listen;
        frontend.trusted = listening.proxy_protocol_in;
        frontend.timeouts = deadlines.timeouts();
        frontend.sources = sources.config();
        frontend.overload = overload.config();
        frontend.access_log = output.access_log();
        let mut config = Config::of(frontend, upstreams);
        let ring = running.ring_sizes(default_buffer_bytes(&config));
        let process = &mut config.process;
        process.dispatch = running.dispatch.0;
        process.engine = running.engine.0;
        process.max_connections = running.max_connections();
        process.ring = ring;
        process.control = running.control.clone();
        process.admin = running.admin.clone();
        let take_over = running.take_over.clone();
        process.threads = running.threads();
        process.drain_timeout = deadlines.drain_timeout.0;
        process.drain_spread = deadlines.drain_spread.0;
        let (logging, stats_interval) = (output.logging(), output.stats_interval());
        let options = Options { config, logging, stats_interval };
        (options, take_over, output.print_config)
    }
}

impl Body {
    fn bytes(self) -> Vec<u8> {
        match (self.body, self.body_size) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(BodyBytes(size))) => vec![b'x'; size],
            (None, None) => HttpConfig::default().body,
        }
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
            queue_wait_sample: self.queue_wait_sample,
        }
    }
}

impl Running {
    fn max_connections(&self) -> Option<NonZeroUsize> {
        self.max_connections.map(|count| {
            NonZeroUsize::try_from(count).expect("a usize has at least 32 bits on Linux")
        })
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
        Threads {
            workers: self.workers,
            acceptors: self.acceptors,
            cpus: self.cpus,
            ..Process::default().threads
        }
    }
}

impl Deadlines {
    fn timeouts(&self) -> Timeouts {
        let defaults = Timeouts::default();
        Timeouts {
            first_byte: self.first_byte_timeout.0,
            idle: self.idle_timeout.0,
            write_stall: self.write_stall_timeout.map(|time| time.0),
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests;
