//! Lines of the log that a flood of events must not become a flood of.
//!
//! A [`Limit`] is for an event that is over when it is told. A [`Spell`] is for something that lasts: its
//! beginning and its end are told both or not at all, so that nobody reads of a trouble without its end.

use std::time::{Duration, Instant};

/// Lets one line through in an interval, and counts what it keeps back.
#[derive(Debug)]
pub struct Limit {
    interval: Duration,
    last: Option<Instant>,
    kept_back: u64,
}

impl Limit {
    /// One line in this time.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, kept_back: 0 }
    }

    /// Something has happened. `Some` if it may be told, with how often it was kept back before.
    pub fn ask(&mut self, now: Instant) -> Option<u64> {
        if !self.is_open(now) {
            self.kept_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.kept_back))
    }

    fn is_open(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }
}

/// Something that begins and is over, again and again.
///
/// ```text
///             begin, the last one that was told is an interval ago
///   quiet ----------------------------------------------------------> told
///     ^ \                                                              |
///     |  \ begin, too soon                                             | end: told too
///     |   +-----------------> kept back ---- begin, not too soon ----->+
///     |                           | end: counted                       |
///     +---------------------------+------------------------------------+
/// ```
#[derive(Debug)]
pub(crate) struct Spell {
    limit: Limit,
    is_told: bool,
    is_kept_back: bool,
}

impl Spell {
    /// The beginning of one in this time is told.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { limit: Limit::new(interval), is_told: false, is_kept_back: false }
    }

    /// It has begun, or goes on. `Some` if that is to be told now, with how many were kept back since the
    /// last that was told.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.is_told {
            return None;
        }
        self.is_kept_back = !self.limit.is_open(now);
        if self.is_kept_back {
            return None;
        }
        self.is_told = true;
        self.limit.ask(now)
    }

    /// It is over. True if that is to be told.
    pub(crate) fn end(&mut self) -> bool {
        self.limit.kept_back += u64::from(std::mem::take(&mut self.is_kept_back));
        std::mem::take(&mut self.is_told)
    }

    /// Whether its beginning has been told and it is not over.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }
}

/// What stands at the end of a line before which others were kept back.
#[derive(Debug, Clone, Copy)]
pub struct KeptBack(pub u64);

impl std::fmt::Display for KeptBack {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(formatter, " ({count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn one_line_in_an_interval_and_the_rest_is_counted() {
        let (mut limit, start) = (Limit::new(10 * S), Instant::now());
        let told: Vec<_> = (0..=25).map(|second| limit.ask(start + second * S)).collect();
        let expected = |second| match second {
            0 => Some(0),
            10 | 20 => Some(9),
            _ => None,
        };
        assert_eq!(told, (0..=25).map(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_beginning_and_its_end_are_told_both_or_not_at_all() {
        let (mut spell, start) = (Spell::new(10 * S), Instant::now());
        assert!(!spell.end(), "nothing has begun");
        assert_eq!(spell.begin(start), Some(0));
        assert_eq!(spell.begin(start + S), None, "it is told already");
        assert!(spell.end());
        for second in 2..5 {
            assert_eq!(spell.begin(start + second * S), None);
            assert!(!spell.end() && !spell.is_told());
        }
        assert_eq!(spell.begin(start + 11 * S), Some(3));
        assert!(spell.end());
    }

    /// It may never be told otherwise.
    #[test]
    fn one_that_began_too_soon_is_told_when_it_goes_on() {
        let (mut spell, start) = (Spell::new(10 * S), Instant::now());
        spell.begin(start);
        spell.end();
        assert_eq!(spell.begin(start + S), None);
        assert_eq!(spell.begin(start + 9 * S), None);
        assert_eq!(spell.begin(start + 10 * S), Some(0));
        assert!(spell.end());
    }

    #[test]
    fn what_was_kept_back_in_words() {
        assert_eq!(KeptBack(0).to_string(), "");
        assert_eq!(KeptBack(7).to_string(), " (7 more since the last such line)");
    }
}
