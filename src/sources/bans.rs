//! The list of those who are banned: bounded, each with its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::network::Network;

/// Most bans at a time.
pub const BANS_MAX: usize = 4096;

/// Who has banned somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BannedBy {
    /// A limit that was exceeded for long.
    Limit,
    /// An operator.
    Operator,
}

impl BannedBy {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Operator => "operator",
        }
    }

    /// From the word.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Limit, Self::Operator].into_iter().find(|by| by.name() == name)
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Who is banned.
    pub network: Network,
    /// Until when.
    pub until: Instant,
    /// By whom.
    pub by: BannedBy,
}

impl Ban {
    /// How long it lasts from `now` on, in whole seconds, rounded up.
    pub fn left(&self, now: Instant) -> Duration {
        let left = self.until.saturating_duration_since(now);
        Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}

/// There are [`BANS_MAX`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Bans(BTreeMap<Network, (Instant, BannedBy)>);

impl Bans {
    /// Bans a network, or bans it until another time. Where there is no room the ban by a limit goes that would end first;
    /// that of an operator never does.
    ///
    /// A limit does not shorten what is banned already, and changes nothing of what an operator has banned. Returns the
    /// ban that holds now.
    ///
    /// # Errors
    /// There are too many; nothing has changed.
    pub fn add(&mut self, ban: Ban) -> Result<Ban, NoRoom> {
        let Ban { network, until, by } = ban;
        let known = self.0.get(&network);
        let stays = |(end, known): &&(Instant, BannedBy)| {
            by == BannedBy::Limit && (*known > by || *known == by && *end > until)
        };
        if let Some(&(until, by)) = known.filter(stays) {
            return Ok(Ban { network, until, by });
        }
        if known.is_none() && self.0.len() >= BANS_MAX {
            let by_limit = self.0.iter().filter(|(_, (_, by))| *by == BannedBy::Limit);
            let first = by_limit.min_by_key(|(_, (end, _))| *end).map(|(network, _)| *network);
            self.0.remove(&first.ok_or(NoRoom)?);
        }
        self.0.insert(network, (until, by));
        Ok(ban)
    }

    /// Ends a ban. False if there is none of exactly this network.
    pub fn remove(&mut self, network: Network) -> bool {
        self.0.remove(&network).is_some()
    }

    /// Takes those out that are over.
    pub fn take_over(&mut self, now: Instant) -> Vec<Network> {
        let over: Vec<Network> = self
            .0
            .iter()
            .filter(|(_, (end, _))| *end <= now)
            .map(|(network, _)| *network)
            .collect();
        self.0.retain(|_, (end, _)| *end > now);
        over
    }

    /// All, those that end last first.
    pub fn all(&self) -> Vec<Ban> {
        let ban = |(network, (until, by)): (&Network, &(Instant, BannedBy))| Ban {
            network: *network,
            until: *until,
            by: *by,
        };
        let mut all: Vec<Ban> = self.0.iter().map(ban).collect();
        all.sort_by_key(|ban| std::cmp::Reverse(ban.until));
        all
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
