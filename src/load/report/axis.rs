//! Where axes are labelled.

use super::chart::Axis;
use super::words;

/// Most labels of a linear axis.
const LABELS_MAX: f64 = 8.0;

/// Latency in nanoseconds, as its decimal logarithm, over all values.
pub(super) fn log_latency(values_ns: impl Iterator<Item = f64>) -> Axis {
    let (low, high) = values_ns
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = if high > 0.0 { (low.max(1.0), high) } else { (1e3, 1e6) };
    let (low, high) = (step_below(low), step_above(high));
    Axis {
        name: "latency (logarithmic)".to_owned(),
        low: low.log10(),
        high: high.log10(),
        ticks: log_ticks(low, high),
    }
}

/// 1, 2, 5 and 10 times a power of ten.
fn steps(near: f64) -> [f64; 4] {
    let power = 10_f64.powf(near.log10().floor());
    [power, 2.0 * power, 5.0 * power, 10.0 * power]
}

/// At least half an octave below, so that no line lies on the axis.
fn step_below(value: f64) -> f64 {
    steps(value).into_iter().rfind(|step| *step <= value).unwrap_or(value)
}

fn step_above(value: f64) -> f64 {
    steps(value).into_iter().find(|step| *step > value).unwrap_or(value * 2.0)
}

/// Powers of ten; with 2 and 5 between where there is room.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let between: &[f64] = if high / low > 2e4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (0..=13).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| between.iter().map(move |factor| factor * power));
    // Steps are computed from logarithms: the last bit may differ.
    let inside = all.filter(|value| *value >= low * 0.999 && *value <= high * 1.001);
    inside.map(|value| (value.log10(), tick_latency(value))).collect()
}

/// `20 us`, without the decimals that [`words::latency`] has.
fn tick_latency(ns: f64) -> String {
    let text = words::latency(ns as u64);
    match text.split_once(' ') {
        Some((figure, unit)) if figure.contains('.') => {
            format!("{} {unit}", figure.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// From 0 to above `high`, with round labels.
pub(super) fn linear(name: &str, high: f64) -> Axis {
    let high = if high > 0.0 { high } else { 1.0 };
    let step = steps(high / LABELS_MAX)
        .into_iter()
        .find(|step| *step * LABELS_MAX >= high)
        .unwrap_or(high);
    let labels = (high / step).ceil() as u32;
    let ticks = (0..=labels).map(|index| {
        let value = f64::from(index) * step;
        (value, number(value, step))
    });
    Axis { name: name.to_owned(), low: 0.0, high: f64::from(labels) * step, ticks: ticks.collect() }
}

fn number(value: f64, step: f64) -> String {
    if step >= 1.0 {
        return words::count(value.round() as u64);
    }
    let decimals = (-step.log10()).ceil() as usize;
    format!("{value:.decimals$}")
}

/// Percentiles by their nines: 0 is 0 %, 1 is 90 %, 2 is 99 %.
pub(super) fn nines(high: f64) -> Axis {
    let mut ticks = vec![(0.0, "0 %".to_owned()), (0.5_f64.recip().log10(), "50 %".to_owned())];
    for nines in 1..=(high.ceil() as usize) {
        let label = match nines {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            _ => format!("99.{} %", "9".repeat(nines - 2)),
        };
        ticks.push((nines as f64, label));
    }
    let high = high.max(1.0);
    ticks.retain(|(at, _)| *at <= high);
    Axis { name: "percentile of operations, by nines".to_owned(), low: 0.0, high, ticks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn linear_axes_begin_at_zero_and_end_above() {
        assert_eq!(labels(&linear("", 10.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&linear("", 0.9)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&linear("", 0.0)).len(), 6);
        for high in [1e-3, 0.7, 3.0, 99.9, 1_000.0, 123_456.0, 1e9] {
            let axis = linear("", high);
            assert!(axis.high >= high && axis.ticks.len() <= 9, "{high}: {:?}", labels(&axis));
        }
    }

    #[test]
    fn latency_axes_hold_all_values() {
        let axis = log_latency([90_000.0, 1_500_000.0].into_iter());
        assert_eq!(labels(&axis), ["50 us", "100 us", "200 us", "500 us", "1 ms", "2 ms"]);
        let wide = log_latency([0.0, 3.6e12].into_iter());
        assert!(wide.low <= 0.0 && wide.high >= 3.6e12_f64.log10());
        assert!(wide.ticks.len() < 15);
        assert!(!log_latency(std::iter::empty()).ticks.is_empty());
    }

    #[test]
    fn percentiles_by_nines() {
        assert_eq!(labels(&nines(3.2)), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!(labels(&nines(0.0)), ["0 %", "50 %"]);
    }
}
