//! What simulated clients say, and what they have to hear.

use std::time::Duration;

use fastrand::Rng;

use crate::config::RequestLimits;

/// What the client of a service says, and what is a right answer to it.
pub trait Conversation {
    /// All that one client says.
    fn script(&self, rng: &mut Rng) -> Vec<u8>;

    /// Judges everything heard so far against everything said so far; what stands before `from` in
    /// `heard` was judged before.
    fn judge(&self, said: &[u8], heard: &[u8], from: usize) -> Judgement;

    /// Whether the service ends a connection only when its deadlines pass or its peer ends it, and
    /// takes every byte as a sign of life. Then a connection that ends earlier is an error.
    fn is_patient(&self) -> bool;

    /// Whether its sessions [pause](crate::service::Action::Pause): then input may lie unread although all threads wait.
    fn pauses(&self) -> bool {
        false
    }

    /// Judges what the service has noted itself, after each step and, with `is_over`, when all connections have ended.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _is_over: bool) -> Result<(), String> {
        Ok(())
    }

    /// By how many bits its clients' longest pause is longer than that of others.
    fn slower_bits(&self) -> u32 {
        0
    }

    /// How slow its clients may be.
    fn limits(&self, _rng: &mut Rng) -> RequestLimits {
        RequestLimits::OFF
    }

    /// Judges when things were said and heard: all of both.
    ///
    /// # Errors
    /// What the server has done too early or too late.
    fn judge_pace(&self, _both: (&[u8], &[u8]), _pace: &Pace<'_>) -> Result<(), String> {
        Ok(())
    }
}

impl<C: Conversation> Conversation for &C {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        (*self).script(rng)
    }

    fn judge(&self, said: &[u8], heard: &[u8], from: usize) -> Judgement {
        (*self).judge(said, heard, from)
    }

    fn is_patient(&self) -> bool {
        (*self).is_patient()
    }

    fn pauses(&self) -> bool {
        (*self).pauses()
    }

    fn check(&self, is_over: bool) -> Result<(), String> {
        (*self).check(is_over)
    }

    fn slower_bits(&self) -> u32 {
        (*self).slower_bits()
    }

    fn limits(&self, rng: &mut Rng) -> RequestLimits {
        (*self).limits(rng)
    }

    fn judge_pace(&self, both: (&[u8], &[u8]), pace: &Pace<'_>) -> Result<(), String> {
        (*self).judge_pace(both, pace)
    }
}

/// When a client has said what.
#[derive(Debug)]
pub struct Pace<'a> {
    /// From which byte on, and when.
    pub said: &'a [(usize, Duration)],
    /// Now.
    pub now: Duration,
    /// How slow it may be.
    pub limits: RequestLimits,
    /// How much sooner a deadline may seem to pass.
    pub slack: Duration,
    /// How much later it may be noticed.
    pub late: Duration,
    /// When the server had it first.
    pub served_since: Duration,
    /// Whether nothing holds deadlines up: what is sent is read at once, and it stays where it is.
    pub ends_in_time: bool,
}

impl Pace<'_> {
    /// When a byte was said.
    pub fn said_at(&self, byte: usize) -> Duration {
        let piece = self.said.iter().take_while(|(from, _)| *from <= byte).last();
        piece.map_or(Duration::ZERO, |(_, at)| *at)
    }
}

/// What is to be thought of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Right so far, and there is nothing to come unless more is said.
    Complete,
    /// Right so far; more has to come.
    Partial,
    /// Wrong; why.
    Wrong(String),
}

/// Longest script of bytes.
const SCRIPT_BYTES: usize = 6000;

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let most = [16, 300, SCRIPT_BYTES][rng.usize(0..3)];
    let first = rng.u8(..);
    // No period that a buffer size is a multiple of, so that bytes of another place show.
    (0..rng.usize(1..=most)).map(|index| (index % 251) as u8 ^ first).collect()
}

/// [`Echo`](crate::service::Echo): every byte comes back, in order, once.
#[derive(Debug, Clone, Copy)]
pub struct EchoTalk;

impl Conversation for EchoTalk {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        bytes(rng)
    }

    fn judge(&self, said: &[u8], heard: &[u8], from: usize) -> Judgement {
        if heard.len() > said.len() || heard[from..] != said[from..heard.len()] {
            let right = said.iter().zip(heard).take_while(|(one, other)| one == other).count();
            let (said, heard) = (said.len(), heard.len());
            return Judgement::Wrong(format!("of {said} bytes {heard} came back, {right} right"));
        }
        if heard.len() == said.len() { Judgement::Complete } else { Judgement::Partial }
    }

    fn is_patient(&self) -> bool {
        true
    }
}

/// [`Discard`](crate::service::Discard): nothing comes back.
#[derive(Debug, Clone, Copy)]
pub struct DiscardTalk;

impl Conversation for DiscardTalk {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        bytes(rng)
    }

    fn judge(&self, _: &[u8], heard: &[u8], _: usize) -> Judgement {
        if heard.is_empty() {
            return Judgement::Complete;
        }
        Judgement::Wrong(format!("{} bytes came back", heard.len()))
    }

    fn is_patient(&self) -> bool {
        true
    }
}

/// [`Http`](crate::service::http::Http) with this body: one answer for each request.
#[derive(Debug, Clone, Copy)]
pub struct HttpTalk<'a>(pub &'a [u8]);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: simulated\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: simulated\r\nConnection: close\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

impl HttpTalk<'_> {
    pub(super) fn answer(&self, connection: &str) -> Vec<u8> {
        let length = self.0.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{connection}\r\n"
        );
        [head.as_bytes(), self.0].concat()
    }
}

impl Conversation for HttpTalk<'_> {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        let mut script = GET.repeat(rng.usize(0..8));
        script.extend_from_slice(if rng.bool() { GET } else { LAST_GET });
        script
    }

    fn judge(&self, said: &[u8], heard: &[u8], _: usize) -> Judgement {
        let asked = said.windows(END_OF_HEAD.len()).filter(|four| *four == END_OF_HEAD).count();
        let (stays, closes) = (self.answer(""), self.answer("Connection: close\r\n"));
        let (mut rest, mut answers) = (heard, 0);
        while let Some(left) = rest.strip_prefix(stays.as_slice()) {
            (rest, answers) = (left, answers + 1);
        }
        if let Some(left) = rest.strip_prefix(closes.as_slice()) {
            (rest, answers) = (left, asked.max(answers + 1));
        }
        let partial = stays.starts_with(rest) || closes.starts_with(rest);
        if !partial || answers > asked || (answers == asked && !rest.is_empty()) {
            let text = String::from_utf8_lossy(rest);
            return Judgement::Wrong(format!("{asked} requests, {answers} answers, then {text:?}"));
        }
        if answers == asked { Judgement::Complete } else { Judgement::Partial }
    }

    fn is_patient(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_every_byte_in_order_and_once() {
        assert_eq!(EchoTalk.judge(b"abc", b"abc", 0), Judgement::Complete);
        assert_eq!(EchoTalk.judge(b"abc", b"ab", 1), Judgement::Partial);
        for wrong in [&b"b"[..], b"abb", b"abcc", b"aabc"] {
            assert!(matches!(EchoTalk.judge(b"abc", wrong, 0), Judgement::Wrong(_)));
        }
    }

    #[test]
    fn an_http_answer_is_whole_and_one_per_request() {
        let talk = HttpTalk(b"hi");
        let (stays, closes) = (talk.answer(""), talk.answer("Connection: close\r\n"));
        let two = [GET, LAST_GET].concat();
        assert_eq!(talk.judge(&two, &[stays.clone(), closes].concat(), 0), Judgement::Complete);
        assert_eq!(talk.judge(&two, &stays, 0), Judgement::Partial);
        assert!(matches!(talk.judge(GET, &stays.repeat(2), 0), Judgement::Wrong(_)));
        assert!(matches!(talk.judge(GET, b"HTTP/1.1 500", 0), Judgement::Wrong(_)));
    }
}
