//! Accepts.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::super::operation::Shots;
use super::super::tag::Key;
use super::super::{Completion, Event};
use super::table::borrow;
use super::{Epoll, last};
use crate::sys::{self, Errno};

/// Most connections taken from one accept queue in a turn, so that a storm does not keep those
/// waiting that are open.
const ACCEPTS_PER_TURN: usize = 64;

/// One accept in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepting {
    fd: RawFd,
    pub(super) key: Key,
    shots: Shots,
}

impl Epoll {
    pub(super) fn start_accept(
        &mut self,
        key: Key,
        fd: RawFd,
        shots: Shots,
        out: &mut Vec<Completion>,
    ) {
        // accept4(2) has no MSG_DONTWAIT: between an event and the call a connection may have gone
        // (another process takes it, the peer resets it), and the call must not wait for the next.
        if !self.table.get(fd).listens
            && let Err(error) = sys::set_nonblocking(borrow(fd))
        {
            return out.push(last(key, Event::Accepted(Err(Errno::of(&error)))));
        }
        self.table.get(fd).listens = true;
        self.accepting.push(Accepting { fd, key, shots });
        self.accept(fd, out);
    }

    /// Takes what waits in the queue, up to the limit of a turn, and sees to it that the rest comes.
    pub(super) fn accept(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let first = self.accepting.iter().position(|accept| accept.fd == fd);
            let Some(index) = first else { return self.release_listener(fd) };
            if !self.table.get(fd).readable {
                return self.watch_listener(fd, out);
            }
            self.accept_once(index, out);
        }
        if self.accepting.iter().any(|accept| accept.fd == fd) {
            self.postpone(fd);
        } else {
            self.release_listener(fd);
        }
    }

    fn accept_once(&mut self, index: usize, out: &mut Vec<Completion>) {
        let Accepting { fd, key, shots } = self.accepting[index];
        match sys::accept4(borrow(fd)) {
            Ok(socket) => {
                self.table.forget(socket.as_raw_fd());
                let more = shots != Shots::Once;
                if !more {
                    self.accepting.remove(index);
                }
                out.push(Completion { key, more, event: Event::Accepted(Ok(socket)) });
            }
            Err(Errno::EAGAIN) => self.table.get(fd).readable = false,
            Err(Errno::EINTR) => {}
            // The kernel hands a connection over only when the call succeeds, so nothing is lost.
            Err(errno) => {
                self.accepting.remove(index);
                out.push(last(key, Event::Accepted(Err(errno))));
            }
        }
    }

    fn watch_listener(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        if self.table.get(fd).registered {
            return;
        }
        if let Err(errno) = self.register(fd, sys::EPOLLIN | sys::EPOLLET) {
            self.end_accepts(|accept| accept.fd == fd, errno, out);
        }
    }

    /// Ends the accepts for which this holds.
    pub(super) fn end_accepts(
        &mut self,
        which: impl Fn(&Accepting) -> bool,
        errno: Errno,
        out: &mut Vec<Completion>,
    ) {
        while let Some(index) = self.accepting.iter().position(&which) {
            let Accepting { fd, key, .. } = self.accepting.remove(index);
            out.push(last(key, Event::Accepted(Err(errno))));
            if self.accepting.iter().all(|accept| accept.fd != fd) {
                self.release_listener(fd);
            }
        }
    }

    /// Nothing is in flight on a listener. Its owner may close it without telling this ring, and the
    /// number may come back as a connection, so nothing may be left of it.
    fn release_listener(&mut self, fd: RawFd) {
        if self.table.get(fd).registered {
            // It is open: its owner keeps it so until the completion that is reported now.
            let _ = sys::epoll_delete(self.epoll.as_fd(), borrow(fd));
        }
        self.table.forget(fd);
    }
}
