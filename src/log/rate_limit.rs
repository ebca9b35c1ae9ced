//! Lines of the log that a flood of events must not become a flood of.
//!
//! A [`RateLimit`] is for an event that is over when it is told. An [`Incident`] is for something that lasts: its
//! beginning and its end are told both or not at all, so that nobody reads of a trouble without its end.
//! What is suppressed is told later: with the next line of its kind, or by a [`Look`] when nothing happens
//! any more.

use std::time::{Duration, Instant};

/// When somebody looks whether something was suppressed that is still to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Now: it is told if its interval is over.
    At(Instant),
    /// For the last time, at the end of the program.
    Last,
}

/// Lets one line through in an interval, and counts what it suppresses.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// One line in this time.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, suppressed: 0 }
    }

    /// Something has happened. `Some` if it may be told, with how often it was suppressed before.
    pub fn ask(&mut self, now: Instant) -> Option<u64> {
        if !self.is_open(now) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// How often it was suppressed, if that is to be told now.
    pub(crate) fn catch_up(&mut self, look: Look) -> Option<u64> {
        (self.suppressed > 0 && self.is_open_at(look)).then(|| self.take(look))
    }

    /// When [`catch_up`](Self::catch_up) has something to tell; `None` if nothing is suppressed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.suppressed > 0).map(|last| last + self.interval)
    }

    fn take(&mut self, look: Look) -> u64 {
        if let Look::At(now) = look {
            self.last = Some(now);
        }
        std::mem::take(&mut self.suppressed)
    }

    fn is_open_at(&self, look: Look) -> bool {
        match look {
            Look::At(now) => self.is_open(now),
            Look::Last => true,
        }
    }

    fn is_open(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }
}

/// What of an [`Incident`] is told late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// It has begun and lasts; before that so many began and were over.
    Lasts(u64),
    /// So many began and were over.
    Over(u64),
}

/// Something that begins and is over, again and again.
///
/// ```text
///             begin, the last one that was told is an interval ago
///   quiet ----------------------------------------------------------> told
///     ^ \                                                              |
///     |  \ begin, too soon                 begin, or a look,           | end: told too
///     |   +-----------------> suppressed ------ not too soon ---------->+
///     |                           | end: counted                       |
///     +---------------------------+------------------------------------+
/// ```
#[derive(Debug)]
pub(crate) struct Incident {
    limit: RateLimit,
    is_told: bool,
    is_suppressed: bool,
}

impl Incident {
    /// The beginning of one in this time is told.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { limit: RateLimit::new(interval), is_told: false, is_suppressed: false }
    }

    /// It has begun, or goes on. `Some` if that is to be told now, with how many were suppressed since the
    /// last that was told.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.is_told {
            return None;
        }
        self.is_suppressed = !self.limit.is_open(now);
        if self.is_suppressed {
            return None;
        }
        self.is_told = true;
        self.limit.ask(now)
    }

    /// It is over. True if that is to be told.
    pub(crate) fn end(&mut self) -> bool {
        self.limit.suppressed += u64::from(std::mem::take(&mut self.is_suppressed));
        std::mem::take(&mut self.is_told)
    }

    /// What was suppressed, if that is to be told now.
    pub(crate) fn catch_up(&mut self, look: Look) -> Option<Late> {
        if !self.is_suppressed {
            return self.limit.catch_up(look).map(Late::Over);
        }
        if !self.limit.is_open_at(look) {
            return None;
        }
        (self.is_suppressed, self.is_told) = (false, true);
        Some(Late::Lasts(self.limit.take(look)))
    }

    /// Whether its beginning has been told and it is not over.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }
}

/// How often, in words: `once`, `2 times`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times(pub(crate) u64);

impl std::fmt::Display for Times {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => formatter.write_str("once"),
            count => write!(formatter, "{count} times"),
        }
    }
}

/// What stands at the end of a line before which others were suppressed.
#[derive(Debug, Clone, Copy)]
pub struct Suppressed(pub u64);

impl std::fmt::Display for Suppressed {
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
        let (mut limit, start) = (RateLimit::new(10 * S), Instant::now());
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
        let (mut incident, start) = (Incident::new(10 * S), Instant::now());
        assert!(!incident.end(), "nothing has begun");
        assert_eq!(incident.begin(start), Some(0));
        assert_eq!(incident.begin(start + S), None, "it is told already");
        assert!(incident.end());
        for second in 2..5 {
            assert_eq!(incident.begin(start + second * S), None);
            assert!(!incident.end() && !incident.is_told());
        }
        assert_eq!(incident.begin(start + 11 * S), Some(3));
        assert!(incident.end());
    }

    /// It may never be told otherwise.
    #[test]
    fn one_that_began_too_soon_is_told_when_it_goes_on() {
        let (mut incident, start) = (Incident::new(10 * S), Instant::now());
        incident.begin(start);
        incident.end();
        assert_eq!(incident.begin(start + S), None);
        assert_eq!(incident.begin(start + 9 * S), None);
        assert_eq!(incident.begin(start + 10 * S), Some(0));
        assert!(incident.end());
    }

    #[test]
    fn a_look_tells_what_a_limit_has_suppressed_once() {
        let (mut limit, start) = (RateLimit::new(10 * S), Instant::now());
        limit.ask(start);
        assert_eq!((limit.catch_up(Look::Last), limit.due()), (None, None), "nothing was");
        limit.ask(start + S);
        limit.ask(start + 2 * S);
        assert_eq!(limit.due(), Some(start + 10 * S));
        assert_eq!(limit.catch_up(Look::At(start + 9 * S)), None, "too soon");
        assert_eq!(limit.catch_up(Look::At(start + 10 * S)), Some(2));
        assert_eq!(limit.due(), None);
        // That was a line too.
        assert_eq!(limit.ask(start + 11 * S), None);
        assert_eq!(limit.catch_up(Look::Last), Some(1));
        assert_eq!(limit.catch_up(Look::Last), None);
    }

    #[test]
    fn a_look_tells_of_a_spell_that_lasts_and_of_those_that_are_over() {
        let (mut incident, start) = (Incident::new(10 * S), Instant::now());
        let at = |second| Look::At(start + second * S);
        assert_eq!(incident.catch_up(Look::Last), None);
        incident.begin(start);
        assert_eq!(incident.catch_up(at(30)), None, "it is told already");
        incident.end();
        for second in [1, 2] {
            incident.begin(start + second * S);
            incident.end();
        }
        incident.begin(start + 3 * S);
        assert_eq!(incident.catch_up(at(9)), None, "too soon");
        assert_eq!(incident.catch_up(at(10)), Some(Late::Lasts(2)));
        assert_eq!(incident.begin(start + 11 * S), None, "it is told already");
        assert!(incident.end());
        incident.begin(start + 12 * S);
        incident.end();
        assert_eq!(incident.catch_up(at(19)), None, "too soon");
        assert_eq!(incident.catch_up(at(20)), Some(Late::Over(1)));
        incident.begin(start + 21 * S);
        assert_eq!(incident.catch_up(Look::Last), Some(Late::Lasts(0)));
    }

    #[test]
    fn what_was_suppressed_in_words() {
        assert_eq!([Times(1), Times(3)].map(|times| times.to_string()), ["once", "3 times"]);
        assert_eq!(Suppressed(0).to_string(), "");
        assert_eq!(Suppressed(7).to_string(), " (7 more since the last such line)");
    }
}
