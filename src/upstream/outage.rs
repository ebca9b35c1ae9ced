//! Whether an upstream has a healthy endpoint at all: what its log says of the whole.
//!
//! An endpoint is healthy as long as checks do not say that it is down, and less connects in a row have failed
//! than eject one, whether that was withheld or is over. So only events change it, and no time that passes:
//! an endpoint whose ejection is over is not healthy before a connect has succeeded.

use std::time::{Duration, Instant};

use super::endpoint::EndpointId;
use crate::log::rate_limit::{Incident, Late, Look};

/// The beginnings of outages are logged this often at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// None of so many is healthy; outages in between that were not told.
    Begins { members: usize, suppressed: u64 },
    /// One is, after this time.
    Ends { after: Duration },
    /// None was so often, for this time in all, and one is again; that was not told when it happened.
    Over { times: u64, lasted: Duration },
}

/// The health of the endpoints that get connections.
#[derive(Debug)]
pub(super) struct Outage {
    members: Vec<(EndpointId, bool)>,
    since: Option<Instant>,
    incident: Incident,
    /// How long those lasted that were not told.
    untold: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        let incident = Incident::new(LOG_INTERVAL);
        Self { members: Vec::new(), since: None, incident, untold: Duration::ZERO }
    }
}

impl Outage {
    /// The endpoints have changed; each with whether it is healthy.
    pub(super) fn set_members(
        &mut self,
        members: impl Iterator<Item = (EndpointId, bool)>,
        now: Instant,
    ) -> Option<News> {
        self.members = members.collect();
        self.look(now)
    }

    /// An endpoint is healthy, or not.
    pub(super) fn set(&mut self, id: EndpointId, is_healthy: bool, now: Instant) -> Option<News> {
        // One that is gone or drains does not count.
        let member = self.members.iter_mut().find(|member| member.0 == id)?;
        member.1 = is_healthy;
        self.look(now)
    }

    /// What was suppressed, if that is to be told now.
    pub(super) fn catch_up(&mut self, look: Look) -> Option<News> {
        Some(match self.incident.catch_up(look)? {
            Late::Lasts(suppressed) => self.begins(suppressed),
            Late::Over(times) => News::Over { times, lasted: std::mem::take(&mut self.untold) },
        })
    }

    fn look(&mut self, now: Instant) -> Option<News> {
        if self.members.iter().any(|(_, is_healthy)| *is_healthy) {
            let since = self.since.take().unwrap_or(now);
            let after = now.saturating_duration_since(since);
            if self.incident.end() {
                return Some(News::Ends { after });
            }
            self.untold += after;
            return None;
        }
        self.since.get_or_insert(now);
        self.incident.begin(now).map(|suppressed| self.begins(suppressed))
    }

    fn begins(&mut self, suppressed: u64) -> News {
        self.untold = Duration::ZERO;
        News::Begins { members: self.members.len(), suppressed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const A: EndpointId = EndpointId(1);
    const B: EndpointId = EndpointId(2);

    fn two(now: Instant) -> Outage {
        let mut outage = Outage::default();
        assert_eq!(outage.set_members([(A, true), (B, true)].into_iter(), now), None);
        outage
    }

    const BEGINS: Option<News> = Some(News::Begins { members: 2, suppressed: 0 });

    #[test]
    fn it_begins_with_the_last_healthy_one_and_ends_with_the_first() {
        let start = Instant::now();
        let mut outage = two(start);
        assert_eq!(outage.set(A, false, start), None);
        assert_eq!(outage.set(B, false, start), BEGINS);
        assert_eq!(outage.set(A, false, start + S), None, "it is told already");
        assert_eq!(outage.set(B, true, start + 7 * S), Some(News::Ends { after: 7 * S }));
        assert_eq!(outage.set(A, true, start + 8 * S), None);
    }

    #[test]
    fn those_that_are_gone_do_not_count() {
        let start = Instant::now();
        let mut outage = two(start);
        outage.set(A, false, start);
        let only_a = outage.set_members([(A, false)].into_iter(), start);
        assert_eq!(only_a, Some(News::Begins { members: 1, suppressed: 0 }));
        assert_eq!(outage.set(B, true, start), None);
        let both = outage.set_members([(A, false), (B, true)].into_iter(), start + S);
        assert_eq!(both, Some(News::Ends { after: S }));
        let none = outage.set_members(std::iter::empty(), start + 11 * S);
        assert_eq!(none, Some(News::Begins { members: 0, suppressed: 0 }));
    }

    #[test]
    fn one_that_comes_and_goes_is_told_once_in_an_interval() {
        let start = Instant::now();
        let mut outage = two(start);
        outage.set(A, false, start);
        let mut told = Vec::new();
        for second in 0..30 {
            let now = start + second * S;
            told.extend(outage.set(B, false, now).map(|news| (second, news)));
            told.extend(outage.set(B, true, now).map(|news| (second, news)));
        }
        let pair = |second, suppressed| {
            let begins = News::Begins { members: 2, suppressed };
            [(second, begins), (second, News::Ends { after: Duration::ZERO })]
        };
        assert_eq!(told, [pair(0, 0), pair(10, 9), pair(20, 9)].concat());
    }

    #[test]
    fn an_outage_that_was_suppressed_and_lasts_is_told() {
        let start = Instant::now();
        let mut outage = two(start);
        outage.set(A, false, start);
        outage.set(B, false, start);
        outage.set(B, true, start);
        assert_eq!(outage.set(B, false, start + S), None);
        assert_eq!(outage.set(A, false, start + 11 * S), BEGINS);
        assert_eq!(outage.set(A, true, start + 12 * S), Some(News::Ends { after: 11 * S }));
    }

    /// Without checks nothing happens that would tell it.
    #[test]
    fn one_that_was_suppressed_is_told_by_a_look() {
        let start = Instant::now();
        let at = |second| Look::At(start + second * S);
        let mut outage = two(start);
        outage.set(A, false, start);
        outage.set(B, false, start);
        outage.set(B, true, start);
        outage.set(B, false, start + S);
        assert_eq!(outage.catch_up(at(9)), None, "too soon");
        assert_eq!(outage.catch_up(at(10)), BEGINS);
        assert_eq!(outage.set(B, true, start + 12 * S), Some(News::Ends { after: 11 * S }));
        for second in [13, 15] {
            outage.set(B, false, start + second * S);
            outage.set(B, true, start + (second + 1) * S);
        }
        assert_eq!(outage.catch_up(at(19)), None, "too soon");
        assert_eq!(outage.catch_up(at(20)), Some(News::Over { times: 2, lasted: 2 * S }));
        assert_eq!(outage.catch_up(Look::Last), None, "all is told");
        outage.set(B, false, start + 21 * S);
        assert_eq!(outage.catch_up(Look::Last), BEGINS);
    }
}
