//! Sources of connections: what is known of those that have a limit.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::answer::{Code, Failure};
use crate::server::Handle;
use crate::sources::{Action, Order, Rule, Sources};

/// The order of a list of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceSort {
    /// Most open connections first.
    #[default]
    Open,
    /// Those first that have used most of their rate.
    Rate,
    /// Most often refused first.
    Refused,
}

/// Some of the sources that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceList {
    /// Whose sources they are; `None`: those of all frontends together, by the limits of the process.
    pub frontend: Option<String>,
    /// How many are known.
    pub known: usize,
    /// How many there is room for; 0: no limit by source is set, and none is known.
    pub capacity: usize,
    /// The first of them.
    pub sources: Vec<SourceEntry>,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceEntry {
    /// An IPv4 address, or an IPv6 network of 64 bits, or of 48 for all of those in it. With other prefixes for sources,
    /// networks of these.
    pub source: String,
    /// Open connections.
    pub open: u32,
    /// Until its rate is whole again.
    pub rate_whole_in_ms: u64,
    /// Connections that were refused since it is known.
    pub refused: u32,
}

/// How often rules by source were against a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleCount {
    /// The key of the rule in the configuration.
    pub rule: String,
    /// `refused`, `delayed`, or `observed` where it was let in.
    pub action: String,
    /// How many connections.
    pub connections: u64,
}

impl From<SourceSort> for Order {
    fn from(sort: SourceSort) -> Self {
        match sort {
            SourceSort::Open => Self::Open,
            SourceSort::Rate => Self::Rate,
            SourceSort::Refused => Self::Refused,
        }
    }
}

impl SourceList {
    /// Those of a frontend, or of all together.
    ///
    /// # Errors
    /// There is no such frontend.
    pub(crate) fn of(
        handle: &Handle,
        frontend: Option<&str>,
        (sort, limit): (SourceSort, usize),
    ) -> Result<Self, Failure> {
        let Some(name) = frontend else {
            return Ok(Self::from(&handle.process_sources(), (None, sort, limit)));
        };
        let all = handle.frontends();
        let found = all.iter().find(|it| it.name == name).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            let known = known.join(", ");
            let text = format!("there is no frontend '{name}'; known: {known}");
            Failure::new(Code::Unknown, text)
        })?;
        Ok(Self::from(found.sources(), (frontend, sort, limit)))
    }

    fn from(sources: &Sources, (frontend, sort, limit): (Option<&str>, SourceSort, usize)) -> Self {
        let listing = sources.list(sort.into(), limit, Instant::now());
        let entries = listing.sources.iter().map(|known| SourceEntry {
            source: known.key.network(listing.prefixes).to_string(),
            open: known.open,
            rate_whole_in_ms: known.ahead_us.div_ceil(1_000),
            refused: known.refused,
        });
        Self {
            frontend: frontend.map(str::to_owned),
            known: listing.known,
            capacity: listing.capacity,
            sources: entries.collect(),
        }
    }
}

/// What was counted of a frontend, or of all together, by rules that are in force or were.
pub(super) fn counts(sources: &Sources) -> Vec<RuleCount> {
    let count = |(rule, action, connections): (Rule, Action, u64)| RuleCount {
        rule: rule.name().to_owned(),
        action: action.name().to_owned(),
        connections,
    };
    sources.counts().map(count).collect()
}
