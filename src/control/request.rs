//! What may be asked, and how it is written: a line of JSON with the version of the protocol and a command.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::level_filters::LevelFilter;

use super::answer::{Code, Failure};
use super::bans;
use super::fields::Fields;
use super::sources::SourceSort;
use crate::config::ConfigError;
use crate::config::upstream::{Backend, Target, Weight};
use crate::server::{ConnectionId, NoConnectionId};
use crate::sources::Network;

/// The version of the protocol: it goes up when something is taken away or means something else.
pub const VERSION: u64 = 1;

/// The levels of the log, as they are written.
pub const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What there is and how it is.
    Status,
    /// Read the configuration file again and do what it says.
    Reload {
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Let a frontend accept nobody new.
    Drain {
        /// Which.
        frontend: String,
    },
    /// Change a backend.
    Backend {
        /// Of which upstream.
        upstream: String,
        /// What is done.
        change: BackendChange,
    },
    /// Set a value.
    Set(Setting),
    /// The connections that are open.
    Connections {
        /// What the list has an entry for, and in which order.
        listing: Listing,
        /// How many at most.
        limit: usize,
    },
    /// Sources of connections that have a limit.
    Sources {
        /// Of which frontend; `None`: of all together.
        frontend: Option<String>,
        /// In which order.
        sort: SourceSort,
        /// How many at most.
        limit: usize,
    },
    /// Close a connection.
    Close {
        /// As the list names it.
        id: ConnectionId,
    },
    /// Ban a source for a time.
    Ban {
        /// Whom.
        network: Network,
        /// For how long.
        time: Duration,
    },
    /// End a ban.
    Unban {
        /// Of whom.
        network: Network,
    },
    /// Who is banned.
    Bans,
    /// Start the program again, and give everything to the new process.
    Upgrade {
        /// The file to start; `None` is the one that it was started from.
        binary: Option<PathBuf>,
    },
    /// Give everything to whoever asks. What follows the answer on the connection is described in docs/UPGRADE.md.
    TakeOver,
    /// Drain and end.
    Shutdown,
}

/// What a list of connections has an entry for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Each connection, in this order.
    Each(Sort),
    /// Each client's address, those with most connections first.
    ByClient,
}

/// The order of a list of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// Most bytes of both directions first.
    #[default]
    Bytes,
    /// Oldest first.
    Age,
    /// Longest without progress first.
    Idle,
    /// Longest in the accept queue first.
    Wait,
    /// Those first of which a peer has taken nothing for the longest time.
    Stall,
    /// By the client's address.
    Client,
    /// By the name of the frontend.
    Frontend,
    /// By the backend.
    Backend,
}

/// Connections of a list, unless more are asked for.
pub const LIST_DEFAULT: usize = 100;

/// Connections of a list at most.
pub const LIST_MAX: usize = 100_000;

/// What is done with a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendChange {
    /// It is new.
    Add(Backend),
    /// It goes; its connections live on.
    Remove(Target),
    /// It gets no new connections.
    Drain(Target),
    /// It is up, whatever checks and connections say.
    Up(Target),
    /// It is down, whatever they say.
    Down(Target),
    /// It is what they say, and does not drain.
    Auto(Target),
    /// It has another weight.
    Weight(Target, Weight),
}

/// A value that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Open connections at most, of one frontend or of all together.
    MaxConnections {
        /// Which; `None` is all together.
        frontend: Option<String>,
        /// How many.
        most: NonZeroUsize,
    },
    /// The length of the accept queues of a frontend.
    Backlog {
        /// Which; `None` is the only one.
        frontend: Option<String>,
        /// How long.
        backlog: NonZeroU32,
    },
    /// The least important level that is logged.
    LogLevel(LevelFilter),
}

/// As it stands in a line. (With braces, since serde lets a variant without any have every key.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Status {},
    Reload {
        #[serde(default, skip_serializing_if = "is_false")]
        dry_run: bool,
    },
    Drain {
        frontend: String,
    },
    Backend {
        action: Action,
        upstream: String,
        backend: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
    },
    Set {
        key: Key,
        value: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frontend: Option<String>,
    },
    Connections {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sort: Option<Sort>,
        #[serde(default = "list_default")]
        limit: usize,
    },
    Sources {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frontend: Option<String>,
        #[serde(default)]
        sort: SourceSort,
        #[serde(default = "list_default")]
        limit: usize,
    },
    Close {
        id: String,
    },
    Ban {
        source: String,
        for_seconds: u64,
    },
    Unban {
        source: String,
    },
    Bans {},
    Upgrade {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binary: Option<PathBuf>,
    },
    TakeOver {},
    Shutdown {},
}

fn list_default() -> usize {
    LIST_DEFAULT
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Add,
    Remove,
    Drain,
    Up,
    Down,
    Auto,
    Weight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Key {
    MaxConnections,
    Backlog,
    LogLevel,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Request {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(line: &[u8]) -> Result<Self, Failure> {
        let wrong = |error: serde_json::Error| wrong(format!("the request is no JSON: {error}"));
        let value: Value = serde_json::from_slice(line).map_err(wrong)?;
        if !value.is_object() {
            return Err(self::wrong("the request is no JSON object"));
        }
        let Fields(mut fields) =
            serde_json::from_slice(line).map_err(|error| self::wrong(error.to_string()))?;
        check_version(fields.remove("version"))?;
        let line: Line = serde_json::from_value(Value::Object(fields))
            .map_err(|error| self::wrong(in_words(&error)))?;
        line.checked()
    }

    /// As a line, with its end.
    pub fn to_line(&self) -> String {
        let mut fields = Map::new();
        fields.insert("version".to_owned(), VERSION.into());
        if let Ok(Value::Object(rest)) = serde_json::to_value(Line::of(self)) {
            fields.extend(rest);
        }
        format!("{}\n", Value::Object(fields))
    }
}

fn check_version(version: Option<Value>) -> Result<(), Failure> {
    match version {
        Some(version) if version == VERSION => Ok(()),
        Some(other) => Err(Failure::new(
            Code::Version,
            format!("the version is {other}; this server speaks version {VERSION}"),
        )),
        None => Err(wrong(format!("there is no version; write \"version\": {VERSION}"))),
    }
}

/// What is wrong with the fields of a request. Serde tells the fields that there are, and of none in words of its own.
fn in_words(error: &serde_json::Error) -> String {
    error.to_string().replace("there are no fields", "this command has no fields but `version`")
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(Code::Request, text)
}

fn parsed<T: std::str::FromStr<Err = ConfigError>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: ConfigError| wrong(error.to_string()))
}

impl Line {
    fn checked(self) -> Result<Request, Failure> {
        Ok(match self {
            Self::Status {} => Request::Status,
            Self::Reload { dry_run } => Request::Reload { dry_run },
            Self::Drain { frontend } => Request::Drain { frontend },
            Self::Backend { action, upstream, backend, weight } => {
                Request::Backend { upstream, change: change(action, &backend, weight)? }
            }
            Self::Set { key, value, frontend } => Request::Set(setting(key, &value, frontend)?),
            Self::Connections { limit, .. } | Self::Sources { limit, .. }
                if !(1..=LIST_MAX).contains(&limit) =>
            {
                return Err(wrong(format!("the limit is {limit}; it must be 1 to {LIST_MAX}")));
            }
            Self::Connections { by: Some(By::Client), sort: Some(_), .. } => {
                return Err(wrong("`by` has an order of its own; leave `sort` out"));
            }
            Self::Connections { by, sort, limit } => {
                let each = || Listing::Each(sort.unwrap_or_default());
                let listing = by.map_or_else(each, |By::Client| Listing::ByClient);
                Request::Connections { listing, limit }
            }
            Self::Sources { frontend, sort, limit } => Request::Sources { frontend, sort, limit },
            Self::Close { id } => {
                let id = id.parse().map_err(|error: NoConnectionId| wrong(error.to_string()))?;
                Request::Close { id }
            }
            Self::Ban { source, for_seconds } => bans::parsed(&source, for_seconds)?,
            Self::Unban { source } => Request::Unban { network: bans::network(&source)? },
            Self::Bans {} => Request::Bans,
            Self::Upgrade { binary: Some(binary) } if !binary.is_absolute() => {
                let binary = binary.display();
                return Err(wrong(format!("the binary is {binary}; it must be an absolute path")));
            }
            Self::Upgrade { binary } => Request::Upgrade { binary },
            Self::TakeOver {} => Request::TakeOver,
            Self::Shutdown {} => Request::Shutdown,
        })
    }

    fn of(request: &Request) -> Self {
        match request {
            Request::Status => Self::Status {},
            Request::Reload { dry_run } => Self::Reload { dry_run: *dry_run },
            Request::Drain { frontend } => Self::Drain { frontend: frontend.clone() },
            Request::Backend { upstream, change } => {
                let (action, backend, weight) = change.parts();
                Self::Backend { action, upstream: upstream.clone(), backend, weight }
            }
            Request::Set(setting) => setting.line(),
            Request::Connections { listing, limit } => {
                let (by, sort) = match listing {
                    Listing::Each(sort) => (None, Some(*sort)),
                    Listing::ByClient => (Some(By::Client), None),
                };
                Self::Connections { by, sort, limit: *limit }
            }
            Request::Sources { frontend, sort, limit } => {
                Self::Sources { frontend: frontend.clone(), sort: *sort, limit: *limit }
            }
            Request::Close { id } => Self::Close { id: id.to_string() },
            Request::Ban { network, time } => {
                Self::Ban { source: network.to_string(), for_seconds: time.as_secs() }
            }
            Request::Unban { network } => Self::Unban { source: network.to_string() },
            Request::Bans => Self::Bans {},
            Request::Upgrade { binary } => Self::Upgrade { binary: binary.clone() },
            Request::TakeOver => Self::TakeOver {},
            Request::Shutdown => Self::Shutdown {},
        }
    }
}

fn change(action: Action, text: &str, weight: Option<u32>) -> Result<BackendChange, Failure> {
    let takes_weight = matches!(action, Action::Add | Action::Weight);
    if weight.is_some() && !takes_weight {
        return Err(wrong("a weight goes with the actions `add` and `weight` only"));
    }
    let weight = weight.map(|weight| parsed::<Weight>(&weight.to_string())).transpose()?;
    Ok(match action {
        Action::Add => {
            let mut backend: Backend = parsed(text)?;
            backend.weight = weight.unwrap_or(backend.weight);
            BackendChange::Add(backend)
        }
        Action::Remove => BackendChange::Remove(parsed(text)?),
        Action::Drain => BackendChange::Drain(parsed(text)?),
        Action::Up => BackendChange::Up(parsed(text)?),
        Action::Down => BackendChange::Down(parsed(text)?),
        Action::Auto => BackendChange::Auto(parsed(text)?),
        Action::Weight => {
            let weight = weight.ok_or_else(|| wrong("missing field `weight`"))?;
            BackendChange::Weight(parsed(text)?, weight)
        }
    })
}

impl BackendChange {
    fn parts(&self) -> (Action, String, Option<u32>) {
        match self {
            Self::Add(backend) => {
                (Action::Add, backend.target.to_string(), Some(backend.weight.get()))
            }
            Self::Remove(target) => (Action::Remove, target.to_string(), None),
            Self::Drain(target) => (Action::Drain, target.to_string(), None),
            Self::Up(target) => (Action::Up, target.to_string(), None),
            Self::Down(target) => (Action::Down, target.to_string(), None),
            Self::Auto(target) => (Action::Auto, target.to_string(), None),
            Self::Weight(target, weight) => {
                (Action::Weight, target.to_string(), Some(weight.get()))
            }
        }
    }
}

fn setting(key: Key, value: &Value, frontend: Option<String>) -> Result<Setting, Failure> {
    let most = if key == Key::Backlog { i32::MAX as u64 } else { u64::from(u32::MAX) };
    let number = || {
        let number = value.as_u64().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| wrong(format!("the value is {value}; it must be 1 to {most}")))
    };
    Ok(match key {
        Key::MaxConnections => {
            let most = NonZeroUsize::new(number()? as usize).expect("it is 1 at least");
            Setting::MaxConnections { frontend, most }
        }
        Key::Backlog => {
            let backlog = NonZeroU32::new(number()? as u32).expect("it is 1 at least");
            Setting::Backlog { frontend, backlog }
        }
        Key::LogLevel if frontend.is_some() => {
            return Err(wrong("the log level is that of the process; leave `frontend` out"));
        }
        Key::LogLevel => Setting::LogLevel(level(value)?),
    })
}

fn level(value: &Value) -> Result<LevelFilter, Failure> {
    let name = value.as_str().unwrap_or_default();
    let found = LEVELS.iter().find(|(known, _)| *known == name);
    found.map(|(_, level)| *level).ok_or_else(|| {
        let known = LEVELS.map(|(name, _)| name).join(", ");
        wrong(format!("the value is {value}; it must be one of {known}"))
    })
}

/// How a level is written.
pub(super) fn level_name(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("off", |(name, _)| name)
}

impl Setting {
    fn line(&self) -> Line {
        let (key, value, frontend) = match self {
            Self::MaxConnections { frontend, most } => {
                (Key::MaxConnections, most.get().into(), frontend.clone())
            }
            Self::Backlog { frontend, backlog } => {
                (Key::Backlog, backlog.get().into(), frontend.clone())
            }
            Self::LogLevel(level) => (Key::LogLevel, level_name(*level).into(), None),
        };
        Line::Set { key, value, frontend }
    }
}
