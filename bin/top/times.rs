//! How long things took: histograms at two times, and quantiles of what came between.

use std::collections::BTreeMap;

use super::metrics::{Metrics, Series};
use super::words::bound;

/// In the accept queue, by listening socket.
pub(super) const WAIT: &str = "acceptor_accept_queue_wait_seconds_bucket";

/// What is timed of each connection of a frontend, and how that is called.
pub(super) const OF_FRONTENDS: [(&str, &str); 4] = [
    ("dispatch", "acceptor_frontend_dispatch_seconds_bucket"),
    ("connect", "acceptor_frontend_connect_seconds_bucket"),
    ("first byte", "acceptor_frontend_first_byte_seconds_bucket"),
    ("lifetime", "acceptor_frontend_lifetime_seconds_bucket"),
];

/// A listening socket: frontend, address, and its number among those on the same address. The address of a whole
/// frontend is empty.
pub(super) type Socket = (String, String, usize);

/// Counts below bounds in seconds, as they come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

/// By name and by what it is of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histograms(BTreeMap<&'static str, BTreeMap<Socket, Histogram>>);

impl Histograms {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let names = OF_FRONTENDS.iter().map(|(_, name)| *name).chain([WAIT]);
        Self(names.map(|name| (name, histograms(metrics.all(name)))).collect())
    }

    pub(super) fn get(&self, name: &str, of: &Socket) -> Option<&Histogram> {
        self.0.get(name)?.get(of)
    }
}

impl Histogram {
    /// What has been counted since.
    pub(super) fn since(&self, before: &Self) -> Self {
        // One that has begun anew counts from there.
        if self.0.len() != before.0.len() || self.total() < before.total() {
            return self.clone();
        }
        let both = self.0.iter().zip(&before.0);
        Self(both.map(|(now, before)| (now.0, now.1 - before.1)).collect())
    }

    /// How many were counted.
    pub(super) fn total(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, total)| *total)
    }

    /// The bound that so large a part of them does not exceed, in words; `None` if there are none.
    pub(super) fn quantile(&self, part: f64) -> Option<String> {
        let total = Some(self.total()).filter(|total| *total > 0.0)?;
        let reached = self.0.iter().find(|(_, below)| *below >= part * total)?.0;
        if reached.is_finite() {
            return Some(format!("<={}", bound(reached)));
        }
        let highest = self.0.iter().rev().find(|(bound, _)| bound.is_finite())?.0;
        Some(format!(">{}", bound(highest)))
    }
}

fn histograms(all: &[Series]) -> BTreeMap<Socket, Histogram> {
    let mut found = BTreeMap::<Socket, Histogram>::new();
    for series in all {
        let label = |name| series.label(name).unwrap_or_default();
        let Ok(bound) = label("le").parse() else { continue };
        let socket = (
            label("frontend").to_owned(),
            label("address").to_owned(),
            label("socket").parse().unwrap_or_default(),
        );
        found.entry(socket).or_insert_with(|| Histogram(Vec::new())).0.push((bound, series.value));
    }
    for Histogram(buckets) in found.values_mut() {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds() {
        let counts = |counts: [f64; 3]| {
            Histogram([0.001, 3600.0, f64::INFINITY].into_iter().zip(counts).collect())
        };
        let all = counts([50.0, 99.0, 100.0]);
        let shown = [0.5, 0.51, 0.99, 1.0].map(|part| all.quantile(part).unwrap());
        assert_eq!(shown, ["<=1ms", "<=1h00m", "<=1h00m", ">1h00m"]);
        let new = all.since(&counts([50.0, 50.0, 50.0]));
        assert_eq!((new.quantile(0.5).as_deref(), new.total()), (Some("<=1h00m"), 50.0));
        assert_eq!(all.since(&all).quantile(0.5), None);
    }
}
