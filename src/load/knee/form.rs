//! The search for programs: JSON with the report of each step, and CSV with a line for each.

use std::io::{self, Write};

use serde::Serialize;

use super::{Broke, Cause, Phase, Search, Step};
use crate::load::report::Report;

/// What `schema` says in every account of a search.
pub const SCHEMA: &str = "uring-acceptor/loadgen-knee";

/// The version of that schema.
pub const VERSION: u32 = 1;

/// The columns; docs/loadgen-schema.md says what they mean.
const HEADER: &str = "phase,attempt,rate_per_second,seconds,due,completed,failed,not_started,p50_us,p99_us,\
                      p999_us,max_us,lateness_p99_us,server_cpus,server_busiest,generator_share,valid,held";

/// A whole search, or as much of it as was made.
#[derive(Debug, Serialize)]
pub struct Account<'a> {
    schema: &'static str,
    version: u32,
    /// Whether it came to its end.
    complete: bool,
    failure_share: f64,
    /// Rate of the closed loop before it.
    possible_per_second: f64,
    /// `None`: no rate held.
    knee_per_second: Option<f64>,
    /// The lowest rate that broke.
    broken_per_second: Option<f64>,
    limited_by: &'a [Broke],
    cause: Cause,
    trusted: bool,
    /// Steps of the knee, of 50 % and of 80 %: index into `steps`.
    knee_step: Option<usize>,
    half_step: Option<usize>,
    most_step: Option<usize>,
    closed_loop: &'a Report,
    steps: Vec<StepForm<'a>>,
}

/// A step with its report.
#[derive(Debug, Serialize)]
struct StepForm<'a> {
    phase: Phase,
    attempt: u32,
    rate_per_second: f64,
    due: f64,
    p99_limit_us: Option<f64>,
    held: bool,
    broke: &'a [Broke],
    /// Why the rate could not be tried.
    refused: Option<&'a str>,
    server_cpus: Option<f64>,
    server_busiest: Option<f64>,
    report: Option<&'a Report>,
}

impl<'a> Account<'a> {
    /// Of `search`, the closed loop before it, and the report of each step; `None` for one that was
    /// refused.
    pub fn new(search: &'a Search, closed_loop: &'a Report, reports: &'a [Option<Report>]) -> Self {
        let [half, most] = search.parts();
        let index = |step: Option<&Step>| {
            step.and_then(|step| search.steps().iter().position(|own| std::ptr::eq(own, step)))
        };
        let rate = |step: &Step| step.trial.rate;
        let steps = search.steps().iter().zip(reports);
        Self {
            schema: SCHEMA,
            version: VERSION,
            complete: search.next().is_none(),
            failure_share: search.limits().failure_share,
            possible_per_second: search.possible(),
            knee_per_second: search.knee().map(rate),
            broken_per_second: search.broken().map(rate),
            limited_by: search.broken().map_or(&[], |step| &step.broke),
            cause: search.cause(),
            trusted: search.is_trusted(),
            knee_step: index(search.knee()),
            half_step: index(half),
            most_step: index(most),
            closed_loop,
            steps: steps.map(|(step, report)| form(step, report.as_ref())).collect(),
        }
    }

    /// Writes it as JSON, with a line feed at the end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn to_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

fn form<'a>(step: &'a Step, report: Option<&'a Report>) -> StepForm<'a> {
    let refused = step.broke.iter().find_map(|broke| match broke {
        Broke::Refused(why) => Some(why.as_str()),
        _ => None,
    });
    StepForm {
        phase: step.trial.phase,
        attempt: step.trial.attempt,
        rate_per_second: step.trial.rate,
        due: step.due,
        p99_limit_us: step.p99_limit_us,
        held: step.held(),
        broke: &step.broke,
        refused,
        server_cpus: step.measured.and_then(|measured| measured.server_cpus),
        server_busiest: step.measured.and_then(|measured| measured.server_busiest),
        report,
    }
}

/// Writes the header and a line for each step; what was not measured is empty.
///
/// # Errors
/// Those of the writer.
pub fn csv(search: &Search, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    search.steps().iter().try_for_each(|step| csv_line(step, out))
}

fn csv_line(step: &Step, out: &mut impl Write) -> io::Result<()> {
    let phase = serde_json::to_value(step.trial.phase)?;
    let phase = phase.as_str().unwrap_or_default();
    write!(out, "{phase},{},{:.3}", step.trial.attempt, step.trial.rate)?;
    let held = step.held();
    let Some(measured) = step.measured else { return writeln!(out, "{}{held}", ",".repeat(15)) };
    let super::Measured { seconds, completed, failed, not_started, valid, .. } = measured;
    write!(out, ",{seconds:.3},{:.0},{completed},{failed},{not_started}", step.due)?;
    let total = measured.total;
    for figure in [
        total.map(|total| total.p50_us),
        total.map(|total| total.p99_us),
        total.map(|total| total.p999_us),
        total.map(|total| total.max_us),
        measured.lateness_p99_us,
        measured.server_cpus,
        measured.server_busiest,
        Some(measured.generator_share),
    ] {
        match figure {
            Some(figure) => write!(out, ",{figure:.3}")?,
            None => write!(out, ",")?,
        }
    }
    writeln!(out, ",{valid},{held}")
}
