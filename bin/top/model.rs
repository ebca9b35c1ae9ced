//! What is known of a server: the last two samples, and the waits of the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use uring_acceptor::control::{ConnectionList, Status};

use super::metrics::{Metrics, Series};
use crate::options::Order;

/// How far the quantile of waits looks back.
const WINDOW: Duration = Duration::from_secs(60);

/// How many looks of it are kept; with a shorter interval than a second it looks less far back.
const LOOKS_MAX: usize = 120;

const WAIT_BUCKETS: &str = "acceptor_accept_queue_wait_seconds_bucket";

/// What was told at one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) metrics: Metrics,
    pub(super) list: Option<(Order, ConnectionList)>,
}

/// A listening socket: frontend, address, and its number among those on the same address.
pub(super) type Socket = (String, String, usize);

/// Counts below bounds in seconds, as they come.
type Buckets = Vec<(f64, f64)>;

/// Which waits the quantile is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Those of the last [`WINDOW`], or since the first sample.
    Recent,
    /// All since the server was started.
    All,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    waits: Waits,
    /// Samples that are closer than this give no rate.
    apart: Duration,
    before: Option<Sample>,
    now: Option<Sample>,
    looks: VecDeque<(Instant, BTreeMap<Socket, Buckets>)>,
}

impl Model {
    pub(super) fn new(waits: Waits, interval: Duration) -> Self {
        Self { waits, apart: interval / 2, before: None, now: None, looks: VecDeque::new() }
    }

    /// Takes a sample in. One of another process begins anew.
    pub(super) fn take(&mut self, sample: Sample) {
        let is_another = |now: &Sample| {
            let (old, new) = (&now.status, &sample.status);
            old.pid != new.pid || new.uptime_seconds < old.uptime_seconds
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
        self.looks.push_back((sample.at, buckets(sample.metrics.all(WAIT_BUCKETS))));
    }

    pub(super) fn now(&self) -> Option<&Sample> {
        self.now.as_ref()
    }

    /// The sample before, and the seconds since.
    pub(super) fn before(&self) -> Option<(&Sample, f64)> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        Some((before, now.at.saturating_duration_since(before.at).as_secs_f64()))
    }

    /// What grows by how much in a second; `None` until that is known.
    pub(super) fn rate(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let (before, seconds) = self.before()?;
        let grown = value(self.now()?)? - value(before).unwrap_or_default();
        (grown >= 0.0 && seconds > 0.0).then(|| grown / seconds)
    }

    /// The rate of a counter of the process.
    pub(super) fn counter_rate(&self, name: &str) -> Option<f64> {
        self.rate(|sample| sample.metrics.sum(name))
    }

    /// 99 % of the connections of the sample have waited no longer than this, in seconds; infinite above the highest
    /// bound, `None` if there are none.
    pub(super) fn wait_p99(&self, socket: &Socket) -> Option<f64> {
        let last = self.looks.back()?.1.get(socket)?;
        let first = match self.waits {
            Waits::All => None,
            Waits::Recent => self.looks.front().and_then(|(_, all)| all.get(socket)),
        };
        let new: Buckets = match first.filter(|first| first.len() == last.len()) {
            None => last.clone(),
            Some(first) => {
                last.iter().zip(first).map(|(last, first)| (last.0, last.1 - first.1)).collect()
            }
        };
        let total = new.last()?.1;
        let reached = |(_, below): &&(f64, f64)| *below >= 0.99 * total;
        new.iter().find(reached).filter(|_| total > 0.0).map(|(bound, _)| *bound)
    }
}

fn buckets(all: &[Series]) -> BTreeMap<Socket, Buckets> {
    let mut sockets = BTreeMap::<Socket, Buckets>::new();
    for series in all {
        let label = |name| series.label(name).unwrap_or_default();
        let Ok(bound) = label("le").parse() else { continue };
        let socket = (
            label("frontend").to_owned(),
            label("address").to_owned(),
            label("socket").parse().unwrap_or_default(),
        );
        sockets.entry(socket).or_default().push((bound, series.value));
    }
    for buckets in sockets.values_mut() {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    sockets
}
