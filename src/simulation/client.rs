//! One client: what it does by its script, and what it makes of what it hears.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use super::conversation::{Conversation, Judgement, Pace};
use super::scenario::Scenario;
use crate::config::RequestLimits;
use crate::ring::simulated::{Network, RemoteEnd, RemoteRead};

/// Least bytes that a client means to say or take at a time. A window may make it fewer.
const BYTES_MIN: usize = 100;

const SOURCE_SEED: u64 = 0x50ce_0000_0000_0016;

/// How a client behaves once it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says all, sends its FIN, reads to the end.
    Finishes,
    /// Says all, reads all, closes.
    Leaves,
    /// Says all and closes at once.
    LeavesEarly,
    /// Resets, after this long.
    Resets(Duration),
    /// Says all and stays until it is thrown out.
    Stays,
    /// Says all, takes nothing, stays.
    NonReading,
    /// Says nothing.
    Silent,
}

/// How a client reads.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Eager,
    /// So many bytes at a time, with a pause behind them.
    Slow(usize, Duration),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    number: u32,
    port: u16,
    /// From where it comes, if that is of interest.
    source: Option<SocketAddr>,
    windows: (usize, usize),
    start: Duration,
    manner: Manner,
    reading: Reading,
    script: Vec<u8>,
    /// Most bytes said at once, and the longest pause behind them.
    piece: (usize, Duration),
    said: usize,
    /// From which byte on, and when.
    said_at: Vec<(usize, Duration)>,
    heard: Vec<u8>,
    remote: Option<RemoteEnd>,
    next_say: Duration,
    next_read: Duration,
    finished: bool,
    over: bool,
    rng: Rng,
}

/// What a client has to know to judge its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Whether the server ends connections that are not idle.
    pub(super) ending: bool,
    /// The shortest deadline.
    pub(super) shortest: Duration,
    /// How much sooner a connection may seem to end.
    pub(super) slack: Duration,
    /// How much later than its deadline.
    pub(super) late: Duration,
    /// Whether connections stay where they are.
    pub(super) stays: bool,
    /// How slow a client may be.
    pub(super) limits: RequestLimits,
    /// For connections that began to be served before this a send may have stalled for as long as it may: that it was
    /// begun again where they moved to is no progress, but bytes that they said may have been received there.
    pub(super) stalls_before: Option<Duration>,
    /// Whether there are rules by source: somebody else judges who is refused.
    pub(super) refuses: bool,
}

impl Client {
    pub(super) fn new(
        number: u32,
        ports: &[u16],
        scenario: &Scenario,
        conversation: &impl Conversation,
        rng: &mut Rng,
    ) -> Self {
        let Scenario { span, sources, .. } = scenario;
        let mut rng = Rng::with_seed(rng.u64(..));
        // Drawn apart, so that clients without addresses are what they were.
        let source = Rng::with_seed(rng.clone().u64(..) ^ SOURCE_SEED).choice(sources).copied();
        let micros = |rng: &mut Rng, bits: u32| Duration::from_micros(rng.u64(0..1 << bits));
        let manner = match rng.u8(0..16) {
            0..=4 => Manner::Finishes,
            5..=8 => Manner::Leaves,
            9 => Manner::LeavesEarly,
            10 | 11 => Manner::Resets(micros(&mut rng, 20)),
            12 => Manner::Stays,
            13 | 14 => Manner::NonReading,
            _ => Manner::Silent,
        };
        let slow = Reading::Slow(rng.usize(1..2000), micros(&mut rng, 17));
        let slow = match slow {
            // Nobody talks or listens byte by byte for ever.
            Reading::Slow(bytes, pause) => Reading::Slow(bytes.max(BYTES_MIN), pause),
            Reading::Eager => slow,
        };
        let pause = 1 << (rng.u32(0..19) + conversation.slower_bits());
        let (window, other) = (rng.usize(1..8000).max(64), rng.usize(1..8000).max(64));
        Self {
            number,
            port: ports[rng.usize(0..ports.len())],
            source,
            windows: (window, other),
            start: span.mul_f64(rng.f64()),
            manner,
            reading: if rng.u8(0..4) == 0 { slow } else { Reading::Eager },
            script: conversation.script(&mut rng),
            piece: (rng.usize(1..4000).max(BYTES_MIN), Duration::from_micros(pause)),
            said: 0,
            said_at: Vec::new(),
            heard: Vec::new(),
            remote: None,
            next_say: Duration::ZERO,
            next_read: Duration::ZERO,
            finished: false,
            over: false,
            rng,
        }
    }

    pub(super) fn start(&self) -> Duration {
        self.start
    }

    /// Whether it has nothing to do any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn describe(&self) -> String {
        let connection = self.remote.as_ref().map_or(0, RemoteEnd::number);
        let (said, all, heard) = (self.said, self.script.len(), self.heard.len());
        format!("c{connection} ({:?}, said {said} of {all}, heard {heard})", self.manner)
    }

    pub(super) fn heard(&self) -> usize {
        self.heard.len()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// What the server has done wrong.
    pub(super) fn act(
        &mut self,
        network: &Network,
        conversation: &impl Conversation,
        circumstances: Circumstances,
    ) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        let now = network.elapsed();
        let Some(remote) = self.remote.take() else {
            let (port, windows, watcher) = (self.port, self.windows, Some(self.number));
            self.remote = Some(match self.source {
                Some(source) => network.dial_from(source, port, windows, watcher),
                None => network.dial(port, windows, watcher),
            });
            if let Manner::Resets(after) = self.manner {
                network.call_at(now + after, self.number);
            }
            return Ok(());
        };
        let result = self.act_on(&remote, network, (conversation, circumstances));
        self.remote = Some(remote);
        result.map_err(|why| format!("{}: {why}", self.describe()))
    }

    fn act_on(
        &mut self,
        remote: &RemoteEnd,
        network: &Network,
        (conversation, circumstances): (&impl Conversation, Circumstances),
    ) -> Result<(), String> {
        let now = network.elapsed();
        if let Manner::Resets(after) = self.manner
            && now >= self.start + after
        {
            self.over = true;
            remote.reset();
            return Ok(());
        }
        self.say(remote, network, now);
        let end = self.hear(remote, network, conversation)?;
        self.judge_pace(remote, now, (conversation, circumstances))?;
        let complete = match conversation.judge(&self.script[..self.said], &self.heard, 0) {
            Judgement::Wrong(why) => return Err(why),
            judgement => judgement == Judgement::Complete,
        };
        if end || (self.manner == Manner::NonReading && (remote.is_closed() || remote.is_over())) {
            return self.judge_end(remote, complete, (conversation, circumstances));
        }
        let all = self.said == self.script.len();
        match self.manner {
            Manner::Finishes if all && !std::mem::replace(&mut self.finished, true) => {
                remote.finish()
            }
            Manner::Leaves if all && complete => self.leave(remote),
            Manner::LeavesEarly if all => self.leave(remote),
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self, remote: &RemoteEnd) {
        self.over = true;
        remote.close();
    }

    /// Says the next piece, if it is time.
    fn say(&mut self, remote: &RemoteEnd, network: &Network, now: Duration) {
        let all = self.said == self.script.len();
        if all || self.manner == Manner::Silent || now < self.next_say || !remote.is_established() {
            return;
        }
        let most = self.rng.usize(1..=self.piece.0).min(self.script.len() - self.said);
        let written = remote.write(&self.script[self.said..self.said + most]);
        if written == 0 {
            // The window is full; whoever empties it calls.
            return;
        }
        self.said_at.push((self.said, now));
        self.said += written;
        let pause = Duration::from_nanos(self.rng.u64(1..=self.piece.1.as_nanos() as u64));
        self.next_say = now + pause;
        if self.said < self.script.len() {
            network.call_at(self.next_say, self.number);
        }
    }

    /// Reads what it may. True if it has come to an end.
    fn hear(
        &mut self,
        remote: &RemoteEnd,
        network: &Network,
        conversation: &impl Conversation,
    ) -> Result<bool, String> {
        while self.manner != Manner::NonReading && network.elapsed() >= self.next_read {
            let most = match self.reading {
                Reading::Eager => usize::MAX,
                Reading::Slow(bytes, _) => bytes,
            };
            let from = self.heard.len();
            match remote.read(most) {
                RemoteRead::Bytes(bytes) => self.heard.extend(bytes),
                RemoteRead::Nothing => return Ok(false),
                RemoteRead::End | RemoteRead::Reset | RemoteRead::Refused => return Ok(true),
            }
            let said = &self.script[..self.said];
            if let Judgement::Wrong(why) = conversation.judge(said, &self.heard, from) {
                return Err(why);
            }
            if let Reading::Slow(_, pause) = self.reading {
                self.next_read = network.elapsed() + pause;
                network.call_at(self.next_read, self.number);
            }
        }
        Ok(false)
    }

    fn judge_pace(
        &self,
        remote: &RemoteEnd,
        now: Duration,
        (conversation, circumstances): (&impl Conversation, Circumstances),
    ) -> Result<(), String> {
        let Some(served_since) = remote.worked_on_since() else { return Ok(()) };
        let is_quick = matches!(self.reading, Reading::Eager) && self.manner != Manner::NonReading;
        let pace = Pace {
            said: &self.said_at,
            now,
            limits: circumstances.limits,
            slack: circumstances.slack,
            late: circumstances.late,
            served_since,
            ends_in_time: is_quick && circumstances.stays && !circumstances.ending,
        };
        conversation.judge_pace((&self.script[..self.said], &self.heard), &pace)
    }

    /// The server has ended the connection, or the network has.
    fn judge_end(
        &mut self,
        remote: &RemoteEnd,
        complete: bool,
        (conversation, circumstances): (&impl Conversation, Circumstances),
    ) -> Result<(), String> {
        self.over = true;
        let asked_for = self.finished && complete && !remote.is_reset_by_server();
        let idle = remote.idle_when_ended().unwrap_or_default();
        let timed_out = idle + circumstances.slack >= circumstances.shortest;
        let is_slow =
            self.manner == Manner::NonReading || matches!(self.reading, Reading::Slow(..));
        let stalls = is_slow && {
            let since = remote.worked_on_since();
            circumstances.stalls_before.is_some_and(|before| since.is_some_and(|it| it <= before))
        };
        let refused = circumstances.refuses && remote.worked_on_since().is_none();
        let excused =
            refused || remote.is_broken() || circumstances.ending || !remote.is_established();
        remote.close();
        if asked_for || timed_out || stalls || excused || !conversation.is_patient() {
            return Ok(());
        }
        Err(format!("the server ended it after only {idle:?} without a byte"))
    }
}
