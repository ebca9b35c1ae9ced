//! Sends, and the close behind the last one.

use std::io::IoSlice;
use std::os::fd::RawFd;

use super::super::file_sends::Done;
use super::super::operation::{Bytes, Descriptor, GATHERED_MAX};
use super::super::pool::BufferPool;
use super::super::{Completion, Event};
use super::table::{At, Sending, borrow};
use super::{Epoll, last};
use crate::sys::{self, Errno};

/// Most calls for one send in a turn: a peer that reads as fast as we write would hold up the others.
const CALLS_PER_TURN: usize = 4;

impl Epoll {
    /// A send with a socket of its own closes it at the end. No other send is in flight under its key.
    pub(super) fn start_send(&mut self, fd: RawFd, send: Sending, out: &mut Vec<Completion>) {
        let entry = self.table.get(fd);
        debug_assert!(entry.send.is_none(), "two sends in flight on descriptor {fd}");
        let key = send.key;
        entry.send = Some(send);
        self.send(fd, out);
        if self.table.get(fd).send.is_some() {
            self.waiting.insert(key, fd);
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
        let is_here = socket.send.as_ref().is_some_and(|send| send.at == At::Engine);
        socket.writable && is_here && socket.connect.is_none()
    }

    /// Lets a thread try a send from a file. The socket counts as full until an event says otherwise.
    fn send_file(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        let socket = self.table.get(fd);
        let Some(Sending { key, bytes: Bytes::File(part), more, at, .. }) = &mut socket.send else {
            return;
        };
        socket.writable = false;
        match self.files.start(*key, Descriptor::of(&borrow(fd)), (part.clone(), *more)) {
            Ok(()) => *at = At::Thread,
            Err(errno) => self.end_send(fd, Err(errno), out),
        }
    }

    /// A thread has tried a send from a file.
    pub(super) fn file_sent(&mut self, done: &Done, out: &mut Vec<Completion>) {
        let fd = done.socket.raw();
        let socket = self.table.get(fd);
        let Some(send) = &mut socket.send else { return };
        // No event tells of room that there has been all the time.
        socket.writable |= done.result.is_ok();
        match (done.result, std::mem::replace(&mut send.at, At::Engine)) {
            (Err(Errno::EAGAIN), At::ThreadAtLast) => {
                self.end_send(fd, Err(Errno::ECANCELED), out);
            }
            (Err(Errno::EAGAIN), _) => {
                self.send(fd, out);
                self.watch(fd, out);
            }
            (result, _) => self.end_send(fd, result, out),
        }
    }

    fn send_once(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        let socket = self.table.get(fd);
        let Some(send) = &mut socket.send else { return };
        if matches!(send.bytes, Bytes::File(_)) {
            return self.send_file(fd, out);
        }
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

    /// Ends the send in flight, if there is one, and closes the socket if that is the send's. One that a thread has ends
    /// when that is through.
    pub(super) fn end_send(
        &mut self,
        fd: RawFd,
        result: Result<usize, Errno>,
        out: &mut Vec<Completion>,
    ) {
        if let Some(Sending { at: at @ (At::Thread | At::ThreadAtLast), .. }) =
            &mut self.table.get(fd).send
        {
            *at = At::ThreadAtLast;
            return;
        }
        if let Some(Sending { key, socket, bytes, sent, .. }) = self.table.get(fd).send.take() {
            // What went out before the error is told, as io_uring does it; the next send meets the error.
            let is_partial = sent > 0 && !matches!(bytes, Bytes::Pipe { .. });
            let result = result.or_else(|errno| if is_partial { Ok(sent) } else { Err(errno) });
            if !self.waiting.is_empty() {
                self.waiting.remove(&key);
            }
            if let Some(socket) = socket {
                self.close(socket);
            }
            out.push(last(key, Event::Sent(result)));
        }
    }
}

/// One call: how many bytes the kernel has taken.
fn send_some(pool: &BufferPool, fd: RawFd, send: &Sending) -> Result<usize, Errno> {
    let Sending { bytes, sent, more, .. } = send;
    let (sent, more) = (*sent, *more);
    // The last segment waits for the FIN.
    let flags = if more { sys::MSG_MORE } else { 0 };
    match bytes {
        Bytes::Gathered(parts) => {
            let (mut skip, mut slices) = (sent, [IoSlice::new(&[]); GATHERED_MAX]);
            let mut count = 0;
            for part in parts {
                let rest = &in_memory(part, pool)[skip.min(part.len())..];
                skip = skip.saturating_sub(part.len());
                if !rest.is_empty() {
                    slices[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
            sys::send_vectored(borrow(fd), &slices[..count], flags)
        }
        Bytes::File(_) => unreachable!("a thread sends it"),
        Bytes::Pipe { pipe, len } => {
            let left = *len as usize - sent;
            sys::splice(borrow(pipe.read.raw()), borrow(fd), left, more)
        }
        bytes => sys::send(borrow(fd), &in_memory(bytes, pool)[sent..], flags),
    }
}

/// Bytes that lie in one place.
fn in_memory<'a>(bytes: &'a Bytes, pool: &'a BufferPool) -> &'a [u8] {
    match bytes {
        Bytes::Static(bytes) => bytes,
        Bytes::Shared(part) => part,
        Bytes::Pool(range) => pool.part(*range),
        Bytes::Pipe { .. } | Bytes::File(_) | Bytes::Gathered(_) => {
            unreachable!("{bytes:?} are in no one place")
        }
    }
}
