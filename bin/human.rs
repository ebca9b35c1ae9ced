//! Durations and numbers of a command line, as people write them. Both programs use it.
//!
//! clap puts the option and the value in front of the reason:
//! `invalid value '0' for '--workers <N>': REASON`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A duration as people write it: `500ms`, `60s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Human(pub(crate) Duration);

impl fmt::Display for Human {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if self.0.subsec_nanos() == 0 && seconds <= 120 => {
                write!(formatter, "{seconds}s")
            }
            _ => humantime::format_duration(self.0).fmt(formatter),
        }
    }
}

/// Any duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 500ms, 60s or 5m".to_owned())
}

/// A duration within `range`.
pub(crate) fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Result<Human, String> {
    let negative = text.strip_prefix('-').is_some_and(|rest| duration(rest).is_ok());
    if !negative {
        let time = duration(text)?;
        if range.contains(&time) {
            return Ok(Human(time));
        }
    }
    let [least, most] = [range.start(), range.end()].map(|&bound| Human(bound));
    Err(format!("it must be {least} to {most}"))
}

/// A number within `range`.
pub(crate) fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("it must be a number from {} to {}", range.start(), range.end()))
}
