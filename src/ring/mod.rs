//! The ring contract: operations in, completions out.
//!
//! A thread has one ring. Its state machines append [`Operation`]s under a [`Key`] of theirs;
//! [`Ring::enter`] starts them all, waits, and appends what has completed. Above this module nobody
//! knows which engine does that: [`uring`], or [`epoll`] where the machine refuses it, as
//! [`engine::choose`] finds out. What every engine promises:
//!
//! - **Order.** Operations start in the order in which they were queued. Completions of one receive
//!   come in the order of the bytes. The kernel tells of a reset once: the operation that meets it
//!   completes first, or with a splice in the same [`Ring::enter`], and a receive behind it brings
//!   [`Received::End`]. Nothing else is promised about their order.
//! - **Every operation ends.** Each open, connect, accept, receive and send has exactly one last completion, the one
//!   with `more` unset. It may be a success: a multishot accept that ends still hands over a
//!   connection with its last completion.
//! - **Cancel is a wish.** It may lose the race; only the last completion of what it cancels tells. Of bytes in memory
//!   that a cancelled send has brought on their way it tells how many, so that the rest can be sent by anybody.
//! - **Ownership.** A completion hands over what it names: the accepted descriptor, the buffer with
//!   the bytes. An operation takes what it names by value. Nothing is both, so nothing leaks. Memory that is
//!   being sent stays: shared bytes are the ring's until the last completion of their send, also when
//!   whoever has asked for it has forgotten it.
//! - **Bounds.** A receive never takes more than one buffer at a time, and none while nothing has
//!   come. With no buffer left it ends with ENOBUFS, whether data is there or not; whoever asked
//!   waits for [`BufferPool::available`] before asking again.
//! - **Wakes are level-triggered until seen.** A wake that comes while the ring is not waiting makes
//!   the next wait return at once. Several wakes may be seen as one.
//! - **Nothing else wakes a wait** but a completion, a wake, its timeout, a signal, or a socket that is
//!   ready for less than a splice or a send from a file waits for. It returns at once if something has completed already, and
//!   never before its timeout otherwise.
//! - **Fairness.** What one peer does, or one accept queue holds, never keeps an engine from the
//!   others for more than a bounded number of system calls.
//!
//! What the owners of sockets keep to, because an engine may remember a descriptor by its number, and
//! numbers come back:
//!
//! - A socket that was named in an operation of a ring is used by that ring only, and is closed
//!   through it ([`Operation::Close`], [`Operation::SendAndClose`]), given back by it ([`Operation::Release`]), or
//!   lives as long as it.
//! - One that a ring has accepted or opened and that was not named to it since may go to any ring, or
//!   be dropped. So an acceptor hands connections over to other threads.
//! - A listener may be closed by its owner when no accept is in flight on it.
//! - An engine may set O_NONBLOCK on what it accepts on, connects, or sends a file to; nobody else may rely on it.

pub mod engine;
pub mod epoll;
mod file_sends;
mod operation;
mod pool;
mod refusal;
pub mod simulated;
mod tag;
mod through;
pub mod uring;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use operation::GATHERED_MAX;
pub use operation::{Bytes, Descriptor, Kind, Operation, Operations, PipeEnds, Shots};
pub use pool::{Buffer, BufferPool, PoolRange};
pub use refusal::{OLDEST_KERNEL, Refusal};
#[doc(hidden)]
pub use tag::Tag;
pub use tag::{Generation, Key};

use crate::sys::{self, Errno};

/// Most bytes that one [`Operation::Splice`] takes: as much as a pipe holds by default, and one send.
const SPLICE_LIMIT_BYTES: usize = 64 * 1024;

/// What an engine on this machine can do beyond the contract's minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// A receive may have many shots with a credit (Linux 6.17). Otherwise each receive is single.
    pub receive_credit: bool,
    /// Whether a listener is to be without O_NONBLOCK. An engine for which it is not sets it.
    pub accepts_blocking: bool,
}

/// How large a ring is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of the submission queue; a longer batch is submitted in parts.
    pub submission_entries: u32,
    /// Entries of the completion queue; more completions wait in the kernel, at a cost.
    pub completion_entries: u32,
    /// Buffers in the pool, at least one.
    pub buffers: usize,
    /// Bytes of one buffer.
    pub buffer_bytes: usize,
}

/// What an engine has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingCounts {
    /// System calls that [`Ring::enter`] has made. To close a socket is one on epoll, where its owner is dropped; what
    /// others wake it with is not.
    pub system_calls: u64,
    /// Of these, how many have left completions in the kernel, because the completion queue was full.
    pub cq_overflows: u64,
}

/// One thing that has happened to an operation.
#[derive(Debug)]
pub struct Completion {
    /// The key under which the operation was queued.
    pub key: Key,
    /// True if the same operation will bring another completion.
    pub more: bool,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A new socket, or the errors of socket(2).
    Opened(Result<OwnedFd, Errno>),
    /// The handshake is complete, or the errors of connect(2), ECANCELED. A connection that was reset
    /// before the engine looked may be told as ECONNRESET or EPIPE, or as ECONNABORTED if a send or a
    /// receive has met the reset first; a receive brings what came before it all the same.
    Connected(Result<(), Errno>),
    /// A connection was taken from the accept queue, or the errors of accept(2).
    Accepted(Result<OwnedFd, Errno>),
    /// Bytes or the end, or the errors of recv(2), ENOBUFS, ECANCELED.
    Received(Result<Received, Errno>),
    /// So many bytes have come; or the errors of splice(2) into the pipe, ECANCELED. EINVAL: what has come
    /// cannot be spliced, but it can be received.
    Spliced(Result<Spliced, Errno>),
    /// All bytes are with the kernel (their number), or the errors of send(2), ECANCELED. Fewer than all:
    /// one of these errors came behind them, and a send of the rest meets it. So a send that is cancelled tells how
    /// many bytes went, with ECANCELED none. A splice that failed does not tell how many went before. A send from a
    /// file ends when some bytes have gone: fewer than all are no error then. ENODATA: the file has no more.
    Sent(Result<usize, Errno>),
    /// The ring knows nothing of this socket any more.
    Released(OwnedFd),
}

/// What a splice has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spliced {
    /// Bytes that went into the pipe, 0 with the peer's FIN.
    pub len: usize,
    /// How many of them went on, or the errors of splice(2) out of the pipe. These do not tell how many went
    /// before, and the rest is lost.
    pub sent: Result<usize, Errno>,
}

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, from the start of a buffer.
    Bytes {
        /// Holds the bytes.
        buffer: Buffer,
        /// How many, at least one.
        len: usize,
    },
    /// The peer's FIN.
    End,
}

/// How long [`Ring::enter`] may sleep when nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    For(Duration),
    /// Until something happens.
    Forever,
}

/// An engine. See the module for what it promises.
pub trait Ring {
    /// The system call in which [`enter`](Self::enter) waits, for messages.
    const CALL: &'static str;

    /// Starts all `operations`, sleeps as long as `wait` allows until something has completed or a
    /// wake has come, and appends what has completed.
    ///
    /// # Errors
    /// Only what makes the ring unusable, such as EBADR (completions were lost).
    fn enter(
        &mut self,
        operations: &mut Operations,
        completions: &mut Vec<Completion>,
        wait: Wait,
    ) -> io::Result<()>;

    /// The buffers that receives fill and sends may name.
    fn buffers(&mut self) -> &mut BufferPool;

    /// What this engine can do here.
    fn capabilities(&self) -> Capabilities;

    /// What it has counted.
    fn counts(&self) -> RingCounts;

    /// The monotonic time that deadlines go by.
    fn now(&self) -> Instant;

    /// Wakes this ring from threads that have no ring.
    fn waker(&self) -> Waker;

    /// Names this ring in an [`Operation::Wake`]. The descriptor stays open as long as the address.
    fn address(&self) -> RingAddress;
}

/// Makes a ring's wait return, from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker whose wakes can be read from `eventfd`.
    pub(crate) fn new(eventfd: Arc<OwnedFd>) -> Self {
        Self(eventfd)
    }

    /// Wakes the ring. Cheap to repeat.
    pub fn wake(&self) {
        use std::os::fd::AsFd;
        // The only error of a write of 1 to an open eventfd is EAGAIN, at 2^64-2 unread wakes.
        let _ = sys::signal(self.0.as_fd());
    }
}

/// Names a ring to other rings.
#[derive(Debug, Clone)]
pub struct RingAddress(Arc<OwnedFd>);

impl RingAddress {
    pub(crate) fn new(descriptor: Arc<OwnedFd>) -> Self {
        Self(descriptor)
    }

    /// What goes into an [`Operation::Wake`].
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.0)
    }
}

#[cfg(test)]
mod conformance;
