//! Pictures of one or several reports: latency by percentile, rate and latency over time.

use super::chart::{Axis, Chart, Line, STYLE, WIDTH, escape};
use super::{IntervalReport, Latency, Report, ReportError, axis};

const NS_PER_SECOND: f64 = 1e9;

/// Points of a percentile line for each nine.
const POINTS_PER_NINE: usize = 60;

/// A picture that stands for itself: three charts below each other, one line for each report, with
/// the names in a legend. Light or dark as the reader prefers.
///
/// # Errors
/// There is no report.
pub fn svg(reports: &[(&str, &Report)]) -> Result<String, ReportError> {
    let charts = charts(reports)?;
    let height: f64 = charts.iter().map(Chart::height).sum();
    let size = format!(r#"width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}""#);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" {size}>\n<style>{STYLE}</style>\n"
    );
    let mut top = 0.0;
    for chart in &charts {
        svg += &format!("<g transform=\"translate(0 {top})\">\n{}</g>\n", chart.elements());
        top += chart.height();
    }
    Ok(svg + "</svg>\n")
}

/// The charts as elements for an HTML page that has [`STYLE`].
pub(super) fn inline(reports: &[(&str, &Report)]) -> Result<String, ReportError> {
    let figure = |chart: &Chart| {
        let (label, height) = (escape(chart.title), chart.height());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" \
             aria-label=\"{label}\" viewBox=\"0 0 {WIDTH} {height}\">\n{}</svg>\n",
            chart.elements()
        )
    };
    Ok(charts(reports)?.iter().map(figure).collect())
}

fn charts(reports: &[(&str, &Report)]) -> Result<[Chart; 3], ReportError> {
    if reports.is_empty() {
        return Err(ReportError::Nothing);
    }
    Ok([percentiles(reports), rates(reports), latencies(reports)])
}

fn percentiles(reports: &[(&str, &Report)]) -> Chart {
    let lines: Vec<Line> = reports
        .iter()
        .map(|(name, report)| Line {
            name: (*name).to_owned(),
            points: by_percentile(&report.latencies.total),
        })
        .collect();
    let nines = all(&lines).fold(0.0, |high, (x, _)| f64::max(high, x));
    let title = "Latency from the planned start, by percentile";
    Chart { title, x: axis::nines(nines), y: latency_axis(&lines), lines }
}

/// From 0 % to where one operation is left; points are nines and logarithms of nanoseconds.
fn by_percentile(latency: &Latency) -> Vec<(f64, f64)> {
    if latency.count() == 0 {
        return Vec::new();
    }
    let last = (latency.count() as f64).log10();
    let points = (last * POINTS_PER_NINE as f64).ceil() as usize;
    let quantile = |nines: f64| 1.0 - 10_f64.powf(-nines);
    (0..=points)
        .map(|index| (index as f64 / POINTS_PER_NINE as f64).min(last))
        .map(|nines| (nines, latency.histogram().value_at_quantile(quantile(nines))))
        .map(|(nines, ns)| (nines, log(ns)))
        .collect()
}

fn rates(reports: &[(&str, &Report)]) -> Chart {
    let lines: Vec<Line> = reports
        .iter()
        .map(|(name, report)| over_time(name, report, |interval| Some(interval.rate_per_second())))
        .collect();
    let high = all(&lines).fold(0.0, |high, (_, y)| f64::max(high, y));
    let y = axis::linear("operations per second", high);
    Chart { title: "Rate over time", x: time_axis(reports), y, lines }
}

/// Of one report p50, p99 and the longest; of several the p99 of each.
fn latencies(reports: &[(&str, &Report)]) -> Chart {
    let quantile = |report: &Report, name: &str, quantile: f64| {
        over_time(name, report, |interval| {
            let total = &interval.total;
            let ns = total.histogram().value_at_quantile(quantile);
            (total.count() > 0).then(|| log(ns))
        })
    };
    let (title, lines) = match reports {
        [(_, report)] => (
            "Latency over time",
            [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]
                .map(|(name, at)| quantile(report, name, at))
                .into(),
        ),
        several => (
            "99th percentile of the latency over time",
            several.iter().map(|(name, report)| quantile(report, name, 0.99)).collect::<Vec<_>>(),
        ),
    };
    Chart { title, x: time_axis(reports), y: latency_axis(&lines), lines }
}

/// A step for each interval that has the figure, from its start to its end: a short run has one.
fn over_time(name: &str, report: &Report, figure: impl Fn(&IntervalReport) -> Option<f64>) -> Line {
    let step = |interval: &IntervalReport| {
        let start = interval.start_ns as f64 / NS_PER_SECOND;
        let length = interval.length_ns as f64 / NS_PER_SECOND;
        figure(interval).map(|y| [(start, y), (start + length, y)])
    };
    let points = report.intervals.iter().filter_map(step).flatten().collect();
    Line { name: name.to_owned(), points }
}

fn time_axis(reports: &[(&str, &Report)]) -> Axis {
    let ends = reports.iter().filter_map(|(_, report)| report.intervals.last());
    let end_ns = ends.map(|interval| interval.start_ns.saturating_add(interval.length_ns)).max();
    axis::linear("time in the window (s)", end_ns.unwrap_or_default() as f64 / NS_PER_SECOND)
}

fn latency_axis(lines: &[Line]) -> Axis {
    axis::log_latency(all(lines).map(|(_, log)| 10_f64.powf(log)))
}

fn all(lines: &[Line]) -> impl Iterator<Item = (f64, f64)> {
    lines.iter().flat_map(|line| line.points.iter().copied())
}

fn log(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}
