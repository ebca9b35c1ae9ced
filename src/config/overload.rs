//! What a frontend does when connections wait too long for it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::human::Human;
use super::{ConfigError, timeout_in_range};

/// When a frontend is overloaded, and what is done about it. See docs/LIMITS.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverloadConfig {
    /// What is done while it is.
    pub action: OverloadAction,
    /// How long a connection may wait before its thread takes it over.
    pub target: Duration,
    /// For how long no connection may have waited less than `target`, until the frontend is overloaded.
    pub interval: Duration,
    /// A connection that has waited longer than this, and whose client has gone meanwhile, is not served; `None`:
    /// every one is.
    pub patience: Option<Duration>,
    /// Whether its clients may send a FIN behind their request and wait for the answer. If not, a client has gone
    /// that has sent a FIN, whatever was before it.
    pub half_close: bool,
}

/// What is done while a frontend is overloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverloadAction {
    /// It is told, and nothing is done: whoever connects waits.
    #[default]
    Hold,
    /// Who has waited for the target or longer is refused.
    Shed,
    /// Where a limit on connections is what is in the way, those that have been idle for longest are closed.
    Evict,
    /// Whoever has come last is served first.
    Lifo,
}

impl OverloadAction {
    /// All, in the order of their values.
    pub const ALL: [Self; 4] = [Self::Hold, Self::Shed, Self::Evict, Self::Lifo];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Shed => "shed",
            Self::Evict => "evict",
            Self::Lifo => "lifo",
        }
    }
}

/// Which clients are not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// [`OverloadConfig::patience`].
    pub limit: Duration,
    /// [`OverloadConfig::half_close`].
    pub half_close: bool,
}

impl Default for OverloadConfig {
    /// Target and interval are those of CoDel (RFC 8289).
    fn default() -> Self {
        Self {
            action: OverloadAction::default(),
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            patience: None,
            half_close: true,
        }
    }
}

impl OverloadConfig {
    /// What `interval` may be.
    pub const INTERVAL: RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(60);
    /// What `target` may be. It has to be below `interval`, too.
    pub const TARGET: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

    /// Which clients are not waited for.
    pub fn patience(&self) -> Option<Patience> {
        self.patience.map(|limit| Patience { limit, half_close: self.half_close })
    }

    /// Whether what an acceptor goes by is the same.
    pub fn accepts_as(&self, other: &Self) -> bool {
        let rules = |it: &Self| (it.action, it.target, it.interval);
        rules(self) == rules(other)
    }

    /// Checks that what waits too long can be told.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let Self { target, interval, patience, .. } = self;
        let times = [("interval", interval, Self::INTERVAL), ("target", target, Self::TARGET)];
        for (what, time, range) in times {
            if !range.contains(time) {
                let [time, least, most] = [time, range.start(), range.end()].map(|it| Human(*it));
                return Err(ConfigError::new(format!(
                    "the overload {what} is {time}; it must be {least} to {most}"
                )));
            }
        }
        if target >= interval {
            let [target, interval] = [target, interval].map(|it| Human(*it));
            return Err(ConfigError::new(format!(
                "the overload target is {target}; it must be below the overload interval, {interval}: lower it, or \
                 raise the interval"
            )));
        }
        patience.map_or(Ok(()), |patience| timeout_in_range("patience", patience))
    }
}
