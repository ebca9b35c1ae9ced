//! Sends, and the close behind the last one.

use std::os::fd::RawFd;

use super::super::operation::Bytes;
use super::super::pool::BufferPool;
use super::super::{Completion, Event};
use super::table::{Sending, borrow};
use super::{Epoll, last};
use crate::sys::{self, Errno};

/// Most calls for one send in a turn: a peer that reads as fast as we write would hold up the others.
const CALLS_PER_TURN: usize = 4;

impl Epoll {
    /// A send with a socket of its own closes it at the end.
    pub(super) fn start_send(&mut self, fd: RawFd, send: Sending, out: &mut Vec<Completion>) {
        let entry = self.table.get(fd);
        debug_assert!(entry.send.is_none(), "two sends in flight on descriptor {fd}");
        let (key, closes) = (send.key, send.socket.is_some());
        entry.send = Some(send);
        self.send(fd, out);
        if closes && self.table.get(fd).send.is_some() {
            self.closing.insert(key, fd);
        }
        self.watch(fd, out);
    }

    /// Sends as much as there is room for, up to the limit of a turn.
    pub(super) fn send(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        for _ in 0..CALLS_PER_TURN {
            if !self.can_send(fd) {
                return;
            }
            self.send_once(fd, out);
        }
        if self.can_send(fd) {
            self.postpone(fd);
        }
    }

    fn can_send(&mut self, fd: RawFd) -> bool {
        let socket = self.table.get(fd);
        socket.writable && socket.send.is_some() && socket.connect.is_none()
    }

    fn send_once(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        let socket = self.table.get(fd);
        let Some(send) = &mut socket.send else { return };
        self.calls += 1;
        match send_some(&self.pool, fd, send) {
            Ok(count) => {
                let Sending { bytes, sent, .. } = send;
                *sent += count;
                if *sent == bytes.len() {
                    let all = *sent;
                    self.end_send(fd, Ok(all), out);
                }
            }
            Err(Errno::EAGAIN) => socket.writable = false,
            Err(Errno::EINTR) => {}
            Err(errno) => self.end_send(fd, Err(errno), out),
        }
    }

    /// Ends the send in flight, if there is one, and closes the socket if that is the send's.
    pub(super) fn end_send(
        &mut self,
        fd: RawFd,
        result: Result<usize, Errno>,
        out: &mut Vec<Completion>,
    ) {
        if let Some(Sending { key, socket, bytes, sent, .. }) = self.table.get(fd).send.take() {
            // What went out before the error is told, as io_uring does it; the next send meets the error.
            let is_partial = sent > 0 && !matches!(bytes, Bytes::Pipe { .. });
            let result = result.or_else(|errno| if is_partial { Ok(sent) } else { Err(errno) });
            if let Some(socket) = socket {
                self.closing.remove(&key);
                self.close(socket);
            }
            out.push(last(key, Event::Sent(result)));
        }
    }
}

/// One call: how many bytes the kernel has taken.
fn send_some(pool: &BufferPool, fd: RawFd, send: &Sending) -> Result<usize, Errno> {
    let Sending { bytes, sent, fin_follows, .. } = send;
    let (sent, fin_follows) = (*sent, *fin_follows);
    // The last segment waits for the FIN.
    let flags = if fin_follows { sys::MSG_MORE } else { 0 };
    match bytes {
        Bytes::Static(bytes) => sys::send(borrow(fd), &bytes[sent..], flags),
        Bytes::Shared(part) => sys::send(borrow(fd), &part[sent..], flags),
        Bytes::Pool(range) => sys::send(borrow(fd), &pool.part(*range)[sent..], flags),
        Bytes::Pipe { pipe, len } => {
            let left = *len as usize - sent;
            sys::splice(borrow(pipe.read.raw()), borrow(fd), left, fin_follows)
        }
    }
}
