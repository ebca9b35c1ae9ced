//! Receives through pipes and sends out of them.
//!
//! IORING_OP_SPLICE takes a kernel thread each time, so splice(2) is called here, while completions are
//! read, and the ring only tells when a socket is ready.
//!
//! ```text
//!   receive: one-shot poll ---> splice --- end, error -------------------> event
//!               ^                 | | EAGAIN                                 ^
//!               +-----------------|-+                                        |
//!                                 +----- bytes ---> splice out of the pipe --+
//!   send:    nop -------------> splice --- all, error -------------------> event
//!                                 | EAGAIN                                   ^
//!                                 +---> multishot poll ---> splice ----------+
//! ```
//!
//! A one-shot poll looks at the state, and every poll of io_uring asks for EPOLLRDHUP besides: for a send to
//! a peer that has sent its FIN it would end at once, again and again. A multishot tells changes.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

use super::super::operation::{Descriptor, Kind, PipeEnds};
use super::super::tag::Key;
use super::super::through::{Ends, splice_through};
use super::super::{Completion, Event};
use super::{Uring, entry};
use crate::sys::{self, Errno};

/// One in flight.
#[derive(Debug, Clone, Copy)]
struct Splicing {
    socket: Descriptor,
    pipe: PipeEnds,
    way: Way,
    /// Set by a cancel: it does not wait any more.
    cancelled: bool,
    /// The number of its multishot poll.
    poll: Option<u32>,
}

/// Where the bytes go.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// From the socket through the pipe to this one: a receive.
    Through { to: Descriptor },
    /// So many from the pipe to the socket, of which some are with the kernel: a send.
    Out { len: usize, sent: usize, fin_follows: bool },
}

/// Those in flight, at most one receive and one send for each pipe.
#[derive(Debug, Default)]
pub(super) struct Splices {
    in_flight: HashMap<(Kind, Key), Splicing>,
    /// Whose multishot poll has which number. One whose send has ended is not here: what it still
    /// brings means nothing.
    polls: HashMap<u32, (Kind, Key)>,
    next_poll: u32,
}

impl Splices {
    /// Whether a completion is that of a poll or nop of a splice.
    pub(super) fn claims(&self, kind: Kind, key: Key) -> bool {
        kind == Kind::Poll
            || !self.in_flight.is_empty() && self.in_flight.contains_key(&(kind, key))
    }

    /// Notes that a splice is not to wait any more. Returns the number of its multishot poll.
    pub(super) fn cancel(&mut self, kind: Kind, key: Key) -> Option<u32> {
        let splicing = self.in_flight.get_mut(&(kind, key))?;
        splicing.cancelled = true;
        splicing.poll
    }
}

impl Splicing {
    fn new(socket: Descriptor, pipe: PipeEnds, way: Way) -> Self {
        Self { socket, pipe, way, cancelled: false, poll: None }
    }

    /// The event that it ends with; `None` if it has to wait. Each system call is added to `calls`.
    fn go_on(&mut self, calls: &mut u64) -> Option<Event> {
        let [socket, read, write] = [self.socket, self.pipe.read, self.pipe.write].map(borrow);
        let (len, sent, fin_follows) = match &mut self.way {
            Way::Through { to } => {
                let spliced = splice_through(socket, &Ends { read, write }, borrow(*to), calls);
                let spliced = spliced.transpose().filter(|result| *result != Err(Errno::EINTR));
                return spliced.map(Event::Spliced);
            }
            Way::Out { len, sent, fin_follows } => (*len, sent, *fin_follows),
        };
        while *sent < len {
            *calls += 1;
            match sys::splice(read, socket, len - *sent, fin_follows) {
                Err(Errno::EAGAIN | Errno::EINTR) => return None,
                Ok(count) => *sent += count,
                Err(errno) => return Some(Event::Sent(Err(errno))),
            }
        }
        Some(Event::Sent(Ok(len)))
    }
}

impl Uring {
    /// Starts a receive into a pipe and out of it.
    pub(super) fn splice_in(
        &mut self,
        key: Key,
        (socket, to): (Descriptor, Descriptor),
        pipe: PipeEnds,
    ) -> io::Result<()> {
        let splicing = Splicing::new(socket, pipe, Way::Through { to });
        self.splices.in_flight.insert((Kind::Receive, key), splicing);
        self.push(&[entry::poll_readable(key, socket)])
    }

    /// Starts a send of what is in a pipe.
    pub(super) fn splice_out(
        &mut self,
        key: Key,
        (socket, fin_follows): (Descriptor, bool),
        (pipe, len): (PipeEnds, usize),
    ) -> io::Result<()> {
        let splicing = Splicing::new(socket, pipe, Way::Out { len, sent: 0, fin_follows });
        self.splices.in_flight.insert((Kind::Send, key), splicing);
        self.push(&[entry::nop(key, Kind::Send)])
    }

    /// What the completion of a poll or nop means, if it is that of a splice.
    pub(super) fn splice_again(
        &mut self,
        (kind, key): (Kind, Key),
        more: bool,
        result: Result<i32, Errno>,
    ) -> Option<Completion> {
        let (kind, key) = match kind {
            Kind::Poll => *self.splices.polls.get(&key.slot)?,
            _ => (kind, key),
        };
        let mut splicing = self.splices.in_flight.remove(&(kind, key))?;
        let event = match result {
            Ok(_) => splicing.go_on(&mut self.counts.system_calls),
            Err(errno) => Some(failed(kind, errno)),
        };
        let event = event.or_else(|| splicing.cancelled.then(|| failed(kind, Errno::ECANCELED)));
        let ended = event.is_some();
        if let Some(number) = splicing.poll.filter(|_| ended || !more) {
            splicing.poll = None;
            self.splices.polls.remove(&number);
            if more {
                let cancel = entry::cancel(Key::fixed(number), Kind::Poll);
                // Without room for it the poll is left over until its socket is closed.
                let _ = self.push(&[cancel]);
            }
        }
        let event = event.or_else(|| self.wait_again((kind, key), splicing))?;
        Some(Completion { key, more: false, event })
    }

    /// Lets a splice wait for its socket; the event if it cannot.
    fn wait_again(&mut self, (kind, key): (Kind, Key), mut splicing: Splicing) -> Option<Event> {
        let entry = match (kind, splicing.poll) {
            (Kind::Receive, _) => Some(entry::poll_readable(key, splicing.socket)),
            (_, Some(_)) => None,
            (_, None) => {
                let number = self.splices.next_poll;
                self.splices.next_poll = number.wrapping_add(1);
                self.splices.polls.insert(number, (kind, key));
                splicing.poll = Some(number);
                Some(entry::poll_writable(number, splicing.socket))
            }
        };
        self.splices.in_flight.insert((kind, key), splicing);
        let error = entry.and_then(|entry| self.push(&[entry]).err())?;
        self.splices.in_flight.remove(&(kind, key));
        splicing.poll.and_then(|number| self.splices.polls.remove(&number));
        Some(failed(kind, Errno::of(&error)))
    }
}

fn failed(kind: Kind, errno: Errno) -> Event {
    match kind {
        Kind::Receive => Event::Spliced(Err(errno)),
        _ => Event::Sent(Err(errno)),
    }
}

fn borrow<'a>(descriptor: Descriptor) -> BorrowedFd<'a> {
    // SAFETY: the contracts of Descriptor and PipeEnds: their owners keep them open until the last
    // completion, which has not come, and it is used no longer than for one call.
    unsafe { BorrowedFd::borrow_raw(descriptor.raw()) }
}
