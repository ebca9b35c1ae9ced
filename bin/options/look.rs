//! The options of `acceptor status` and `acceptor top`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use uring_acceptor::config::AdminAddress;
use uring_acceptor::config::human::{Human, duration_in};

/// How often a server is asked, at most and at least.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

const AFTER_HELP: &str = "\
docs/METRICS.md says what the numbers mean.

Exit status: 0 success, 1 failure (such as an unreachable server), 2 usage error.";

const KEYS: &str = "\
Keys: 1 to 7, Tab, arrows left and right: view; a, i, b, w, s: sort connections by age, idle time, bytes, time in the \
accept queue, stall; o, r, x: sort sources by open connections, rate used, refusals; f: those of the next frontend; arrows up and down, PgUp, PgDn, Home: scroll; q, Esc, Ctrl-C: quit.

docs/METRICS.md says what the numbers mean.

Exit status: 0 success, 1 failure (such as an unreachable server), 2 usage error.";

/// Where the admin endpoint of a server is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Endpoint {
    /// Admin endpoint of the server: PORT (on 127.0.0.1), IP:PORT or unix:PATH [default:
    /// $ACCEPTOR_ADMIN, else 127.0.0.1:9100]
    #[arg(value_name = "ADDR")]
    pub(crate) address: Option<AdminAddress>,
}

/// A status, once.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A picture, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = KEYS)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Refresh interval
    #[arg(long, value_name = "TIME", value_parser = interval, default_value_t = Human(Duration::from_secs(1)))]
    pub(crate) interval: Human,
    /// Print one snapshot as text after one interval, then exit
    #[arg(long)]
    pub(crate) once: bool,
    /// Initial view; with --once, the only view printed [default: listeners; with --once: all
    /// except connections, clients and sources]
    #[arg(long, value_enum, value_name = "VIEW")]
    pub(crate) view: Option<View>,
    /// Sort order of the connections view
    #[arg(long, value_enum, value_name = "KEY", default_value_t = Order::Bytes)]
    pub(crate) sort: Order,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Verdicts and accept queues.
    Listeners,
    /// Connections per worker, and thread activity.
    Workers,
    /// Backend state, connections and traffic.
    Upstreams,
    /// Open connections (fetched only while this view is shown).
    Connections,
    /// Clients with most connections (fetched only while this view is shown).
    Clients,
    /// How long connections took, by frontend.
    Times,
    /// Sources with a limit, what rules by source did, and bans (sources are fetched only while this view is shown).
    Sources,
}

impl View {
    pub(crate) const ALL: [Self; 7] = [
        Self::Listeners,
        Self::Workers,
        Self::Upstreams,
        Self::Connections,
        Self::Clients,
        Self::Times,
        Self::Sources,
    ];

    /// Whether the server makes a list for it.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Connections | Self::Clients | Self::Sources)
    }
}

/// What comes first in a list of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Oldest first.
    Age,
    /// Longest idle first.
    Idle,
    /// Most bytes first.
    Bytes,
    /// Longest in the accept queue first (noted for new connections while this is asked for).
    Wait,
    /// Longest stalled first: a peer takes nothing of what is sent to it.
    Stall,
}

impl Order {
    /// As the endpoint takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Bytes => "bytes",
            Self::Wait => "wait",
            Self::Stall => "stall",
        }
    }
}

fn interval(text: &str) -> Result<Human, String> {
    duration_in(text, INTERVAL_MIN..=INTERVAL_MAX)
}
