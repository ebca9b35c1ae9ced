//! Receives into pipes and sends out of them.
//!
//! IORING_OP_SPLICE takes a kernel thread each time, so here the ring only tells when a socket is
//! ready, and splice(2) is called when it does.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

use super::super::operation::{Descriptor, Kind, PipeEnds};
use super::super::tag::Key;
use super::super::{Event, SPLICE_LIMIT_BYTES};
use super::{Uring, entry};
use crate::sys::{self, Errno};

/// One that waits for its socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Splicing {
    socket: Descriptor,
    pipe: PipeEnds,
    /// Bytes that a send sends, and how many of them are with the kernel.
    len: usize,
    sent: usize,
    fin_follows: bool,
}

/// Those in flight. Each has a poll in flight under the same tag.
pub(super) type InFlight = HashMap<(Kind, Key), Splicing>;

impl Splicing {
    pub(super) fn receive(socket: Descriptor, pipe: PipeEnds) -> Self {
        Self { socket, pipe, len: 0, sent: 0, fin_follows: false }
    }

    pub(super) fn send(
        socket: Descriptor,
        (pipe, len): (PipeEnds, usize),
        fin_follows: bool,
    ) -> Self {
        Self { socket, pipe, len, sent: 0, fin_follows }
    }

    /// The event that it ends with; `None` if it has to wait again.
    fn go_on(&mut self, kind: Kind) -> Option<Event> {
        let [socket, read, write] = [self.socket, self.pipe.read, self.pipe.write].map(borrow);
        if kind == Kind::Receive {
            let spliced = sys::splice_received(socket, write, SPLICE_LIMIT_BYTES).transpose();
            return spliced.filter(|result| *result != Err(Errno::EINTR)).map(Event::Spliced);
        }
        while self.sent < self.len {
            let left = self.len - self.sent;
            match sys::splice(read, socket, left, self.fin_follows) {
                Err(Errno::EAGAIN | Errno::EINTR) => return None,
                Ok(count) => self.sent += count,
                Err(errno) => return Some(Event::Sent(Err(errno))),
            }
        }
        Some(Event::Sent(Ok(self.sent)))
    }
}

impl Uring {
    /// Waits for the socket of a splice.
    pub(super) fn await_socket(
        &mut self,
        key: Key,
        kind: Kind,
        splicing: Splicing,
    ) -> io::Result<()> {
        self.splicing.insert((kind, key), splicing);
        self.push(&[entry::poll(key, kind, splicing.socket)])
    }

    /// Goes on with a splice whose poll has ended. `None` if it has to wait again.
    pub(super) fn resume(
        &mut self,
        key: Key,
        kind: Kind,
        (mut splicing, polled): (Splicing, Result<i32, Errno>),
    ) -> Option<Event> {
        let failed = |errno| match kind {
            Kind::Receive => Event::Spliced(Err(errno)),
            _ => Event::Sent(Err(errno)),
        };
        if let Err(errno) = polled {
            return Some(failed(errno));
        }
        splicing.go_on(kind).or_else(|| {
            let waits = self.await_socket(key, kind, splicing);
            waits.err().map(|error| failed(Errno::of(&error)))
        })
    }
}

fn borrow<'a>(descriptor: Descriptor) -> BorrowedFd<'a> {
    // SAFETY: the contracts of Descriptor and PipeEnds: their owners keep them open until the last
    // completion, which has not come, and it is used no longer than for one call.
    unsafe { BorrowedFd::borrow_raw(descriptor.raw()) }
}
