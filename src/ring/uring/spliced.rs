//! Receives through pipes, and sends out of them and out of files.
//!
//! IORING_OP_SPLICE takes a kernel thread each time, so splice(2) is called here, while completions are
//! read, and the ring only tells when a socket is ready. sendfile(2) may wait for a disk, so a thread of
//! [`FileSends`](super::FileSends) calls it.
//!
//! ```text
//!   receive: one-shot poll ---> splice --- end, error -------------------> event
//!               ^                 | | EAGAIN                                 ^
//!               +-----------------|-+                                        |
//!                                 +----- bytes ---> splice out of the pipe --+
//!   send:    nop -------------> splice --- all, error -------------------> event
//!                                 | EAGAIN                                   ^
//!                                 +---> multishot poll ---> splice ----------+
//!   send from a file: thread ---> sendfile --- some, error ------------------> event
//!                       ^             | EAGAIN
//!                       +-------------+ multishot poll
//! ```
//!
//! A one-shot poll looks at the state, and every poll of io_uring asks for EPOLLRDHUP besides: for a send to
//! a peer that has sent its FIN it would end at once, again and again. A multishot tells changes.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

use super::super::file_sends::Done;
use super::super::operation::{Descriptor, Kind, PipeEnds};
use super::super::tag::Key;
use super::super::through::{Ends, splice_through};
use super::super::{Completion, Event};
use super::{FileSends, Uring, entry};
use crate::shared::FilePart;
use crate::sys::{self, Errno};

/// One in flight.
#[derive(Debug)]
struct Splicing {
    socket: Descriptor,
    way: Way,
    /// Set by a cancel: it does not wait any more.
    cancelled: bool,
    /// The number of its multishot poll.
    poll: Option<u32>,
}

/// Where the bytes go.
#[derive(Debug)]
enum Way {
    /// From the socket through the pipe to this one: a receive.
    Through { pipe: PipeEnds, to: Descriptor },
    /// So many from the pipe to the socket, of which some are with the kernel: a send.
    Out { pipe: PipeEnds, len: usize, sent: usize, more: bool },
    /// From a file to the socket: a send.
    File { part: Box<FilePart>, more: bool, thread: Thread },
}

/// Who has a send from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// It waits for its socket.
    None,
    /// A thread tries it.
    Tries,
    /// The same, and the socket has become ready since it began.
    TriesBeforeReady,
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
    fn new(socket: Descriptor, way: Way) -> Self {
        Self { socket, way, cancelled: false, poll: None }
    }

    /// Whether a thread has it: what its poll tells is only noted then.
    fn is_away(&mut self, is_ready: bool) -> bool {
        let Way::File { thread, .. } = &mut self.way else { return false };
        if *thread == Thread::Tries && is_ready {
            *thread = Thread::TriesBeforeReady;
        }
        *thread != Thread::None
    }
}

/// Splices as much as can be; `None` if it has to wait. Each system call is added to `calls`.
fn splice_on(
    socket: Descriptor,
    way: &mut Way,
    files: &mut FileSends,
    key: Key,
    calls: &mut u64,
) -> Option<Event> {
    let socket_fd = borrow(socket);
    let (pipe, len, sent, more) = match way {
        Way::Through { pipe, to } => {
            let [read, write] = [pipe.read, pipe.write].map(borrow);
            let spliced = splice_through(socket_fd, &Ends { read, write }, borrow(*to), calls);
            let spliced = spliced.transpose().filter(|result| *result != Err(Errno::EINTR));
            return spliced.map(Event::Spliced);
        }
        Way::File { part, more, thread } => {
            *thread = Thread::Tries;
            let started = files.start(key, socket, (part.clone(), *more));
            return started.err().map(|errno| Event::Sent(Err(errno)));
        }
        Way::Out { pipe, len, sent, more } => (*pipe, *len, sent, *more),
    };
    while *sent < len {
        *calls += 1;
        match sys::splice(borrow(pipe.read), socket_fd, len - *sent, more) {
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Ok(count) => *sent += count,
            Err(errno) => return Some(Event::Sent(Err(errno))),
        }
    }
    Some(Event::Sent(Ok(len)))
}

impl Uring {
    /// Starts a receive into a pipe and out of it.
    pub(super) fn splice_in(
        &mut self,
        key: Key,
        (socket, to): (Descriptor, Descriptor),
        pipe: PipeEnds,
    ) -> io::Result<()> {
        let splicing = Splicing::new(socket, Way::Through { pipe, to });
        self.splices.in_flight.insert((Kind::Receive, key), splicing);
        self.push(&[entry::poll_readable(key, socket)])
    }

    /// Starts a send of what is in a pipe.
    pub(super) fn splice_out(
        &mut self,
        key: Key,
        (socket, more): (Descriptor, bool),
        (pipe, len): (PipeEnds, usize),
    ) -> io::Result<()> {
        let splicing = Splicing::new(socket, Way::Out { pipe, len, sent: 0, more });
        self.splices.in_flight.insert((Kind::Send, key), splicing);
        self.push(&[entry::nop(key, Kind::Send)])
    }

    /// Starts a send from a file.
    pub(super) fn send_file(
        &mut self,
        key: Key,
        socket: Descriptor,
        (part, more): (Box<FilePart>, bool),
    ) {
        let splicing = Splicing::new(socket, Way::File { part, more, thread: Thread::None });
        let ended = self.go_on((Kind::Send, key), splicing);
        self.ended.extend(ended);
    }

    /// Appends what sends from files have come to on their threads.
    pub(super) fn reap_files(&mut self, completions: &mut Vec<Completion>) {
        for done in self.files.take_done() {
            completions.extend(self.file_sent(done));
        }
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
        if !more && let Some(number) = splicing.poll.take() {
            self.splices.polls.remove(&number);
        }
        if splicing.is_away(result.is_ok()) {
            self.splices.in_flight.insert((kind, key), splicing);
            return None;
        }
        match result {
            Ok(_) => self.go_on((kind, key), splicing),
            Err(errno) => self.settle((kind, key), splicing, Some(failed(kind, errno))),
        }
    }

    /// A thread has tried a send from a file.
    fn file_sent(&mut self, Done { key, result, .. }: Done) -> Option<Completion> {
        let mut splicing = self.splices.in_flight.remove(&(Kind::Send, key))?;
        let Way::File { thread, .. } = &mut splicing.way else {
            unreachable!("a thread tries sends from files only");
        };
        let before = std::mem::replace(thread, Thread::None);
        match result {
            Err(Errno::EAGAIN) if before == Thread::TriesBeforeReady && !splicing.cancelled => {
                self.go_on((Kind::Send, key), splicing)
            }
            Err(Errno::EAGAIN) => self.settle((Kind::Send, key), splicing, None),
            result => self.settle((Kind::Send, key), splicing, Some(Event::Sent(result))),
        }
    }

    /// Does what can be done now.
    fn go_on(&mut self, (kind, key): (Kind, Key), mut splicing: Splicing) -> Option<Completion> {
        let Splicing { socket, way, .. } = &mut splicing;
        let calls = &mut self.counts.system_calls;
        let event = splice_on(*socket, way, &mut self.files, key, calls);
        if event.is_none() && splicing.is_away(false) {
            self.splices.in_flight.insert((kind, key), splicing);
            return None;
        }
        self.settle((kind, key), splicing, event)
    }

    /// Ends with an event, or waits for the socket.
    fn settle(
        &mut self,
        (kind, key): (Kind, Key),
        mut splicing: Splicing,
        event: Option<Event>,
    ) -> Option<Completion> {
        let event = event.or_else(|| splicing.cancelled.then(|| failed(kind, Errno::ECANCELED)));
        if event.is_some()
            && let Some(number) = splicing.poll.take()
        {
            self.splices.polls.remove(&number);
            // Without room for it the poll is left over until its socket is closed.
            let _ = self.push(&[entry::cancel(Key::fixed(number), Kind::Poll)]);
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
        let error = entry.and_then(|entry| self.push(&[entry]).err());
        if error.is_some() {
            splicing.poll.and_then(|number| self.splices.polls.remove(&number));
        } else {
            self.splices.in_flight.insert((kind, key), splicing);
        }
        error.map(|error| failed(kind, Errno::of(&error)))
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
