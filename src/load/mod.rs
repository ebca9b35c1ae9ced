//! The load generator: honest latency under load. Shares only `sys`, `ring`, `metrics` and `config`
//! with the servers that it measures.
//!
//! ```text
//!   Plan --> pacing (when does what start) --> sessions on rings --> Outcome --> report
//! ```

pub mod observe;
pub mod outcome;
pub mod pacing;
pub mod plan;
pub mod safety;
pub mod sources;
pub mod syn;
pub mod verdict;

pub use outcome::{Interval, KernelCounters, Latencies, Outcome, Phase, ServerUsage, Verdict};
pub use plan::{Arrival, CloseStyle, Mode, Pace, Plan, Sources, Target, Timeouts};
