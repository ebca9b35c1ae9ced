//! Two stored runs, figure by figure: the ratio, its interval, and whether the difference is noise.
//!
//! ```text
//!   Report A --> seconds --> spread of each figure --\
//!                                                     +--> ratio, interval, finding --> table, JSON
//!   Report B --> seconds --> spread of each figure --/
//! ```
//!
//! The intervals come from the variation between the seconds of each run. What differs between two
//! starts of the same server is not in them; the text says so.

use std::io::{self, Write};

use serde::Serialize;

use self::seconds::Seconds;
use self::spread::correlation;
use super::report::{Report, words};

mod differ;
mod figures;
mod seconds;
mod spread;
mod table;
#[cfg(test)]
mod tests;

pub use figures::{Figure, Finding, Unit};
pub use table::table;

/// What `schema` says in every comparison.
pub const SCHEMA: &str = "uring-acceptor/loadgen-comparison";

/// The version of that schema.
pub const VERSION: u32 = 1;

/// Fewer whole seconds than this say nothing about their variation.
const SECONDS_MIN: usize = 5;

/// From this correlation of neighbouring seconds on it is mentioned.
const CORRELATION_NOTED: f64 = 0.5;

/// Two runs beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// The part of intervals that holds the true ratio.
    pub confidence: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// The first run.
    pub a: Side,
    /// The second run.
    pub b: Side,
    /// What differs between the runs besides the server.
    pub warnings: Vec<String>,
    /// Each figure.
    pub figures: Vec<Figure>,
    /// What a reader must know about them.
    pub notes: Vec<String>,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Its file.
    pub file: String,
    /// What was run, in words.
    pub plan: String,
    /// Runs that were merged into it.
    pub runs: usize,
    /// Whole seconds of its window.
    pub seconds: usize,
    /// Whether its figures can be trusted.
    pub valid: bool,
}

/// Why two runs cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// One operation of the one is not one of the other.
    #[error(
        "A ran {a} and B ran {b}: one operation is not the same work in both; compare runs of the \
         same command"
    )]
    Modes {
        /// Mode of the first run.
        a: String,
        /// Mode of the second run.
        b: String,
    },
}

/// Compares B with A; each is the name of its file and what that holds. The same seed gives the same
/// intervals.
///
/// # Errors
/// They ran different modes.
pub fn compare(
    a: (&str, &Report),
    b: (&str, &Report),
    seed: u64,
) -> Result<Comparison, CompareError> {
    differ::same_mode(a.1, b.1)?;
    let reports = [a.1, b.1];
    let seconds = reports.map(Seconds::of);
    let mut notes = vec![SAME_START.to_owned()];
    notes.extend(short(&seconds));
    notes.extend(dependent(&seconds));
    let [side_a, side_b] = [(a, &seconds[0]), (b, &seconds[1])].map(side);
    Ok(Comparison {
        schema: SCHEMA,
        version: VERSION,
        confidence: spread::CONFIDENCE,
        seed,
        a: side_a,
        b: side_b,
        warnings: differ::warnings(reports),
        figures: figures::figures(reports, &seconds, seed),
        notes,
    })
}

const SAME_START: &str = "intervals come from the variation between the seconds of each run; they \
    do not cover what differs between two starts of the same server. Repeat both runs in turn \
    (A B A B) before you rely on a small difference";

fn side(((file, report), seconds): ((&str, &Report), &Seconds)) -> Side {
    Side {
        file: file.to_owned(),
        plan: words::plan(&report.plan, report.elapsed_ns),
        runs: report.runs,
        seconds: seconds.count,
        valid: report.verdict.valid,
    }
}

fn short(seconds: &[Seconds; 2]) -> Option<String> {
    let [a, b] = [seconds[0].count, seconds[1].count];
    (a.min(b) < SECONDS_MIN).then(|| {
        format!(
            "too short to tell: A has {a} whole seconds and B {b}, {SECONDS_MIN} are the least; \
             run longer with --duration"
        )
    })
}

fn dependent(seconds: &[Seconds; 2]) -> Vec<String> {
    let names = ["A", "B"].into_iter().zip(seconds);
    let noted = names.filter_map(|(name, seconds)| {
        let r = correlation(&seconds.rates());
        (seconds.count >= SECONDS_MIN && r >= CORRELATION_NOTED).then(|| {
            format!(
                "the rate of {name} drifts: neighbouring seconds have a correlation of {r:.2}. \
                 Intervals are wider for it; a longer run or warm-up would tell more"
            )
        })
    });
    noted.collect()
}

impl Comparison {
    /// Writes it as JSON, with a line feed at the end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn to_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Whether the figures of both runs can be trusted.
    pub fn is_valid(&self) -> bool {
        self.a.valid && self.b.valid
    }
}
