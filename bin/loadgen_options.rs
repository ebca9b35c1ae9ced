//! The command line of `loadgen`, in two stages: as typed (clap), then checked (a [`Plan`]).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uring_acceptor::load::Plan;
use uring_acceptor::load::knee::Limits;
use uring_acceptor::load::place::{Family, Place};

mod address;
mod check;
mod compare;
#[path = "engines.rs"]
mod engines;
mod http;
mod knee;
mod pace;
#[cfg(test)]
mod tests;
mod typed;
#[path = "usage.rs"]
mod usage;
mod values;

use address::HttpAddress;
use compare::CompareOptions;
use knee::KneeOptions;
use typed::{
    Address, AnswerOptions, Common, Crowd, HttpOptions, KeptPace, Measured, PaceOptions, Sizes,
    StreamOptions,
};
use usage::Absent;
pub(crate) use values::Sink;
use values::file;

/// What the command line asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// What to do.
    pub(crate) task: Task,
    /// Where its figures go.
    pub(crate) outputs: Outputs,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Task {
    /// Make load and measure.
    Run(Box<Run>),
    /// Make load at rising rates until the server does not keep up.
    Seek(Box<Seeking>),
    /// Add up runs that were made at the same time, from their JSON files.
    Merge(Vec<PathBuf>),
    /// Show runs side by side, from their JSON files.
    Report(Vec<PathBuf>),
    /// Say which differences between two runs are noise, from their JSON files.
    Compare(Comparing),
}

/// A search for the knee.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seeking {
    /// What a step does. Its pace has no rate yet.
    pub(crate) run: Run,
    /// Of the closed loop that finds where to begin.
    pub(crate) connections: usize,
    /// What a step must keep to.
    pub(crate) limits: Limits,
}

/// Two runs and how to compare them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparing {
    /// What is compared with.
    pub(crate) a: PathBuf,
    /// What is compared.
    pub(crate) b: PathBuf,
    /// Of the bootstrap.
    pub(crate) seed: u64,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Where to, as it was typed.
    pub(crate) place: Place,
    /// Which addresses of a name are meant.
    pub(crate) family: Family,
    /// What it does. It has no targets yet, which are the addresses of the place; its sources are those
    /// that were given, and `load::sources::for_plan` settles them.
    pub(crate) plan: Plan,
    /// The target may be another machine.
    pub(crate) allow_remote: bool,
}

/// Where figures go.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Outputs {
    /// Write the full report as JSON; - is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<Sink>,
    /// Write one CSV line per second; - is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<Sink>,
    /// Write the latency histograms as an HdrHistogram log
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(crate) hdr: Option<PathBuf>,
    /// Plot latency by percentile
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(crate) svg: Option<PathBuf>,
    /// Write an HTML report with tables and charts
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(crate) html: Option<PathBuf>,
    /// Print only errors, no progress and no table
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Parses the arguments of this process. Prints help, version or the error and exits (0 or 2) where
/// that is what was asked for or deserved.
pub(crate) fn parse() -> Options {
    try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses `arguments`, the first of which is the program's name.
pub(crate) fn try_parse_from<I, T>(arguments: I) -> Result<Options, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    usage::parse(arguments, &ABSENT, |CommandLine { command }| command.checked())
}

const ABSENT: [Absent; 7] = [
    Absent {
        of: ("stream", "--rate"),
        why: "it sends as much as goes through, on --connections N",
    },
    Absent { of: ("storm", "--rate"), why: "all its connections start at once; use crr --rate R" },
    Absent { of: ("storm", "--warm-up"), why: "what happens first is what it measures" },
    Absent { of: ("hold", "--warm-up"), why: "what happens first is what it measures" },
    Absent { of: ("http", "--request-size"), why: "give --body or --body-file" },
    Absent { of: ("http", "--response-size"), why: "the server decides; see --expect-body-size" },
    Absent {
        of: ("crr", "--think"),
        why: "each operation has a connection of its own; use rr --think TIME, or a --rate R",
    },
];

/// Generate TCP and HTTP load, and report latencies you can trust
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
`loadgen COMMAND --help` lists the options of a command. ADDR is HOST:PORT, IP:PORT, [IPv6]:PORT, \
[fe80::1%eth0]:PORT, unix:PATH or unix:@NAME (abstract); http also takes http://HOST:PORT/PATH. A \
name is resolved once, and connections use its addresses in turn.

With --connections (closed loop, as in wrk), each connection starts its next operation as soon as \
the last one is done: use it to find the maximum throughput. With --rate (open loop), \
operations start on a schedule and latency is measured from the scheduled start: use it to find \
the latency at a given rate. With both (rr and http only; as in wrk2), operations that are due while all \
connections are busy wait for a free one, and the wait counts as latency.

The target must be this machine unless --allow-remote is given. Every run has a time limit.

Exit status: 0 success; 1 the run failed, or more than 1 % of its operations did; 2 usage error, \
found before the run: bad options, a file that cannot be read or created, too few ports or \
descriptors; 4 the measurement is not trustworthy (the report says why); 69 io_uring is \
unavailable and epoll was not allowed.";

const HTTP_AFTER_HELP: &str = "\
When the server closes a kept connection before the first byte of a response, requests with an \
idempotent method (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110, section 9.2.2) are sent again \
on a new connection. Others, such as POST and PATCH, are not, since the server may have acted on \
them: they fail. What was never sent moves to a new connection whatever its method.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect, wait for the server's first byte or FIN, close
    Accept {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        pace: PaceOptions,
        #[command(flatten)]
        knee: KneeOptions,
        #[command(flatten)]
        common: Measured,
    },
    /// Connect, send a request, read the response, close
    Crr {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        pace: PaceOptions,
        #[command(flatten)]
        knee: KneeOptions,
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        common: Measured,
    },
    /// Request and response on persistent connections
    Rr {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        pace: KeptPace,
        #[command(flatten)]
        knee: KneeOptions,
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        common: Measured,
    },
    /// Send HTTP/1.1 requests
    #[command(after_help = HTTP_AFTER_HELP)]
    Http {
        // No doc comment: rustdoc takes the brackets for a link.
        #[arg(
            help = "Target: http://HOST:PORT/PATH, HOST:PORT, IP:PORT, [IPv6]:PORT, unix:PATH or unix:@NAME",
            value_name = "ADDR"
        )]
        address: HttpAddress,
        #[command(flatten)]
        pace: KeptPace,
        #[command(flatten)]
        knee: KneeOptions,
        #[command(flatten)]
        http: Box<HttpOptions>,
        #[command(flatten)]
        answers: AnswerOptions,
        #[command(flatten)]
        common: Measured,
    },
    /// Open connections and hold them, with one request and response on each
    Hold {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        pace: PaceOptions,
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        common: Common,
    },
    /// Send as many bytes as the server takes
    Stream {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        crowd: Crowd,
        #[command(flatten)]
        stream: StreamOptions,
        #[command(flatten)]
        common: Measured,
    },
    /// Open all connections at once; on each, one request and response, then close
    Storm {
        #[command(flatten)]
        target: Address,
        #[command(flatten)]
        crowd: Crowd,
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        common: Common,
    },
    /// Merge runs of several processes or machines that ran at the same time
    Merge {
        /// The --json file of each run
        #[arg(value_name = "FILE", required = true, num_args = 2..)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Print or plot stored runs, side by side
    Report {
        /// The --json file of each run
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Compare two runs metric by metric: ratio, confidence interval, and what is noise
    Compare(CompareOptions),
}
