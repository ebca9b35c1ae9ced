//! Who may come in, by where it comes from.

use std::num::NonZeroU32;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use uring_acceptor::config::human::network;
use uring_acceptor::config::{Rate, Refusal, SourceRules};

use super::values::up_to;

/// The ways to refuse that need nothing else: a reply is a key of a file only.
const REFUSALS: [(&str, Refusal); 3] =
    [("reset", Refusal::Reset), ("close", Refusal::Close), ("delay", Refusal::Delay)];

#[derive(Debug, Args)]
#[command(next_help_heading = "Rules by source")]
pub(super) struct Rules {
    /// Accept only this network (CIDR or an address); repeatable [default: all]
    #[arg(long, value_name = "NET", value_parser = network)]
    allow: Vec<IpNet>,
    /// Refuse this network, also where --allow has it; repeatable
    #[arg(long, value_name = "NET", value_parser = network)]
    deny: Vec<IpNet>,
    /// Maximum open connections of one source, an IPv4 address or an IPv6 /64 [default: no limit]
    #[arg(long, value_name = "N", value_parser = up_to(SourceRules::MAX_PER_SOURCE))]
    max_per_source: Option<NonZeroU32>,
    /// Maximum new connections of one source in a time: 20/s, 100/10s or '20/s burst 50' [default: no limit]
    #[arg(long, value_name = "RATE")]
    rate_per_source: Option<Rate>,
    /// How to refuse: reset, close (a FIN) or delay (above --rate-per-source, hold it until its turn; reset
    /// otherwise)
    #[arg(long, value_name = "HOW", value_parser = refusal(), default_value = REFUSALS[0].0)]
    refuse: Refusal,
}

fn refusal() -> impl TypedValueParser<Value = Refusal> {
    PossibleValuesParser::new(REFUSALS.map(|(name, _)| name)).map(|name| {
        let named = REFUSALS.into_iter().find(|(word, _)| *word == name);
        named.map(|(_, refusal)| refusal).unwrap_or_default()
    })
}

impl Rules {
    pub(super) fn config(self) -> SourceRules {
        SourceRules {
            allow: self.allow.into(),
            deny: self.deny.into(),
            max_per_source: self.max_per_source,
            rate_per_source: self.rate_per_source,
            refuse: self.refuse,
            ..SourceRules::default()
        }
    }
}
