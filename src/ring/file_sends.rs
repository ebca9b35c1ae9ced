//! Sends from files, for the engines: sendfile(2) may wait for a disk, and the thread of a ring must not.
//!
//! ```text
//!   start --> jobs --> a thread of ours: sendfile --> done --> the ring, which is woken
//! ```
//!
//! A job sends once, as much as the socket takes. The engine decides what comes next: to wait for room, or to tell.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::Waker;
use super::operation::Descriptor;
use super::tag::Key;
use crate::shared::FilePart;
use crate::sys::{self, Errno};

/// Most threads of one ring that wait for disks.
const THREADS_MAX: usize = 4;

/// Enough for one system call at a time.
const STACK_BYTES: usize = 64 * 1024;

/// One call that has not been made. There are no more of them than sockets, since each has at most one send in flight.
struct Job {
    key: Key,
    socket: Descriptor,
    part: Box<FilePart>,
    more: bool,
}

/// A job that has ended.
pub(super) struct Done {
    pub(super) key: Key,
    pub(super) socket: Descriptor,
    /// How many bytes the socket took, at least one; EAGAIN if it took none, ENODATA where the file has no more, or
    /// another error of fcntl(2) or sendfile(2).
    pub(super) result: Result<usize, Errno>,
}

/// What the threads share with the ring.
#[derive(Default)]
struct Jobs {
    queues: Mutex<Queues>,
    /// A job has come, or the threads are to end.
    some: Condvar,
}

#[derive(Default)]
struct Queues {
    waiting: VecDeque<Job>,
    done: Vec<Done>,
    is_over: bool,
}

/// The jobs of a ring and the threads that do them. These are started when they are needed first.
pub(super) struct FileSends {
    jobs: Arc<Jobs>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
    waker: Waker,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job; `None` at the end.
    fn next(&self) -> Option<Job> {
        let waits = |queues: &mut Queues| queues.waiting.is_empty() && !queues.is_over;
        let queues = self.some.wait_while(self.lock(), waits);
        queues.unwrap_or_else(PoisonError::into_inner).waiting.pop_front()
    }
}

impl FileSends {
    /// Without threads. The waker is that of the ring.
    pub(super) fn new(waker: Waker) -> Self {
        Self { jobs: Arc::default(), threads: Vec::new(), in_flight: 0, waker }
    }

    /// Lets a thread send. With `more`, a segment that is not full is held back for what follows. The socket stays open until the job has ended or these are dropped.
    ///
    /// # Errors
    /// If there is no thread, and none could be started.
    pub(super) fn start(
        &mut self,
        key: Key,
        socket: Descriptor,
        (part, more): (Box<FilePart>, bool),
    ) -> Result<(), Errno> {
        if self.in_flight >= self.threads.len() && self.threads.len() < THREADS_MAX {
            match self.spawn() {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => return Err(Errno::of(&error)),
                // Those that there are do it later.
                Err(_) => {}
            }
        }
        self.jobs.lock().waiting.push_back(Job { key, socket, part, more });
        self.jobs.some.notify_one();
        self.in_flight += 1;
        Ok(())
    }

    /// The jobs that have ended since it was last asked.
    #[inline]
    pub(super) fn take_done(&mut self) -> Vec<Done> {
        if self.in_flight == 0 {
            return Vec::new();
        }
        let done = std::mem::take(&mut self.jobs.lock().done);
        self.in_flight -= done.len();
        done
    }

    fn spawn(&self) -> io::Result<JoinHandle<()>> {
        let (jobs, waker) = (Arc::clone(&self.jobs), self.waker.clone());
        let name = format!("file-{}", self.threads.len());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            // Without it a peer that has gone may end the program, if it wants this signal.
            let _ = sys::block_sigpipe();
            while let Some(Job { key, socket, part, more }) = jobs.next() {
                let result = send(socket, &part, more);
                // The file may be closed here, which may wait too.
                drop(part);
                jobs.lock().done.push(Done { key, socket, result });
                waker.wake();
            }
        })
    }
}

impl Drop for FileSends {
    /// What is in flight ends first: a socket that is closed meanwhile could come back as another one.
    fn drop(&mut self) {
        let mut queues = self.jobs.lock();
        queues.waiting.clear();
        queues.is_over = true;
        drop(queues);
        self.jobs.some.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One call.
fn send(socket: Descriptor, part: &FilePart, more: bool) -> Result<usize, Errno> {
    // SAFETY: the contract of Descriptor: its owner keeps it open until the last completion, which comes behind what
    // this returns, or until the ring is gone, which waits for this.
    let socket = unsafe { BorrowedFd::borrow_raw(socket.raw()) };
    // Else the call waits for the peer.
    sys::set_nonblocking(socket).map_err(|error| Errno::of(&error))?;
    // A unix socket has no segments.
    if more {
        let _ = sys::set_cork(socket, true);
    }
    let result = loop {
        match sys::sendfile(socket, part.as_fd(), part.offset(), part.len()) {
            Err(Errno::EINTR) => {}
            Ok(0) => break Err(Errno::ENODATA),
            result => break result,
        }
    };
    // Also what a part before this one has held back.
    if !more {
        let _ = sys::set_cork(socket, false);
    }
    result
}
