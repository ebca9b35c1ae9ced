//! What a run has shown, for people and for programs: JSON that merges exactly, a table, CSV, the
//! interval log of HdrHistogram.
//!
//! ```text
//!   Outcome + Card --> Report <--> JSON        docs/loadgen-schema.md
//!                        |  \--- merge         of processes and machines
//!                        +--> table, csv, hdr_log
//! ```

mod card;
mod csv;
mod error;
mod form;
mod hdr_log;
mod json;
mod latency;
mod merge;
mod plan;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use card::Card;
pub use csv::csv;
pub use error::ReportError;
pub use form::{
    Counts, DroppedSyns, Generator, IntervalReport, KernelReport, LatencyReport, PhaseName, Report,
    ServerReport, VerdictReport,
};
pub use hdr_log::hdr_log;
pub use latency::{Latency, Summary};
pub use merge::merge;
pub use plan::PlanReport;
pub use table::table;

/// What `schema` says in every report.
pub const SCHEMA: &str = "uring-acceptor/loadgen";

/// The version of the schema that this program reads and writes.
pub const VERSION: u32 = 1;
