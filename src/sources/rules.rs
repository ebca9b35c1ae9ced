//! Source rules as they are asked.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::key::{Prefixes, SourceKey};
use super::network::Network;
use super::networks::Networks;
use super::rate::Spacing;
use super::table::Limits;
use crate::config::{Refusal, RuleMode, SourceRules, SourceSizes};

/// Which rule refuses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// It comes from none of the networks that may come in.
    Allow,
    /// It comes from one that may not.
    Deny,
    /// Its source has as many connections open as it may.
    MaxPerSource,
    /// Its source opens connections faster than it may.
    RatePerSource,
}

/// How long a connection that comes too fast may be kept until it is its turn.
pub const DELAY_MOST: Duration = Duration::from_secs(5);

/// See the module. Those of a process have limits alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub(super) enforces: bool,
    pub(super) allow: Option<Networks>,
    pub(super) deny: Networks,
    pub(super) exempt: Networks,
    pub(super) of_source: Limits,
    pub(super) of_site: Limits,
    pub(super) refusal: Refusal,
    pub(super) prefixes: Prefixes,
    pub(super) table: u32,
    /// Who is refused so often for a limit is banned for this time.
    pub(super) ban: Option<(NonZeroU32, Duration)>,
}

impl Rule {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::MaxPerSource, Self::RatePerSource];

    /// The key that stands for it in the configuration, and its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::MaxPerSource => "max_per_source",
            Self::RatePerSource => "rate_per_source",
        }
    }
}

impl Rules {
    /// `None` if nobody is to be asked.
    pub fn new(config: &SourceRules, sizes: SourceSizes) -> Option<Self> {
        if config.is_empty() {
            return None;
        }
        let enforces = config.mode == RuleMode::Enforce;
        // Nobody waits for a rule that is only watched.
        let waits = enforces && config.refuse == Refusal::Delay;
        let patience = if waits { DELAY_MOST } else { Duration::ZERO };
        let spacing = config.rate_per_source.map(Spacing::from);
        let open = config.max_per_source.map(NonZeroU32::get);
        let factor = config.site_factor;
        Some(Self {
            enforces,
            allow: config.allow.is_given().then(|| Networks::new(&config.allow.all())),
            deny: Networks::new(&config.deny.all()),
            exempt: Networks::new(&config.exempt),
            of_source: Limits { open, spacing, patience, delay_most: patience },
            of_site: Limits {
                open: open.map(|open| open.saturating_mul(factor)),
                spacing: spacing.map(|spacing| spacing.times(factor)),
                patience,
                delay_most: patience,
            },
            refusal: config.refuse.clone(),
            prefixes: Prefixes { ipv4: sizes.ipv4_prefix as u8, ipv6: sizes.ipv6_prefix as u8 },
            table: sizes.table,
            ban: config.ban_after.map(|after| (after, config.ban_time)),
        })
    }

    /// Whether something has to be remembered of sources.
    pub fn has_limits(&self) -> bool {
        self.of_source.open.is_some() || self.of_source.spacing.is_some()
    }

    /// The network that a source of this address is, or its site.
    pub(super) fn network(&self, whose: SourceKey, address: IpAddr) -> Network {
        let prefix = match address.to_canonical() {
            _ if whose.is_site() => SourceKey::SITE_PREFIX,
            IpAddr::V4(_) => self.prefixes.ipv4,
            IpAddr::V6(_) => self.prefixes.ipv6,
        };
        let network = IpNet::new(address.to_canonical(), prefix).map(|network| network.trunc());
        let network = network.ok().and_then(|network| Network::try_from(network).ok());
        network.unwrap_or_else(|| Network::of(address))
    }

    /// Those that are set.
    pub(super) fn in_force(&self) -> Vec<Rule> {
        let is_set = |rule: &Rule| match rule {
            Rule::Allow => self.allow.is_some(),
            Rule::Deny => !self.deny.is_empty(),
            Rule::MaxPerSource => self.of_source.open.is_some(),
            Rule::RatePerSource => self.of_source.spacing.is_some(),
        };
        Rule::ALL.into_iter().filter(is_set).collect()
    }

    /// Which network rule is against an address.
    pub(super) fn refuses(&self, address: IpAddr) -> Option<Rule> {
        if self.deny.contains(address) {
            return Some(Rule::Deny);
        }
        let is_allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(address));
        (!is_allowed).then_some(Rule::Allow)
    }
}
