//! A client, or one connection of a backend: what it does, and whether each byte that it hears is the
//! one that has to come.

use std::time::Duration;

use fastrand::Rng;

use super::preamble::Preamble;
use super::prefix::ExpectedPrefix;
use crate::ring::simulated::{Network, RemoteEnd, RemoteRead};

/// Bytes that name who speaks.
const NAME_BYTES: usize = 4;
/// Whoever can take so many bytes at a time takes a whole buffer within any deadline.
const BITE_BYTES: usize = 2_000;
/// Longest stream.
const STREAM_BYTES: usize = 12_000;

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A client of this port.
    Client(u16),
    /// A connection of this backend.
    Backend(usize),
}

/// When it says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    /// From the start.
    AtOnce,
    /// As soon as it has heard something.
    Answers,
    /// As much as it has heard.
    Echoes,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says all, sends its FIN, reads to the end.
    Finishes,
    /// Sends its FIN when the other's has come.
    FinishesLast,
    /// Says all and closes at once.
    Leaves,
    /// Closes after this long.
    LeavesAfter(Duration),
    /// Resets after this long.
    ResetsAfter(Duration),
    /// Resets when it has heard so many bytes.
    ResetsAt(usize),
    /// Stays until it is thrown out.
    Stays,
}

/// How it has ended, as it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    End,
    Reset,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) number: u32,
    pub(super) place: Place,
    pub(super) preamble: Preamble,
    pub(super) prefix: ExpectedPrefix,
    /// Bytes that wait at most from it and for it.
    pub(super) windows: (usize, usize),
    pub(super) start: Duration,
    saying: Saying,
    manner: Manner,
    non_reading: bool,
    /// So many bytes at a time, with a pause behind them.
    slow: Option<(usize, Duration)>,
    total: usize,
    piece: (usize, Duration),
    name: [u8; NAME_BYTES],
    pub(super) said: usize,
    pub(super) last_said: Duration,
    /// Without the expected prefix.
    pub(super) heard: usize,
    pub(super) remote: Option<RemoteEnd>,
    next_say: Duration,
    next_read: Duration,
    pub(super) finished: bool,
    /// Has closed or reset by its own will.
    pub(super) left: bool,
    ended: bool,
    pub(super) over: bool,
    rng: Rng,
}

/// The byte at a place of somebody's stream.
fn byte(number: u32, place: usize) -> u8 {
    if place < NAME_BYTES {
        return number.to_be_bytes()[place];
    }
    let mixed = (u64::from(number) << 32 | place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

fn micros(rng: &mut Rng, bits: u32) -> Duration {
    Duration::from_micros(rng.u64(0..1 << bits))
}

impl Peer {
    pub(super) fn client(number: u32, port: u16, start: Duration, rng: &mut Rng) -> Self {
        let rng = &mut Rng::with_seed(rng.u64(..));
        let manner = match rng.u8(0..16) {
            0..=6 => Manner::Finishes,
            7..=9 => Manner::FinishesLast,
            10 => Manner::Leaves,
            11 => Manner::LeavesAfter(micros(rng, 20)),
            12 => Manner::ResetsAfter(micros(rng, 20)),
            13 => Manner::ResetsAt(rng.usize(1..2000)),
            _ => Manner::Stays,
        };
        let saying = if rng.u8(0..8) == 0 { Saying::Answers } else { Saying::AtOnce };
        Self::new((number, Place::Client(port)), start, (saying, manner), rng)
    }

    pub(super) fn served(
        number: u32,
        (backend, prefix): (usize, ExpectedPrefix),
        start: Duration,
        rng: &mut Rng,
    ) -> Self {
        let rng = &mut Rng::with_seed(rng.u64(..));
        let (saying, manner) = match rng.u8(0..16) {
            0..=3 => (Saying::Echoes, Manner::FinishesLast),
            // Its FIN comes with its last bytes.
            4..=6 => (Saying::Answers, Manner::Finishes),
            7 | 8 => (Saying::AtOnce, Manner::Finishes),
            9 => (Saying::Answers, Manner::Leaves),
            10 => (Saying::Answers, Manner::ResetsAt(1)),
            11 => (Saying::AtOnce, Manner::ResetsAt(rng.usize(1..4000))),
            12 => (Saying::AtOnce, Manner::ResetsAfter(micros(rng, 18))),
            13 => (Saying::AtOnce, Manner::LeavesAfter(micros(rng, 18))),
            14 => (Saying::AtOnce, Manner::FinishesLast),
            _ => (Saying::Answers, Manner::Stays),
        };
        let peer = Self::new((number, Place::Backend(backend)), start, (saying, manner), rng);
        Self { prefix, ..peer }
    }

    fn new(
        (number, place): (u32, Place),
        start: Duration,
        (saying, manner): (Saying, Manner),
        rng: &mut Rng,
    ) -> Self {
        let most = [16, 300, STREAM_BYTES][rng.usize(0..3)];
        let silent = rng.u8(0..16) == 0;
        let slow = (rng.usize(100..2000), micros(rng, 16));
        let pause = 1 << rng.u32(0..17);
        Self {
            number,
            place,
            preamble: Preamble::default(),
            prefix: ExpectedPrefix::none(),
            windows: (rng.usize(64..8000), rng.usize(64..8000)),
            start,
            saying,
            manner,
            non_reading: rng.u8(0..12) == 0,
            slow: (rng.u8(0..5) == 0).then_some(slow),
            total: if silent { 0 } else { rng.usize(NAME_BYTES..=most) },
            piece: (rng.usize(100..4000), Duration::from_micros(pause)),
            name: [0; NAME_BYTES],
            said: 0,
            last_said: Duration::ZERO,
            heard: 0,
            remote: None,
            next_say: Duration::ZERO,
            next_read: Duration::ZERO,
            finished: false,
            left: false,
            ended: false,
            over: false,
            rng: Rng::with_seed(rng.u64(..)),
        }
    }

    /// A client says this first, and nothing else if it stops there.
    pub(super) fn begin_with(&mut self, preamble: Preamble) {
        if preamble.stops {
            self.total = 0;
        }
        self.preamble = preamble;
    }

    pub(super) fn take(&mut self, remote: RemoteEnd) {
        self.remote = Some(remote);
    }

    pub(super) fn describe(&self) -> String {
        let Self { manner, saying, said, total, heard, finished, non_reading, .. } = self;
        let connection = self.remote.as_ref().map_or(0, RemoteEnd::number);
        let non_reading = if *non_reading { "non_reading, " } else { "" };
        format!(
            "c{connection} ({:?}, {saying:?}, {manner:?}, {non_reading}said {said} of {total}, FIN \
             {finished}, heard {heard})",
            self.place
        )
    }

    /// Whether a buffer full of bytes takes it long: it does not read, or slowly, or in small bites.
    pub(super) fn is_slow(&self) -> bool {
        self.non_reading || self.slow.is_some() || self.windows.1 < BITE_BYTES
    }

    /// Who is at the other end, once that has been heard.
    pub(super) fn partner(&self) -> Option<u32> {
        (self.heard >= NAME_BYTES).then(|| u32::from_be_bytes(self.name))
    }

    /// Does what is due. Tells if the connection has come to an end that it did not make.
    ///
    /// # Errors
    /// A byte that had not to come.
    pub(super) fn act(&mut self, network: &Network) -> Result<Option<Heard>, String> {
        if self.over {
            return Ok(None);
        }
        let now = network.elapsed();
        let Some(remote) = self.remote.take() else {
            let Place::Client(port) = self.place else { return Ok(None) };
            let (windows, watcher) = (self.windows, Some(self.number));
            self.remote = Some(match self.preamble.from {
                Some(from) => network.dial_from(from, port, windows, watcher),
                None => network.dial(port, windows, watcher),
            });
            return Ok(None);
        };
        if let Manner::LeavesAfter(after) | Manner::ResetsAfter(after) = self.manner {
            network.call_at(self.start + after, self.number);
        }
        let result = self.act_on(&remote, network, now);
        self.remote = Some(remote);
        result.map_err(|why| format!("{}: {why}", self.describe()))
    }

    fn act_on(
        &mut self,
        remote: &RemoteEnd,
        network: &Network,
        now: Duration,
    ) -> Result<Option<Heard>, String> {
        match self.manner {
            Manner::ResetsAfter(after) if now >= self.start + after => {
                return Ok(self.leave(|| remote.reset()));
            }
            Manner::LeavesAfter(after) if now >= self.start + after => {
                return Ok(self.leave(|| remote.close()));
            }
            _ => {}
        }
        let end = self.hear(remote, network)?;
        self.say(remote, network, now);
        if end == Some(Heard::Reset)
            || (self.non_reading && (remote.is_closed() || remote.is_over()))
        {
            self.over = true;
            remote.close();
            return Ok(end);
        }
        if matches!(self.manner, Manner::ResetsAt(bytes) if self.heard >= bytes) {
            return Ok(self.leave(|| remote.reset()));
        }
        if self.ended && remote.is_closed() {
            self.over = true;
            remote.close();
            return Ok(end);
        }
        let all = self.said == self.total || (self.saying == Saying::Echoes && self.ended);
        let all = all && self.preamble.is_through();
        let through = all || self.ended && self.manner == Manner::Stays;
        match self.manner {
            Manner::Leaves if all && remote.is_established() => {
                self.leave(|| remote.close());
            }
            Manner::Finishes if through => self.finish(remote),
            Manner::FinishesLast | Manner::Stays if through && self.ended => self.finish(remote),
            _ => {}
        }
        Ok(end)
    }

    fn leave(&mut self, how: impl FnOnce()) -> Option<Heard> {
        (self.left, self.over) = (true, true);
        how();
        None
    }

    fn finish(&mut self, remote: &RemoteEnd) {
        if remote.is_established() && !std::mem::replace(&mut self.finished, true) {
            remote.finish();
        }
    }

    fn say(&mut self, remote: &RemoteEnd, network: &Network, now: Duration) {
        let allowed = match self.saying {
            Saying::AtOnce => self.total,
            Saying::Answers if self.heard == 0 => 0,
            Saying::Answers => self.total,
            Saying::Echoes => self.total.min(self.heard),
        };
        let is_all = self.said >= allowed && self.preamble.is_through();
        if is_all || self.finished || now < self.next_say || !remote.is_established() {
            return;
        }
        let mut bytes = self.preamble.next().to_vec();
        if self.preamble.is_last() && self.said < allowed {
            let most = self.rng.usize(1..=self.piece.0).min(allowed - self.said);
            bytes.extend((self.said..self.said + most).map(|at| byte(self.number, at)));
        }
        let written = remote.write(&bytes);
        if written == 0 {
            // The window is full; whoever empties it calls.
            return;
        }
        let (own, opening_pause) = self.preamble.sent(written);
        self.said += own;
        self.last_said = now;
        let pause = opening_pause.unwrap_or_else(|| {
            Duration::from_nanos(self.rng.u64(1..=self.piece.1.as_nanos() as u64))
        });
        self.next_say = now + pause;
        if self.said < self.total || !self.preamble.is_through() {
            network.call_at(self.next_say, self.number);
        }
    }

    fn hear(&mut self, remote: &RemoteEnd, network: &Network) -> Result<Option<Heard>, String> {
        while !self.non_reading && !self.ended && network.elapsed() >= self.next_read {
            let most = self.slow.map_or(usize::MAX, |(bytes, _)| bytes);
            match remote.read(most) {
                RemoteRead::Bytes(bytes) => self.listen(&bytes)?,
                RemoteRead::Nothing => return Ok(None),
                RemoteRead::End => {
                    self.ended = true;
                    return Ok(Some(Heard::End));
                }
                RemoteRead::Reset | RemoteRead::Refused => return Ok(Some(Heard::Reset)),
            }
            if let Some((_, pause)) = self.slow {
                self.next_read = network.elapsed() + pause;
                network.call_at(self.next_read, self.number);
            }
        }
        // Behind its end only a reset can come.
        Ok((self.ended && remote.is_over() && !remote.is_closed()).then_some(Heard::Reset))
    }

    fn listen(&mut self, bytes: &[u8]) -> Result<(), String> {
        for one in self.prefix.hear(bytes)? {
            if self.heard < NAME_BYTES {
                self.name[self.heard] = one;
            } else if one != byte(u32::from_be_bytes(self.name), self.heard) {
                let (at, who) = (self.heard, u32::from_be_bytes(self.name));
                return Err(format!("byte {at} from {who} is not the one that has to come"));
            }
            self.heard += 1;
        }
        Ok(())
    }
}
