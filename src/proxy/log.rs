//! The access log: one entry for each pair that has ended.
//!
//! A worker only copies a few numbers into a bounded channel; a thread of its own writes them
//! (`access_log.rs`). When that thread cannot keep up, entries are dropped and counted.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::Proxy;
use super::access_log::Flow;
use super::ended::Ended;
use super::pair::{End, Pair, Times, Trouble};
use crate::config::LogFormat;
use crate::metrics::{Block, Counter};
use crate::process::Alarm;
use crate::sys::Errno;

/// Entries that may wait to be written.
pub(super) const ENTRIES_MAX: usize = 8192;

/// What is logged of one pair.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it ended.
    pub at: SystemTime,
    /// The client's address, as a trusted PROXY header says it or the kernel does.
    pub client: Option<SocketAddr>,
    /// The address of the backend that was tried last; `None` if none was.
    pub backend: Option<String>,
    /// In the kernel's accept queue, to the resolution of its clock.
    pub queued: Option<Duration>,
    /// From the acceptor to the worker.
    pub dispatch: Option<Duration>,
    /// From the worker to the end of the last connect.
    pub connect: Option<Duration>,
    /// From the worker to the backend's first byte.
    pub first_byte: Option<Duration>,
    /// From the acceptor to the end.
    pub total: Option<Duration>,
    /// Bytes that came from the client.
    pub from_client: u64,
    /// Bytes that came from the backend.
    pub from_backend: u64,
    /// Connects to backends.
    pub attempts: u8,
    /// Those of them that failed.
    pub failures: u8,
    /// Why the last of these failed, or why there was no socket for one.
    pub errno: Option<Errno>,
    /// Why it ended.
    pub ended: Ended,
    /// What was wrong with what the client sent first; printable ASCII.
    pub reason: Option<String>,
}

/// Where workers put their entries.
#[derive(Debug, Clone)]
pub struct LogSink {
    entries: SyncSender<Entry>,
    /// Raised if the thread that writes panics.
    alarm: Alarm,
    /// What becomes of them.
    flow: Arc<Flow>,
    /// What that thread and whoever started it count.
    metrics: Vec<Arc<Block>>,
}

impl LogSink {
    /// A sink for these entries, with the alarm and what is counted of the thread that writes them.
    pub(super) fn over(
        entries: SyncSender<Entry>,
        alarm: Alarm,
        (flow, metrics): (Arc<Flow>, Vec<Arc<Block>>),
    ) -> Self {
        Self { entries, alarm, flow, metrics }
    }

    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub(crate) fn metrics(&self) -> &[Arc<Block>] {
        &self.metrics
    }

    /// False if the entry was dropped.
    pub(super) fn put(&self, entry: Entry) -> bool {
        self.flow.put();
        let is_full = matches!(self.entries.try_send(entry), Err(TrySendError::Full(_)));
        if is_full {
            self.flow.full();
        }
        !is_full
    }
}

impl Proxy {
    /// Logs a pair that has ended.
    pub(super) fn note(&self, pair: &mut Pair, now: Instant) {
        let Some(sink) = &self.versions.get(pair.version).settings.log else { return };
        let backend = pair.last_backend().map(|backend| backend.address().to_string());
        let Some(detail) = pair.detail.take() else { return };
        let trouble = detail.trouble.map_or_else(Trouble::default, |trouble| *trouble);
        let Times { queued, accepted, adopted, connected, first_byte } = detail.times;
        let since = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map(|(from, to)| to.saturating_duration_since(from))
        };
        let entry = Entry {
            at: SystemTime::now(),
            client: detail.client,
            backend,
            queued,
            dispatch: since(accepted, adopted),
            connect: since(adopted, connected),
            first_byte: since(adopted, first_byte),
            total: since(accepted, Some(now)),
            from_client: pair.bytes[End::Client as usize],
            from_backend: pair.bytes[End::Backend as usize],
            attempts: pair.attempts,
            failures: pair.failures,
            errno: trouble.errno,
            ended: pair.ended,
            reason: trouble.reason,
        };
        if !sink.put(entry) {
            self.metrics.count(Counter::LogDropped);
        }
    }
}

/// As it stands in a line: milliseconds with three places.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: Option<SocketAddr>,
    backend: Option<&'a str>,
    accept_queue_ms: Option<f64>,
    dispatch_ms: Option<f64>,
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    total_ms: Option<f64>,
    from_client_bytes: u64,
    from_backend_bytes: u64,
    attempts: u8,
    failed_connects: u8,
    errno: Option<String>,
    ended: &'static str,
    reason: Option<&'a str>,
}

fn line(entry: &Entry) -> Line<'_> {
    let ms = |duration: Option<Duration>| duration.map(|d| d.as_micros() as f64 / 1000.0);
    Line {
        // As the log of the program writes it.
        time: humantime::format_rfc3339_micros(entry.at).to_string(),
        client: entry.client,
        backend: entry.backend.as_deref(),
        accept_queue_ms: ms(entry.queued),
        dispatch_ms: ms(entry.dispatch),
        connect_ms: ms(entry.connect),
        first_byte_ms: ms(entry.first_byte),
        total_ms: ms(entry.total),
        from_client_bytes: entry.from_client,
        from_backend_bytes: entry.from_backend,
        attempts: entry.attempts,
        failed_connects: entry.failures,
        errno: entry.errno.map(word),
        ended: entry.ended.word(),
        reason: entry.reason.as_deref(),
    }
}

/// The name of an errno, or its number.
fn word(errno: Errno) -> String {
    match errno.name() {
        "errno" => errno.0.to_string(),
        name => name.to_owned(),
    }
}

pub(super) fn write_line(to: &mut impl Write, form: LogFormat, entry: &Entry) -> io::Result<()> {
    let line = line(entry);
    match form {
        LogFormat::Json => serde_json::to_writer(&mut *to, &line)?,
        LogFormat::Text => write_text(to, &line)?,
    }
    writeln!(to)
}

fn write_text(to: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    write!(
        to,
        "time={} client={} backend={} accept_queue_ms={} dispatch_ms={} connect_ms={} \
         first_byte_ms={} total_ms={} from_client_bytes={} from_backend_bytes={} \
         attempts={} failed_connects={} errno={} ended={} reason=",
        line.time,
        line.client.map_or("-".to_owned(), |client| client.to_string()),
        line.backend.unwrap_or("-"),
        ms(line.accept_queue_ms),
        ms(line.dispatch_ms),
        ms(line.connect_ms),
        ms(line.first_byte_ms),
        ms(line.total_ms),
        line.from_client_bytes,
        line.from_backend_bytes,
        line.attempts,
        line.failed_connects,
        line.errno.as_deref().unwrap_or("-"),
        line.ended,
    )?;
    match line.reason {
        // In quotes, since there are spaces in it.
        Some(reason) => Ok(serde_json::to_writer(to, reason)?),
        None => to.write_all(b"-"),
    }
}
