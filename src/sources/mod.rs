//! Who may come in: how many connections a source may have and how fast they may come, which networks, and who is
//! banned.
//!
//! A source is an IPv4 address or an IPv6 /64. Its owner may have a whole /48 of those, so that is counted beside it,
//! as a [site](SourceKey::site). What is known of a source is an entry of 16 bytes in a table of fixed size, shared
//! by all threads: each limit is exact however many acceptors ask.
//!
//! ```text
//!   Rules, and what is known of sources --> Admission: what acceptors ask, and workers behind a PROXY header
//!
//!   Bans (a bounded list, each with its end) --> Ranges (sorted, disjoint) --> filter: a program for the kernel
//!                                                        |
//!                                                        +--> Refusals: what acceptors ask where the kernel does not do it
//! ```
//!
//! Nothing here waits or calls the kernel. Time is told.

mod bans;
mod entry;
pub mod filter;
mod gate;
mod key;
mod known;
mod network;
mod networks;
mod offenders;
mod ranges;
mod rate;
mod refusals;
mod rules;
mod set;
mod table;
#[cfg(test)]
mod tests;

pub use bans::{BANS_MAX, Ban, BannedBy, Bans, NoRoom};
pub use gate::{Admission, Gate, Held, Verdict};
pub use key::{Prefixes, SourceKey};
pub use known::{Action, Listing, Order, Rates, Sources};
pub use network::Network;
pub use networks::Networks;
pub use ranges::Ranges;
pub use rate::{Bucket, Spacing};
pub use refusals::{Refusals, Refuses};
pub use rules::{DELAY_MOST, Rule, Rules};
pub use table::Known;
