//! How slow a client may be with a request and with its answer.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{ConfigError, timeout_in_range};

/// Limits for clients that keep a connection busy with as little as they can: slow heads, slow bodies, slow reads.
///
/// The rate is an average: by the time `grace` has passed since the first byte of a request, and ever after, its body
/// must have brought `min_rate` bytes for each second behind that grace. So a body of so many bytes takes at most
/// `grace` + bytes / `min_rate`, and who sends in bursts is cut only if the average is too low. The same holds for
/// taking an answer, from the moment at which the server first finds that it has not been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// From the first byte of a request to the end of its head; `None` is no limit but that of the idle timeout.
    pub header_timeout: Option<Duration>,
    /// Least bytes a second of a request's body, and of an answer that is being sent; `None` is none.
    pub min_rate: Option<NonZeroU32>,
    /// How long a transfer may take before the rate is looked at.
    pub grace: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            header_timeout: Some(Duration::from_secs(10)),
            min_rate: NonZeroU32::new(500),
            grace: Duration::from_secs(20),
        }
    }
}

impl RequestLimits {
    /// None of them.
    pub const OFF: Self =
        Self { header_timeout: None, min_rate: None, grace: Duration::from_secs(20) };

    /// The largest `min_rate`.
    pub const MIN_RATE_MAX: u32 = 1_000_000_000;

    /// When a transfer that has brought so many bytes has to be over, from its start. Nothing without a rate.
    pub(crate) fn allowance(&self, bytes: u64) -> Option<Duration> {
        let rate = u64::from(self.min_rate?.get());
        let millis = bytes % rate * 1000 / rate;
        let earned = Duration::from_secs(bytes / rate) + Duration::from_millis(millis);
        Some(self.grace.saturating_add(earned))
    }

    /// The shortest of the deadlines that it may set.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        let rate = self.min_rate.map(|_| self.grace);
        self.header_timeout.into_iter().chain(rate).min()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if let Some(header) = self.header_timeout {
            timeout_in_range("header", header)?;
        }
        timeout_in_range("min-rate-grace", self.grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_earns_its_share_of_a_second() {
        let limits = RequestLimits { min_rate: NonZeroU32::new(500), ..RequestLimits::default() };
        let seconds = |bytes| limits.allowance(bytes).unwrap().as_secs_f64();
        assert_eq!([0, 1, 250, 500, 5_000].map(seconds), [20.0, 20.002, 20.5, 21.0, 30.0]);
        assert_eq!(limits.allowance(u64::MAX).unwrap().as_secs(), 20 + u64::MAX / 500);
        assert_eq!(RequestLimits::OFF.allowance(7), None);
    }

    #[test]
    fn the_shortest_is_of_those_that_are_on() {
        let on = RequestLimits::default();
        assert_eq!(on.shortest(), Some(Duration::from_secs(10)));
        let rate = RequestLimits { header_timeout: None, ..on };
        assert_eq!(rate.shortest(), Some(Duration::from_secs(20)));
        assert_eq!(RequestLimits::OFF.shortest(), None);
    }
}
