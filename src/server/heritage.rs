//! What the process before this one tells before this one is made ready: its sockets, the addresses of names, and what was
//! set by hand. And what was set by hand: as long as what is configured is what it was, it stays.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::Handle;
use crate::config::Config;
use crate::listener::Inherited;
use crate::upstream::{NameRecord, UpstreamRecord};

/// What a server starts with that takes the place of another.
#[derive(Debug, Default)]
pub struct Heritage {
    pub(super) inherited: Inherited,
    /// For names that have no answer now.
    pub(super) names: Vec<NameRecord>,
    /// Frontends that listen nowhere, as they were drained by hand.
    pub(super) drained: BTreeSet<String>,
}

impl Heritage {
    /// Sockets alone.
    pub(crate) fn of(inherited: &Inherited) -> Self {
        Self { inherited: inherited.clone(), ..Self::default() }
    }

    /// All that there is; of what was set by hand, what has [stayed](ByHand::carry_over).
    pub fn new(inherited: &Inherited, names: Vec<NameRecord>, by_hand: &[ByHand]) -> Self {
        let drained = by_hand.iter().filter(|it| it.what == ByHand::DRAINED);
        let drained = drained.filter_map(|it| it.frontend.clone()).collect();
        Self { inherited: inherited.clone(), names, drained }
    }
}

impl Handle {
    /// The addresses that names of backends have.
    pub fn names(&self) -> Vec<NameRecord> {
        self.upstreams().iter().flat_map(|upstream| upstream.names()).collect()
    }

    /// What another process is to know of upstreams that takes the place of this one.
    pub fn upstream_records(&self) -> Vec<UpstreamRecord> {
        let now = Instant::now();
        self.upstreams().iter().map(|upstream| upstream.record(now)).collect()
    }

    /// Makes upstreams what another process has told, whose place this one takes, before it has a connection. Returns
    /// what of it is by hand, a line each.
    pub fn restore_upstreams(&self, records: &[UpstreamRecord]) -> Vec<String> {
        let (all, now) = (self.upstreams(), Instant::now());
        let restore = |record: &UpstreamRecord| {
            let upstream = all.iter().find(|upstream| upstream.name() == record.name);
            upstream.map(|upstream| upstream.restore(record, now)).unwrap_or_default()
        };
        records.iter().flat_map(restore).collect()
    }
}

/// What was set by hand and differs from the configuration, until the next reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ByHand {
    /// What: `max-connections`, `backlog`, `log-level`, `drained`.
    pub what: String,
    /// Of which frontend; `None` is the process.
    pub frontend: Option<String>,
    /// As it was set.
    pub now: String,
    /// As it is configured.
    pub configured: String,
}

impl fmt::Display for ByHand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, frontend, now, configured } = self;
        if let (Self::DRAINED, Some(frontend)) = (what.as_str(), frontend) {
            return write!(formatter, "frontend {frontend} is drained by hand");
        }
        match frontend {
            Some(frontend) => write!(formatter, "{what} of frontend {frontend}")?,
            None => write!(formatter, "{what}")?,
        }
        write!(formatter, " is {now} by hand, and {configured} as configured")
    }
}

impl ByHand {
    /// What a frontend is that was drained by hand.
    pub const DRAINED: &str = "drained";
    /// What is configured where nothing is.
    pub const DEFAULT: &str = "the default";

    /// Sets again in the settings of a process what was set by hand in the one before it. Where these settings say
    /// something else than was configured there, they win. Returns what stays, and what does not.
    pub fn carry_over(
        all: Vec<Self>,
        config: &mut Config,
        level: &mut LevelFilter,
    ) -> (Vec<Self>, Vec<Self>) {
        all.into_iter().partition(|it| it.is_set_again(config, level).unwrap_or(false))
    }

    /// `None` if there is nothing that it could be set in.
    fn is_set_again(&self, config: &mut Config, level: &mut LevelFilter) -> Option<bool> {
        let Self { what, frontend, now, configured } = self;
        let Config { process, frontends, .. } = config;
        let frontend = match frontend {
            None => None,
            Some(name) => Some(frontends.iter_mut().find(|it| it.name == *name)?),
        };
        match (what.as_str(), frontend) {
            (Self::DRAINED, Some(_)) => Some(true),
            ("max-connections", None) => self.set(&mut process.max_connections),
            ("max-connections", Some(frontend)) => self.set(&mut frontend.limits.max_connections),
            ("backlog", Some(frontend)) => self.set(&mut frontend.socket.backlog),
            ("log-level", None) => {
                let is_same = level.to_string() == *configured;
                *level = if is_same { now.parse().ok()? } else { *level };
                Some(is_same)
            }
            _ => None,
        }
    }

    fn set<T: fmt::Display + FromStr>(&self, value: &mut Option<T>) -> Option<bool> {
        let is = value.as_ref().map_or(Self::DEFAULT.to_owned(), ToString::to_string);
        if is != self.configured {
            return Some(false);
        }
        *value = Some(self.now.parse().ok()?);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::config::Frontend;

    fn settings() -> (Config, LevelFilter) {
        let mut frontend = Frontend { name: "web".to_owned(), ..Frontend::default() };
        frontend.limits.max_connections = "50".parse().ok();
        let config = Config::of(frontend, Vec::new());
        (config, LevelFilter::INFO)
    }

    fn by_hand(what: &str, frontend: &str, [now, configured]: [&str; 2]) -> ByHand {
        let frontend = Some(frontend.to_owned()).filter(|name| !name.is_empty());
        let [now, configured] = [now, configured].map(str::to_owned);
        ByHand { what: what.to_owned(), frontend, now, configured }
    }

    #[test]
    fn what_was_set_by_hand_is_set_again() {
        let (mut config, mut level) = settings();
        let all = vec![
            by_hand("max-connections", "", ["100", ByHand::DEFAULT]),
            by_hand("max-connections", "web", ["7", "50"]),
            by_hand("backlog", "web", ["9", ByHand::DEFAULT]),
            by_hand("log-level", "", ["debug", "info"]),
            by_hand(ByHand::DRAINED, "web", ["yes", "no"]),
        ];
        let (stays, ended) = ByHand::carry_over(all.clone(), &mut config, &mut level);
        assert_eq!((&stays, ended), (&all, Vec::new()));
        let frontend = &config.frontends[0];
        assert_eq!(config.process.max_connections, "100".parse().ok());
        assert_eq!(frontend.limits.max_connections, "7".parse().ok());
        assert_eq!(frontend.socket.backlog, "9".parse().ok());
        assert_eq!(level, LevelFilter::DEBUG);
        let heritage = Heritage::new(&Inherited::default(), Vec::new(), &stays);
        assert_eq!(heritage.drained, BTreeSet::from(["web".to_owned()]));
    }

    #[test]
    fn a_configuration_that_differs_wins() {
        let (mut config, mut level) = settings();
        let all = vec![
            by_hand("max-connections", "", ["100", "90"]),
            by_hand("max-connections", "web", ["7", "49"]),
            by_hand("max-connections", "gone", ["7", "50"]),
            by_hand("backlog", "web", ["9", "8"]),
            by_hand("log-level", "", ["debug", "warn"]),
            by_hand(ByHand::DRAINED, "gone", ["yes", "no"]),
            by_hand("of-another-version", "web", ["1", "2"]),
            by_hand("backlog", "web", ["many", ByHand::DEFAULT]),
        ];
        let before = (config.clone(), level);
        let (stays, ended) = ByHand::carry_over(all.clone(), &mut config, &mut level);
        assert_eq!((stays, ended), (Vec::new(), all));
        assert_eq!((config, level), before);
    }
}
