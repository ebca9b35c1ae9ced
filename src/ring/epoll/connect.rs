//! Sockets of our own: opened, connected.

use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, SockAddr};

use super::super::tag::Key;
use super::super::{Completion, Event};
use super::table::{Connecting, borrow};
use super::{Epoll, last};
use crate::sys::{self, Errno};

impl Epoll {
    pub(super) fn open(&mut self, key: Key, domain: Domain, out: &mut Vec<Completion>) {
        self.calls += 1;
        let opened = sys::stream_socket(domain);
        if let Ok(socket) = &opened {
            self.table.forget(socket.as_raw_fd());
        }
        out.push(last(key, Event::Opened(opened)));
    }

    /// connect(2) has no MSG_DONTWAIT, so the socket gets O_NONBLOCK.
    pub(super) fn start_connect(
        &mut self,
        key: Key,
        fd: RawFd,
        address: Box<SockAddr>,
        out: &mut Vec<Completion>,
    ) {
        self.calls += 1;
        if let Err(error) = sys::set_nonblocking(borrow(fd)) {
            return out.push(last(key, Event::Connected(Err(Errno::of(&error)))));
        }
        self.table.get(fd).connect = Some(Connecting { key, address: Some(address) });
        self.try_connect(fd, out);
        self.watch(fd, out);
    }

    fn try_connect(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        let token = self.table.token(fd);
        let socket = self.table.get(fd);
        let Some(Connecting { address, .. }) = &mut socket.connect else { return };
        let Some(whole) = address else { return };
        self.calls += 1;
        match sys::connect(borrow(fd), whole) {
            Err(Errno::EINPROGRESS) => {
                *address = None;
                (socket.readable, socket.writable) = (false, false);
            }
            // The accept queue of a unix socket is full: a connect that may wait would.
            Err(Errno::EAGAIN | Errno::EINTR) => self.retries.push(token),
            result => self.end_connect(fd, result, out),
        }
    }

    /// Tries again what found a full queue.
    pub(super) fn retry_connects(&mut self, out: &mut Vec<Completion>) {
        for index in (0..self.retries.len()).rev() {
            let token = self.retries.swap_remove(index);
            if self.table.resolve(token).is_some() {
                self.try_connect(token.fd, out);
                self.advance(token.fd, out);
            }
        }
    }

    /// An event on a connecting socket: the handshake is complete, or has failed.
    pub(super) fn connect_ended(&mut self, fd: RawFd, events: u32, out: &mut Vec<Completion>) {
        const FAILED: u32 = sys::EPOLLERR | sys::EPOLLHUP;
        let waits = self.table.get(fd).connect.as_ref().is_some_and(|own| own.address.is_none());
        if !waits || events & (sys::EPOLLOUT | FAILED) == 0 {
            return;
        }
        let failed = events & FAILED != 0;
        self.calls += u64::from(failed);
        let result = if failed { sys::take_error(borrow(fd)) } else { Ok(()) };
        match result {
            Err(errno) if errno.comes_after_the_handshake() => self.tell_connected(fd, result, out),
            _ => self.end_connect(fd, result, out),
        }
    }

    /// Ends the connect in flight, if there is one; if it has failed, with what waits behind it.
    pub(super) fn end_connect(
        &mut self,
        fd: RawFd,
        result: Result<(), Errno>,
        out: &mut Vec<Completion>,
    ) {
        if let Err(errno) = result {
            return self.fail_all(fd, errno, out);
        }
        self.tell_connected(fd, result, out);
    }

    /// What waits behind the connect goes on: also a connection that was reset may have brought bytes.
    fn tell_connected(&mut self, fd: RawFd, result: Result<(), Errno>, out: &mut Vec<Completion>) {
        if let Some(Connecting { key, .. }) = self.table.get(fd).connect.take() {
            out.push(last(key, Event::Connected(result)));
        }
    }
}
