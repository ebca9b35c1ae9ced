//! The options of `acceptor ctl` and `acceptor reload`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;
use uring_acceptor::config::upstream::{Backend, Target, Weight};
use uring_acceptor::config::{ListenAddress, UnixAddress};
use uring_acceptor::control::{
    BackendChange, LEVELS, LIST_DEFAULT, LIST_MAX, Listing, Request, Setting, Sort, SourceSort,
};
use uring_acceptor::server::{BAN_MAX, ConnectionId};
use uring_acceptor::sources::Network;

use super::values::up_to;

/// What a running server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) to: Whom,
    /// JSON in place of text.
    pub(crate) json: bool,
    pub(crate) request: Request,
}

/// Where the server's control socket is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Whom {
    /// Control socket of the server: unix:PATH or unix:@NAME [default: from --config, else
    /// $ACCEPTOR_CONTROL]
    #[arg(long, global = true, value_name = "ADDR", value_parser = control_address)]
    pub(crate) control: Option<UnixAddress>,
    /// Configuration file that names the control socket
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "control")]
    pub(crate) config: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
docs/CONTROL.md describes each command, and the protocol.

Exit status: 0 done, 1 the server has refused or cannot be reached, 2 usage error.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Ctl {
    #[command(flatten)]
    to: Whom,
    /// Write JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Reload {
    #[command(flatten)]
    to: Whom,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

const AFTER_UPGRADE: &str = "\
The new process reads its whole configuration first: if it cannot run, nothing has happened. \
docs/UPGRADE.md describes what moves and what does not.

Exit status: 0 done, 1 the server has refused or cannot be reached, 2 usage error.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_UPGRADE)]
pub(super) struct Upgrade {
    #[command(flatten)]
    to: Whom,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Start this file [default: the one that the server was started from]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show frontends, upstreams, backends, and what was set by hand
    Status,
    /// Read the configuration file again and apply it; no connection is touched
    Reload {
        /// Only tell what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop accepting on a frontend, and let its sessions end, until the next reload
    Drain {
        /// Name of the frontend
        frontend: String,
    },
    /// Change a backend until the next reload
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Set a value until the next reload
    #[command(subcommand)]
    Set(SetCommand),
    /// List open connections
    Connections {
        /// Order of the list; `wait` is the time in the accept queue, recorded only for connections
        /// accepted while, or up to 90s after, someone sorts by it
        #[arg(long, value_enum, value_name = "KEY", default_value_t = SortName(Sort::default()))]
        sort: SortName,
        /// List the clients instead, those with most connections first: each IPv4 address, each IPv6 /64
        #[arg(long, value_enum, value_name = "KEY", conflicts_with = "sort")]
        by: Option<ByName>,
        /// Maximum connections to list
        #[arg(long, value_name = "N", value_parser = up_to(LIST_MAX as u32),
              default_value_t = NonZeroU32::new(LIST_DEFAULT as u32).expect("it is not 0"))]
        limit: NonZeroU32,
    },
    /// List the sources that a limit holds for: IPv4 addresses, IPv6 /64s and their /48s
    Sources {
        /// Those of this frontend [default: those of all together, by the limits of the process]
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
        /// Order of the list
        #[arg(long, value_enum, value_name = "KEY", default_value_t = SourceOrder::Open)]
        sort: SourceOrder,
        /// Maximum sources to list
        #[arg(long, value_name = "N", value_parser = up_to(LIST_MAX as u32),
              default_value_t = NonZeroU32::new(LIST_DEFAULT as u32).expect("it is not 0"))]
        limit: NonZeroU32,
    },
    /// Ban a source: who connects from there meets silence, or a reset without CAP_NET_ADMIN; open
    /// connections go on
    Ban {
        /// The source: an address, of IPv6 its /64, or a network
        source: Network,
        /// How long, up to 365 days
        #[arg(long = "for", value_name = "TIME", value_parser = ban_time)]
        time: Duration,
    },
    /// End a ban
    Unban {
        /// The source, as it was banned
        source: Network,
    },
    /// List who is banned
    Bans,
    /// Close one connection
    Close {
        /// ID of the connection, as listed
        id: ConnectionId,
    },
    /// Drain all frontends and end the server
    Shutdown,
}

#[derive(Debug, Args)]
struct Named {
    /// Name of the upstream
    upstream: String,
    /// The backend, as it is configured: IP:PORT, NAME:PORT, srv:NAME, unix:PATH
    backend: Target,
}

#[derive(Debug, Subcommand)]
enum BackendCommand {
    /// Add a backend
    Add {
        /// Name of the upstream
        upstream: String,
        /// The backend: IP:PORT, NAME:PORT, srv:NAME or unix:PATH, with ,weight=N
        backend: Backend,
    },
    /// Remove a backend; its connections live on
    Remove(Named),
    /// Send a backend no new connections
    Drain(Named),
    /// Treat a backend as up, whatever checks say
    Up(Named),
    /// Treat a backend as down, whatever checks say
    Down(Named),
    /// Go by checks and connections again: ends up, down and drain
    Auto(Named),
    /// Change the weight of a backend
    Weight {
        #[command(flatten)]
        named: Named,
        /// The weight, 1 to 256
        weight: Weight,
    },
}

#[derive(Debug, Subcommand)]
enum SetCommand {
    /// Maximum open connections; lowering it closes none
    MaxConnections {
        /// The maximum
        #[arg(value_name = "N", value_parser = up_to(u32::MAX))]
        most: NonZeroU32,
        /// Of one frontend [default: of the process]
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
    },
    /// Length of the accept queue
    Backlog {
        /// The length
        #[arg(value_name = "N", value_parser = up_to(i32::MAX as u32))]
        backlog: NonZeroU32,
        /// Of this frontend [default: the only one]
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
    },
    /// Least important level that is logged
    LogLevel {
        /// The level
        #[arg(value_parser = log_level())]
        level: LevelFilter,
    },
}

/// What connections are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ByName {
    Client,
}

/// The order of a list of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SourceOrder {
    Open,
    Rate,
    Refused,
}

impl From<SourceOrder> for SourceSort {
    fn from(order: SourceOrder) -> Self {
        match order {
            SourceOrder::Open => Self::Open,
            SourceOrder::Rate => Self::Rate,
            SourceOrder::Refused => Self::Refused,
        }
    }
}

/// A [`Sort`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SortName(Sort);

impl ValueEnum for SortName {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(Sort::Bytes),
            Self(Sort::Age),
            Self(Sort::Idle),
            Self(Sort::Wait),
            Self(Sort::Stall),
            Self(Sort::Client),
            Self(Sort::Frontend),
            Self(Sort::Backend),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self.0 {
            Sort::Bytes => "bytes",
            Sort::Age => "age",
            Sort::Idle => "idle",
            Sort::Wait => "wait",
            Sort::Stall => "stall",
            Sort::Client => "client",
            Sort::Frontend => "frontend",
            Sort::Backend => "backend",
        }))
    }
}

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(LEVELS.map(|(name, _)| name)).map(|name| {
        let found = LEVELS.iter().find(|(known, _)| *known == name);
        found.map_or(LevelFilter::INFO, |(_, level)| *level)
    })
}

/// Whole seconds: they are what a request says.
fn ban_time(text: &str) -> Result<Duration, String> {
    let wrong = "it must be whole seconds, such as 90s, 10m or 1h";
    let time = humantime::parse_duration(text).map_err(|_| wrong.to_owned())?;
    match time {
        _ if time.subsec_nanos() > 0 || time.is_zero() => Err(wrong.to_owned()),
        _ if time > BAN_MAX => Err("a ban lasts 365 days at most".to_owned()),
        time => Ok(time),
    }
}

/// Where a control socket is.
pub(crate) fn control_address(text: &str) -> Result<UnixAddress, String> {
    match text.parse::<ListenAddress>() {
        Ok(ListenAddress::Unix(address)) => Ok(address),
        Err(error) if text.starts_with("unix:") => Err(error.to_string()),
        // What looks like a path is one that lacks its beginning.
        _ if text.contains('/') => {
            Err(format!("a control socket begins with unix: as in unix:{text}"))
        }
        _ => Err("a control socket is a unix socket; write unix:/run/acceptor/control.sock".into()),
    }
}

impl Ctl {
    pub(super) fn into_call(self) -> Call {
        Call { to: self.to, json: self.json, request: self.command.into_request() }
    }
}

impl Reload {
    pub(super) fn into_call(self) -> Call {
        Call { to: self.to, json: self.json, request: Request::Reload { dry_run: self.dry_run } }
    }
}

impl Upgrade {
    pub(super) fn into_call(self) -> Result<Call, String> {
        let absolute =
            |path: PathBuf| std::path::absolute(&path).map_err(|error| error.to_string());
        let binary = self.binary.map(absolute).transpose()?;
        Ok(Call { to: self.to, json: self.json, request: Request::Upgrade { binary } })
    }
}

impl Command {
    fn into_request(self) -> Request {
        match self {
            Self::Status => Request::Status,
            Self::Reload { dry_run } => Request::Reload { dry_run },
            Self::Drain { frontend } => Request::Drain { frontend },
            Self::Backend(command) => command.into_request(),
            Self::Set(command) => Request::Set(command.into_setting()),
            Self::Connections { sort, by, limit } => {
                let each = || Listing::Each(sort.0);
                let listing = by.map_or_else(each, |ByName::Client| Listing::ByClient);
                Request::Connections { listing, limit: limit.get() as usize }
            }
            Self::Sources { frontend, sort, limit } => {
                let limit = limit.get() as usize;
                Request::Sources { frontend, sort: sort.into(), limit }
            }
            Self::Ban { source, time } => Request::Ban { network: source, time },
            Self::Unban { source } => Request::Unban { network: source },
            Self::Bans => Request::Bans,
            Self::Close { id } => Request::Close { id },
            Self::Shutdown => Request::Shutdown,
        }
    }
}

impl BackendCommand {
    fn into_request(self) -> Request {
        let (upstream, change) = match self {
            Self::Add { upstream, backend } => (upstream, BackendChange::Add(backend)),
            Self::Remove(named) => (named.upstream, BackendChange::Remove(named.backend)),
            Self::Drain(named) => (named.upstream, BackendChange::Drain(named.backend)),
            Self::Up(named) => (named.upstream, BackendChange::Up(named.backend)),
            Self::Down(named) => (named.upstream, BackendChange::Down(named.backend)),
            Self::Auto(named) => (named.upstream, BackendChange::Auto(named.backend)),
            Self::Weight { named, weight } => {
                (named.upstream, BackendChange::Weight(named.backend, weight))
            }
        };
        Request::Backend { upstream, change }
    }
}

impl SetCommand {
    fn into_setting(self) -> Setting {
        match self {
            Self::MaxConnections { most, frontend } => Setting::MaxConnections {
                frontend,
                most: most.try_into().expect("a usize has at least 32 bits on Linux"),
            },
            Self::Backlog { backlog, frontend } => Setting::Backlog { frontend, backlog },
            Self::LogLevel { level } => Setting::LogLevel(level),
        }
    }
}
