//! Durations and numbers as people write them, on a command line or in a file.
//!
//! A reason says what would be right. Who reads it knows the value, and the option or the key, which stand in
//! front of it: `invalid value '0' for '--workers <N>': REASON`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::TIMEOUT_MAX;

/// A duration as people write it: `500ms`, `60s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Human(
    /// The same as a value.
    pub Duration,
);

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
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 500ms, 60s or 5m".to_owned())
}

/// A duration within `range`.
///
/// # Errors
/// What would be right.
pub fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Result<Human, String> {
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
///
/// # Errors
/// What would be right.
pub fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("it must be a number from {} to {}", range.start(), range.end()))
}

/// A deadline or a timer: never zero, at most [`TIMEOUT_MAX`].
///
/// # Errors
/// What would be right.
pub fn timeout(text: &str) -> Result<Human, String> {
    duration_in(text, Duration::from_millis(1)..=TIMEOUT_MAX)
}

/// The same, and zero is allowed.
///
/// # Errors
/// What would be right.
pub fn interval(text: &str) -> Result<Human, String> {
    duration_in(text, Duration::ZERO..=TIMEOUT_MAX)
}

/// Time between two lines of figures; zero is none.
///
/// # Errors
/// What would be right.
pub fn stats_interval(text: &str) -> Result<Human, String> {
    /// Faster than this nobody reads.
    const LEAST: Duration = Duration::from_millis(100);
    match duration(text)? {
        zero if zero.is_zero() => Ok(Human(zero)),
        _ => duration_in(text, LEAST..=TIMEOUT_MAX)
            .map_err(|reason| format!("{reason}, or 0s for none")),
    }
}

/// TCP_KEEPIDLE: whole seconds, at most 32767 (MAX_TCP_KEEPIDLE of the kernel).
///
/// # Errors
/// What would be right.
pub fn keepalive(text: &str) -> Result<Human, String> {
    let Human(time) = duration_in(text, Duration::from_secs(1)..=Duration::from_secs(32_767))?;
    if time.subsec_nanos() == 0 { Ok(Human(time)) } else { Err("give whole seconds".into()) }
}
