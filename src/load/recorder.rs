//! What one thread has seen, as counts and histograms.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::absence::Trail;
use super::outcome::{Absence, Fault, Interval, Latencies, Phase, histogram};

/// Length of an interval of the time series.
const INTERVAL: Duration = Duration::from_secs(1);

/// The times of one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When it should have started.
    pub(super) planned: Instant,
    /// When it did.
    pub(super) started: Instant,
    /// It was due earlier than it could start: all connections were busy.
    pub(super) queued: bool,
    /// When the first byte of the answer came.
    pub(super) first_byte: Option<Instant>,
    /// When the answer was complete.
    pub(super) answered: Option<Instant>,
}

/// Counts what was planned to start within the window.
#[derive(Debug)]
pub(super) struct Recorder {
    from: Instant,
    until: Instant,
    pub(super) started: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) not_started: u64,
    /// Operations that were due while all connections were busy.
    pub(super) queued: u64,
    pub(super) connections: u64,
    /// Kept connections that the server ended.
    pub(super) closed_by_server: u64,
    /// Kept connections whose end the server announced, and that the client ended.
    pub(super) closed_by_client: u64,
    /// Connections on which bytes came that nobody had asked for, while no request was out.
    pub(super) unasked: u64,
    /// Requests that went out again, since their connection had ended before a byte of the answer.
    pub(super) resent: u64,
    /// Requests that did not, since they must not be sent twice.
    pub(super) not_resent: u64,
    /// Whole HTTP answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) body_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) latencies: Latencies,
    pub(super) faults: BTreeMap<(Phase, Fault), u64>,
    pub(super) trail: Trail,
    /// Latencies of connects in nanoseconds that were slow enough to have lost a SYN.
    pub(super) slow_connects: Vec<Duration>,
    pub(super) intervals: Vec<Interval>,
}

/// Connects that took longer are kept one by one: the kernel sends a lost SYN again after a second.
const SLOW_CONNECT: Duration = Duration::from_millis(500);
/// Most of them that are kept.
const SLOW_CONNECTS_LIMIT: usize = 1 << 20;

impl Recorder {
    pub(super) fn new(from: Instant, length: Duration) -> Self {
        Self {
            from,
            until: from + length,
            started: 0,
            completed: 0,
            failed: 0,
            not_started: 0,
            queued: 0,
            connections: 0,
            closed_by_server: 0,
            closed_by_client: 0,
            unasked: 0,
            resent: 0,
            not_resent: 0,
            statuses: BTreeMap::new(),
            body_bytes: 0,
            sent_bytes: 0,
            received_bytes: 0,
            latencies: Latencies::default(),
            faults: BTreeMap::new(),
            trail: Trail::default(),
            slow_connects: Vec::new(),
            intervals: Vec::new(),
        }
    }

    /// Whether what was planned for this moment counts.
    pub(super) fn counts(&self, planned: Instant) -> bool {
        (self.from..self.until).contains(&planned)
    }

    pub(super) fn started(&mut self, planned: Instant) {
        self.started += u64::from(self.counts(planned));
    }

    pub(super) fn not_started(&mut self, planned: Instant) {
        self.not_started += u64::from(self.counts(planned));
    }

    /// A connection that was planned for then.
    pub(super) fn connected(&mut self, planned: Instant, took: Duration) {
        if !self.counts(planned) {
            return;
        }
        self.connections += 1;
        record(&mut self.latencies.connect, took);
        if took >= SLOW_CONNECT && self.slow_connects.len() < SLOW_CONNECTS_LIMIT {
            self.slow_connects.push(took);
        }
    }

    pub(super) fn closed_by_server(&mut self, now: Instant) {
        self.closed_by_server += u64::from(self.counts(now));
    }

    /// The server had announced it, at that moment, and did not do it.
    pub(super) fn closed_by_client(&mut self, now: Instant) {
        self.closed_by_client += u64::from(self.counts(now));
    }

    pub(super) fn unasked(&mut self, now: Instant) {
        self.unasked += u64::from(self.counts(now));
    }

    pub(super) fn not_resent(&mut self, planned: Instant) {
        self.not_resent += u64::from(self.counts(planned));
    }

    pub(super) fn resent(&mut self, planned: Instant, requests: usize) {
        self.resent += if self.counts(planned) { requests as u64 } else { 0 };
    }

    pub(super) fn sent(&mut self, planned: Instant, bytes: usize) {
        self.sent_bytes += if self.counts(planned) { bytes as u64 } else { 0 };
    }

    pub(super) fn received(&mut self, planned: Instant, bytes: usize) {
        self.received_bytes += if self.counts(planned) { bytes as u64 } else { 0 };
    }

    /// A whole HTTP answer, right or wrong.
    pub(super) fn answer(&mut self, planned: Instant, status: u16, body_bytes: u64) {
        if self.counts(planned) {
            *self.statuses.entry(status).or_default() += 1;
            self.body_bytes += body_bytes;
        }
    }

    pub(super) fn completed(&mut self, times: &Times, now: Instant) {
        if !self.counts(times.planned) {
            return;
        }
        self.completed += 1;
        self.trail.present(now);
        let end = times.answered.unwrap_or(now);
        let total = end.saturating_duration_since(times.planned);
        let Latencies { first_byte, total: totals, service, close, lateness, .. } =
            &mut self.latencies;
        record(totals, total);
        record(service, end.saturating_duration_since(times.started));
        self.queued += u64::from(times.queued);
        // Waiting for a connection is not the generator's fault.
        if !times.queued {
            record(lateness, times.started.saturating_duration_since(times.planned));
        }
        if let Some(first) = times.first_byte {
            record(first_byte, first.saturating_duration_since(times.started));
        }
        if times.answered.is_some_and(|answered| answered < now) {
            record(close, now - end);
        }
        let interval = self.interval(times.planned);
        interval.completed += 1;
        record(&mut interval.total, total);
    }

    pub(super) fn failed(&mut self, times: &Times, (phase, fault): (Phase, Fault), now: Instant) {
        if self.counts(times.planned) {
            self.failed += 1;
            self.trail.failed(fault, now);
            *self.faults.entry((phase, fault)).or_default() += 1;
            self.interval(times.planned).failed += 1;
        }
    }

    /// Whether the window ended with failures only.
    pub(super) fn absence(&self) -> Option<Absence> {
        self.trail.absence(self.from)
    }

    /// The interval of a moment within the window.
    fn interval(&mut self, planned: Instant) -> &mut Interval {
        let index = ((planned - self.from).as_nanos() / INTERVAL.as_nanos()) as usize;
        let length = self.until - self.from;
        while self.intervals.len() <= index {
            let start = INTERVAL * self.intervals.len() as u32;
            self.intervals.push(Interval {
                start,
                length: INTERVAL.min(length - start),
                completed: 0,
                failed: 0,
                total: histogram(),
            });
        }
        &mut self.intervals[index]
    }

    /// Adds what another thread has seen in the same window.
    pub(super) fn merge(&mut self, other: Self) {
        self.started += other.started;
        self.completed += other.completed;
        self.failed += other.failed;
        self.not_started += other.not_started;
        self.queued += other.queued;
        self.connections += other.connections;
        self.closed_by_server += other.closed_by_server;
        self.closed_by_client += other.closed_by_client;
        self.unasked += other.unasked;
        self.resent += other.resent;
        self.not_resent += other.not_resent;
        self.body_bytes += other.body_bytes;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.slow_connects.extend(other.slow_connects);
        self.trail.merge(other.trail);
        merge_latencies(&mut self.latencies, &other.latencies);
        for (key, count) in other.faults {
            *self.faults.entry(key).or_default() += count;
        }
        for interval in other.intervals {
            let mine = self.interval(self.from + interval.start);
            mine.completed += interval.completed;
            mine.failed += interval.failed;
            add(&mut mine.total, &interval.total);
        }
    }
}

fn merge_latencies(into: &mut Latencies, from: &Latencies) {
    add(&mut into.connect, &from.connect);
    add(&mut into.first_byte, &from.first_byte);
    add(&mut into.total, &from.total);
    add(&mut into.service, &from.service);
    add(&mut into.close, &from.close);
    add(&mut into.lateness, &from.lateness);
}

fn add(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).expect("all histograms have the same bounds");
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(duration.as_nanos().clamp(1, u128::from(u64::MAX)) as u64);
}
