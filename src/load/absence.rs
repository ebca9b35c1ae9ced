//! Whether the target has gone away: from some moment on nothing succeeds any more.

use std::time::Instant;

use super::outcome::{Absence, Fault};
use crate::sys::Errno;

/// What failed since the last success. Only in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trail {
    /// When the target last showed that it is there.
    present: Option<Instant>,
    /// When the first operation failed after that, and how many have since.
    failures: Option<(Instant, u64)>,
}

impl Trail {
    /// The target has answered.
    pub(super) fn present(&mut self, now: Instant) {
        *self = Self { present: Some(now), failures: None };
    }

    /// An operation has failed.
    pub(super) fn failed(&mut self, fault: Fault, now: Instant) {
        match fault {
            // Somebody must have sent them.
            Fault::WrongBytes
            | Fault::WrongStatus
            | Fault::WrongSize
            | Fault::UnaskedAnswer
            | Fault::Http(_) => self.present(now),
            Fault::Errno(errno) if is_ours(errno) => {}
            // The user did not wait.
            Fault::CutOff => {}
            Fault::Errno(_) | Fault::TimedOut | Fault::EarlyEnd => {
                let (since, count) = self.failures.unwrap_or((now, 0));
                self.failures = Some((since, count + 1));
            }
        }
    }

    /// Adds what another thread has seen: the target is there as long as one of them sees it.
    pub(super) fn merge(&mut self, other: Self) {
        let present = self.present.max(other.present);
        let failures = match (self.failures, other.failures) {
            (Some((since, count)), Some((from, more))) => Some((since.max(from), count + more)),
            (own, other) => own.or(other),
        };
        let failures = failures.filter(|(since, _)| present.is_none_or(|seen| seen <= *since));
        *self = Self { present, failures };
    }

    /// What is left at the end of a window that began then.
    pub(super) fn absence(&self, from: Instant) -> Option<Absence> {
        let (since, failed) = self.failures.filter(|_| self.present.is_some())?;
        Some(Absence { since: since.saturating_duration_since(from), failed })
    }
}

/// Whether the error tells of the generator's machine, not of the target.
fn is_ours(errno: Errno) -> bool {
    [Errno::EADDRNOTAVAIL, Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM]
        .contains(&errno)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const REFUSED: Fault = Fault::Errno(Errno::ECONNREFUSED);

    /// `.` an answer, `x` a refusal, `w` wrong bytes, `p` no port: one each millisecond.
    fn trail(from: Instant, events: &str) -> Trail {
        let mut trail = Trail::default();
        for (index, event) in (0..).zip(events.chars()) {
            let now = from + Duration::from_millis(index);
            match event {
                '.' => trail.present(now),
                'x' => trail.failed(REFUSED, now),
                'w' => trail.failed(Fault::WrongBytes, now),
                'p' => trail.failed(Fault::Errno(Errno::EADDRNOTAVAIL), now),
                _ => {}
            }
        }
        trail
    }

    fn left(trails: &[&str]) -> Option<(u128, u64)> {
        let from = Instant::now();
        let mut all = Trail::default();
        trails.iter().for_each(|events| all.merge(trail(from, events)));
        all.absence(from).map(|absence| (absence.since.as_millis(), absence.failed))
    }

    #[test]
    fn what_is_left_are_failures_behind_the_last_answer() {
        for (events, expected) in [
            ("...", None),
            ("..xx", Some((2, 2))),
            ("xx.", None),
            ("x.x.xxx", Some((4, 3))),
            (".xxw", None),
            (".xpx", Some((1, 2))),
            (".pp", None),
            // Nothing ever succeeded, which is another finding.
            ("xxx", None),
        ] {
            assert_eq!(left(&[events]), expected, "{events}");
        }
    }

    #[test]
    fn the_target_is_there_as_long_as_one_thread_sees_it() {
        assert_eq!(left(&["..xx", ".xxx"]), Some((2, 5)));
        assert_eq!(left(&["..xx", "....."]), None);
        assert_eq!(left(&["....", "xxxxx"]), None);
        assert_eq!(left(&["..xx", "."]), Some((2, 2)));
        assert_eq!(left(&["..xx", ""]), Some((2, 2)));
    }
}
