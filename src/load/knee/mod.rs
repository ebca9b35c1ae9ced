//! The search for the knee: the highest rate at which latency and failures stay within bounds.
//!
//! [`Search`] decides which rate is tried next and never runs anything; who runs the steps notes
//! what they have shown.
//!
//! ```text
//!   possible (a closed loop)
//!      |
//!      v       broke         close enough
//!   Rising -------> Halving -------------> Half (50 %) --> Most (80 %) --> over
//!    ^  |              ^                     ^
//!    |  | held         | held                |
//!    +--+--------------|---------------------+   no rate is left: the knee lies higher
//!       | lowest broke |
//!       +--> Falling --+--> over                 nothing held
//! ```
//!
//! A step that breaks is tried again before it counts: machines are noisy.

use super::Arrival;

mod cause;
mod form;
mod step;
#[cfg(test)]
mod tests;
mod text;

pub use cause::Cause;
pub use form::{Account, SCHEMA, VERSION, csv};
pub use step::{Broke, Measured, Percentiles, Phase, Step, Trial};
pub use text::{heading, line, summary};

/// The rate rises by this part of what a closed loop reached.
const RISE: f64 = 0.1;

/// So many times; a closed loop with few connections finds too little, so then it doubles.
const RISES: f64 = 16.0;

/// Highest rate that is tried, per second.
const RATE_MAX: f64 = 10_000_000.0;

/// Lowest rate that is tried, per second.
const RATE_MIN: f64 = 1.0;

/// The part of the rate that broke within which the knee is found.
const RESOLUTION: f64 = 0.025;

/// Of p99 at the lowest rate: the limit where none is given, and the least that it is.
const P99_FACTOR: f64 = 20.0;
const P99_LIMIT_MIN_US: f64 = 20_000.0;

/// How often a rate is tried before it counts as broken.
const ATTEMPTS: u32 = 2;

/// A step whose latencies are shown takes longer.
const LONG: u32 = 2;

/// The rates whose latencies are shown, as a part of the knee.
const HALF: f64 = 0.5;
const MOST: f64 = 0.8;

/// What a step must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Longest p99, microseconds; `None`: 20 times that of the lowest rate, and at least 20 ms.
    pub p99_us: Option<f64>,
    /// Of the operations that are due, those that need not complete: 0 to 1.
    pub failure_share: f64,
    /// How starts are spread.
    pub arrival: Arrival,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Operations per second of a closed loop.
    possible: f64,
    limits: Limits,
    /// What comes next; `None`: it is over.
    next: Option<Trial>,
    steps: Vec<Step>,
    /// The steps at the highest rate that held and the lowest that broke, while these are searched.
    good: Option<usize>,
    broken: Option<usize>,
    /// The last attempts at 50 % and 80 %.
    half: Option<usize>,
    most: Option<usize>,
}

impl Search {
    /// Begins at a tenth of `possible`, which a closed loop reached per second.
    pub fn new(possible: f64, limits: Limits) -> Self {
        let first = Trial {
            rate: (possible * RISE).clamp(RATE_MIN, RATE_MAX),
            phase: Phase::Rising,
            attempt: 1,
            lengths: 1,
        };
        let next = Some(first);
        Self {
            possible,
            limits,
            next,
            steps: vec![],
            good: None,
            broken: None,
            half: None,
            most: None,
        }
    }

    /// The step to make next; `None`: the search is over.
    pub fn next(&self) -> Option<Trial> {
        self.next
    }

    /// Notes what the step has shown that [`Search::next`] asked for.
    ///
    /// # Panics
    /// When it asked for none.
    pub fn note(&mut self, measured: Measured) -> &Step {
        let trial = self.next.expect("a step was asked for");
        let due = measured.due(trial.rate, self.limits.arrival);
        let p99_limit_us = self.p99_limit_us(&measured);
        let broke = measured.broke(due, &self.limits, p99_limit_us);
        let measured = Some(measured);
        self.add(Step { trial, due, measured, p99_limit_us, broke })
    }

    /// Notes that this machine cannot make that rate, and why. No second attempt is made.
    ///
    /// # Panics
    /// When [`Search::next`] asked for none.
    pub fn refuse(&mut self, why: String) -> &Step {
        let mut trial = self.next.expect("a step was asked for");
        trial.attempt = ATTEMPTS;
        let p99_limit_us = self.limits.p99_us;
        self.add(Step {
            trial,
            due: 0.0,
            measured: None,
            p99_limit_us,
            broke: vec![Broke::Refused(why)],
        })
    }

    fn add(&mut self, step: Step) -> &Step {
        let (trial, held) = (step.trial, step.held());
        let index = self.steps.len();
        self.steps.push(step);
        self.next = if !held && trial.attempt < ATTEMPTS {
            Some(Trial { attempt: trial.attempt + 1, ..trial })
        } else {
            self.settle(trial, index, held)
        };
        &self.steps[index]
    }

    /// What comes after a rate that has held or broken for good.
    fn settle(&mut self, trial: Trial, index: usize, held: bool) -> Option<Trial> {
        let Trial { rate, phase, .. } = trial;
        match (phase, held) {
            (Phase::Half, _) => self.half = Some(index),
            (Phase::Most, _) => self.most = Some(index),
            (_, true) => self.good = Some(index),
            (_, false) => self.broken = Some(index),
        }
        match (phase, held) {
            (Phase::Rising, true) => self.rise(rate).or_else(|| self.part(Phase::Half)),
            (Phase::Rising | Phase::Falling, false) if self.good.is_none() => fall(rate),
            (Phase::Rising | Phase::Falling | Phase::Halving, _) => self.halve(),
            (Phase::Half, _) => self.part(Phase::Most),
            (Phase::Most, _) => None,
        }
    }

    fn rise(&self, rate: f64) -> Option<Trial> {
        let step = self.possible * RISE;
        // Rounding must not make it one rise more.
        let rises = rate + step / 2.0 < self.possible * RISE * RISES;
        let rate = if rises { rate + step } else { 2.0 * rate };
        (rate <= RATE_MAX).then(|| trial(rate, Phase::Rising))
    }

    /// Between what held and what broke, until they are close.
    fn halve(&self) -> Option<Trial> {
        let [good, broken] = [self.good?, self.broken?].map(|index| self.steps[index].trial.rate);
        if broken - good <= RESOLUTION * broken {
            return self.part(Phase::Half);
        }
        Some(trial((good + broken) / 2.0, Phase::Halving))
    }

    /// At a part of the knee.
    fn part(&self, phase: Phase) -> Option<Trial> {
        let share = if phase == Phase::Half { HALF } else { MOST };
        let knee = self.knee()?.trial.rate;
        Some(Trial { lengths: LONG, ..trial(share * knee, phase) })
    }

    /// The limit that was given, or what follows from the lowest rate: until one has held, that is
    /// the rate of now.
    fn p99_limit_us(&self, measured: &Measured) -> Option<f64> {
        if self.limits.p99_us.is_some() {
            return self.limits.p99_us;
        }
        let held = self.steps.iter().find(|step| step.held());
        let known = held.and_then(|step| step.p99_limit_us);
        let own = measured.total.map(|total| (P99_FACTOR * total.p99_us).max(P99_LIMIT_MIN_US));
        known.or(own)
    }

    /// All steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Operations per second of the closed loop.
    pub fn possible(&self) -> f64 {
        self.possible
    }

    /// Limits of a step.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The step at the highest rate that held, so far.
    pub fn knee(&self) -> Option<&Step> {
        self.good.map(|index| &self.steps[index])
    }

    /// Whether the knee is as near as it gets; the steps at 50 % and 80 % may be missing.
    pub fn is_found(&self) -> bool {
        let searches = |trial: Trial| !matches!(trial.phase, Phase::Half | Phase::Most);
        self.good.is_some() && !self.next.is_some_and(searches)
    }

    /// The step at the lowest rate that broke, so far.
    pub fn broken(&self) -> Option<&Step> {
        self.broken.map(|index| &self.steps[index])
    }

    /// The steps at 50 % and 80 % of the knee, as far as they were made.
    pub fn parts(&self) -> [Option<&Step>; 2] {
        [self.half, self.most].map(|index| index.map(|index| &self.steps[index]))
    }

    /// Whether the knee is the server's: its step and those at 50 % and 80 % are valid and held, and
    /// it was not the generator that broke.
    pub fn is_trusted(&self) -> bool {
        let good = |step: &Step| step.held() && step.measured.is_some_and(|one| one.valid);
        let shown = [self.knee()].into_iter().chain(self.parts());
        shown.into_iter().all(|step| step.is_some_and(good)) && !self.cause().is_of_the_generator()
    }

    /// What limited it.
    pub fn cause(&self) -> Cause {
        Cause::of(self.broken())
    }
}

fn trial(rate: f64, phase: Phase) -> Trial {
    Trial { rate, phase, attempt: 1, lengths: 1 }
}

/// The lowest rate broke.
fn fall(rate: f64) -> Option<Trial> {
    let rate = rate / 2.0;
    (rate >= RATE_MIN).then(|| trial(rate, Phase::Falling))
}
