//! Where connections are passed on to: backends, how one is chosen, and when one is out.

mod check;
mod source;
mod target;

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use check::{ActiveCheck, CheckBytes};
pub use source::SourceAddress;
pub(super) use target::is_name;
pub use target::{Backend, Target, Weight};

use super::{ConfigError, in_range, none_twice};

/// Everything an upstream is told. Start from [`UpstreamConfig::new`] and change what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// What the log calls it: the pattern of the route that leads to it, or
    /// [`DEFAULT_NAME`](Self::DEFAULT_NAME).
    pub name: String,
    /// Where connections may go.
    pub backends: Vec<Backend>,
    /// The file that lists them, as an absolute path; `backends` is what it said when it was read last.
    /// `None` if they are in the configuration itself.
    pub backends_file: Option<PathBuf>,
    /// Local addresses that connections and checks are made from, each in turn; with none the kernel chooses.
    pub sources: Vec<SourceAddress>,
    /// How one of the backends is chosen.
    pub balance: Balance,
    /// Most open connections of one endpoint, over all workers; `None` is no limit. It holds for each
    /// address that a name resolves to.
    pub max_connections: Option<NonZeroUsize>,
    /// Checks on a schedule.
    pub active: ActiveHealth,
    /// What is learnt from the connections themselves.
    pub passive: PassiveHealth,
    /// Over how long the weight of an endpoint that has come up grows to its full value; zero is off.
    pub slow_start: Duration,
    /// What a connection meets when every endpoint is out.
    pub when_all_out: WhenAllOut,
    /// From one look at the addresses of a name to the next.
    pub resolve_interval: Duration,
}

/// How an endpoint is chosen for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// The one with the fewest open connections for its weight; ties rotate.
    #[default]
    LeastConnections,
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// The less loaded of two that are drawn by weight.
    Random,
    /// By a hash of the client's IP address, so that one client stays with one endpoint.
    SourceHash,
}

/// What a connection meets when every endpoint is down or ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenAllOut {
    /// It is refused.
    Refuse,
    /// It is tried on one of them all the same: checks that all fail at once may be what is wrong.
    #[default]
    TryAll,
}

/// Checks on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveHealth {
    /// What a check does.
    pub check: ActiveCheck,
    /// From the end of one check to the start of the next.
    pub interval: Duration,
    /// How long a check may take, from its connect to the last byte it waits for.
    pub timeout: Duration,
    /// Checks in a row that must pass before an endpoint that is down is up.
    pub rise: NonZeroU32,
    /// Checks in a row that must fail before an endpoint that is up is down.
    pub fall: NonZeroU32,
}

/// What is learnt from the connections themselves: an endpoint that cannot be connected to is ejected
/// for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassiveHealth {
    /// Connects in a row that must fail before the endpoint is ejected; `None` is off.
    pub failures: Option<NonZeroU32>,
    /// The first ejection. Each one after it, without a success between, is twice as long.
    pub ejection_base: Duration,
    /// The longest ejection.
    pub ejection_max: Duration,
    /// How much of the endpoints may be out by ejection at one time, rounded down: with one endpoint
    /// and less than 100 it is never ejected.
    pub ejected_percent_max: u32,
}

impl Default for ActiveHealth {
    fn default() -> Self {
        Self {
            check: ActiveCheck::None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: NonZeroU32::new(2).expect("not zero"),
            fall: NonZeroU32::new(3).expect("not zero"),
        }
    }
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::new(3),
            ejection_base: Duration::from_secs(1),
            ejection_max: Duration::from_secs(60),
            ejected_percent_max: 50,
        }
    }
}

impl UpstreamConfig {
    /// The name of the one that connections go to for which there is no route.
    pub const DEFAULT_NAME: &'static str = "default";
    /// Most upstreams of a process.
    pub const UPSTREAMS_MAX: usize = 65_536;
    /// Most backends.
    pub const BACKENDS_MAX: usize = 1024;
    /// Most bytes of a file of backends: a name and what surrounds it for each.
    pub const BACKENDS_FILE_BYTES_MAX: u64 = 1024 * 1024;
    /// From one look at a name to the next.
    pub const RESOLVE_INTERVAL: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
    /// Longest slow start.
    pub const SLOW_START_MAX: Duration = Duration::from_secs(24 * 3600);

    /// These backends, and the default of everything else.
    pub fn new(backends: Vec<Backend>) -> Self {
        Self {
            name: Self::DEFAULT_NAME.to_owned(),
            backends,
            backends_file: None,
            sources: Vec::new(),
            balance: Balance::default(),
            max_connections: None,
            active: ActiveHealth::default(),
            passive: PassiveHealth::default(),
            slow_start: Duration::ZERO,
            when_all_out: WhenAllOut::default(),
            resolve_interval: Duration::from_secs(30),
        }
    }

    /// Checks everything that can be known without looking at the machine.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Self::validate_backends(&self.backends)?;
        SourceAddress::validate(&self.sources, &self.backends)?;
        self.active.validate()?;
        self.passive.validate()?;
        let slow_start = Duration::ZERO..=Self::SLOW_START_MAX;
        span_in_range("the slow start", self.slow_start, slow_start)?;
        span_in_range("the resolve interval", self.resolve_interval, Self::RESOLVE_INTERVAL)
    }

    /// Checks all upstreams of a process: each, and that no two have one name.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate_all(all: &[Self]) -> Result<(), ConfigError> {
        if all.len() > Self::UPSTREAMS_MAX {
            let (count, max) = (all.len(), Self::UPSTREAMS_MAX);
            return Err(ConfigError::new(format!("{count} upstreams; there may be at most {max}")));
        }
        none_twice("upstream", all.iter().map(|config| config.name.as_str()))?;
        all.iter().try_for_each(|config| {
            let wrong = |error| ConfigError::new(format!("upstream '{}': {error}", config.name));
            config.validate().map_err(wrong)
        })
    }

    /// Checks a list of backends: some, not too many, none twice.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate_backends(backends: &[Backend]) -> Result<(), ConfigError> {
        if backends.is_empty() {
            return Err(ConfigError::new("no backend; give at least one, such as 10.0.0.1:80"));
        }
        if backends.len() > Self::BACKENDS_MAX {
            let (count, max) = (backends.len(), Self::BACKENDS_MAX);
            return Err(ConfigError::new(format!("{count} backends; there may be at most {max}")));
        }
        if let Some(Backend { target, .. }) =
            backends.iter().find(|backend| backend.target.is_too_long())
        {
            return Err(ConfigError::new(format!(
                "the backend {target} has a name that is too long for a unix socket"
            )));
        }
        for Backend { target, weight } in backends {
            Backend::new(target.clone(), *weight)?;
        }
        let mut seen = std::collections::HashSet::new();
        match backends.iter().find(|backend| !seen.insert(&backend.target)) {
            None => Ok(()),
            Some(Backend { target, .. }) => Err(ConfigError::new(format!(
                "the backend {target} is given twice; for more connections give it a weight, \
                 such as {target},weight=2"
            ))),
        }
    }
}

impl ActiveHealth {
    /// From one check to the next.
    pub const INTERVAL: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(3600);
    /// How long a check may take.
    pub const TIMEOUT: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(60);
    /// Checks in a row.
    pub const ROW: std::ops::RangeInclusive<u32> = 1..=100;

    fn validate(&self) -> Result<(), ConfigError> {
        span_in_range("the interval of health checks", self.interval, Self::INTERVAL)?;
        span_in_range("the timeout of health checks", self.timeout, Self::TIMEOUT)?;
        in_range("the rise of health checks", self.rise.get(), Self::ROW)?;
        in_range("the fall of health checks", self.fall.get(), Self::ROW)
    }
}

impl PassiveHealth {
    /// How long an ejection may be.
    pub const EJECTION: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(3600);

    fn validate(&self) -> Result<(), ConfigError> {
        span_in_range("the first ejection", self.ejection_base, Self::EJECTION)?;
        let longest = self.ejection_base..=*Self::EJECTION.end();
        span_in_range("the longest ejection", self.ejection_max, longest)?;
        in_range("the percentage that may be ejected", self.ejected_percent_max, 0..=100)
    }
}

fn span_in_range(
    what: &str,
    value: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let [value, least, most] =
        [value, *range.start(), *range.end()].map(humantime::format_duration);
    Err(ConfigError::new(format!("{what} is {value}; it must be {least} to {most}")))
}

impl fmt::Display for Balance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::LeastConnections => "least-connections",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::SourceHash => "source-hash",
        })
    }
}

impl fmt::Display for WhenAllOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Refuse => "refuse",
            Self::TryAll => "try-all",
        })
    }
}

impl FromStr for Balance {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "least-connections" => Ok(Self::LeastConnections),
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "source-hash" => Ok(Self::SourceHash),
            _ => Err(ConfigError::new(format!(
                "'{text}' is no way to balance; \
                 it must be least-connections, round-robin, random or source-hash"
            ))),
        }
    }
}

impl FromStr for WhenAllOut {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "try-all" => Ok(Self::TryAll),
            _ => Err(ConfigError::new(format!(
                "'{text}' cannot be done when all backends are out; it must be try-all or refuse"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
