//! What a server is told: values with their units in their names, checked once, each default here.

mod access_log;
mod address;
mod admin;
mod admission;
mod cpus;
mod frontend;
pub mod human;
mod listen;
pub mod localhost;
mod overload;
mod process;
mod proxy;
mod request_limits;
mod unix;
pub mod upstream;
mod warnings;

use std::collections::HashSet;
use std::time::Duration;

pub use access_log::{AccessLogConfig, LogFormat, LogTarget};
pub use address::ListenAddress;
pub use admin::AdminAddress;
pub use admission::{NetworkList, NetworksFile, Rate, Refusal, RuleMode, SourceRules, SourceSizes};
pub use cpus::CpuList;
pub use frontend::{
    Frontend, HttpConfig, Limits, Protocol, SessionTimeouts, SocketOptions, Timeouts,
};
pub use listen::Listen;
pub use overload::{OverloadAction, OverloadConfig, Patience};
pub use process::{Acceptors, DispatchPolicy, Engine, Process, RingSizes, Threads};
pub use proxy::{ProxyConfig, ProxyProtocolVersion, ProxyTimeouts};
pub use request_limits::RequestLimits;
pub use unix::UnixAddress;
pub use warnings::Warning;

use upstream::UpstreamConfig;

/// Everything a server is told. Start from [`Config::default`], which has one frontend, and change what
/// differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What belongs to the process: threads and what they share.
    pub process: Process,
    /// What connections come in through.
    pub frontends: Vec<Frontend>,
    /// Where proxied connections may go; frontends name them, and may share them.
    pub upstreams: Vec<UpstreamConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self::of(Frontend::default(), Vec::new())
    }
}

/// A configuration that cannot be run. The text says what, which value, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Longest timeout that can be set: the deadlines count milliseconds in 32 bits.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl Config {
    /// One frontend and what it passes connections on to, with the defaults of a process.
    pub fn of(frontend: Frontend, upstreams: Vec<UpstreamConfig>) -> Self {
        Self { process: Process::default(), frontends: vec![frontend], upstreams }
    }

    /// Whether files beside it list something, such as backends.
    pub fn has_lists(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.backends_file.is_some())
            || self.frontends.iter().any(|it| it.sources.files().next().is_some())
    }

    /// Checks everything that can be known without looking at the machine.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.process.validate()?;
        if self.frontends.is_empty() {
            return Err(ConfigError::new("no frontend; give at least one"));
        }
        if self.frontends.len() > Frontend::COUNT_MAX {
            let (count, max) = (self.frontends.len(), Frontend::COUNT_MAX);
            return Err(ConfigError::new(format!("{count} frontends; there may be at most {max}")));
        }
        let names = self.frontends.iter().map(|frontend| frontend.name.as_str());
        none_twice("frontend", names)?;
        none_twice("upstream", self.upstreams.iter().map(|upstream| upstream.name.as_str()))?;
        self.upstreams.iter().try_for_each(|upstream| upstream.validate())?;
        for frontend in &self.frontends {
            frontend.validate().map_err(|error| self.tell(frontend, error))?;
            self.validate_upstreams(frontend).map_err(|error| self.tell(frontend, error))?;
        }
        self.validate_addresses()
    }

    /// Says which frontend an error is about, where there are several.
    fn tell(&self, frontend: &Frontend, error: ConfigError) -> ConfigError {
        match self.frontends.len() {
            1 => error,
            _ => ConfigError::new(format!("frontend '{}': {error}", frontend.name)),
        }
    }

    fn validate_upstreams(&self, frontend: &Frontend) -> Result<(), ConfigError> {
        let Protocol::Proxy(proxy) = &frontend.protocol else { return Ok(()) };
        let unknown = proxy.upstreams().find(|name| self.upstream(name).is_none());
        unknown.map_or(Ok(()), |name| {
            let known: Vec<_> = self.upstreams.iter().map(|known| known.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(ConfigError::new(format!("there is no upstream '{name}'; known: {known}")))
        })
    }

    /// The upstream of this name.
    pub fn upstream(&self, name: &str) -> Option<&UpstreamConfig> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }

    /// With SO_REUSEPORT a second bind of the same port would succeed and silently share it.
    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        let control = self.process.control.clone().map(ListenAddress::Unix);
        let admin = self.process.admin.clone().map(|AdminAddress(address)| address);
        if control.is_some() && control == admin {
            return Err(ConfigError::new(
                "the admin endpoint and the control socket have the same address; give each its own",
            ));
        }
        let taken = [(control, "control socket"), (admin, "admin endpoint")];
        let taken = taken.map(|(address, what)| (address.map(Listen::Address), what));
        for frontend in &self.frontends {
            for (address, what) in &taken {
                let is_free = |it: &Listen| it.any_port() || !frontend.listen.contains(it);
                if address.as_ref().is_some_and(|address| !is_free(address)) {
                    let text = format!("it listens on the address of the {what}; give it another");
                    return Err(self.tell(frontend, ConfigError::new(text)));
                }
            }
            for listen in frontend.listen.iter().filter(|listen| !listen.any_port()) {
                if !seen.insert(listen) {
                    return Err(ConfigError::new(format!(
                        "the address {listen} is given twice; give each address once"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Where lines go for connections that have ended.
    pub fn access_logs(&self) -> impl Iterator<Item = &AccessLogConfig> {
        self.frontends.iter().filter_map(|frontend| frontend.access_log.as_ref())
    }

    /// Listening sockets of one accepting thread, at most.
    pub fn sockets(&self) -> usize {
        let listens = self.frontends.iter().flat_map(|frontend| &frontend.listen);
        listens.map(Listen::sockets).sum()
    }
}

/// Names of one kind are unique.
fn none_twice<'a>(what: &str, mut names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::new(format!(
            "there are two {what}s of the name '{name}'; each needs a name of its own"
        ))),
    }
}

/// A drain may take no time; everything else needs some.
fn timeout_in_range(name: &str, value: Duration) -> Result<(), ConfigError> {
    if value > TIMEOUT_MAX {
        let max = humantime::format_duration(TIMEOUT_MAX);
        return Err(ConfigError::new(format!("the {name} timeout is above {max}")));
    }
    if value.is_zero() && name != "drain" {
        return Err(ConfigError::new(format!(
            "the {name} timeout is zero, so no connection could live; \
             every connection needs a deadline, the longest is 7days"
        )));
    }
    Ok(())
}

fn in_range(
    what: &str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(ConfigError::new(format!("{what} is {value}; it must be {least} to {most}")))
}

#[cfg(test)]
mod tests;
