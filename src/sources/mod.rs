//! Who may come in, by where it comes from: pure functions and values, no I/O.
//!
//! ```text
//!   Bans (a bounded list, each with its end) --> Ranges (sorted, disjoint) --> filter: a program for the kernel
//!                                                        |
//!                                                        +--> Refusals: what acceptors ask where the kernel does not do it
//! ```

mod bans;
pub mod filter;
mod network;
mod ranges;
mod refusals;
#[cfg(test)]
mod tests;

pub use bans::{BANS_MAX, Ban, BannedBy, Bans, NoRoom};
pub use network::Network;
pub use ranges::Ranges;
pub use refusals::{Refusals, Refuses};
