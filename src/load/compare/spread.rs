//! How far a figure of a run may be from what it would be in a longer one, by the variation between
//! its seconds.
//!
//! Everything is on the logarithmic scale, where a ratio is a difference. Neighbouring seconds are
//! alike (a cache that is warm, a neighbour on the machine), so fewer of them count than there are:
//! the variance is multiplied by `(1 + r) / (1 - r)`, with r the correlation of each second with the
//! next one.

/// The part of intervals that holds the true ratio.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Where that leaves 2.5 % of a normal distribution on either side.
const Z: f64 = 1.959_963_984_540_054;

/// Correlation of neighbours that is believed; above it the series has a trend, and no factor helps.
const CORRELATION_MAX: f64 = 0.8;

/// The uncertainty of the logarithm of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) variance: f64,
    /// Degrees of freedom of that variance.
    pub(super) degrees: f64,
}

impl Spread {
    /// From the variance of the logarithm as `count` independent seconds give it; `series` tells how
    /// independent they are.
    pub(super) fn new(variance: f64, count: usize, series: &[f64]) -> Self {
        let r = correlation(series);
        Self { variance: variance * (1.0 + r) / (1.0 - r), degrees: (count - 1) as f64 }
    }

    /// Of the mean of `series`; `None` where that is 0 and has no logarithm.
    pub(super) fn of_mean(series: &[f64]) -> Option<Self> {
        let (count, mean) = (series.len() as f64, mean(series));
        (mean > 0.0).then(|| {
            let variance = squares(series, mean) / (count - 1.0) / count / mean.powi(2);
            Self::new(variance, series.len(), series)
        })
    }

    /// Of `sum of parts / sum of wholes`, as the wholes of the seconds differ; `None` where it is 0.
    pub(super) fn of_share(parts_and_wholes: &[(f64, f64)]) -> Option<Self> {
        let part: f64 = parts_and_wholes.iter().map(|(part, _)| part).sum();
        let whole: f64 = parts_and_wholes.iter().map(|(_, whole)| whole).sum();
        let count = parts_and_wholes.len() as f64;
        (part > 0.0).then(|| {
            let off: Vec<f64> =
                parts_and_wholes.iter().map(|(own, of)| own - of * part / whole).collect();
            let variance = squares(&off, 0.0) * count / (count - 1.0) / part.powi(2);
            Self::new(variance, off.len(), &off)
        })
    }
}

/// The interval of a ratio whose two figures are so uncertain (Welch). `resolution` is what the
/// figures themselves do not tell apart.
pub(super) fn interval(ratio: f64, [a, b]: [Spread; 2], resolution: f64) -> [f64; 2] {
    let variance = a.variance + b.variance;
    let shares = a.variance.powi(2) / a.degrees + b.variance.powi(2) / b.degrees;
    let degrees = if shares > 0.0 { variance.powi(2) / shares } else { a.degrees.min(b.degrees) };
    let half = student(degrees) * variance.sqrt() + resolution;
    [ratio * (-half).exp(), ratio * half.exp()]
}

/// The two-sided quantile of Student's distribution: Cornish and Fisher's expansion, within 0.3 % from
/// 4 degrees on.
fn student(degrees: f64) -> f64 {
    let power = |exponent| Z.powi(exponent);
    let first = (power(3) + Z) / 4.0;
    let second = (5.0 * power(5) + 16.0 * power(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * Z) / 384.0;
    Z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
}

/// How much neighbours are alike: 0, not at all, to [`CORRELATION_MAX`]. With Kendall's correction, as
/// few seconds hide it.
pub(super) fn correlation(series: &[f64]) -> f64 {
    let (count, mean) = (series.len() as f64, mean(series));
    let all = squares(series, mean);
    if all <= 0.0 {
        return 0.0;
    }
    let neighbours = series.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean));
    let r = neighbours.sum::<f64>() / all;
    (r + (1.0 + 3.0 * r) / count).clamp(0.0, CORRELATION_MAX)
}

/// The variance of what was drawn again and again.
pub(super) fn variance(values: &[f64]) -> f64 {
    squares(values, mean(values)) / (values.len() as f64 - 1.0)
}

fn squares(values: &[f64], around: f64) -> f64 {
    values.iter().map(|value| (value - around).powi(2)).sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn quantiles_of_student_are_those_of_the_tables() {
        for (degrees, expected) in
            [(4.0, 2.776), (5.0, 2.571), (10.0, 2.228), (30.0, 2.042), (1e9, 1.960)]
        {
            let own = student(degrees);
            assert!((own / expected - 1.0).abs() < 0.003, "{degrees}: {own}");
        }
    }

    #[test]
    fn a_share_counts_seconds_by_their_size() {
        // The variance of a ratio estimator, by hand: deviations 1, -1, 0 of 30 of 33.
        let spread = Spread::of_share(&[(11.0, 11.0), (9.0, 11.0), (10.0, 11.0)]).unwrap();
        assert!((spread.variance - 2.0 * 1.5 / 900.0).abs() < 1e-12, "{spread:?}");
        assert_eq!(Spread::of_share(&[(0.0, 3.0), (0.0, 4.0)]), None);
    }

    #[test]
    fn what_has_no_mean_has_no_spread() {
        assert_eq!(Spread::of_mean(&[0.0; 5]), None);
        assert_eq!(Spread::of_mean(&[3.0; 5]).unwrap().variance, 0.0);
    }

    #[test]
    fn neighbours_that_are_alike_widen() {
        let apart: Vec<f64> = (0..20).map(|second| f64::from(100 + second % 2)).collect();
        let alike: Vec<f64> = (0..20).map(|second| f64::from(100 + second / 10)).collect();
        assert_eq!((correlation(&apart), correlation(&alike)), (0.0, CORRELATION_MAX));
        let [apart, alike] = [apart, alike].map(|series| Spread::of_mean(&series).unwrap());
        assert!(alike.variance > 8.0 * apart.variance, "{alike:?} {apart:?}");
    }

    /// A normal deviate, nearly: the sum of twelve.
    fn normal(rng: &mut Rng) -> f64 {
        (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
    }

    /// Seconds around 100, each as much like the one before as `phi` says.
    fn series(rng: &mut Rng, count: usize, phi: f64) -> Vec<f64> {
        let mut last = normal(rng) / (1.0 - phi * phi).sqrt();
        let next = |_| {
            let now = last;
            last = phi * last + normal(rng);
            100.0 + now
        };
        (0..count).map(next).collect()
    }

    /// Share of pairs of the same thing that are called different, of 2,000.
    fn false_alarms(seed: u64, count: usize, phi: f64) -> f64 {
        let mut rng = Rng::with_seed(seed);
        let mut alarm = || {
            let [a, b] = [(); 2].map(|()| series(&mut rng, count, phi));
            let ratio = mean(&b) / mean(&a);
            let [low, high] =
                interval(ratio, [&a, &b].map(|one| Spread::of_mean(one).unwrap()), 0.0);
            !(low..=high).contains(&1.0)
        };
        (0..2000).filter(|_| alarm()).count() as f64 / 2000.0
    }

    #[test]
    fn the_same_is_rarely_called_different() {
        // 5 % is what the intervals promise; 2,000 pairs are off by 0.5 % at times. Few seconds show
        // little of how much they depend on each other.
        for (count, phi, most) in
            [(5, 0.0, 0.06), (10, 0.0, 0.06), (60, 0.0, 0.06), (30, 0.3, 0.09), (60, 0.6, 0.09)]
        {
            let share = false_alarms(7, count, phi);
            assert!(share < most, "{count} seconds, {phi}: {share}");
            assert!(share > 0.005, "{count} seconds, {phi}: {share}: they are too wide");
        }
    }
}
