//! Families of metrics, written in whatever format they are asked for.

use std::borrow::Borrow;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::metrics::{DurationCounts, NativeCounts};

/// Name, help and unit of metrics that differ in their labels.
pub(super) type Family<'a> = (&'a str, &'a str, Option<Unit>);

/// Writes families.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    pub(super) fn counters<S: EncodeLabelSet>(
        &mut self,
        (name, help, unit): Family<'_>,
        rows: impl IntoIterator<Item = (S, u64)>,
    ) -> fmt::Result {
        let mut metric =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges<S: EncodeLabelSet>(
        &mut self,
        (name, help, unit): Family<'_>,
        rows: impl IntoIterator<Item = (S, f64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    pub(super) fn histograms<S: EncodeLabelSet>(
        &mut self,
        (name, help, unit): Family<'_>,
        rows: impl IntoIterator<Item = (S, impl Borrow<DurationCounts>)>,
    ) -> fmt::Result {
        let mut metric =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, counts) in rows {
            histogram(&mut metric.encode_family(&labels)?, counts.borrow())?;
        }
        Ok(())
    }

    pub(super) fn seconds<S: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl IntoIterator<Item = (S, f64)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn counter(&mut self, (name, help, unit): Family<'_>, value: u64) -> fmt::Result {
        let mut metric =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        metric.encode_counter::<NoLabels, _, u64>(&value, None)
    }

    pub(super) fn gauge(&mut self, (name, help, unit): Family<'_>, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }
}

/// Of exemplars.
type NoLabels = [(&'static str, &'static str); 0];

/// Classic and native in one; text has no native ones.
fn histogram(metric: &mut MetricEncoder<'_>, counts: &DurationCounts) -> fmt::Result {
    let DurationCounts { sum_seconds, count, ranges, native } = counts;
    let (spans, deltas) = spans(&native.buckets);
    let positive = NativeHistogramBuckets { spans: &spans, deltas: &deltas };
    let native = NativeHistogram {
        schema: NativeCounts::SCHEMA,
        zero_threshold: NativeCounts::ZERO_SECONDS,
        zero_count: native.zero,
        negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
        positive,
        created: None,
    };
    metric.encode_histogram_with_native::<NoLabels>(*sum_seconds, *count, ranges, None, native)
}

/// How many ranges are left out and how many follow, as often as there is a gap; and for each of those that follow, by
/// how much it differs from the one before.
fn spans(buckets: &[(i32, u64)]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in buckets {
        match spans.last_mut() {
            Some((_, length)) if *index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (next, before) = (index + 1, count);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_spans_and_differences() {
        assert_eq!(spans(&[]), (vec![], vec![]));
        let (found, deltas) = spans(&[(-3, 5), (-2, 2), (1, 2), (2, 9)]);
        assert_eq!((found, deltas), (vec![(-3, 2), (2, 2)], vec![5, -3, 0, 7]));
    }
}
