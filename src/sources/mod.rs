//! Who may come in: how many connections a source may have and how fast they may come, and which networks.
//!
//! A source is an IPv4 address or an IPv6 /64. Its owner may have a whole /48 of those, so that is counted beside it,
//! as a [site](SourceKey::site). What is known of a source is an entry of 16 bytes in a [`Table`] of fixed size, shared
//! by all threads: each limit is exact however many acceptors ask.
//!
//! Nothing here waits or calls the kernel. Time is told.

mod entry;
mod gate;
mod key;
mod networks;
mod rate;
mod rules;
mod set;
mod sources;
mod table;

pub use gate::{Admission, Gate, Held, Verdict};
pub use key::{Prefixes, SourceKey};
pub use networks::Networks;
pub use rate::{Bucket, Spacing};
pub use rules::{DELAY_MOST, Rule, Rules};
pub use sources::{Action, Listing, Order, Sources};
pub use table::Known;
