//! The load generator: honest latency under load. Shares only `sys`, `ring`, `metrics` and `config`
//! with the servers that it measures.
//!
//! ```text
//!   Plan --> pacing (when does what start) --> sessions on rings --> Outcome --> report
//! ```

mod absence;
pub mod answer;
mod client;
pub mod compare;
mod control;
mod descriptors;
mod idle_response;
pub mod knee;
pub mod observe;
pub mod outcome;
mod pacer;
pub mod pacing;
pub mod place;
pub mod plan;
mod protocol;
mod recorder;
pub mod report;
pub mod request;
mod run;
pub mod safety;
mod session;
pub mod sources;
pub mod status;
pub mod stored;
pub mod syn;
pub mod verdict;

pub use control::Control;
pub use descriptors::TooFewDescriptors;
pub use outcome::{
    Absence, Interval, KernelCounters, Latencies, Outcome, Phase, ServerUsage, Verdict,
};
pub use plan::{
    Arrival, CloseStyle, ExpectBody, HttpPlan, Mode, Pace, Plan, Sources, Target, Timeouts,
};
pub use run::{RunError, run};
