//! What a state machine asks a ring to do.

use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use socket2::{Domain, SockAddr};

use super::pool::{BufferPool, PoolRange};
use super::tag::Key;
use crate::shared::{FilePart, SharedPart};
use crate::sys::Pipe;

/// A descriptor that somebody else owns. Whoever names it in an operation keeps it open until the
/// last completion of that operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Descriptor(RawFd);

impl Descriptor {
    /// The descriptor behind an owner.
    pub fn of(owner: &impl AsFd) -> Self {
        Self(owner.as_fd().as_raw_fd())
    }

    pub(super) fn raw(self) -> RawFd {
        self.0
    }
}

/// A [`Pipe`] that somebody else owns, and keeps until the last completion of what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PipeEnds {
    pub(super) read: Descriptor,
    pub(super) write: Descriptor,
}

impl PipeEnds {
    /// The ends of a pipe.
    pub fn of(pipe: &Pipe) -> Self {
        Self { read: Descriptor::of(&pipe.read), write: Descriptor::of(&pipe.write) }
    }
}

/// How many completions one operation may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shots {
    /// One.
    Once,
    /// Any number, each but the last with [`Completion::more`](super::Completion) set. For a receive
    /// the engine ends it after about this many bytes, which is what makes it a credit window; an
    /// accept ignores it.
    Many {
        /// Bytes after which a receive ends.
        credit_bytes: u32,
    },
}

/// Most pieces of one [`Bytes::Gathered`].
pub(crate) const GATHERED_MAX: usize = 16;

/// Bytes to be sent. Those in memory stay mapped until the completion, whatever becomes of whoever sends
/// them: they live as long as the process or the ring, or the ring keeps a part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// Bytes that live as long as the process.
    Static(&'static [u8]),
    /// Bytes that several own. The ring keeps the part until the completion; so only one send of this
    /// kind may be in flight under a key.
    Shared(SharedPart),
    /// Part of a file, which the ring keeps open until the completion. It is read, by a thread that may wait for the
    /// disk, only as fast as the peer takes it, and none of it is copied. Not for a
    /// [`SendAndClose`](Operation::SendAndClose). Boxed, so that it does not make every operation as large as itself.
    File(Box<FilePart>),
    /// Several of the other kinds that are in memory, one behind the other, at least two and at most 16. The ring
    /// keeps them until the completion; so, as with shared bytes, only one send of these kinds may be in flight under a
    /// key.
    Gathered(Box<[Bytes]>),
    /// Part of a buffer of this ring's pool; its owner keeps the buffer until the completion.
    Pool(PoolRange),
    /// All that [`Operation::Splice`] has left in a pipe. The socket has O_NONBLOCK.
    Pipe {
        /// Where they are.
        pipe: PipeEnds,
        /// How many.
        len: u32,
    },
}

impl Bytes {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Static(bytes) => bytes.len(),
            Self::Shared(part) => part.len(),
            Self::File(part) => part.len(),
            Self::Gathered(parts) => parts.iter().map(Self::len).sum(),
            Self::Pool(range) => range.len(),
            Self::Pipe { len, .. } => *len as usize,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of them: of a file what it has of them.
    ///
    /// # Panics
    /// If they are in a pipe, or in a file that cannot be read.
    pub(crate) fn copied(&self, pool: &BufferPool) -> Vec<u8> {
        match self {
            Self::Static(bytes) => bytes.to_vec(),
            Self::Shared(part) => part.to_vec(),
            Self::File(part) => part.read().expect("the file can be read"),
            Self::Gathered(parts) => parts.iter().flat_map(|part| part.copied(pool)).collect(),
            Self::Pool(range) => pool.range_bytes(*range),
            Self::Pipe { .. } => panic!("what is in a pipe is read by whoever has it"),
        }
    }
}

/// One request to a ring. Which completions it brings is said at each variant; all completions of a
/// key come back under that key.
#[derive(Debug)]
pub enum Operation {
    /// socket(2), for a stream. Brings [`Event::Opened`](super::Event::Opened).
    Open {
        /// AF_INET, AF_INET6 or AF_UNIX.
        domain: Domain,
    },
    /// connect(2). Brings [`Event::Connected`](super::Event::Connected). Sends and receives may be
    /// queued behind it at once: they wait for it, and fail with it. (On io_uring not behind one to a
    /// unix socket whose accept queue is full: they fail with ENOTCONN.)
    Connect {
        /// One of [`Event::Opened`](super::Event::Opened), or another without O_NONBLOCK.
        socket: Descriptor,
        /// Where to. Boxed, so that it does not make every operation as large as itself.
        address: Box<SockAddr>,
    },
    /// accept(2). Brings [`Event::Accepted`](super::Event::Accepted).
    Accept {
        /// A listening socket. Without O_NONBLOCK: io_uring answers EAGAIN instead of waiting.
        listener: Descriptor,
        /// Once, or for as long as it goes well.
        shots: Shots,
    },
    /// recv(2) into a buffer of the pool. Brings [`Event::Received`](super::Event::Received).
    Receive {
        /// A connected socket.
        socket: Descriptor,
        /// Many only with [`Capabilities::receive_credit`](super::Capabilities).
        shots: Shots,
    },
    /// splice(2) into a pipe, once, of as much as has come and fits, and out of it at once, of as much as
    /// goes without waiting: the bytes are never copied, and nobody sees them. Counts as a receive. Brings
    /// [`Event::Spliced`](super::Event::Spliced). What is left in the pipe waits for a [`Send`](Self::Send).
    Splice {
        /// A connected socket with O_NONBLOCK.
        socket: Descriptor,
        /// Empty.
        pipe: PipeEnds,
        /// Another, to which nothing is being sent.
        to: Descriptor,
    },
    /// send(2) of all bytes. Brings one [`Event::Sent`](super::Event::Sent). At most one may be in
    /// flight on a socket, since two can overtake each other, and at most one under a key.
    Send {
        /// A connected socket.
        socket: Descriptor,
        /// What to send.
        bytes: Bytes,
        /// More follows as soon as these bytes are sent: other bytes, a [`Shutdown`](Self::Shutdown) or a close. The
        /// last segment is held back for it. So a FIN goes in the segment of the last bytes.
        more: bool,
    },
    /// Sends all bytes with the FIN behind the last one, in one segment where they fit, and closes.
    /// Brings one [`Event::Sent`](super::Event::Sent), with which the socket is closed however the
    /// send ended. Nothing else may be in flight on the socket, and no other send under the key.
    SendAndClose {
        /// Given up.
        socket: OwnedFd,
        /// What to send.
        bytes: Bytes,
    },
    /// shutdown(2), at once. Brings no completion.
    Shutdown {
        /// A connected socket.
        socket: Descriptor,
        /// Which direction.
        how: Shutdown,
    },
    /// close(2). Brings no completion. Nothing may be in flight on the socket.
    Close {
        /// Given up.
        socket: OwnedFd,
    },
    /// close(2) with a reset instead of a FIN, and what has not been sent is dropped. Brings no
    /// completion. Nothing may be in flight on the socket.
    Reset {
        /// Given up.
        socket: OwnedFd,
    },
    /// Gives a socket on which nothing is in flight back to its owner. From then on it may go to any ring or process,
    /// or be dropped. Brings [`Event::Released`](super::Event::Released) with the same
    /// [`enter`](super::Ring::enter).
    Release {
        /// Comes back.
        socket: OwnedFd,
    },
    /// Ends the operations of this kind that are in flight under this key. Brings no completion of
    /// its own: the last completion of what it cancels tells how that ended, and it may still be a
    /// success.
    Cancel(Kind),
    /// Makes another ring's wait return. Brings no completion; a ring that is gone is no error.
    Wake {
        /// [`Ring::address`](super::Ring::address) of the other ring.
        ring: Descriptor,
    },
}

/// The kinds of operation, as they stand in a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Operation::Accept`].
    Accept = 1,
    /// [`Operation::Receive`] and [`Operation::Splice`].
    Receive,
    /// [`Operation::Send`] and [`Operation::SendAndClose`].
    Send,
    /// [`Operation::Close`].
    Close,
    /// [`Operation::Cancel`].
    Cancel,
    /// [`Operation::Wake`], on either side of it.
    Wake,
    /// [`Operation::Open`].
    Open,
    /// [`Operation::Connect`].
    Connect,
    /// The engine's own look whether a socket is ready.
    Poll,
    /// A [`Send`](Self::Send) whose bytes the engine keeps.
    SendKept,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Accept,
        Self::Receive,
        Self::Send,
        Self::Close,
        Self::Cancel,
        Self::Wake,
        Self::Open,
        Self::Connect,
        Self::Poll,
        Self::SendKept,
    ];

    pub(super) fn from_bits(bits: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == bits)
            .unwrap_or_else(|| panic!("user data of kind {bits} was never submitted"))
    }
}

/// Operations on their way to a ring, each with the key of its owner. Reused from turn to turn.
#[derive(Debug, Default)]
pub struct Operations {
    queued: Vec<(Key, Operation)>,
}

impl Operations {
    /// Appends an operation.
    pub fn push(&mut self, key: Key, operation: Operation) {
        self.queued.push((key, operation));
    }

    /// Takes all operations out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Key, Operation)> + '_ {
        self.queued.drain(..)
    }

    /// All operations, in order.
    pub(crate) fn queued(&self) -> impl Iterator<Item = &Operation> {
        self.queued.iter().map(|(_, operation)| operation)
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}
