//! The epoll engine, for machines that refuse io_uring.
//!
//! An operation is tried when it starts. Only one that would have to wait is remembered, in the
//! `Table` under the number of its descriptor, and only then the descriptor is registered: once,
//! edge-triggered, for everything. A connection whose request is there already and whose answer fits
//! costs accept4, recv, send and close.
//!
//! ```text
//!   start: try --- done ----------------------------------> completion
//!           |                                                   ^  ^
//!           | EAGAIN: register     event            done        |  |
//!           +--------------------> waiting -------> advance ----+  |
//!                                     ^               | |          |
//!                                     +---- EAGAIN ---+ | limit of |
//!                                                       v a turn   |
//!                                                     ready -------+
//! ```

mod accept;
mod cancel;
mod connect;
mod receive;
mod send;
mod table;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file_sends::FileSends;
use super::operation::{Operation, Operations};
use super::pool::BufferPool;
use super::tag::Key;
use super::{Capabilities, Completion, Event, Ring, RingAddress, RingCounts, Sizes, Wait, Waker};
use crate::sys::{self, EpollEvent, Errno};
use accept::Accepting;
use table::{At, Sending, Table, Target, Token, borrow};

/// Most events of one system call.
const EVENTS_LIMIT: usize = 512;

/// What a socket is registered for. EPOLLRDHUP and EPOLLPRI tell when a short read does not mean that
/// nothing is left.
const INTEREST: u32 = sys::EPOLLIN | sys::EPOLLOUT | sys::EPOLLRDHUP | sys::EPOLLPRI | sys::EPOLLET;

/// Turns in a row that may end without asking the kernel for events because something has completed
/// at once. Accept, receive and send of a short connection are two such turns.
const UNPOLLED_TURNS: u32 = 3;

/// How often a connect to a unix socket is tried again whose accept queue is full: the kernel tells
/// nobody when there is room.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The registration of the eventfd.
const WAKE: u64 = u64::MAX;

/// Waits for events; see [`sys::epoll_pwait2`].
type WaitCall =
    fn(std::os::fd::BorrowedFd<'_>, &mut Vec<EpollEvent>, Option<Duration>) -> io::Result<()>;

/// A ring on epoll.
pub struct Epoll {
    epoll: OwnedFd,
    wait_call: WaitCall,
    events: Vec<EpollEvent>,
    /// Registered edge-triggered, so that each signal is an event and nobody has to read it.
    eventfd: Arc<OwnedFd>,
    pool: BufferPool,
    table: Table,
    /// Accepts in flight, in the order in which they came.
    accepting: HashMap<RawFd, VecDeque<Accepting>>,
    /// What can go on without an event: it has used up its share of a turn.
    ready: VecDeque<Token>,
    /// On which descriptor the send of each key waits for the peer. So the end of many slow readers is not a search
    /// each.
    waiting: HashMap<Key, RawFd>,
    /// Connects that have to be tried again.
    retries: Vec<Token>,
    files: FileSends,
    /// Turns since the kernel was asked for events.
    unpolled: u32,
    /// System calls so far.
    calls: u64,
}

impl Epoll {
    /// Makes a ring. Of the sizes only those of the buffers matter.
    ///
    /// # Errors
    /// Those of epoll_create1(2), eventfd(2) and mmap(2).
    pub fn new(sizes: &Sizes) -> io::Result<Self> {
        let epoll = sys::epoll_create1()?;
        let eventfd = Arc::new(sys::eventfd()?);
        sys::epoll_add(epoll.as_fd(), eventfd.as_fd(), sys::EPOLLIN | sys::EPOLLET, WAKE)?;
        let mut events = Vec::with_capacity(EVENTS_LIMIT);
        let wait_call = wait_call(&epoll, &mut events);
        Ok(Self {
            epoll,
            wait_call,
            events,
            files: FileSends::new(Waker::new(Arc::clone(&eventfd))),
            eventfd,
            pool: BufferPool::new(sizes.buffers.max(1), sizes.buffer_bytes)?,
            table: Table::default(),
            accepting: HashMap::new(),
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            retries: Vec::new(),
            unpolled: 0,
            calls: 0,
        })
    }

    /// Takes epoll_pwait2 away, so that a test can force the path of an older kernel.
    #[must_use]
    pub fn without_pwait2(mut self) -> Self {
        self.wait_call = sys::epoll_wait;
        self
    }

    fn start(&mut self, key: Key, operation: Operation, out: &mut Vec<Completion>) {
        match operation {
            Operation::Open { domain } => self.open(key, domain, out),
            Operation::Connect { socket, address } => {
                self.start_connect(key, socket.raw(), address, out);
            }
            Operation::Accept { listener, shots } => {
                self.start_accept(key, listener.raw(), shots, out);
            }
            Operation::Receive { socket, shots } => {
                self.start_receive(key, socket.raw(), Target::Buffers(shots), out);
            }
            Operation::Splice { socket, pipe, to } => {
                let target = Target::Pipe { pipe, to: to.raw() };
                self.start_receive(key, socket.raw(), target, out);
            }
            Operation::Send { socket, bytes, more } => {
                let send = Sending { key, bytes, sent: 0, more, socket: None, at: At::Engine };
                self.start_send(socket.raw(), send, out);
            }
            Operation::SendAndClose { socket, bytes } => {
                let fd = socket.as_raw_fd();
                let socket = Some(socket);
                let send = Sending { key, bytes, sent: 0, more: true, socket, at: At::Engine };
                self.start_send(fd, send, out);
            }
            Operation::Shutdown { socket, how } => self.shutdown(socket.raw(), how, out),
            Operation::Close { socket } => self.close(socket),
            Operation::Reset { socket } => {
                // Without it the close sends a FIN, which is all that can be done then.
                let _ = sys::reset_on_close(socket.as_fd());
                self.calls += 1;
                self.close(socket);
            }
            Operation::Release { socket } => self.release(key, socket, out),
            Operation::Cancel(kind) => self.cancel(key, kind, out),
            Operation::Wake { ring } => {
                // The only error of a write of 1 to an open eventfd is EAGAIN, at 2^64-2 signals.
                let _ = sys::signal(borrow(ring.raw()));
                self.calls += 1;
            }
        }
    }

    /// The registration goes with the descriptor.
    fn close(&mut self, socket: OwnedFd) {
        self.table.forget(socket.as_raw_fd());
        self.calls += 1;
    }

    /// Whoever else has the connection keeps the registration alive, so it does not go with the descriptor.
    fn release(&mut self, key: Key, socket: OwnedFd, out: &mut Vec<Completion>) {
        if self.table.get(socket.as_raw_fd()).registered {
            // It was registered and is open, so there is no error.
            let _ = sys::epoll_delete(self.epoll.as_fd(), socket.as_fd());
            self.calls += 1;
        }
        self.table.forget(socket.as_raw_fd());
        out.push(last(key, Event::Released(socket)));
    }

    /// Does on a socket what can be done now, and sees to it that the rest goes on.
    fn advance(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        self.send(fd, out);
        self.receive(fd, out);
        self.watch(fd, out);
    }

    /// Registers a socket on which something waits for an event, or makes that fail.
    fn watch(&mut self, fd: RawFd, out: &mut Vec<Completion>) {
        if !self.table.get(fd).wants_events() {
            return;
        }
        if let Err(errno) = self.register(fd, INTEREST) {
            self.fail_all(fd, errno, out);
        }
    }

    fn register(&mut self, fd: RawFd, interest: u32) -> Result<(), Errno> {
        let data = self.table.token(fd).pack();
        self.calls += 1;
        sys::epoll_add(self.epoll.as_fd(), borrow(fd), interest, data)
            .map_err(|error| Errno::of(&error))?;
        self.table.get(fd).registered = true;
        Ok(())
    }

    /// Ends everything that is in flight on a socket, the connect first.
    fn fail_all(&mut self, fd: RawFd, errno: Errno, out: &mut Vec<Completion>) {
        let socket = self.table.get(fd);
        if let Some(connect) = socket.connect.take() {
            out.push(last(connect.key, Event::Connected(Err(errno))));
        }
        self.end_receive(fd, Err(errno), out);
        self.end_send(fd, Err(errno), out);
    }

    /// Lets a socket go on in the next turn.
    fn postpone(&mut self, fd: RawFd) {
        let token = self.table.token(fd);
        if !std::mem::replace(&mut self.table.get(fd).postponed, true) {
            self.ready.push_back(token);
        }
    }

    /// What was postponed before this turn.
    fn go_on(&mut self, out: &mut Vec<Completion>) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            let Some(socket) = self.table.resolve(token) else { continue };
            socket.postponed = false;
            if socket.listens {
                self.accept(token.fd, out);
            } else {
                self.advance(token.fd, out);
            }
        }
    }

    /// Waits for events and acts on them until there is something to tell.
    fn wait(&mut self, wait: Wait, before: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        if out.len() > before && self.unpolled < UNPOLLED_TURNS {
            self.unpolled += 1;
            return Ok(());
        }
        self.unpolled = 0;
        let end = match wait {
            Wait::For(duration) if out.len() == before => Instant::now().checked_add(duration),
            Wait::For(_) | Wait::No | Wait::Forever => None,
        };
        loop {
            let urgent = out.len() > before || !self.ready.is_empty() || wait == Wait::No;
            let timeout = if urgent { Some(Duration::ZERO) } else { self.timeout(end) };
            if !self.poll(timeout)? {
                return Ok(());
            }
            let woken = self.act(out);
            let over = wait == Wait::No || end.is_some_and(|end| Instant::now() >= end);
            if woken || over || out.len() > before {
                return Ok(());
            }
            self.go_on(out);
        }
    }

    /// How long the kernel may sleep.
    fn timeout(&self, end: Option<Instant>) -> Option<Duration> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let retry = (!self.retries.is_empty()).then_some(RETRY_INTERVAL);
        left.into_iter().chain(retry).min()
    }

    /// False if a signal came first.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.calls += 1;
        match (self.wait_call)(self.epoll.as_fd(), &mut self.events, timeout) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Acts on all events. True if one of them is a wake.
    fn act(&mut self, out: &mut Vec<Completion>) -> bool {
        let mut woken = false;
        for index in 0..self.events.len() {
            let event = self.events[index];
            if event.data() == WAKE {
                woken = true;
            } else {
                self.happened(Token::unpack(event.data()), event.events(), out);
            }
        }
        self.retry_connects(out);
        woken
    }

    fn happened(&mut self, token: Token, events: u32, out: &mut Vec<Completion>) {
        // Else the event is of a descriptor that was closed since, earlier in this very turn.
        let Some(socket) = self.table.resolve(token) else { return };
        socket.note(events);
        if socket.listens {
            self.accept(token.fd, out);
        } else {
            self.connect_ended(token.fd, events, out);
            self.advance(token.fd, out);
        }
    }
}

impl Ring for Epoll {
    const CALL: &'static str = "epoll_wait(2)";

    fn enter(
        &mut self,
        operations: &mut Operations,
        completions: &mut Vec<Completion>,
        wait: Wait,
    ) -> io::Result<()> {
        let before = completions.len();
        self.go_on(completions);
        for (key, operation) in operations.drain() {
            self.start(key, operation, completions);
        }
        self.wait(wait, before, completions)?;
        for done in self.files.take_done() {
            self.file_sent(&done, completions);
        }
        Ok(())
    }

    fn buffers(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { receive_credit: true, accepts_blocking: false }
    }

    fn counts(&self) -> RingCounts {
        RingCounts { system_calls: self.calls, cq_overflows: 0 }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.eventfd))
    }

    fn address(&self) -> RingAddress {
        RingAddress::new(Arc::clone(&self.eventfd))
    }
}

/// The completion of an operation that brings no other.
fn last(key: Key, event: Event) -> Completion {
    Completion { key, more: false, event }
}

/// epoll_pwait2 where there is one: Linux before 5.11 and sandboxes say ENOSYS, old seccomp profiles
/// EPERM.
fn wait_call(epoll: &OwnedFd, events: &mut Vec<EpollEvent>) -> WaitCall {
    match sys::epoll_pwait2(epoll.as_fd(), events, Some(Duration::ZERO)) {
        Ok(()) => sys::epoll_pwait2,
        Err(_) => sys::epoll_wait,
    }
}

#[cfg(test)]
mod tests;
