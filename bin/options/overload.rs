//! What is done when connections wait too long.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use uring_acceptor::config::human::{Human, duration_in, timeout};
use uring_acceptor::config::{OverloadAction, OverloadConfig};

#[derive(Debug, Args)]
#[command(next_help_heading = "Overload")]
pub(super) struct Overload {
    /// What to do while connections wait too long: hold (nothing), shed (refuse who has waited too long), evict (close
    /// idle ones to make room) or lifo (serve the newest first)
    #[arg(long, value_name = "ACTION", value_parser = action(),
          default_value = OverloadConfig::default().action.name())]
    overload: OverloadAction,
    /// How long a connection may wait until its thread takes it over
    #[arg(long, value_name = "TIME", value_parser = target,
          default_value_t = Human(OverloadConfig::default().target))]
    overload_target: Human,
    /// Overloaded if every connection within this time has waited longer than the target
    #[arg(long, value_name = "TIME", value_parser = interval,
          default_value_t = Human(OverloadConfig::default().interval))]
    overload_interval: Human,
    /// Close a connection unserved if it has waited longer than this and its client has gone
    /// [default: serve all]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    patience: Option<Human>,
    /// With --patience: a client that has sent FIN has gone, also if it has sent a request before
    #[arg(long)]
    no_half_close: bool,
}

fn target(text: &str) -> Result<Human, String> {
    duration_in(text, OverloadConfig::TARGET)
}

fn interval(text: &str) -> Result<Human, String> {
    duration_in(text, OverloadConfig::INTERVAL)
}

fn action() -> impl TypedValueParser<Value = OverloadAction> {
    PossibleValuesParser::new(OverloadAction::ALL.map(OverloadAction::name)).map(|name| {
        let named = OverloadAction::ALL.into_iter().find(|action| action.name() == name);
        named.unwrap_or_default()
    })
}

impl Overload {
    pub(super) fn config(&self) -> OverloadConfig {
        OverloadConfig {
            action: self.overload,
            target: self.overload_target.0,
            interval: self.overload_interval.0,
            patience: self.patience.map(|time| time.0),
            half_close: !self.no_half_close,
        }
    }
}
