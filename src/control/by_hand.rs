//! What was set by hand and differs from the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a frontend is that was drained by hand.
pub(super) const DRAINED: &str = "drained";

/// What was set by hand, until the next reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ByHand {
    /// What: `max-connections`, `backlog`, `log-level`, `drained`.
    pub what: String,
    /// Of which frontend; `None` is the process.
    pub frontend: Option<String>,
    /// As it was set.
    pub now: String,
    /// As it is configured.
    pub configured: String,
}

impl fmt::Display for ByHand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, frontend, now, configured } = self;
        if let (DRAINED, Some(frontend)) = (what.as_str(), frontend) {
            return write!(formatter, "frontend {frontend} is drained by hand");
        }
        match frontend {
            Some(frontend) => write!(formatter, "{what} of frontend {frontend}")?,
            None => write!(formatter, "{what}")?,
        }
        write!(formatter, " is {now} by hand, and {configured} as configured")
    }
}
