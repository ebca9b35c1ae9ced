//! The options of a search for the knee, and what does not go with them.

use std::time::Duration;

use clap::Args;
use uring_acceptor::load::knee::Limits;
use uring_acceptor::load::{Arrival, Mode, Pace};

use super::pace::{CONNECTIONS, MAX_INFLIGHT, stays_open};
use super::typed::{KeptPace, PaceOptions};
use super::{Options, Run, Seeking, Task};
use uring_acceptor::config::human::{Human, duration_in, number};

/// Until the search sets the rate.
const ANY_RATE: f64 = 1.0;

/// A step is shorter than a run may be: there are some twenty of them.
const STEP_MAX: Duration = Duration::from_secs(60);
const STEP_MIN: Duration = Duration::from_millis(200);

const PERCENT: f64 = 100.0;
const FAILURES_PERCENT: f64 = 2.0;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Search")]
pub(super) struct KneeOptions {
    /// Find the highest rate that the server sustains, and the latency at 50 and 80 % of it: runs
    /// of --duration each at rising rates. A short closed-loop run on --connections finds where to
    /// begin; rr and http keep these connections open for the search
    #[arg(long)]
    pub(super) find_knee: bool,
    /// A rate fails when its p99 exceeds this [default: 20 times the p99 at the lowest rate, at
    /// least 20ms]
    #[arg(long, value_name = "TIME", value_parser = p99_limit)]
    pub(super) p99_limit: Option<Human>,
    /// A rate fails when more than this share of its operations does not complete [default: 2]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(super) failure_limit: Option<f64>,
}

/// A latency that can be told from none, and not above the longest that is.
fn p99_limit(text: &str) -> Result<Human, String> {
    duration_in(text, Duration::from_micros(1)..=Duration::from_secs(3600))
}

/// A part of a hundred, with or without its sign.
fn percent(text: &str) -> Result<f64, String> {
    number(text.strip_suffix('%').unwrap_or(text).trim_end(), 0.0..=50.0)
}

impl KneeOptions {
    /// The pace of a run, or that of the steps.
    pub(super) fn pace(&self, pace: &PaceOptions, mode: Mode) -> Result<Pace, String> {
        if !self.find_knee {
            self.needs_find_knee()?;
            return pace.pace(mode);
        }
        if let Some(rate) = pace.rate {
            return Err(format!(
                "--rate {rate} does not go with --find-knee, which finds the rate; leave out --rate, \
                 or --find-knee for a run at this rate"
            ));
        }
        let (rate, arrival) = (ANY_RATE, pace.arrival.map_or(Arrival::Poisson, |how| how.0));
        Ok(match pace.max_inflight {
            None if stays_open(mode) => {
                let connections = pace.connections.unwrap_or(CONNECTIONS);
                Pace::Fixed { connections, rate, arrival }
            }
            most => Pace::Open { rate, arrival, max_inflight: most.unwrap_or(MAX_INFLIGHT) },
        })
    }

    fn needs_find_knee(&self) -> Result<(), String> {
        if let Some(limit) = self.p99_limit {
            return Err(format!("--p99-limit {limit} needs --find-knee, whose steps it bounds"));
        }
        if let Some(limit) = self.failure_limit {
            return Err(format!(
                "--failure-limit {limit} needs --find-knee, whose steps it bounds"
            ));
        }
        Ok(())
    }

    /// A run becomes the first of many.
    pub(super) fn task(&self, connections: usize, options: Options) -> Result<Options, String> {
        let Options { task: Task::Run(run), outputs } = options else { return Ok(options) };
        let Run { plan, .. } = &*run;
        let refused =
            |option: &str, why: &str| Err(format!("{option} does not go with --find-knee: {why}"));
        if let Some(count) = plan.count {
            return refused(&format!("--count {count}"), "a step ends after --duration");
        }
        if !(STEP_MIN..=STEP_MAX).contains(&plan.duration) {
            let [typed, least, most] = [plan.duration, STEP_MIN, STEP_MAX].map(Human);
            return refused(
                &format!("--duration {typed}"),
                &format!("it is the length of one step of many, {least} to {most}"),
            );
        }
        let drawn = [("--hdr", &outputs.hdr), ("--svg", &outputs.svg), ("--html", &outputs.html)];
        let drawn = drawn.into_iter().find_map(|(option, file)| Some((option, file.as_ref()?)));
        if let Some((option, file)) = drawn {
            return refused(
                &format!("{option} {}", file.display()),
                "it shows one run; --json has the report of each step and --csv a line for each, and \
                 scripts/sweep draws them",
            );
        }
        let arrival = match plan.pace {
            Pace::Open { arrival, .. } | Pace::Fixed { arrival, .. } => arrival,
            Pace::Closed { .. } => Arrival::Poisson,
        };
        let limits = Limits {
            p99_us: self.p99_limit.map(|Human(limit)| limit.as_secs_f64() * 1e6),
            failure_share: self.failure_limit.unwrap_or(FAILURES_PERCENT) / PERCENT,
            arrival,
        };
        Ok(Options {
            task: Task::Seek(Box::new(Seeking { run: *run, connections, limits })),
            outputs,
        })
    }
}

/// What a command that can search has typed: the search, and the connections of its closed loop.
pub(super) struct Asked {
    knee: KneeOptions,
    connections: usize,
}

impl Asked {
    pub(super) fn of(knee: &KneeOptions, pace: &PaceOptions) -> Option<Self> {
        let connections = pace.connections.unwrap_or(CONNECTIONS);
        knee.find_knee.then(|| Self { knee: knee.clone(), connections })
    }

    pub(super) fn task(self, options: Options) -> Result<Options, String> {
        self.knee.task(self.connections, options)
    }
}

/// The pause of a connection between two operations, with the pace.
pub(super) fn kept(
    knee: &KneeOptions,
    pace: &KeptPace,
    mode: Mode,
) -> Result<(Pace, Duration), String> {
    pace.checked(mode, knee.pace(&pace.pace, mode)?)
}
