//! Durations and numbers as people write them, on a command line or in a file.
//!
//! A reason says what would be right. Who reads it knows the value, and the option or the key, which stand in
//! front of it: `invalid value '0' for '--workers <N>': REASON`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

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

/// What a network is written as.
pub const NETWORK: &str = "a network, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32";

/// A network, or an address alone.
///
/// Numbers have no zeros in front: `010` is 8 to some and 10 to others. A network of IPv4 addresses that are mapped into
/// IPv6 is one of IPv4, as clients from there are to all that asks.
///
/// # Errors
/// What would be right.
pub fn network(text: &str) -> Result<IpNet, String> {
    let read = match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
        Some((address, prefix)) => {
            let len = prefix.parse::<u8>().ok().filter(|len| len.to_string() == prefix);
            address.parse().ok().zip(len).and_then(|(address, len)| IpNet::new(address, len).ok())
        }
    };
    read.map(unmapped).ok_or_else(|| format!("it must be {NETWORK}"))
}

fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96));
    let four = four.and_then(|(address, len)| Ipv4Net::new(address, len).ok());
    four.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_one_way_only() {
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.0/95", "::ffff:192.0.2.0/95"),
        ] {
            assert_eq!(network(text).map(|it| it.to_string()), Ok(read.to_owned()), "{text}");
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "010.0.0.0/8",
            "host",
            "10.0.0.1 ",
            "::/129",
        ] {
            assert!(network(text).unwrap_err().contains("such as 10.0.0.0/8"), "{text}");
        }
    }
}
