//! When the kernel is short of something: a call that enters the ring is made again, for a while.
//!
//! io_uring_enter(2): EAGAIN is memory for requests that is missing, EBUSY are completions that have overflown and
//! could not be flushed; both say to wait for completions and to try again. ENOMEM is not listed; a kernel that says
//! it means the same.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::log::rate_limit::Incident;
use crate::sys::Errno;

/// How long the kernel may be short of something in one stretch, until that is the end of the ring.
const LIMIT: Duration = Duration::from_secs(10);

/// A shortage and its end are told once in this time, by each ring.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Bounds of the pause before the next try, if there is nothing to do meanwhile; it doubles.
const PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_micros(100)..=Duration::from_millis(50);

/// Whether the kernel is short of something, from one call to the next.
#[derive(Debug)]
pub(super) struct Shortage {
    /// When it began; `None` if the last call went well or brought something.
    since: Option<Instant>,
    pause: Duration,
    incident: Incident,
}

/// What follows from a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is made again, after this time.
    Again(Duration),
    /// It is over.
    End,
}

impl Shortage {
    pub(super) fn new() -> Self {
        Self { since: None, pause: *PAUSES.start(), incident: Incident::new(LOG_INTERVAL) }
    }

    /// What a call has come to, and whether there are completions to work on meanwhile. Waits a little if there
    /// is nothing to do but to make it again.
    ///
    /// # Errors
    /// That of the call, if it makes the ring unusable or the shortage has lasted too long.
    pub(super) fn note(
        &mut self,
        call: &'static str,
        entered: io::Result<usize>,
        has_work: bool,
    ) -> io::Result<()> {
        let errno = match entered.as_ref().map_err(Errno::of) {
            // A wait that times out or is interrupted has done its work.
            Ok(_) | Err(Errno::ETIME | Errno::EINTR) => {
                self.is_over();
                if self.incident.end() {
                    tracing::warn!("{call} works again in thread '{}'", name());
                }
                return Ok(());
            }
            Err(errno) => errno,
        };
        let now = Instant::now();
        match self.failed(errno, has_work, now) {
            Next::Again(pause) => {
                if self.incident.begin(now).is_some() {
                    let limit = humantime::format_duration(LIMIT);
                    tracing::warn!(
                        "{call} failed with {errno} in thread '{}': the kernel is short of something; it is tried \
                         again, for {limit} at most, and the connections of this thread wait meanwhile",
                        name()
                    );
                }
                thread::sleep(pause);
                Ok(())
            }
            Next::End => entered.map(drop),
        }
    }

    fn is_over(&mut self) {
        (self.since, self.pause) = (None, *PAUSES.start());
    }

    fn failed(&mut self, errno: Errno, has_work: bool, now: Instant) -> Next {
        match errno {
            Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM if has_work => {
                self.is_over();
                Next::Again(Duration::ZERO)
            }
            Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM => {
                let since = *self.since.get_or_insert(now);
                if now.saturating_duration_since(since) >= LIMIT {
                    return Next::End;
                }
                let pause = self.pause;
                self.pause = (pause * 2).min(*PAUSES.end());
                Next::Again(pause)
            }
            _ => Next::End,
        }
    }
}

/// Of the calling thread.
fn name() -> String {
    thread::current().name().unwrap_or("without a name").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_short_is_tried_again_and_what_is_broken_is_not() {
        let now = Instant::now();
        for errno in [Errno::EAGAIN, Errno::EBUSY, Errno::ENOMEM] {
            let next = Shortage::new().failed(errno, false, now);
            assert_eq!(next, Next::Again(*PAUSES.start()), "{errno}");
        }
        for errno in [Errno::EBADF, Errno::EINVAL, Errno::EFAULT, Errno::EOPNOTSUPP] {
            assert_eq!(Shortage::new().failed(errno, true, now), Next::End, "{errno}");
        }
        for errno in [Errno::ETIME, Errno::EINTR] {
            let mut shortage = Shortage { since: Some(now), ..Shortage::new() };
            assert!(shortage.note("call", Err(errno.into()), false).is_ok());
            assert_eq!(shortage.since, None, "it has done its work");
        }
    }

    #[test]
    fn pauses_grow_and_the_stretch_is_bounded() {
        let (mut shortage, start) = (Shortage::new(), Instant::now());
        let (mut now, mut pauses) = (start, Vec::new());
        while let Next::Again(pause) = shortage.failed(Errno::ENOMEM, false, now) {
            pauses.push(pause);
            now += pause.max(MS);
        }
        assert!(now - start >= LIMIT && now - start < LIMIT + 2 * *PAUSES.end());
        assert!(pauses.is_sorted() && pauses.last() == Some(PAUSES.end()));
    }

    /// So that a storm of completions that overflow is no shortage.
    #[test]
    fn what_brings_something_begins_anew() {
        let (mut shortage, start) = (Shortage::new(), Instant::now());
        for second in 0..100 {
            let now = start + second * 1000 * MS;
            assert_eq!(shortage.failed(Errno::EBUSY, true, now), Next::Again(Duration::ZERO));
        }
        let later = start + 200_000 * MS;
        assert_eq!(shortage.failed(Errno::EBUSY, false, later), Next::Again(*PAUSES.start()));
    }

    #[test]
    fn the_error_comes_out_when_it_is_over() {
        let mut shortage = Shortage::new();
        let failed = |errno: Errno| Err(errno.into());
        assert!(shortage.note("call", failed(Errno::ENOMEM), false).is_ok());
        assert!(shortage.note("call", Ok(1), false).is_ok());
        shortage.since = Instant::now().checked_sub(LIMIT);
        let error = shortage.note("call", failed(Errno::ENOMEM), false).unwrap_err();
        assert_eq!(Errno::of(&error), Errno::ENOMEM);
    }
}
