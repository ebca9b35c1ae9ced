//! Why a report cannot be read, merged or drawn, in words for the operator.

use super::{SCHEMA, VERSION};

/// Why a report cannot be read, merged or drawn. The text names the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is no JSON, lacks a field or has one that is not in the schema.
    #[error(
        "cannot read the report: {0}; it was cut, edited or written by another version: \
         let loadgen write it again"
    )]
    Malformed(#[from] serde_json::Error),
    /// `schema` is missing or another one.
    #[error(
        "schema is {found}, not '{SCHEMA}': give a file that loadgen wrote with its JSON output"
    )]
    Schema {
        /// As it stands in the file.
        found: String,
    },
    /// `version` is missing or another one.
    #[error(
        "version of the schema is {found}, this program knows {VERSION}: \
         read it with the version of loadgen that wrote it"
    )]
    Version {
        /// As it stands in the file.
        found: String,
    },
    /// A histogram cannot be decoded, or has other bounds than those of the schema.
    #[error(
        "the histogram of {place} is corrupt ({cause}): the file was cut or edited, \
         let loadgen write it again"
    )]
    CorruptHistogram {
        /// Path of the object that holds it: `latencies.connect`.
        place: String,
        /// What the decoder said.
        cause: String,
    },
    /// There is no report to merge or draw.
    #[error("there is no report: give one at least")]
    Nothing,
    /// A sum of what was merged has no room in a report.
    #[error(
        "the sum of {what} is too large for a report: one of the files was edited, \
         let loadgen write it again"
    )]
    TooLarge {
        /// What was added up.
        what: &'static str,
    },
    /// Runs that did different work cannot be added up.
    #[error(
        "report {which} has {what} {other}, report 1 has {first}: \
         only runs of the same work can be merged"
    )]
    Differs {
        /// Which report, counted from 1.
        which: usize,
        /// What differs.
        what: &'static str,
        /// Value in the first report.
        first: String,
        /// Value in this one.
        other: String,
    },
}
