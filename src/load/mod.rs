//! The load generator: honest latency under load. Shares only `sys`, `ring`, `metrics` and `config`
//! with the servers that it measures.
//!
//! ```text
//!   Plan --> pacing (when does what start) --> sessions on rings --> Outcome --> report
//! ```

pub mod outcome;
pub mod plan;
pub mod report;

pub use outcome::{Interval, KernelCounters, Latencies, Outcome, Phase, ServerUsage, Verdict};
pub use plan::{Arrival, CloseStyle, Mode, Pace, Plan, Sources, Target, Timeouts};
