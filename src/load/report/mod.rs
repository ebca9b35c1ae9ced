//! What a run has shown, for people and for programs: JSON that merges exactly, a table, CSV, the
//! interval log of HdrHistogram, pictures.
//!
//! ```text
//!   Outcome + Card --> Report <--> JSON        docs/loadgen-schema.md
//!                        |  \--- merge         of processes and machines
//!                        +--> table, csv, hdr_log, svg, html
//! ```

mod answers;
mod axis;
mod card;
mod chart;
mod csv;
mod error;
mod form;
mod hdr_log;
mod html;
mod json;
mod latency;
mod merge;
mod picture;
mod plan;
mod sum;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod windows;
pub(super) mod words;

pub use answers::Answers;
pub use card::Card;
pub use csv::csv;
pub use error::ReportError;
pub use form::{
    Counts, DroppedSyns, Generator, IntervalReport, KernelReport, LatencyReport, PhaseName, Report,
    ServerReport, VerdictReport,
};
pub use hdr_log::hdr_log;
pub use html::html;
pub use latency::{Latency, Summary};
pub use merge::merge;
pub use picture::svg;
pub use plan::{HttpReport, PlanReport};
pub use table::table;

/// What `schema` says in every report.
pub const SCHEMA: &str = "uring-acceptor/loadgen";

/// The version of the schema that this program reads and writes.
pub const VERSION: u32 = 4;
