//! Can this machine run a server, what limits it, and how is that fixed?
//!
//! Reading and judging are apart: [`Facts::read`] asks the kernel, [`judge`](judge()) is a function of the
//! facts, so that tables of made-up machines test it. [`exercise`] is what a child process does, so
//! that a filter which kills ends the child and not the answer.

mod check;
pub mod exercise;
mod facts;
mod judge;
mod read;
mod report;

pub use check::{Check, Status};
pub use exercise::{End, Exercise, Found, Step};
pub use facts::{Bytes, Capabilities, Capability, ControlGroup, Facts, Rehearsal, Sysctls, Trial};
pub use judge::judge;
pub use report::{Report, SCHEMA, VERSION};

#[cfg(test)]
mod tests;
