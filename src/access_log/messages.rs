//! What is told of an access log that is in trouble: at once, not often, and not before it is over that it is.

use std::fmt;
use std::time::{Duration, Instant};

use crate::log::RateLimit;
use crate::sys::Errno;

/// That all is well again is told when it has been so for this long: no line that says otherwise is the last.
const CALM: Duration = Duration::from_secs(5);

/// How often it is told that entries go on being lost.
const LOST_INTERVAL: Duration = Duration::from_secs(10);

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A write has waited this long.
    Waits(Duration),
    /// The last write failed.
    Refused(Errno),
    /// Entries come faster than they are written.
    Full,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It begins.
    Trouble(Trouble),
    /// It goes on; so many are lost since it began.
    Lost(u64),
    /// It is over, and so many are lost.
    Well(u64),
}

/// What has been told.
#[derive(Debug)]
pub(super) struct Messages {
    /// Entries that were lost at the last look.
    lost: u64,
    /// Entries that were lost before what has been told and is not over, and when it was last seen.
    told: Option<(u64, Instant)>,
    limit: RateLimit,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self { lost: 0, told: None, limit: RateLimit::new(LOST_INTERVAL) }
    }

    pub(super) fn look(&mut self, trouble: Option<Trouble>, lost: u64, now: Instant) -> Vec<News> {
        let before = std::mem::replace(&mut self.lost, lost);
        let trouble = trouble.or((lost > before).then_some(Trouble::Full));
        match (trouble, self.told) {
            (Some(trouble), None) => {
                self.told = Some((before, now));
                let mut news = vec![News::Trouble(trouble)];
                self.progress(before, now, &mut news);
                news
            }
            (Some(_), Some((begin, _))) => {
                self.told = Some((begin, now));
                let mut news = Vec::new();
                if lost > before {
                    self.progress(begin, now, &mut news);
                }
                news
            }
            (None, Some((begin, last))) if now.saturating_duration_since(last) >= CALM => {
                self.told = None;
                vec![News::Well(lost - begin)]
            }
            (None, _) => Vec::new(),
        }
    }

    /// Tells how many are lost, if there are any and the last such line is long ago.
    fn progress(&mut self, begin: u64, now: Instant, news: &mut Vec<News>) {
        if self.lost > begin && self.limit.ask(now).is_some() {
            news.push(News::Lost(self.lost - begin));
        }
    }
}

/// All that are lost, by why.
pub(super) struct Losses {
    pub(super) full: u64,
    pub(super) refused: u64,
    pub(super) unwritten: u64,
    /// Why the last of those that were refused was.
    pub(super) errno: Option<Errno>,
    /// What writes.
    pub(super) call: &'static str,
}

impl Losses {
    pub(super) fn all(&self) -> u64 {
        self.full + self.refused + self.unwritten
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = self.errno.map_or_else(String::new, |errno| format!(" with {errno}"));
        let call = self.call;
        let why = [
            (self.full, "that came faster than they could be written".to_owned()),
            (self.refused, format!("that {call} refused{errno}")),
            (self.unwritten, format!("that waited for {call} when the program ended")),
        ];
        let why = why.iter().filter(|(count, _)| *count > 0);
        let why: Vec<_> = why.map(|(count, why)| format!("{count} {why}")).collect();
        write!(formatter, "{}: {}", lost_in_words(self.all()), why.join(", "))
    }
}

pub(super) fn lost_in_words(count: u64) -> String {
    match count {
        0 => "no entry is lost".to_owned(),
        1 => "1 entry is lost".to_owned(),
        _ => format!("{count} entries are lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn trouble_is_told_at_once_losses_now_and_then_and_the_end_when_it_is_calm() {
        let (mut messages, start) = (Messages::new(), Instant::now());
        let refused = Trouble::Refused(Errno::EFBIG);
        let table: &[(u32, Option<Trouble>, u64, &[News])] = &[
            (0, None, 3, &[News::Trouble(Trouble::Full), News::Lost(3)]),
            (1, None, 3, &[]),
            (4, Some(refused), 7, &[]),
            (6, None, 7, &[]),
            (8, None, 7, &[]),
            (9, None, 7, &[News::Well(7)]),
            (10, None, 7, &[]),
            (11, Some(refused), 7, &[News::Trouble(refused)]),
            (12, Some(refused), 8, &[News::Lost(1)]),
            (13, Some(refused), 20, &[]),
            (23, Some(refused), 30, &[News::Lost(23)]),
            (27, None, 30, &[]),
            (28, None, 30, &[News::Well(23)]),
            (29, Some(refused), 30, &[News::Trouble(refused)]),
            (34, None, 30, &[News::Well(0)]),
        ];
        for &(second, trouble, lost, expected) in table {
            assert_eq!(messages.look(trouble, lost, start + second * S), expected, "{second}");
        }
    }

    #[test]
    fn losses_in_words() {
        let losses = Losses {
            full: 2,
            refused: 1,
            unwritten: 3,
            errno: Some(Errno::ENOSPC),
            call: "write(2)",
        };
        let text = losses.to_string();
        for part in [
            "6 entries are lost: 2 that came",
            "1 that write(2) refused with ENOSPC",
            "3 that waited",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let losses = Losses { full: 0, refused: 0, unwritten: 1, errno: None, call: "write(2)" };
        let expected = "1 entry is lost: 1 that waited for write(2) when the program ended";
        assert_eq!(losses.to_string(), expected);
    }
}
