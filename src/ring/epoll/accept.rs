//! Accepts.

use std::collections::VecDeque;
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
        if !self.table.get(fd).listens {
            self.calls += 1;
            if let Err(error) = sys::set_nonblocking(borrow(fd)) {
                return out.push(last(key, Event::Accepted(Err(Errno::of(&error)))));
            }
        }
        self.table.get(fd).listens = true;
        self.accepting.entry(fd).or_default().push_back(Accepting { key, shots });
        self.accept(fd, out);
    }

    /// Takes what waits in the queue, up to the limit of a turn, and sees to it that the rest comes.
    pub(super) fn accept(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(accept) = self.first(fd) else { return self.release_listener(fd) };
            if !self.table.get(fd).readable {
                return self.watch_listener(fd, out);
            }
            self.accept_once(fd, accept, out);
        }
        if self.first(fd).is_some() {
            self.postpone(fd);
        } else {
            self.release_listener(fd);
        }
    }

    /// The accept that has been in flight for longest on a listener.
    fn first(&self, fd: RawFd) -> Option<Accepting> {
        self.accepting.get(&fd)?.front().copied()
    }

    fn accept_once(&mut self, fd: RawFd, accept: Accepting, out: &mut Vec<Completion>) {
        let Accepting { key, shots } = accept;
        self.calls += 1;
        let result = match sys::accept4(borrow(fd)) {
            Ok(socket) => {
                self.table.forget(socket.as_raw_fd());
                Ok(socket)
            }
            Err(Errno::EAGAIN) => return self.table.get(fd).readable = false,
            Err(Errno::EINTR) => return,
            // The kernel hands a connection over only when the call succeeds, so nothing is lost.
            Err(errno) => Err(errno),
        };
        let more = result.is_ok() && shots != Shots::Once;
        if !more && let Some(accepts) = self.accepting.get_mut(&fd) {
            accepts.pop_front();
        }
        out.push(Completion { key, more, event: Event::Accepted(result) });
    }

    fn watch_listener(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        if self.table.get(fd).registered {
            return;
        }
        if let Err(errno) = self.register(fd, sys::EPOLLIN | sys::EPOLLET) {
            self.end_accepts(fd, errno, out);
        }
    }

    /// Ends all accepts on a listener.
    fn end_accepts(&mut self, fd: RawFd, errno: Errno, out: &mut Vec<Completion>) {
        let ended = self.accepting.remove(&fd).unwrap_or_default();
        out.extend(ended.iter().map(|accept| last(accept.key, Event::Accepted(Err(errno)))));
        self.release_listener(fd);
    }

    /// Ends all accepts under a key, which are on one listener.
    pub(super) fn cancel_accepts(&mut self, key: Key, out: &mut Vec<Completion>) {
        let mine = |accepts: &VecDeque<Accepting>| accepts.iter().any(|accept| accept.key == key);
        let mut all = self.accepting.iter_mut();
        let Some((&fd, accepts)) = all.find(|(_, accepts)| mine(accepts)) else { return };
        let before = accepts.len();
        accepts.retain(|accept| accept.key != key);
        let cancelled = || last(key, Event::Accepted(Err(Errno::ECANCELED)));
        out.extend(std::iter::repeat_with(cancelled).take(before - accepts.len()));
        if accepts.is_empty() {
            self.release_listener(fd);
        }
    }

    /// Nothing is in flight on a listener. Its owner may close it without telling this ring, and the
    /// number may come back as a connection, so nothing may be left of it.
    fn release_listener(&mut self, fd: RawFd) {
        if self.table.get(fd).registered {
            // It is open: its owner keeps it so until the completion that is reported now.
            self.calls += 1;
            let _ = sys::epoll_delete(self.epoll.as_fd(), borrow(fd));
        }
        self.accepting.remove(&fd);
        self.table.forget(fd);
    }
}
