//! What the engine knows of each descriptor, under its number.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use socket2::SockAddr;

use super::super::operation::{Bytes, PipeEnds, Shots};
use super::super::tag::Key;
use crate::sys;

/// Events after which a read that brings less than it could does not mean that nothing is left: the
/// end, an error, or the bytes behind urgent data.
const END: u32 = sys::EPOLLRDHUP | sys::EPOLLHUP | sys::EPOLLERR | sys::EPOLLPRI;

/// A descriptor and which use of its number: what an event carries.
///
/// ```text
///  63             32 31              0
/// +-----------------+-----------------+
/// |    generation   |    descriptor   |
/// +-----------------+-----------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) fd: RawFd,
    generation: u32,
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.fd.cast_unsigned())
    }

    pub(super) fn unpack(bits: u64) -> Self {
        Self { fd: (bits as u32).cast_signed(), generation: (bits >> 32) as u32 }
    }
}

/// A receive in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiving {
    pub(super) key: Key,
    pub(super) target: Target,
}

/// Where a receive puts what has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Buffers(Shots),
    Pipe { pipe: PipeEnds, to: RawFd },
}

/// A send in flight.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) key: Key,
    pub(super) bytes: Bytes,
    /// Bytes that the kernel has taken.
    pub(super) sent: usize,
    /// Whether the last bytes are held back for the FIN.
    pub(super) more: bool,
    /// To be closed at the end.
    pub(super) socket: Option<OwnedFd>,
    pub(super) at: At,
}

/// Who has a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The engine.
    Engine,
    /// A thread tries it, which is so with files.
    Thread,
    /// The same, and it ends as cancelled when the thread has sent nothing.
    ThreadAtLast,
}

/// A connect in flight.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) key: Key,
    /// Set if it has to be tried again.
    pub(super) address: Option<Box<SockAddr>>,
}

/// What the engine knows of one descriptor. Small, since there may be many that do nothing.
#[derive(Debug)]
pub(super) struct Socket {
    generation: u32,
    /// Whether it is registered with the epoll instance. Ends with the descriptor.
    pub(super) registered: bool,
    /// False from EAGAIN, or a read that brought less than it could, to the next event.
    pub(super) readable: bool,
    /// False from EAGAIN to the next event.
    pub(super) writable: bool,
    /// Whether one of [`END`] has come.
    ended: bool,
    /// Whether it stands in the engine's queue of what can go on.
    pub(super) postponed: bool,
    /// Whether it is a listener on which accepts are in flight.
    pub(super) listens: bool,
    pub(super) receive: Option<Receiving>,
    pub(super) send: Option<Sending>,
    pub(super) connect: Option<Connecting>,
}

impl Socket {
    /// Nothing is known of it, so everything is worth a try.
    fn new(generation: u32) -> Self {
        Self {
            generation,
            registered: false,
            readable: true,
            writable: true,
            ended: false,
            postponed: false,
            listens: false,
            receive: None,
            send: None,
            connect: None,
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, events: u32) {
        let ended = events & END != 0;
        self.ended |= ended;
        self.readable |= ended || events & sys::EPOLLIN != 0;
        self.writable |= events & (sys::EPOLLOUT | sys::EPOLLHUP | sys::EPOLLERR) != 0;
    }

    /// Takes note of a read of up to `room` bytes that brought `len`. On a stream fewer bytes than
    /// could have come are all there were (epoll(7)), which saves the call that would say EAGAIN. A
    /// unix peer that sends descriptors along cuts its stream there, and waits for its next bytes.
    pub(super) fn read(&mut self, len: usize, room: usize) {
        self.readable = len == room || self.ended;
    }

    /// Takes note of a shutdown: what waits will see it.
    pub(super) fn shut(&mut self, read: bool, write: bool) {
        self.ended |= read;
        self.readable |= read;
        self.writable |= write;
    }

    /// Whether something waits for an event that nobody has asked for yet.
    pub(super) fn wants_events(&self) -> bool {
        if self.registered {
            return false;
        }
        match &self.connect {
            Some(connect) => connect.address.is_none(),
            None => {
                self.receive.is_some() && !self.readable || self.send.is_some() && !self.writable
            }
        }
    }
}

/// All descriptors; grows to the highest number that was ever seen.
#[derive(Debug, Default)]
pub(super) struct Table {
    sockets: Vec<Socket>,
}

impl Table {
    pub(super) fn get(&mut self, fd: RawFd) -> &mut Socket {
        let index = usize::try_from(fd).expect("an open descriptor is not negative");
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || Socket::new(0));
        }
        &mut self.sockets[index]
    }

    pub(super) fn token(&mut self, fd: RawFd) -> Token {
        Token { fd, generation: self.get(fd).generation }
    }

    /// The descriptor that a token was made for, unless that is closed.
    pub(super) fn resolve(&mut self, token: Token) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(usize::try_from(token.fd).ok()?)?;
        (socket.generation == token.generation).then_some(socket)
    }

    /// The descriptor is about to be closed, or its number is new: nothing of it holds any more.
    pub(super) fn forget(&mut self, fd: RawFd) {
        let socket = self.get(fd);
        *socket = Socket::new(socket.generation.wrapping_add(1));
    }

    /// The descriptors for which this holds. Looks at all, so it is not for what happens often.
    pub(super) fn find(&self, what: impl Fn(&Socket) -> bool) -> Vec<RawFd> {
        let found = self.sockets.iter().enumerate().filter(|(_, socket)| what(socket));
        found.map(|(index, _)| index as RawFd).collect()
    }
}

/// A descriptor for a system call.
pub(super) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the contract of Descriptor: its owner keeps it open until the last completion of the
    // operation that names it, and the engine names it no longer than that. -1 is never one.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whole() {
        for (fd, generation) in [(0, 0), (RawFd::MAX, u32::MAX), (7, 1)] {
            let token = Token { fd, generation };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }

    #[test]
    fn a_token_of_an_earlier_use_finds_nothing() {
        let mut table = Table::default();
        let token = table.token(5);
        assert!(table.resolve(token).is_some());
        table.forget(5);
        assert!(table.resolve(token).is_none());
        assert!(table.resolve(Token { fd: 6, generation: 0 }).is_none());
    }

    #[test]
    fn what_is_known_of_an_idle_descriptor_is_small() {
        assert!(size_of::<Socket>() <= 112, "{}", size_of::<Socket>());
    }

    #[test]
    fn a_short_read_is_all_there_is_until_the_end_is_near() {
        let mut socket = Socket::new(0);
        socket.read(10, 10);
        assert!(socket.readable);
        socket.read(9, 10);
        assert!(!socket.readable);
        for end in [sys::EPOLLRDHUP, sys::EPOLLHUP, sys::EPOLLERR, sys::EPOLLPRI] {
            let mut socket = Socket::new(0);
            socket.note(sys::EPOLLIN | end);
            socket.read(9, 10);
            assert!(socket.readable);
        }
    }
}
