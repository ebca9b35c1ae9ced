//! Receives, and shutdowns, which end them.

use std::net::Shutdown;
use std::os::fd::RawFd;

use super::super::operation::{PipeEnds, Shots};
use super::super::tag::Key;
use super::super::through::{Ends, splice_through};
use super::super::{Completion, Event, Received, Spliced};
use super::table::{Receiving, Target, borrow};
use super::{Epoll, last};
use crate::sys::{self, Errno};

/// Most shots of one receive in a turn, so that a peer that never stops does not hold up the others.
const SHOTS_PER_TURN: usize = 4;

impl Epoll {
    pub(super) fn start_receive(
        &mut self,
        key: Key,
        fd: RawFd,
        target: Target,
        out: &mut Vec<Completion>,
    ) {
        let socket = self.table.get(fd);
        debug_assert!(socket.receive.is_none(), "two receives in flight on descriptor {fd}");
        socket.receive = Some(Receiving { key, target });
        if matches!(target, Target::Buffers(_)) && self.pool.free() == 0 {
            return self.end_receive(fd, Err(Errno::ENOBUFS), out);
        }
        self.receive(fd, out);
        self.watch(fd, out);
    }

    /// Takes what has come, up to the limit of a turn.
    pub(super) fn receive(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        for _ in 0..SHOTS_PER_TURN {
            if !self.can_receive(fd) {
                return;
            }
            match self.table.get(fd).receive.as_ref().map(|receive| receive.target) {
                Some(Target::Pipe { pipe, to }) => self.splice_once(fd, (pipe, to), out),
                _ => self.receive_once(fd, out),
            }
        }
        if self.can_receive(fd) {
            self.postpone(fd);
        }
    }

    fn can_receive(&mut self, fd: RawFd) -> bool {
        let socket = self.table.get(fd);
        socket.readable && socket.receive.is_some() && socket.connect.is_none()
    }

    fn receive_once(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        let Some(mut buffer) = self.pool.take() else {
            return self.end_receive(fd, Err(Errno::ENOBUFS), out);
        };
        let socket = self.table.get(fd);
        let Some(Receiving { key, target: Target::Buffers(shots) }) = &mut socket.receive else {
            return;
        };
        let room = room(*shots, self.pool.buffer_bytes());
        self.calls += 1;
        match sys::recv(borrow(fd), self.pool.bytes_mut(&mut buffer, 0..room)) {
            Ok(len @ 1..) => {
                let key = *key;
                let more = takes_more(shots, len);
                if !more {
                    socket.receive = None;
                }
                socket.read(len, room);
                let event = Event::Received(Ok(Received::Bytes { buffer, len }));
                out.push(Completion { key, more, event });
            }
            result => {
                self.pool.recycle(buffer);
                match result {
                    Err(Errno::EAGAIN) => socket.readable = false,
                    Err(Errno::EINTR) => {}
                    result => self.end_receive(fd, result.map(|_| Received::End), out),
                }
            }
        }
    }

    fn splice_once(&mut self, fd: RawFd, (pipe, to): (PipeEnds, RawFd), out: &mut Vec<Completion>) {
        let [read, write] = [pipe.read, pipe.write].map(|end| borrow(end.raw()));
        let spliced =
            splice_through(borrow(fd), &Ends { read, write }, borrow(to), &mut self.calls);
        match spliced.transpose() {
            None => self.table.get(fd).readable = false,
            Some(Err(Errno::EINTR)) => {}
            Some(result) => {
                if let Some(Receiving { key, .. }) = self.table.get(fd).receive.take() {
                    out.push(last(key, Event::Spliced(result)));
                }
            }
        }
    }

    /// Ends the receive in flight, if there is one.
    pub(super) fn end_receive(
        &mut self,
        fd: RawFd,
        result: Result<Received, Errno>,
        out: &mut Vec<Completion>,
    ) {
        if let Some(Receiving { key, target }) = self.table.get(fd).receive.take() {
            let event = match target {
                Target::Buffers(_) => Event::Received(result),
                Target::Pipe { .. } => {
                    Event::Spliced(result.map(|_| Spliced { len: 0, sent: Ok(0) }))
                }
            };
            out.push(last(key, event));
        }
    }

    pub(super) fn shutdown(&mut self, fd: RawFd, how: Shutdown, out: &mut Vec<Completion>) {
        // ENOTCONN: the peer has reset it, which is as good as shut down.
        self.calls += 1;
        let _ = sys::shutdown(borrow(fd), how);
        let socket = self.table.get(fd);
        // A connect that is in flight hears of it by an event.
        if socket.connect.is_none() {
            socket.shut(how != Shutdown::Write, how != Shutdown::Read);
            self.advance(fd, out);
        }
    }
}

/// How many bytes one shot may bring.
fn room(shots: Shots, buffer_bytes: usize) -> usize {
    match shots {
        Shots::Once => buffer_bytes,
        Shots::Many { credit_bytes } => buffer_bytes.min(credit_bytes.max(1) as usize),
    }
}

/// Takes `len` bytes off the credit; false if that was the last shot.
fn takes_more(shots: &mut Shots, len: usize) -> bool {
    match shots {
        Shots::Once => false,
        Shots::Many { credit_bytes } => {
            *credit_bytes = credit_bytes.saturating_sub(len as u32);
            *credit_bytes > 0
        }
    }
}
