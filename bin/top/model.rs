//! What is known of a server: the last two samples, and the times of the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uring_acceptor::control::{ClientList, ConnectionList, SourceList, Status};

use super::metrics::Metrics;
use super::sources::Choice;
use super::times::{Histogram, Histograms, Socket};
use crate::options::Order;

/// How far quantiles look back.
const WINDOW: Duration = Duration::from_secs(60);

/// How many looks of it are kept; with a shorter interval than a second it looks less far back.
const LOOKS_MAX: usize = 120;

/// A list that costs the server something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Connections(Order),
    Clients,
    Sources(Choice),
}

/// Such a list.
#[derive(Debug, Clone)]
pub(super) enum List {
    Connections(Order, ConnectionList),
    Clients(ClientList),
    /// `None` where nobody has rules by source.
    Sources(Choice, Option<SourceList>),
}

/// What was told at one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) metrics: Metrics,
    pub(super) list: Option<List>,
}

impl Sample {
    /// When the process was started: what tells it from another that has its pid.
    fn started(&self) -> Option<f64> {
        self.metrics.sum("acceptor_start_time_seconds")
    }
}

/// What the quantiles are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// The last [`WINDOW`], or since the first sample.
    Recent,
    /// All since the server was started.
    All,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    times: Times,
    /// Samples that are closer than this give no rate.
    apart: Duration,
    before: Option<Sample>,
    now: Option<Sample>,
    looks: VecDeque<(Instant, Histograms)>,
}

impl Model {
    pub(super) fn new(times: Times, interval: Duration) -> Self {
        Self { times, apart: interval / 2, before: None, now: None, looks: VecDeque::new() }
    }

    /// Takes a sample in. One of another process begins anew.
    pub(super) fn take(&mut self, sample: Sample) {
        let is_another = |now: &Sample| {
            let (old, new) = (&now.status, &sample.status);
            old.pid != new.pid
                || new.uptime_seconds < old.uptime_seconds
                || now.started() != sample.started()
        };
        if self.now.as_ref().is_some_and(is_another) {
            (self.before, self.now) = (None, None);
            self.looks.clear();
        }
        let is_apart = |now: &Sample| sample.at.saturating_duration_since(now.at) >= self.apart;
        if self.now.as_ref().is_some_and(is_apart) {
            self.before = self.now.take();
        }
        self.look(&sample);
        self.now = Some(sample);
    }

    fn look(&mut self, sample: &Sample) {
        let is_old = |at: &Instant| sample.at.saturating_duration_since(*at) >= WINDOW;
        // The one before the window begins is what is subtracted.
        while self.looks.len() >= LOOKS_MAX || self.looks.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.looks.pop_front();
        }
        self.looks.push_back((sample.at, Histograms::of(&sample.metrics)));
    }

    pub(super) fn now(&self) -> Option<&Sample> {
        self.now.as_ref()
    }

    /// The sample before.
    pub(super) fn before(&self) -> Option<&Sample> {
        self.before.as_ref()
    }

    /// What grows by how much in a second; `None` until that is known.
    pub(super) fn rate(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.growth(value(self.before()?), value(self.now()?))
    }

    /// How much a second it has grown from one sample to the next. What was not there before has no rate: it may
    /// have been counted elsewhere, as are the drops of a listener that has moved.
    pub(super) fn growth(&self, before: Option<f64>, now: Option<f64>) -> Option<f64> {
        let span = self.now()?.at.saturating_duration_since(self.before()?.at);
        let (grown, seconds) = (now? - before?, span.as_secs_f64());
        (grown >= 0.0 && seconds > 0.0).then(|| grown / seconds)
    }

    /// The rate of a counter of the process.
    pub(super) fn counter_rate(&self, name: &str) -> Option<f64> {
        self.rate(|sample| sample.metrics.sum(name))
    }

    /// What times are of, in words; `None` until they are known.
    pub(super) fn span(&self) -> Option<String> {
        if self.times == Times::All {
            return Some("since the start".to_owned());
        }
        let (first, last) = (self.looks.front()?.0, self.looks.back()?.0);
        let span = last.saturating_duration_since(first);
        match span.as_millis() {
            0 => None,
            _ if span >= WINDOW => Some("in the last minute".to_owned()),
            ms => Some(format!("in the last {}s", ms.div_ceil(1000))),
        }
    }

    /// How long what this histogram counts took.
    pub(super) fn times(&self, name: &str, of: &Socket) -> Option<Histogram> {
        let last = self.looks.back()?.1.get(name, of)?;
        let first = match self.times {
            Times::All => None,
            Times::Recent => self.looks.front().and_then(|(_, all)| all.get(name, of)),
        };
        Some(first.map_or_else(|| last.clone(), |first| last.since(first)))
    }
}
