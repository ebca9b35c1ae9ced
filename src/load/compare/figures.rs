//! The figures that are compared, and what is found of each.

use serde::Serialize;

use super::SECONDS_MIN;
use super::seconds::Seconds;
use super::spread::{Spread, interval};
use crate::load::report::{Latency, LatencyReport, Report};

/// Latencies that lie above a percentile, for it to be more than the luck of a few.
const TAIL_MIN: f64 = 10.0;

/// Latencies that a histogram does not tell apart, as a part of them: it keeps three digits.
const HISTOGRAM_RESOLUTION: f64 = 0.001;

/// Time from the first start to the last end, over the longest window, from which on merged runs were
/// made one after another.
const APART: f64 = 1.5;

const NS_PER_SECOND: f64 = 1e9;
const MS_PER_SECOND: f64 = 1e3;
const NS_PER_US: f64 = 1e3;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

const ONE_EACH: &str = "one figure each, no interval";

const NO_LENGTH: &str = "a window of no length has no rate";

/// One figure of both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `rate`, `completed`, `total p99` and the like.
    pub name: String,
    /// Unit of `a` and `b`.
    pub unit: Unit,
    /// Of the first run; `None`: it has none.
    pub a: Option<f64>,
    /// Of the second run.
    pub b: Option<f64>,
    /// B by A.
    pub ratio: Option<f64>,
    /// Interval of the ratio.
    pub interval: Option<[f64; 2]>,
    /// What the interval says.
    pub finding: Finding,
    /// Why nothing can be said.
    pub why: Option<String>,
}

/// What a figure is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Operations per second.
    #[serde(rename = "operations/s")]
    Rate,
    /// Of the operations that ended: 0 to 1.
    #[serde(rename = "share")]
    Share,
    /// Microseconds.
    #[serde(rename = "us")]
    Us,
    /// Payload per second.
    #[serde(rename = "bytes/s")]
    Bytes,
}

/// What is found of a figure: B against A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A higher rate, a shorter latency, fewer failures: the interval leaves out 1.
    Better,
    /// The contrary.
    Worse,
    /// The interval holds 1.
    Noise,
    /// There is no interval.
    CannotTell,
}

impl Figure {
    fn new(name: impl Into<String>, unit: Unit, values: [Option<f64>; 2]) -> Self {
        let [a, b] = values.map(|value| value.filter(|value| value.is_finite()));
        let ratio = a.zip(b).filter(|(a, b)| *a > 0.0 && *b > 0.0).map(|(a, b)| b / a);
        // The values are those of a file that anybody may have written.
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        Self {
            name: name.into(),
            unit,
            a,
            b,
            ratio,
            interval: None,
            finding: Finding::CannotTell,
            why: Some(ONE_EACH.to_owned()),
        }
    }

    fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// With what the seconds say about both values, if they say something.
    fn judged(self, spreads: [Option<Spread>; 2], resolution: f64) -> Self {
        let [Some(a), Some(b)] = spreads else { return self.because("nothing completed") };
        let Some(ratio) = self.ratio else { return self.because("there is no ratio to 0") };
        let interval = interval(ratio, [a, b], resolution);
        if interval.iter().any(|end| !end.is_finite()) {
            return self.because("the seconds differ without bounds");
        }
        let [low, high] = interval;
        let more_is_better = matches!(self.unit, Unit::Rate | Unit::Share);
        let finding = if low > 1.0 && more_is_better || high < 1.0 && !more_is_better {
            Finding::Better
        } else if low > 1.0 || high < 1.0 {
            Finding::Worse
        } else {
            Finding::Noise
        };
        Self { interval: Some(interval), finding, why: None, ..self }
    }
}

/// All of them, in the order in which they are shown.
pub(super) fn figures(reports: [&Report; 2], seconds: &[Seconds; 2], seed: u64) -> Vec<Figure> {
    let mut figures = vec![rate(reports, seconds), completed(reports, seconds)];
    figures.extend(totals(reports, seconds, seed));
    let closed = reports.iter().all(|report| report.latencies.service == report.latencies.total);
    // In a closed loop the service time is the total again.
    if !closed {
        figures.extend(latencies("service", reports, |latencies| &latencies.service));
    }
    figures.extend(latencies("first byte", reports, |latencies| &latencies.first_byte));
    figures.extend(latencies("connect", reports, |latencies| &latencies.connect));
    figures.extend(server_cpu(reports));
    figures.extend(bytes("sent", reports, |report| report.counts.sent_bytes));
    figures.extend(bytes("received", reports, |report| report.counts.received_bytes));
    figures
}

/// Whether merged runs were made one after another, as repetitions are.
pub(super) fn is_repeated(report: &Report) -> bool {
    let span = report.ended_unix_ms.saturating_sub(report.started_unix_ms) as f64 / MS_PER_SECOND;
    report.runs > 1 && span > APART * elapsed(report)
}

/// Whether a run was stopped before its window began.
pub(super) fn is_without_length(report: &Report) -> bool {
    report.elapsed_ns == 0
}

fn elapsed(report: &Report) -> f64 {
    report.elapsed_ns as f64 / NS_PER_SECOND
}

/// What is counted over the window by its length: of repeated runs the mean, otherwise the sum.
fn per_second(report: &Report, count: u64) -> Option<f64> {
    let runs = if is_repeated(report) { report.runs as f64 } else { 1.0 };
    let seconds = elapsed(report);
    (seconds > 0.0).then(|| count as f64 / seconds / runs)
}

fn rate(reports: [&Report; 2], seconds: &[Seconds; 2]) -> Figure {
    let values = reports.map(|report| per_second(report, report.counts.completed));
    let figure = Figure::new("rate", Unit::Rate, values);
    if reports.into_iter().any(is_without_length) {
        return figure.because(NO_LENGTH);
    }
    by_seconds(figure, seconds, |seconds| Spread::of_mean(&seconds.rates()))
}

fn completed(reports: [&Report; 2], seconds: &[Seconds; 2]) -> Figure {
    let values = reports.map(|report| {
        let ended = report.counts.completed as f64 + report.counts.failed as f64;
        (ended > 0.0).then(|| report.counts.completed as f64 / ended)
    });
    let figure = Figure::new("completed", Unit::Share, values);
    by_seconds(figure, seconds, |seconds| Spread::of_share(&seconds.completed()))
}

fn by_seconds(
    figure: Figure,
    seconds: &[Seconds; 2],
    spread: impl Fn(&Seconds) -> Option<Spread>,
) -> Figure {
    match too_short(seconds) {
        Some(why) => figure.because(why),
        None => figure.judged([spread(&seconds[0]), spread(&seconds[1])], 0.0),
    }
}

fn too_short(seconds: &[Seconds; 2]) -> Option<String> {
    let least = seconds.iter().map(|seconds| seconds.count).min()?;
    (least < SECONDS_MIN).then(|| format!("{least} s are too short"))
}

/// The only latencies that are known second by second.
fn totals(reports: [&Report; 2], seconds: &[Seconds; 2], seed: u64) -> Vec<Figure> {
    let figures = latencies("total", reports, |latencies| &latencies.total);
    if let Some(why) = too_short(seconds) {
        return figures.into_iter().map(|figure| figure.because(why.clone())).collect();
    }
    let quantiles = QUANTILES.map(|(_, quantile)| quantile);
    // Not the same draws for both: their errors would go together.
    let [a, b] = [(0, seed), (1, !seed)].map(|(run, seed)| seconds[run].quantiles(quantiles, seed));
    let spreads = a.into_iter().zip(b);
    let judged =
        figures.into_iter().zip(QUANTILES).zip(spreads).map(|((figure, (_, q)), (a, b))| {
            match too_few(reports, q) {
                Some(why) => figure.because(why),
                None => figure.judged([a, b], HISTOGRAM_RESOLUTION),
            }
        });
    judged.collect()
}

fn too_few(reports: [&Report; 2], quantile: f64) -> Option<String> {
    let least = reports.iter().map(|report| report.latencies.total.count()).min()?;
    let needed = (TAIL_MIN / (1.0 - quantile)).round();
    ((least as f64) < needed)
        .then(|| format!("{least} operations are too few, {needed} are needed"))
}

/// The percentiles of a latency; none where it was not measured.
fn latencies(name: &str, reports: [&Report; 2], of: fn(&LatencyReport) -> &Latency) -> Vec<Figure> {
    let measured = reports.map(|report| of(&report.latencies));
    if measured.iter().all(|latency| latency.count() == 0) {
        return Vec::new();
    }
    let figure = |(quantile_name, quantile): (&str, f64)| {
        let values = measured.map(|latency| {
            let ns = latency.histogram().value_at_quantile(quantile) as f64;
            (latency.count() > 0).then_some(ns / NS_PER_US)
        });
        Figure::new(format!("{name} {quantile_name}"), Unit::Us, values)
    };
    QUANTILES.into_iter().map(figure).collect()
}

fn server_cpu(reports: [&Report; 2]) -> Option<Figure> {
    let values =
        reports.map(|report| report.server_cpu_us_per_operation.filter(|_| !is_repeated(report)));
    let measured = reports.iter().any(|report| report.server_cpu_us_per_operation.is_some());
    let figure = Figure::new("server CPU per operation", Unit::Us, values);
    // Merging keeps the highest of one server, while the operations are added.
    let repeated = reports.into_iter().any(is_repeated);
    measured.then(|| match repeated {
        true => figure.because("not known of runs that were made one after another and merged"),
        false => figure,
    })
}

fn bytes(name: &str, reports: [&Report; 2], of: fn(&Report) -> u64) -> Option<Figure> {
    let values = reports.map(|report| per_second(report, of(report)));
    let any = reports.into_iter().any(|report| of(report) > 0);
    let why = if reports.into_iter().any(is_without_length) { NO_LENGTH } else { ONE_EACH };
    any.then(|| Figure::new(name, Unit::Bytes, values).because(why))
}
