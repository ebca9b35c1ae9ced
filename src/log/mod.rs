//! Lines that leave the program: whoever has something to say never waits for it, and what cannot be
//! written is counted and told.
//!
//! ```text
//!   any thread --put--> Outlet (bounded) --thread "log"--> Lines --write(2)--> a terminal, a pipe, a file
//!                 full: dropped, counted                     refused: dropped, counted
//! ```
//!
//! A descriptor may refuse (EPIPE, ENOSPC, EFBIG), or take nothing for ever: a pipe that nobody reads, a
//! terminal that is stopped. Only the thread that writes meets either.

mod lines;
mod outlet;
pub(crate) mod rate_limit;
#[cfg(test)]
mod tests;

pub use lines::{Lines, Unwritten};
pub use outlet::{Format, Outlet, Target};
pub use rate_limit::{RateLimit, Suppressed};
