//! What a file is that somebody gives for a run: that, or something else that can be named.

use serde_json::Value;

use super::compare;
use super::knee;
use super::report::{Report, ReportError, VERSION};

/// Why a file is no run. The text goes on where the name of the file ends.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// Not a byte.
    #[error("is empty: the run that should have written it did not come to its end")]
    Empty,
    /// A table, a page, a log.
    #[error("is not JSON ({0}); give a file that loadgen wrote as JSON")]
    NotJson(serde_json::Error),
    /// The account of a search.
    #[error(
        "is a search for the knee, not a run; its steps are runs, and \
         jq '.steps[.knee_step].report' prints the one at the knee"
    )]
    Knee,
    /// Two runs side by side.
    #[error("is the comparison of two runs, not a run; give the runs themselves")]
    Comparison,
    /// A run that this program does not know to read.
    #[error(
        "is a run in version {found} of the schema, and this loadgen reads version {VERSION}: make \
         the run again, or use the loadgen that wrote it"
    )]
    Version {
        /// As it stands in the file.
        found: String,
    },
    /// Anything else.
    #[error("is no run that can be read: {0}")]
    Report(ReportError),
}

/// The run in `text`.
///
/// # Errors
/// What it is instead.
pub fn read(text: &str) -> Result<Report, StoredError> {
    if text.trim().is_empty() {
        return Err(StoredError::Empty);
    }
    let value: Value = serde_json::from_str(text).map_err(StoredError::NotJson)?;
    match value.get("schema").and_then(Value::as_str) {
        Some(knee::SCHEMA) => return Err(StoredError::Knee),
        Some(compare::SCHEMA) => return Err(StoredError::Comparison),
        _ => {}
    }
    Report::from_json(text).map_err(|error| match error {
        ReportError::Version { found } => StoredError::Version { found },
        error => StoredError::Report(error),
    })
}
