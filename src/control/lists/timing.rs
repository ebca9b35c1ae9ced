//! When a file is looked at that has changed.

use std::time::{Duration, Instant};

/// From the first sign of a change until the file is looked at: whoever writes it is mostly done by then, and what
/// belongs together comes together.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(100);

/// Between two looks at one file, however often it changes.
pub(super) const SPACING: Duration = Duration::from_secs(1);

/// Of one file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timing {
    /// The first sign of a change since the last look.
    touched: Option<Instant>,
    looked: Option<Instant>,
}

impl Timing {
    /// It may have changed.
    pub(super) fn touch(&mut self, now: Instant) {
        self.touched.get_or_insert(now);
    }

    /// When it is to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        let touched = self.touched? + DEBOUNCE;
        Some(self.looked.map_or(touched, |looked| touched.max(looked + SPACING)))
    }

    /// Whether it is to be looked at now; it is taken for done then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            *self = Self { touched: None, looked: Some(now) };
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_that_come_together_are_one_look_and_looks_are_apart() {
        let (mut timing, start) = (Timing::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(timing.due(), None);
        timing.touch(at(0));
        timing.touch(at(99));
        assert_eq!(timing.due(), Some(at(100)), "later signs put nothing off");
        assert!(!timing.take(at(99)));
        assert!(timing.take(at(100)));
        assert!(!timing.take(at(100)), "it is done");
        timing.touch(at(150));
        assert_eq!(timing.due(), Some(at(1100)));
        assert!(!timing.take(at(1099)));
        assert!(timing.take(at(1100)));
        timing.touch(at(5000));
        assert_eq!(timing.due(), Some(at(5100)));
    }
}
