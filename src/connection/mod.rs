//! What every state machine that has connections is made of: a table of them, deadlines, the bytes
//! that wait for a peer, and the calls by which a thread drives it.
//!
//! [`Worker`](crate::worker::Worker) has one socket per connection and a service that answers;
//! [`Proxy`](crate::proxy::Proxy) has two and moves bytes between them.

mod deadlines;
mod output;
mod stream;
mod table;

use std::time::{Duration, Instant};

pub(crate) use deadlines::{Deadlines, Millis};
pub(crate) use output::{OutOfBuffers, Output, Pieces};
pub(crate) use stream::{Receiving, Stream};
pub(crate) use table::Table;

use crate::dispatch::Accepted;
use crate::ring::{BufferPool, Completion, Operations, Shots};

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
    /// The time, read once a turn.
    pub now: Instant,
}

/// The connections of one thread, as the thread drives them. It never waits: it is told what
/// has completed and appends what to do next. It calls the kernel only for what cannot wait either.
pub trait Serve {
    /// Takes a connection over.
    fn adopt(&mut self, accepted: Accepted, cx: &mut LoopContext<'_>);

    /// Notes what has completed.
    fn complete(&mut self, completion: Completion, cx: &mut LoopContext<'_>);

    /// What a turn does after its completions: deadlines that have passed, receives that waited for a
    /// buffer, what several completions of one connection add up to.
    fn tick(&mut self, cx: &mut LoopContext<'_>);

    /// How long until [`tick`](Self::tick) has something to do unasked.
    fn next_tick(&self, now: Instant) -> Option<Duration>;

    /// The server drains.
    fn drain(&mut self, cx: &mut LoopContext<'_>);

    /// Ends all connections that are left.
    fn stop(&mut self, cx: &mut LoopContext<'_>);

    /// Connections that are open.
    fn open(&self) -> usize;

    /// How many connections were closed since it was last asked.
    fn take_closed(&mut self) -> usize;
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
