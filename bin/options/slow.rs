//! How slow the clients of `acceptor http` may be.

use std::fmt;
use std::num::NonZeroU32;

use clap::Args;
use uring_acceptor::config::RequestLimits;
use uring_acceptor::config::human::{Human, number, timeout};

const OFF: &str = "off";

#[derive(Debug, Args)]
#[command(next_help_heading = "Slow clients")]
pub(super) struct SlowClients {
    /// Maximum time from the first byte of a request to the end of its header; off: only
    /// --idle-timeout
    #[arg(long, value_name = "TIME", value_parser = header_timeout,
          default_value_t = OrOff(RequestLimits::default().header_timeout.map(Human)))]
    header_timeout: OrOff<Human>,
    /// Least bytes per second of a request body, and of a response that the client has not taken
    /// yet, on average beyond --min-rate-grace; off: none
    #[arg(long, value_name = "BYTES", value_parser = min_rate,
          default_value_t = OrOff(RequestLimits::default().min_rate))]
    min_rate: OrOff<NonZeroU32>,
    /// How long a request body, or taking a response, may take before --min-rate is required
    #[arg(long, value_name = "TIME", value_parser = timeout,
          default_value_t = Human(RequestLimits::default().grace))]
    min_rate_grace: Human,
}

/// A value, or that there is none.
#[derive(Debug, Clone, Copy)]
struct OrOff<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrOff<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str(OFF),
        }
    }
}

impl SlowClients {
    pub(super) fn limits(&self) -> RequestLimits {
        RequestLimits {
            header_timeout: self.header_timeout.0.map(|time| time.0),
            min_rate: self.min_rate.0,
            grace: self.min_rate_grace.0,
        }
    }
}

fn header_timeout(text: &str) -> Result<OrOff<Human>, String> {
    or_off(text, timeout)
}

fn min_rate(text: &str) -> Result<OrOff<NonZeroU32>, String> {
    let one = NonZeroU32::MIN;
    let most = NonZeroU32::new(RequestLimits::MIN_RATE_MAX).unwrap_or(NonZeroU32::MAX);
    or_off(text, |text| number(text, one..=most))
}

fn or_off<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<OrOff<T>, String> {
    if text == OFF {
        return Ok(OrOff(None));
    }
    read(text).map(|value| OrOff(Some(value))).map_err(|why| format!("{why}, or {OFF}"))
}
