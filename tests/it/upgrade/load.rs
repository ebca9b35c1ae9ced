//! Load that must not notice that a server is replaced: each kind runs in threads of its own until it is stopped,
//! checks every byte, and counts what went wrong instead of ending with it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Pattern;

mod sessions;
mod short;
mod streams;

pub(crate) use sessions::{sessions, sessions_with};
pub(crate) use short::{connects, requests};
pub(crate) use streams::streams;

/// Descriptors of the tests: one for each of these on either side, two where a proxy is.
pub(crate) const SESSIONS: usize = 500;
pub(crate) const STREAMS: usize = 20;
/// Threads of `connects` and of `requests`, with one connection each at a time.
pub(crate) const CLIENTS: usize = 4;

/// How long an answer, or what must come at the end, may take before it counts as cut.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of what went wrong, so much is told in words.
const TOLD_MAX: usize = 10;

/// What clients have seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Connects that failed, for whatever reason.
    pub(crate) refused: u64,
    /// Connections that ended by an error.
    pub(crate) reset: u64,
    /// Connections on which other bytes came than those that were sent: lost, doubled, out of order.
    pub(crate) wrong: u64,
    /// Connections that ended by a FIN before its time, or fell silent.
    pub(crate) cut: u64,
    /// What went well: messages, connections, requests; for streams, bytes.
    pub(crate) done: u64,
    /// From a message to the whole of its answer; none for streams.
    pub(crate) longest_round_trip: Duration,
    /// Of sessions, each round trip: when its message went, and how long the answer took.
    pub(crate) trips: Vec<(Instant, Duration)>,
    /// What went wrong first.
    pub(crate) told: Vec<String>,
}

impl Report {
    fn count(&mut self, ended: &Ended) {
        match ended {
            Ended::Refused(_) => self.refused += 1,
            Ended::Reset(_) => self.reset += 1,
            Ended::Wrong(_) => self.wrong += 1,
            Ended::Cut(_) => self.cut += 1,
        }
        if self.told.len() < TOLD_MAX {
            self.told.push(ended.to_string());
        }
    }

    fn trip(&mut self, took: Duration) {
        self.done += 1;
        self.longest_round_trip = self.longest_round_trip.max(took);
    }

    /// The round trips whose answer came within one of these spans or whose message went there, shortest first.
    pub(crate) fn trips_within(&self, spans: &[Range<Instant>]) -> Vec<Duration> {
        let touches = |&(sent, took): &(Instant, Duration)| {
            spans.iter().any(|span| sent < span.end && sent + took >= span.start)
        };
        let mut trips: Vec<_> =
            self.trips.iter().filter(|&trip| touches(trip)).map(|&(_, took)| took).collect();
        trips.sort_unstable();
        trips
    }

    fn with(mut self, other: Self) -> Self {
        self.refused += other.refused;
        self.reset += other.reset;
        self.wrong += other.wrong;
        self.cut += other.cut;
        self.done += other.done;
        self.longest_round_trip = self.longest_round_trip.max(other.longest_round_trip);
        self.trips.extend(other.trips);
        self.told.extend(other.told);
        self
    }

    /// Holds that nobody has noticed anything, and that there was something to be noticed.
    #[track_caller]
    pub(crate) fn expect_unnoticed(&self) {
        let Self { refused, reset, wrong, cut, .. } = *self;
        let told = &self.told;
        assert_eq!([refused, reset, wrong, cut], [0; 4], "refused, reset, wrong, cut: {told:?}");
        assert!(self.done > 0, "nothing has happened at all");
    }
}

/// Why a connection is over before its time.
#[derive(Debug)]
enum Ended {
    Refused(io::Error),
    Reset(String),
    Wrong(String),
    Cut(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(to, "refused: {error}"),
            Self::Reset(what) => write!(to, "reset: {what}"),
            Self::Wrong(what) => write!(to, "wrong: {what}"),
            Self::Cut(what) => write!(to, "cut: {what}"),
        }
    }
}

/// Load that is running.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

impl Load {
    /// Starts one thread for each of these; they look at what they are given, which says whether it is over.
    fn start<F>(clients: impl IntoIterator<Item = F>) -> Self
    where
        F: FnOnce(&AtomicBool) -> Report + Send + 'static,
    {
        let over = Arc::new(AtomicBool::new(false));
        let start = |client: F| {
            let over = Arc::clone(&over);
            thread::spawn(move || client(&over))
        };
        let threads = clients.into_iter().map(start).collect();
        Self { over, threads }
    }

    /// Ends it: what is on its way is still waited for.
    pub(crate) fn stop(mut self) -> Report {
        self.over.store(true, Ordering::Relaxed);
        let reports =
            self.threads.drain(..).map(|thread| thread.join().expect("clients only count"));
        reports.fold(Report::default(), Report::with)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A connection whose bytes are those of a pattern, both ways: each that comes is known by its place.
struct Checked {
    stream: TcpStream,
    number: usize,
    sent: u64,
    received: u64,
}

impl Checked {
    fn new(stream: TcpStream, number: usize) -> Self {
        stream.set_nonblocking(true).expect("it can be set");
        Self { stream, number, sent: 0, received: 0 }
    }

    fn pattern(&self) -> Pattern {
        Pattern { seed: self.number as u64 }
    }

    fn name(&self) -> String {
        let own =
            self.stream.local_addr().map_or_else(|error| error.to_string(), |own| own.to_string());
        format!("connection {} from {own}", self.number)
    }

    fn is_answered(&self) -> bool {
        self.received == self.sent
    }

    /// Sends up to so many of the next bytes; how many went.
    fn send(&mut self, most: usize) -> Result<usize, Ended> {
        let bytes = self.pattern().bytes(self.sent, most);
        match (&self.stream).write(&bytes) {
            Ok(count) => {
                self.sent += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => {
                Err(Ended::Reset(format!("{}, sending behind {}: {error}", self.name(), self.sent)))
            }
        }
    }

    /// Takes up to so many bytes of what has come: how many; `None` when there is nothing, 0 at the FIN.
    fn receive(&mut self, most: usize) -> Result<Option<usize>, Ended> {
        let mut bytes = vec![0; most];
        match (&self.stream).read(&mut bytes) {
            Ok(count) => self.check(&bytes[..count]).map(|()| Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Ended::Reset(format!(
                "{}, receiving behind {}: {error}",
                self.name(),
                self.received
            ))),
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let wanted = self.pattern().bytes(self.received, bytes.len());
        if let Some(at) = (0..bytes.len()).find(|&at| bytes[at] != wanted[at]) {
            return Err(Ended::Wrong(self.misplaced(self.received + at as u64, &bytes[at..])));
        }
        self.received += bytes.len() as u64;
        if self.received > self.sent {
            let Self { sent, received, .. } = *self;
            return Err(Ended::Wrong(format!("{}: {received} bytes of {sent}", self.name())));
        }
        Ok(())
    }

    /// Says what came in place of what was due at `offset`: bytes from before have been doubled, those from behind
    /// it mean a loss.
    fn misplaced(&self, offset: u64, bytes: &[u8]) -> String {
        const FOUND_BY: usize = 16;
        const AROUND: u64 = 1024 * 1024;
        let name = self.name();
        let Some(piece) = bytes.get(..FOUND_BY) else {
            return format!("{name}: other bytes at offset {offset}");
        };
        let first = offset.saturating_sub(AROUND);
        let around = self.pattern().bytes(first, 2 * AROUND as usize);
        match around.windows(FOUND_BY).position(|window| window == piece) {
            Some(place) => {
                format!("{name}: at offset {offset} came what belongs to {}", first + place as u64)
            }
            None => format!("{name}: at offset {offset} came what was never sent"),
        }
    }

    /// The FIN has come: all well if everything has come before it and it was asked for.
    fn fin(&self, asked_for: bool) -> Result<(), Ended> {
        if asked_for && self.is_answered() {
            return Ok(());
        }
        let Self { sent, received, .. } = self;
        Err(Ended::Cut(format!("{}: FIN behind {received} of {sent} bytes", self.name())))
    }

    fn silent(&self) -> Ended {
        let Self { sent, received, .. } = self;
        Ended::Cut(format!("{}: nothing more behind {received} of {sent} bytes", self.name()))
    }

    /// Says that no more will be sent; if that fails, the next read tells why.
    fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

fn is_over(over: &AtomicBool) -> bool {
    over.load(Ordering::Relaxed)
}

/// A connection with this deadline for its reads and writes.
fn open(to: SocketAddr) -> Result<TcpStream, Ended> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(Ended::Refused)?;
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_nodelay(true).expect("it is TCP");
    Ok(stream)
}
