//! One step of the search: a rate, what came of it, and whether it held.

use serde::{Serialize, Serializer};

use super::Limits;
use crate::load::report::{Latency, Report};
use crate::load::{Arrival, Outcome};

const NS_PER_SECOND: f64 = 1e9;

/// Standard deviations by which the number of random arrivals may fall short of the plan.
const DEVIATIONS: f64 = 3.0;

/// Share of a CPU from which on it counts as the limit.
const BUSY_SHARE: f64 = 0.9;

/// Why a step is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The rate rises until a step breaks.
    Rising,
    /// The lowest rate broke: it falls until a step holds.
    Falling,
    /// Between the highest rate that held and the lowest that broke.
    Halving,
    /// At half of the knee.
    Half,
    /// At 80 % of the knee.
    Most,
}

/// A step that is to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Starts per second.
    pub rate: f64,
    /// Why.
    pub phase: Phase,
    /// 1, or 2 where the first attempt broke.
    pub attempt: u32,
    /// How many times the length of an ordinary step it takes.
    pub lengths: u32,
}

/// What a step has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Length of the window.
    pub seconds: f64,
    /// Operations, as in the report.
    pub started: u64,
    /// See `started`.
    pub completed: u64,
    /// See `started`.
    pub failed: u64,
    /// See `started`.
    pub not_started: u64,
    /// From the planned start; `None` when nothing was completed.
    pub total: Option<Percentiles>,
    /// How late the generator started operations, p99, microseconds.
    pub lateness_p99_us: Option<f64>,
    /// CPU time of the observed server by elapsed time.
    pub server_cpus: Option<f64>,
    /// That of its busiest thread: 1 is a whole CPU.
    pub server_busiest: Option<f64>,
    /// CPU time of the generator by elapsed time and threads.
    pub generator_share: f64,
    /// Whether the figures can be trusted.
    pub valid: bool,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Why a step broke.
#[derive(Debug, Clone, PartialEq)]
pub enum Broke {
    /// p99 from the planned start exceeded the limit.
    P99,
    /// Operations failed.
    Failed,
    /// Operations were due and did not start: as many as allowed were in flight, or the generator did
    /// not come to it.
    NotStarted,
    /// The rate could not be tried, and why.
    Refused(String),
}

impl Broke {
    /// As it is written in JSON and CSV.
    pub fn name(&self) -> &'static str {
        match self {
            Self::P99 => "p99",
            Self::Failed => "failed",
            Self::NotStarted => "not-started",
            Self::Refused(_) => "refused",
        }
    }
}

impl Serialize for Broke {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A step that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What was tried.
    pub trial: Trial,
    /// Operations that were due.
    pub due: f64,
    /// What came of it; `None` where it was refused.
    pub measured: Option<Measured>,
    /// The limit of p99 for it, microseconds.
    pub p99_limit_us: Option<f64>,
    /// Why it broke; empty: it held.
    pub broke: Vec<Broke>,
}

impl Measured {
    /// From a run of one step.
    pub fn of(outcome: &Outcome, report: &Report) -> Self {
        let elapsed_ns = (report.elapsed_ns as f64).max(1.0);
        let cpus = |ns: u64| ns as f64 / elapsed_ns;
        let counts = report.counts;
        Self {
            seconds: elapsed_ns / NS_PER_SECOND,
            started: counts.started,
            completed: counts.completed,
            failed: counts.failed,
            not_started: counts.not_started,
            total: percentiles(&report.latencies.total),
            lateness_p99_us: report.latencies.lateness.summary().map(|summary| summary.p99_us),
            server_cpus: outcome.server.map(|usage| cpus(usage.cpu_ns)),
            server_busiest: outcome.server.map(|usage| cpus(usage.busiest_ns)),
            generator_share: report.generator.cpu_share,
            valid: report.verdict.valid,
        }
    }

    /// Operations that were due at `rate`. A generator that falls behind does not even count some.
    pub(super) fn due(&self, rate: f64, arrival: Arrival) -> f64 {
        let planned = rate * self.seconds;
        let chance = match arrival {
            Arrival::Poisson => DEVIATIONS * planned.sqrt(),
            Arrival::Uniform => 1.0,
        };
        ((self.started + self.not_started) as f64).max(planned - chance)
    }

    /// What broke it under `limits`, with that limit of p99.
    pub(super) fn broke(&self, due: f64, limits: &Limits, p99_limit_us: Option<f64>) -> Vec<Broke> {
        let mut broke = Vec::new();
        let incomplete = due - self.completed as f64 > limits.failure_share * due;
        if incomplete && self.failed > 0 {
            broke.push(Broke::Failed);
        }
        // What was due and neither succeeded nor failed.
        let lost = due - (self.completed + self.failed) as f64;
        if incomplete && (lost >= 1.0 || self.failed == 0) {
            broke.push(Broke::NotStarted);
        }
        let late = self.total.zip(p99_limit_us).is_some_and(|(total, limit)| total.p99_us > limit);
        if late {
            broke.push(Broke::P99);
        }
        broke
    }
}

fn percentiles(latency: &Latency) -> Option<Percentiles> {
    latency.summary().map(|summary| Percentiles {
        p50_us: summary.p50_us,
        p99_us: summary.p99_us,
        p999_us: summary.p999_us,
        max_us: summary.max_us,
    })
}

impl Step {
    /// Whether it did not break.
    pub fn held(&self) -> bool {
        self.broke.is_empty()
    }

    /// Of what was due: 0 to 1.
    pub fn completed_share(&self) -> Option<f64> {
        self.measured.map(|measured| measured.completed as f64 / self.due.max(1.0))
    }

    /// A thread of the server had no CPU time left; `None` where it was not observed.
    pub(super) fn server_was_busy(&self) -> Option<bool> {
        self.measured?.server_busiest.map(|share| share >= BUSY_SHARE)
    }

    /// The generator had no CPU time left.
    pub(super) fn generator_was_busy(&self) -> bool {
        self.measured.is_some_and(|measured| measured.generator_share >= BUSY_SHARE)
    }
}
