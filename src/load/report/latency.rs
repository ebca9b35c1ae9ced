//! A histogram of latencies as it stands in a report: a summary to read, and all of it to merge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize, Serializer, de, ser};

use crate::load::outcome::histogram;

const NS_PER_US: f64 = 1e3;

/// Most operations of a histogram. Quantiles are found with floating point, which is exact so far;
/// sums of two do not overflow.
const COUNT_MAX: u64 = 1 << 53;

/// Latencies of many operations, in nanoseconds. Never loses what merging needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

/// The figures that people read, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half of them took no longer.
    pub p50_us: f64,
    /// 90 % of them took no longer.
    pub p90_us: f64,
    /// 99 % of them took no longer.
    pub p99_us: f64,
    /// 99.9 % of them took no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// How a [`Latency`] is written. When it is read only the histogram counts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    count: u64,
    summary: Option<Summary>,
    histogram: String,
}

impl Latency {
    /// Nothing measured.
    pub fn empty() -> Self {
        Self(histogram())
    }

    /// All of it, in nanoseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// How many operations were measured.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// `None` when nothing was measured.
    pub fn summary(&self) -> Option<Summary> {
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Summary {
            min_us: us(self.0.min()),
            mean_us: self.0.mean() / NS_PER_US,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.0.max()),
        })
    }

    /// Adds what the other one has measured. False, and nothing is added, when the sum would be more
    /// operations than a report holds.
    #[must_use]
    pub fn add(&mut self, other: &Self) -> bool {
        let fits = self.count() + other.count() <= COUNT_MAX;
        if fits {
            self.0.add(&other.0).expect("all histograms of a report have the same bounds");
        }
        fits
    }

    /// From base64 of HDR V2, compressed or not.
    ///
    /// # Errors
    /// What the decoder said, or which bounds it has that are not those of [`histogram`].
    pub(super) fn decode(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| error.to_string())?;
        let mut own = histogram();
        if bounds(&read) != bounds(&own) {
            let (low, high, digits) = bounds(&read);
            return Err(format!("its bounds are {low} to {high} ns with {digits} digits"));
        }
        // The library's sum stops at the largest number instead of overflowing.
        if read.len() > COUNT_MAX {
            return Err(format!("it counts {} operations", read.len()));
        }
        own.add(&read).map_err(|error| error.to_string())?;
        Ok(Self(own))
    }

    /// Base64 of HDR V2, compressed: what the other HdrHistogram programs read as well.
    fn encode(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(|error| error.to_string())?;
        Ok(STANDARD.encode(bytes))
    }
}

impl From<&Histogram<u64>> for Latency {
    fn from(measured: &Histogram<u64>) -> Self {
        Self(measured.clone())
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / NS_PER_US
}

fn bounds(histogram: &Histogram<u64>) -> (u64, u64, u8) {
    (histogram.low(), histogram.high(), histogram.sigfig())
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let histogram = self.encode().map_err(ser::Error::custom)?;
        Written { count: self.count(), summary: self.summary(), histogram }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Self::decode(&written.histogram).map_err(de::Error::custom)
    }
}
