//! What the log is told of the pauses of a listener: few lines, and the last one is true.

use std::time::{Duration, Instant};

use crate::sys::Errno;

/// That accepting goes on is told once a listener has been armed, and has not rested, for this long. So a pause is
/// told this often at most, by each thread, and at once: no line that says otherwise is the last.
pub(super) const CALM: Duration = Duration::from_secs(5);

/// The rests of a listener, as the log knows them.
///
/// ```text
///             rest                     news, behind what came with it
///   Quiet ---------> Begun(its errno) -------------------------------> Told
///     ^                                                                 |  rest: counted
///     +-------------- news: armed, and CALM since the last rest --------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Quiet,
    Begun { errno: Errno, last: Instant },
    Told { last: Instant, rests: u64 },
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Accepting pauses, since accept(2) has failed with this.
    Pauses(Errno),
    /// It goes on, after so many rests.
    GoesOn(u64),
}

impl Pause {
    /// The listener rests.
    pub(super) fn rest(&mut self, errno: Errno, now: Instant) {
        *self = match *self {
            Self::Quiet => Self::Begun { errno, last: now },
            Self::Begun { errno, .. } => Self::Begun { errno, last: now },
            Self::Told { rests, .. } => Self::Told { last: now, rests: rests + 1 },
        };
    }

    /// What is to be told now, once.
    pub(super) fn news(&mut self, is_armed: bool, now: Instant) -> Option<News> {
        match *self {
            Self::Begun { errno, last } => {
                *self = Self::Told { last, rests: 1 };
                Some(News::Pauses(errno))
            }
            Self::Told { rests, .. } if self.calm_at(is_armed).is_some_and(|at| now >= at) => {
                *self = Self::Quiet;
                Some(News::GoesOn(rests))
            }
            Self::Told { .. } | Self::Quiet => None,
        }
    }

    /// When it is to be told that accepting goes on, if it does until then.
    pub(super) fn calm_at(&self, is_armed: bool) -> Option<Instant> {
        match *self {
            Self::Told { last, .. } if is_armed => Some(last + CALM),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pause_is_told_at_once_and_its_end_when_it_is_calm() {
        let (mut pause, start) = (Pause::Quiet, Instant::now());
        assert_eq!(pause.news(true, start), None);
        pause.rest(Errno::EMFILE, start);
        pause.rest(Errno::ENFILE, start);
        assert_eq!(pause.news(false, start), Some(News::Pauses(Errno::EMFILE)));
        pause.rest(Errno::EMFILE, start + MS);
        assert_eq!(pause.news(true, start + CALM), None, "the last rest was later");
        assert_eq!(pause.calm_at(true), Some(start + MS + CALM));
        assert_eq!(pause.calm_at(false), None, "what is not armed does not go on");
        assert_eq!(pause.news(false, start + 2 * CALM), None);
        assert_eq!(pause.news(true, start + 2 * CALM), Some(News::GoesOn(2)));
        assert_eq!(pause.news(true, start + 2 * CALM), None, "it is told once");
        assert_eq!(pause.calm_at(true), None);
    }

    /// A listener that rests every 100 ms, of which it is armed for the most part.
    #[test]
    fn one_that_flaps_is_one_pause() {
        let (mut pause, start) = (Pause::Quiet, Instant::now());
        let mut told = Vec::new();
        for step in 0..600 {
            let now = start + step * 100 * MS;
            pause.rest(Errno::EMFILE, now);
            told.extend(pause.news(false, now));
            told.extend(pause.news(true, now + 99 * MS));
        }
        assert_eq!(told, [News::Pauses(Errno::EMFILE)]);
        assert_eq!(pause.news(true, start + 600 * 100 * MS + CALM), Some(News::GoesOn(600)));
    }
}
