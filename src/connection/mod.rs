//! What every state machine that has connections is made of: a table of them, deadlines, the bytes
//! that wait for a peer, and the versions of what connections go by.
//!
//! [`Worker`](crate::worker::Worker) has one socket per connection and a service that answers;
//! [`Proxy`](crate::proxy::Proxy) has two and moves bytes between them.

mod counted;
mod deadlines;
mod idlest;
mod listed;
mod output;
mod patience;
mod preread_log;
mod starved;
mod stream;
pub mod suspended;
mod sweep;
mod table;
mod unsent;
mod versions;
mod waits;

use std::time::{Duration, Instant};

pub(crate) use counted::Counted;
pub(crate) use deadlines::Deadlines;
pub use deadlines::Millis;
pub(crate) use idlest::Idlest;
pub use listed::{ConnectionId, Listed, NoConnectionId, ProcessMark};
pub(crate) use output::{Leaving, OutOfBuffers, Output, Pieces};
pub(crate) use patience::{Unserved, reply, unserved, waited};
pub(crate) use preread_log::{PrereadLog, cut_short, invalid_header, trusts};
#[cfg(test)]
pub(crate) use starved::FEED_INTERVAL;
pub use starved::Starved;
pub(crate) use stream::{Receiving, Stream};
#[cfg(test)]
pub(crate) use sweep::PLACES_MAX;
pub(crate) use sweep::Sweeps;
pub(crate) use table::Table;
pub use versions::VersionId;
pub(crate) use versions::Versions;
pub(crate) use waits::{Waits, accept_wait};

use crate::ring::{BufferPool, Operations, Shots};

/// Most bytes of one send. A deadline sees progress only when a send is through, so this over the
/// stall timeout is the slowest reader that is still served.
pub(crate) const SEND_LIMIT_BYTES: usize = 64 * 1024;

/// What a state machine works with during one turn of its thread.
#[derive(Debug)]
pub struct LoopContext<'a> {
    /// The ring's buffers.
    pub buffers: &'a mut BufferPool,
    /// Where to append.
    pub operations: &'a mut Operations,
    /// Receives that wait for a buffer.
    pub starved: &'a mut Starved,
    /// The time, read once a turn.
    pub now: Instant,
    /// The same, from the start of the thread.
    pub millis: Millis,
    /// Whether somebody looks at how long connections waited in the accept queue, read once a turn.
    pub notes_waits: bool,
}

/// The shorter of two waits, where there are any.
pub(crate) fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What the state machines of a thread know of it.
#[derive(Debug, Clone, Copy)]
pub struct ThreadLimits {
    /// Connections that memory is reserved for. How many there may be, others decide.
    pub capacity: usize,
    /// Whether the ring can cap a multishot receive.
    pub receive_credit: bool,
}

/// How to receive from a peer whose bytes go into `output`; `None` while enough waits there, or
/// anything at all when buffers are scarce.
///
/// A receive of many shots brings as many bytes as the budget has left, where the ring can cap it.
pub(crate) fn shots(
    output: &Output,
    budget_bytes: u32,
    many: bool,
    buffers: &BufferPool,
) -> Option<Shots> {
    let scarce = buffers.available() <= buffers.count() / 4;
    let room = (budget_bytes as usize).saturating_sub(output.bytes);
    if room == 0 || (scarce && !output.is_empty()) {
        None
    } else if many && !scarce {
        Some(Shots::Many { credit_bytes: room as u32 })
    } else {
        Some(Shots::Once)
    }
}

/// What one connection takes in the tables of its thread.
#[cfg(test)]
pub(crate) const fn resident_bytes<Connection>() -> usize {
    size_of::<table::Slot<Connection>>() + size_of::<deadlines::Link>()
}
