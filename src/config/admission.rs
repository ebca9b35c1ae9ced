//! Who may come in through a frontend, and how fast.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::human::{self, Human};
use super::{ConfigError, in_range};

/// Rules by the source of a connection. A source is an IPv4 address or an IPv6 prefix, see [`SourceSizes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRules {
    /// What is done by the rules.
    pub mode: RuleMode,
    /// Only these networks may come in; all may unless it is given.
    pub allow: NetworkList,
    /// These may not, not even if they are allowed.
    pub deny: NetworkList,
    /// No limit counts for these.
    pub exempt: Vec<IpNet>,
    /// Open connections of one source.
    pub max_per_source: Option<NonZeroU32>,
    /// New connections of one source.
    pub rate_per_source: Option<Rate>,
    /// An IPv6 /48 may have this many times as much as one source.
    pub site_factor: u32,
    /// How a connection is refused.
    pub refuse: Refusal,
    /// A source is banned that was refused this many times for a limit; `None` is never.
    pub ban_after: Option<NonZeroU32>,
    /// For how long.
    pub ban_time: Duration,
}

/// The networks that a rule names: in the configuration, in a file beside it, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkList {
    /// Those in the configuration.
    pub own: Vec<IpNet>,
    /// Those in a file.
    pub file: Option<NetworksFile>,
}

/// A file that lists networks, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworksFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it lists.
    pub networks: Arc<[IpNet]>,
}

/// What is done by source rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RuleMode {
    /// Nothing: nobody is asked.
    Off,
    /// What would be refused is counted and logged, and comes in.
    Observe,
    /// It is refused.
    #[default]
    Enforce,
}

/// How a connection is refused that has been accepted already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Refusal {
    /// By a reset.
    #[default]
    Reset,
    /// By a FIN.
    Close,
    /// By these bytes and a FIN.
    Reply(Vec<u8>),
    /// One that comes too fast waits until it is its turn, unless that takes too long; then, and for any other
    /// reason, by a reset.
    Delay,
}

/// The sources of a process: what one is, and how many are known at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSizes {
    /// Sources of each frontend that has a limit for them, and of the process.
    pub table: u32,
    /// Leading bits that make an IPv4 source.
    pub ipv4_prefix: u32,
    /// Leading bits that make an IPv6 source.
    pub ipv6_prefix: u32,
}

/// So many in a period, and how many of them may come at once: `20/s`, `100/10s`, `20/s burst 50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many in a period.
    pub count: NonZeroU32,
    /// How long that is.
    pub period: Duration,
    /// How many may come at once after a while without any; as many as `count` unless it is given.
    pub burst: NonZeroU32,
}

impl SourceRules {
    /// How many times as much as one source an IPv6 /48 may have.
    pub const SITE_FACTOR: RangeInclusive<u32> = 1..=65_536;
    /// Most open connections of one source that can be set.
    pub const MAX_PER_SOURCE: u32 = 1_000_000;
    /// Longest reply, in bytes: it has to fit into what the kernel takes at once.
    pub const REPLY_BYTES_MAX: u32 = 4096;

    /// How long a source is banned that was refused too often, unless it is said.
    pub const BAN_TIME: Duration = Duration::from_secs(600);

    /// Whether anybody is asked for anything.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.allow, &self.deny];
        self.mode == RuleMode::Off || !self.has_limits() && !lists.iter().any(|it| it.is_given())
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &NetworksFile> {
        [&self.allow, &self.deny].into_iter().filter_map(|list| list.file.as_ref())
    }

    /// A file lists these networks now. Returns whether that is another list for these rules.
    pub fn replace(&mut self, new: &NetworksFile) -> bool {
        let mut is_other = false;
        let files = [&mut self.allow, &mut self.deny].map(|list| list.file.as_mut());
        for own in files.into_iter().flatten().filter(|own| own.path == new.path) {
            is_other |= own != new;
            own.clone_from(new);
        }
        is_other
    }

    /// Whether something has to be remembered of sources.
    pub fn has_limits(&self) -> bool {
        self.max_per_source.is_some() || self.rate_per_source.is_some()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("the factor of an IPv6 site", self.site_factor, Self::SITE_FACTOR)?;
        let most = self.max_per_source.map_or(1, NonZeroU32::get);
        in_range("the connections of a source", most, 1..=Self::MAX_PER_SOURCE)?;
        self.rate_per_source.map_or(Ok(()), Rate::validate)
    }
}

impl NetworkList {
    /// Whether it says anything. A file that is empty does: it lists nobody.
    pub fn is_given(&self) -> bool {
        !self.own.is_empty() || self.file.is_some()
    }

    /// All of them.
    pub fn all(&self) -> Vec<IpNet> {
        let of_file = self.file.iter().flat_map(|file| file.networks.iter());
        self.own.iter().chain(of_file).copied().collect()
    }
}

impl From<Vec<IpNet>> for NetworkList {
    fn from(own: Vec<IpNet>) -> Self {
        Self { own, file: None }
    }
}

impl SourceSizes {
    /// How many sources a table may have room for. Each takes 20 bytes.
    pub const TABLE: RangeInclusive<u32> = 1024..=16_777_216;
    /// Bits of an IPv4 address.
    pub const IPV4_PREFIX: RangeInclusive<u32> = 8..=32;
    /// Bits of an IPv6 address.
    pub const IPV6_PREFIX: RangeInclusive<u32> = 32..=64;

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("the number of sources", self.table, Self::TABLE)?;
        in_range("the prefix of an IPv4 source", self.ipv4_prefix, Self::IPV4_PREFIX)?;
        in_range("the prefix of an IPv6 source", self.ipv6_prefix, Self::IPV6_PREFIX)
    }
}

impl Default for SourceRules {
    fn default() -> Self {
        Self {
            mode: RuleMode::default(),
            allow: NetworkList::default(),
            deny: NetworkList::default(),
            exempt: Vec::new(),
            max_per_source: None,
            rate_per_source: None,
            site_factor: 8,
            refuse: Refusal::default(),
            ban_after: None,
            ban_time: Self::BAN_TIME,
        }
    }
}

impl Default for SourceSizes {
    fn default() -> Self {
        Self { table: 65_536, ipv4_prefix: 32, ipv6_prefix: 64 }
    }
}

impl Rate {
    /// How many in a second at most: a source's time is kept in microseconds.
    const PER_SECOND_MAX: f64 = 10_000.0;
    /// How long the whole burst may take to come back.
    const BURST_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
    const EXAMPLES: &str = "write it as 20/s, 100/10s or 20/s burst 50";

    pub(super) fn validate(self) -> Result<(), ConfigError> {
        let per_second = f64::from(self.count.get()) / self.period.as_secs_f64();
        if !(per_second.is_finite() && per_second <= Self::PER_SECOND_MAX) {
            let most = Self::PER_SECOND_MAX;
            return Err(ConfigError::new(format!("{self} is more than {most} a second")));
        }
        let back =
            self.period.as_secs_f64() / f64::from(self.count.get()) * f64::from(self.burst.get());
        if back > Self::BURST_TIME_MAX.as_secs_f64() {
            let most = Human(Self::BURST_TIME_MAX);
            return Err(ConfigError::new(format!(
                "with {self} a burst takes longer than {most} to come back; \
                 take a smaller burst or a shorter period"
            )));
        }
        Ok(())
    }
}

impl FromStr for Rate {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new(Self::EXAMPLES);
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate.trim(), Some(burst.trim())),
            None => (text.trim(), None),
        };
        let (count, period) = rate.split_once('/').ok_or_else(wrong)?;
        let positive = |text: &str| text.trim().parse::<NonZeroU32>().map_err(|_| wrong());
        let count = positive(count)?;
        // "s" alone is one second.
        let period = match period.trim() {
            unit if unit.starts_with(|c: char| c.is_ascii_digit()) => human::duration(unit),
            unit => human::duration(&format!("1{unit}")),
        };
        let period = period.ok().filter(|period| !period.is_zero()).ok_or_else(wrong)?;
        let rate = Self { count, period, burst: burst.map_or(Ok(count), positive)? };
        rate.validate().map(|()| rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/", self.count)?;
        match self.period {
            second if second == Duration::from_secs(1) => to.write_str("s")?,
            period => Human(period).fmt(to)?,
        }
        if self.burst != self.count {
            write!(to, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, written) in [
            ("20/s", "20/s"),
            ("100/10s", "100/10s"),
            ("20/s burst 50", "20/s burst 50"),
            (" 5 / m burst 5", "5/60s"),
            ("1/ms", "1/1ms"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse(), Ok(rate), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate() {
        for text in ["", "20", "/s", "0/s", "20/", "20/0s", "20/s burst", "20/s burst 0", "x/s"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("20/s burst 50"), "{text}: {error}");
        }
        for (text, why) in
            [("11/ms", "more than 10000 a second"), ("1/h burst 25", "longer than 1day")]
        {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
