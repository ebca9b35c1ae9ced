//! Sums that a report from elsewhere must not make overflow.

use super::{Latency, ReportError};

/// A figure that reports add up.
pub(super) trait Sum: Sized + Copy {
    /// `None` when there is no room for the sum.
    fn sum(self, other: Self) -> Option<Self>;
}

impl Sum for u64 {
    fn sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Sum for usize {
    fn sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

/// JSON has no infinity.
impl Sum for f64 {
    fn sum(self, other: Self) -> Option<Self> {
        Some(self + other).filter(|sum| sum.is_finite())
    }
}

/// Adds `other`; `what` names the figure in the error.
pub(super) fn add<T: Sum>(own: &mut T, other: T, what: &'static str) -> Result<(), ReportError> {
    *own = own.sum(other).ok_or(ReportError::TooLarge { what })?;
    Ok(())
}

/// Adds what another run has measured.
pub(super) fn add_latency(
    own: &mut Latency,
    other: &Latency,
    what: &'static str,
) -> Result<(), ReportError> {
    if own.add(other) { Ok(()) } else { Err(ReportError::TooLarge { what }) }
}
