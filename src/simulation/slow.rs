//! HTTP clients that take their time: heads and bodies in small pieces, with long pauses.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::conversation::{Conversation, HttpTalk, Judgement, Pace};
use crate::config::RequestLimits;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const LENGTH: &[u8] = b"Content-Length: ";
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Pauses are so many bits longer than those of others: up to half a second.
const SLOWER_BITS: u32 = 10;

/// [`Http`](crate::service::http::Http) with this body, and with limits for slow clients: each request is answered, or
/// told that it is late if it is.
#[derive(Debug)]
pub struct SlowHttpTalk<'a> {
    body: &'a [u8],
    told: AtomicUsize,
}

/// Where a request stands in what a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: usize,
    /// Behind its head, and behind its body, if that much has been said.
    head_end: Option<usize>,
    end: Option<usize>,
}

/// All requests that have begun.
fn requests(said: &[u8]) -> Vec<Place> {
    let (mut places, mut start) = (Vec::new(), 0);
    while start < said.len() {
        let rest = &said[start..];
        let head = find(rest, END_OF_HEAD).map(|at| at + END_OF_HEAD.len());
        let end =
            head.map(|head| head + body_bytes(&rest[..head])).filter(|end| *end <= rest.len());
        let at = |bytes: Option<usize>| bytes.map(|bytes| start + bytes);
        places.push(Place { start, head_end: at(head), end: at(end) });
        let Some(end) = at(end) else { break };
        start = end;
    }
    places
}

fn body_bytes(head: &[u8]) -> usize {
    let Some(at) = find(head, LENGTH) else { return 0 };
    let digits = head[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl<'a> SlowHttpTalk<'a> {
    /// A conversation with a service that answers this.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, told: AtomicUsize::new(0) }
    }

    /// How often a client has looked at being told that it is late, in all runs.
    pub fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    /// How many whole answers there are, and what comes behind them.
    fn answers<'h>(&self, heard: &'h [u8]) -> (usize, &'h [u8]) {
        let answer = HttpTalk(self.body).answer("");
        let (mut rest, mut answers) = (heard, 0);
        while let Some(left) = rest.strip_prefix(answer.as_slice()) {
            (rest, answers) = (left, answers + 1);
        }
        (answers, rest)
    }
}

impl Conversation for SlowHttpTalk<'_> {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        let mut script = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let long = "x".repeat(rng.usize(1..1500));
            let head = format!("POST / HTTP/1.1\r\nHost: simulated\r\nX-Long: {long}\r\n");
            let body = if rng.bool() { rng.usize(1..3000) } else { 0 };
            script.extend(format!("{head}Content-Length: {body}\r\n\r\n").bytes());
            script.extend(std::iter::repeat_n(b'b', body));
        }
        script
    }

    fn judge(&self, said: &[u8], heard: &[u8], _: usize) -> Judgement {
        let (answers, rest) = self.answers(heard);
        let asked = requests(said).iter().filter(|place| place.end.is_some()).count();
        // A server that drains says so in its last answer.
        let last = HttpTalk(self.body).answer("Connection: close\r\n");
        let is_right = HttpTalk(self.body).answer("").starts_with(rest) || last.starts_with(rest);
        if answers > asked || !(is_right || LATE.starts_with(rest)) {
            let rest = String::from_utf8_lossy(rest);
            return Judgement::Wrong(format!("{asked} requests, {answers} answers, then {rest:?}"));
        }
        let is_over = rest == LATE || rest == last;
        if is_over || answers == asked { Judgement::Complete } else { Judgement::Partial }
    }

    fn is_patient(&self) -> bool {
        false
    }

    fn slower_bits(&self) -> u32 {
        SLOWER_BITS
    }

    fn limits(&self, rng: &mut Rng) -> RequestLimits {
        RequestLimits {
            header_timeout: Some(Duration::from_millis(rng.u64(100..1500))),
            min_rate: NonZeroU32::new(rng.u32(10..10_000)),
            grace: Duration::from_millis(rng.u64(100..2000)),
        }
    }

    fn judge_pace(&self, (said, heard): (&[u8], &[u8]), pace: &Pace<'_>) -> Result<(), String> {
        let (answers, rest) = self.answers(heard);
        let places = requests(said);
        let Some(header) = pace.limits.header_timeout else { return Ok(()) };
        if let Some(place) = places.get(answers).filter(|_| rest == LATE) {
            self.told.fetch_add(1, Ordering::Relaxed);
            // What the server has seen of it may be less than what has been said.
            let least = match place.head_end {
                None => header,
                Some(_) => header.min(pace.limits.grace),
            };
            let took = pace.now.saturating_sub(pace.said_at(place.start));
            if took + pace.slack < least {
                return Err(format!("told that it is late after {took:?}, within {least:?}"));
            }
        }
        for place in places.iter().take(answers) {
            let Some(head_end) = place.head_end else { continue };
            let began = pace.said_at(place.start).max(pace.served_since);
            let took = pace.said_at(head_end - 1).saturating_sub(began);
            if pace.ends_in_time && took > header + pace.late {
                return Err(format!(
                    "a head that took {took:?} was answered, with {header:?} for it"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nbb";

    #[test]
    fn requests_are_found_however_much_of_them_is_said() {
        let head = ONE.len() - 2;
        let place = |head_end, end| Place { start: 0, head_end, end };
        assert_eq!(requests(&ONE[..10]), [place(None, None)]);
        assert_eq!(requests(&ONE[..head + 1]), [place(Some(head), None)]);
        assert_eq!(requests(ONE), [place(Some(head), Some(ONE.len()))]);
        assert_eq!(requests(&ONE.repeat(3)).len(), 3);
    }

    fn pace(said: &[(usize, Duration)], now: u64) -> Pace<'_> {
        let limits = RequestLimits {
            header_timeout: Some(Duration::from_millis(100)),
            grace: Duration::from_millis(50),
            ..RequestLimits::default()
        };
        let now = Duration::from_millis(now);
        let (slack, late) = (Duration::ZERO, Duration::ZERO);
        Pace { said, now, limits, slack, late, served_since: Duration::ZERO, ends_in_time: true }
    }

    #[test]
    fn who_is_late_may_be_told_and_who_is_not_may_not() {
        let talk = SlowHttpTalk::new(b"");
        let said = [(0, Duration::from_millis(10))];
        for (begun, now, is_right) in
            [(20, 109, false), (20, 110, true), (40, 59, false), (40, 60, true)]
        {
            let judged = talk.judge_pace((&ONE[..begun], LATE), &pace(&said, now));
            assert_eq!(judged.is_ok(), is_right, "{begun} bytes at {now}: {judged:?}");
        }
        assert_eq!(talk.judge(&ONE[..20], LATE, 0), Judgement::Complete);
        assert!(matches!(talk.judge(ONE, b"HTTP/1.1 400", 0), Judgement::Wrong(_)));
    }

    #[test]
    fn a_late_head_may_not_be_answered() {
        let talk = SlowHttpTalk::new(b"");
        let answer = HttpTalk(b"").answer("");
        for (last, is_right) in [(110, true), (111, false)] {
            let said = [(0, Duration::from_millis(10)), (30, Duration::from_millis(last))];
            let judged = talk.judge_pace((ONE, &answer), &pace(&said, 200));
            assert_eq!(judged.is_ok(), is_right, "{last}: {judged:?}");
        }
    }
}
