//! The io_uring engine.
//!
//! The ring is made by the thread that uses it (SINGLE_ISSUER) and its completions are run only
//! inside [`Ring::enter`] (DEFER_TASKRUN), so nothing happens behind the state machines' backs.
//! One system call per turn submits, waits and runs what is due.

mod entry;
mod kept;
mod locked;
mod provided;
mod setup;
mod shortage;
mod spliced;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, squeue};
use socket2::SockAddr;

use super::file_sends::FileSends;
use super::operation::{Bytes, Descriptor, Kind, Operation, Operations};
use super::pool::BufferPool;
use super::refusal::{OLDEST_KERNEL, Refusal};
use super::tag::{Key, Tag};
use super::{
    Capabilities, Completion, Event, Received, Ring, RingAddress, RingCounts, Sizes, Wait, Waker,
};
use crate::shared::SharedBytes;
use crate::sys::{self, Errno, KernelRelease};
use entry::Memory;
use kept::Kept;
pub use locked::{locked_bytes, within};
use provided::ProvidedBuffers;
pub use setup::probe;
use setup::{duplicate, refused, register, setup};
use shortage::Shortage;
use spliced::Splices;

/// The first kernel that caps what a multishot receive may bring.
const RECEIVE_CREDIT_FROM: KernelRelease = KernelRelease { major: 6, minor: 17 };

/// Most buffers that lie with the kernel at a time: enough for one turn under load, few enough to
/// stay in the cache.
const WINDOW_BUFFERS: usize = 512;

/// A ring on io_uring. Stays with the thread that made it.
///
/// The three handles borrow from the ring that `owner` points to: the registered ring descriptor is
/// remembered by one `Submitter` value, so the ring is split once and kept split.
pub struct Uring {
    submitter: ManuallyDrop<Submitter<'static>>,
    submissions: ManuallyDrop<SubmissionQueue<'static>>,
    completions: ManuallyDrop<CompletionQueue<'static>>,
    owner: NonNull<IoUring>,
    provided: ManuallyDrop<ProvidedBuffers>,
    pool: ManuallyDrop<BufferPool>,
    /// The parts that sends in flight name.
    kept: ManuallyDrop<Kept>,
    /// Receives and sends whose last completion has not come: they name memory of the pool, or what is
    /// kept.
    in_flight: usize,
    splices: Splices,
    files: FileSends,
    shortage: Shortage,
    /// Addresses that queued entries point to. The kernel copies them on submission
    /// (IORING_FEAT_SUBMIT_STABLE, 5.5).
    #[expect(clippy::vec_box, reason = "the entries point to the addresses, which must not move")]
    unsubmitted: Vec<Box<SockAddr>>,
    eventfd: Arc<OwnedFd>,
    /// What has ended without the kernel, and is told with this turn.
    ended: Vec<Completion>,
    /// False when the poll on `eventfd` has to be armed.
    eventfd_polled: bool,
    address: RingAddress,
    capabilities: Capabilities,
    counts: RingCounts,
    /// What this kernel can be told about a wait.
    waits_with: EnterFlags,
}

impl Uring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// Why this machine refuses.
    pub fn new(sizes: &Sizes) -> Result<Self, Refusal> {
        let kernel = sys::release().map_err(|error| refused("uname", &error))?;
        if kernel < OLDEST_KERNEL {
            return Err(Refusal::KernelTooOld(kernel));
        }
        let ring = setup(sizes, kernel).map_err(|error| refused("io_uring_setup", &error))?;
        let memory = BufferPool::new(sizes.buffers.max(1), sizes.buffer_bytes);
        let pool = memory.map_err(|error| refused("mmap of the buffers", &error))?;
        let eventfd = sys::eventfd().map_err(|error| refused("eventfd", &error))?;
        let address = duplicate(&ring).map_err(|error| refused("dup", &error))?;
        let receive_credit = kernel >= RECEIVE_CREDIT_FROM;
        let capabilities = Capabilities { receive_credit, accepts_blocking: true };
        let window = locked::window(pool.count(), sizes.completion_entries);
        Self::assemble(ring, (pool, window), eventfd, address, capabilities)
    }

    fn assemble(
        ring: IoUring,
        (pool, window): (BufferPool, usize),
        eventfd: OwnedFd,
        address: OwnedFd,
        capabilities: Capabilities,
    ) -> Result<Self, Refusal> {
        let knows_no_iowait = ring.params().is_feature_no_iowait();
        let waits_with = if knows_no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        let eventfd = Arc::new(eventfd);
        let owner = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: `owner` was leaked just now, so it stays valid until `drop` frees it, after the
        // three handles, and nothing else touches it meanwhile.
        let (mut submitter, submissions, completions) = unsafe { (*owner.as_ptr()).split() };
        let provided = match register(&mut submitter, window) {
            Ok(provided) => provided,
            Err(refusal) => {
                // Whoever is refused a ring for want of memory may try a smaller one.
                let _ = submitter.unregister_ring_fd();
                drop((submitter, submissions, completions));
                // SAFETY: leaked above; the three handles that borrowed from it are gone.
                drop(unsafe { Box::from_raw(owner.as_ptr()) });
                return Err(refusal);
            }
        };
        Ok(Self {
            submitter: ManuallyDrop::new(submitter),
            submissions: ManuallyDrop::new(submissions),
            completions: ManuallyDrop::new(completions),
            owner,
            provided: ManuallyDrop::new(provided),
            pool: ManuallyDrop::new(pool),
            kept: ManuallyDrop::new(Kept::default()),
            in_flight: 0,
            splices: Splices::default(),
            files: FileSends::new(Waker::new(Arc::clone(&eventfd))),
            shortage: Shortage::new(),
            unsubmitted: Vec::new(),
            eventfd,
            ended: Vec::new(),
            eventfd_polled: false,
            address: RingAddress::new(Arc::new(address)),
            capabilities,
            counts: RingCounts::default(),
            waits_with,
        })
    }

    /// Takes a capability away, so that a test can force the path of an older kernel.
    #[must_use]
    pub fn without_receive_credit(mut self) -> Self {
        self.capabilities.receive_credit = false;
        self
    }

    fn start(&mut self, key: Key, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Open { domain } => self.push(&[entry::open(key, domain)]),
            Operation::Connect { socket, address } => {
                let pushed = self.push(&[entry::connect(key, socket, &address)]);
                self.unsubmitted.push(address);
                pushed
            }
            Operation::Accept { listener, shots } => {
                self.push(&[entry::accept(key, listener, shots)])
            }
            Operation::Receive { socket, shots } => {
                self.in_flight += 1;
                self.push(&[entry::receive(key, socket, shots)])
            }
            Operation::Splice { socket, pipe, to } => self.splice_in(key, (socket, to), pipe),
            Operation::Send { socket, bytes: Bytes::Pipe { pipe, len }, more } => {
                self.splice_out(key, (socket, more), (pipe, len as usize))
            }
            Operation::Send { socket, bytes: Bytes::File(part), more } => {
                self.send_file(key, socket, (part, more));
                Ok(())
            }
            Operation::Send { socket, bytes, more } => {
                let (tag, memory) = self.keep(key, socket, bytes);
                self.push(&[entry::send(tag, socket, memory, more)])
            }
            Operation::SendAndClose { socket, bytes } => {
                let (tag, memory) = self.keep(key, Descriptor::of(&socket), bytes);
                self.push(&entry::send_and_close(tag, given_up(socket), memory))
            }
            // OP_SHUTDOWN always takes a kernel thread; the call itself does not block.
            Operation::Shutdown { socket, how } => {
                // SAFETY: the contract of Descriptor: its owner keeps it open.
                let socket = unsafe { BorrowedFd::borrow_raw(socket.raw()) };
                // ENOTCONN: the peer has reset it, which is as good as shut down.
                let _ = sys::shutdown(socket, how);
                self.counts.system_calls += 1;
                Ok(())
            }
            Operation::Close { socket } => self.push(&[entry::close(given_up(socket))]),
            Operation::Reset { socket } => {
                // Without it the close sends a FIN, which is all that can be done then.
                let _ = sys::reset_on_close(socket.as_fd());
                self.counts.system_calls += 1;
                self.push(&[entry::close(given_up(socket))])
            }
            // The kernel knows no socket on which nothing is in flight.
            Operation::Release { socket } => {
                let event = Event::Released(socket);
                self.ended.push(Completion { key, more: false, event });
                Ok(())
            }
            Operation::Cancel(kind) => {
                if let Some(number) = self.splices.cancel(kind, key) {
                    self.push(&[entry::cancel(Key::fixed(number), Kind::Poll)])?;
                }
                if kind == Kind::Send && self.kept.has(key) {
                    self.push(&[entry::cancel(key, Kind::SendKept)])?;
                }
                self.push(&[entry::cancel(key, kind)])
            }
            Operation::Wake { ring } => self.push(&[entry::wake(ring)]),
        }
    }

    /// Sees to it that the bytes of a send stay until its completion. Returns its tag and where they are.
    fn keep(&mut self, key: Key, socket: Descriptor, bytes: Bytes) -> (Tag, Memory) {
        self.in_flight += 1;
        let bytes = one_place_for(socket, bytes, &self.pool);
        let (kind, memory) = match bytes {
            Bytes::Shared(part) => {
                let len = part.len();
                (Kind::SendKept, Memory::Bytes(self.kept.insert(key, part), len))
            }
            Bytes::Gathered(parts) => {
                let place = |part: &Bytes| place(part, &self.pool);
                (Kind::SendKept, Memory::Message(self.kept.gather(key, parts, place)))
            }
            other => {
                let (address, len) = place(&other, &self.pool);
                (Kind::Send, Memory::Bytes(address, len))
            }
        };
        (Tag::new(kind, key), memory)
    }

    /// Queues entries that must be submitted together, making room first if need be.
    fn push(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        while self.submissions.capacity() - self.submissions.len() < entries.len() {
            self.submit()?;
        }
        // SAFETY: what an entry points to is static, or lies in the pool, which outlives the ring or is
        // leaked, or in what `kept` has, messages included, which lets it go with the completion of the entry's own
        // tag (see there) and is leaked with the pool. An entry that is not pushed is never read.
        // Descriptors are kept open by the contract of Operation.
        let pushed = unsafe { self.submissions.push_multiple(entries) };
        pushed.map_err(|_| io::Error::other("the kernel takes no submissions"))
    }

    /// Gives queued entries to the kernel; one that takes none is short of something.
    fn submit(&mut self) -> io::Result<()> {
        self.submissions.sync();
        let before = self.submissions.len();
        self.counts.system_calls += 1;
        let submitted = self.submitter.submit();
        self.submissions.sync();
        let took_none = submitted.is_ok() && self.submissions.len() == before;
        let submitted = if took_none { Err(Errno::EAGAIN.into()) } else { submitted };
        self.shortage.note(Self::CALL, submitted, false)
    }

    fn poll_eventfd(&mut self) -> io::Result<()> {
        if self.eventfd_polled {
            return Ok(());
        }
        self.eventfd_polled = true;
        self.push(&[entry::poll_eventfd(Descriptor::of(&self.eventfd))])
    }

    /// The one system call of a turn.
    fn submit_and_wait(&mut self, wait: Wait) -> io::Result<()> {
        self.submissions.sync();
        self.completions.sync();
        let wait = if self.completions.is_empty() { wait } else { Wait::No };
        let entered = match wait {
            Wait::No => self.submitter.submit_and_wait(0),
            Wait::Forever => self.wait_for_one::<SubmitArgs<'_, '_>>(EnterFlags::empty(), None),
            Wait::For(duration) => {
                let timeout = timespec(duration);
                let arguments = SubmitArgs::new().timespec(&timeout);
                self.wait_for_one(EnterFlags::EXT_ARG, Some(&arguments))
            }
        };
        self.completions.sync();
        self.counts.system_calls += 1;
        self.counts.cq_overflows += u64::from(self.submissions.cq_overflow());
        self.shortage.note(Self::CALL, entered, !self.completions.is_empty())?;
        self.submissions.sync();
        if self.submissions.is_empty() {
            self.unsubmitted.clear();
        }
        Ok(())
    }

    /// Submits and waits for one completion. Whoever waits for a connection or a byte does not wait for a disk, so
    /// where the kernel can tell them apart (6.15) this is no iowait in top(1) and /proc/pressure/io.
    fn wait_for_one<T>(&self, flags: EnterFlags, argument: Option<&T>) -> io::Result<usize> {
        let flags = flags | EnterFlags::GETEVENTS | self.waits_with;
        let count = self.submissions.len() as u32;
        // SAFETY: the entries counted are those that `push` has vouched for, and the argument, if there is one, is
        // the one that EXT_ARG announces: it and what it points to outlive the call.
        unsafe { self.submitter.enter(count, 1, flags.bits(), argument) }
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        self.completions.sync();
        while let Some(entry) = self.completions.next() {
            if let Some(completion) = self.interpret(&entry) {
                completions.push(completion);
            }
        }
        // Give the slots back to the kernel before the completions are worked on.
        self.completions.sync();
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let tag = Tag::unpack(entry.user_data());
        let more = cqueue::more(entry.flags());
        if self.splices.claims(tag.kind, tag.key) {
            return self.splice_again((tag.kind, tag.key), more, outcome(entry));
        }
        let event = match tag.kind {
            Kind::Open => Event::Opened(outcome(entry).map(new_descriptor)),
            Kind::Connect => Event::Connected(outcome(entry).map(drop)),
            Kind::Accept => Event::Accepted(outcome(entry).map(new_descriptor)),
            Kind::Receive => {
                self.in_flight -= usize::from(!more);
                Event::Received(self.received(entry))
            }
            Kind::Send | Kind::SendKept => {
                if tag.kind == Kind::SendKept {
                    self.kept.remove(tag.key);
                }
                self.in_flight -= 1;
                Event::Sent(outcome(entry).map_err(entry::cancelled).map(|bytes| bytes as usize))
            }
            // What a cancel cancels tells how that ended; a close ends in any case.
            Kind::Close | Kind::Cancel | Kind::Poll => return None,
            Kind::Wake => {
                self.eventfd_polled &= more || tag.key != entry::WAKE_FROM_THREAD;
                return None;
            }
        };
        Some(Completion { key: tag.key, more, event })
    }

    fn received(&mut self, entry: &cqueue::Entry) -> Result<Received, Errno> {
        let buffer = cqueue::buffer_select(entry.flags()).map(|id| self.pool.returned(id));
        match (outcome(entry), buffer) {
            (Ok(len @ 1..), Some(buffer)) => Ok(Received::Bytes { buffer, len: len as usize }),
            (result, buffer) => {
                buffer.into_iter().for_each(|unused| self.pool.recycle(unused));
                result.map(|_| Received::End)
            }
        }
    }
}

impl Ring for Uring {
    const CALL: &'static str = "io_uring_enter(2)";

    fn enter(
        &mut self,
        operations: &mut Operations,
        completions: &mut Vec<Completion>,
        wait: Wait,
    ) -> io::Result<()> {
        self.provided.lend(&mut self.pool);
        self.poll_eventfd()?;
        for (key, operation) in operations.drain() {
            self.start(key, operation)?;
        }
        let wait = if self.ended.is_empty() { wait } else { Wait::No };
        self.submit_and_wait(wait)?;
        self.reap(completions);
        self.reap_files(completions);
        completions.append(&mut self.ended);
        Ok(())
    }

    fn buffers(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn counts(&self) -> RingCounts {
        self.counts
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.eventfd))
    }

    fn address(&self) -> RingAddress {
        self.address.clone()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The registration holds the ring, and with it the sockets that its operations name, until
        // the thread ends. It was made, so it can be unmade.
        let _ = self.submitter.unregister_ring_fd();
        // SAFETY: each is dropped once, here; the handles go before the ring they borrow from.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            ManuallyDrop::drop(&mut self.submissions);
            ManuallyDrop::drop(&mut self.completions);
            drop(Box::from_raw(self.owner.as_ptr()));
        }
        // The kernel ends a ring in its own time. While a receive or send was in flight it may still
        // write to the pool, and read from it and from what is kept, all of which therefore stays.
        if self.in_flight == 0 {
            // SAFETY: each is dropped once, here, and nothing in the kernel names it any more.
            unsafe {
                ManuallyDrop::drop(&mut self.provided);
                ManuallyDrop::drop(&mut self.pool);
                ManuallyDrop::drop(&mut self.kept);
            }
        }
    }
}

/// Parts are copied together for a socket with O_NONBLOCK: there IORING_OP_SENDMSG, unlike IORING_OP_SEND, gives up
/// where it would have to wait, with a part of them sent (Linux 6.18).
fn one_place_for(socket: Descriptor, bytes: Bytes, pool: &BufferPool) -> Bytes {
    // SAFETY: the contract of Descriptor: its owner keeps it open.
    let socket = unsafe { BorrowedFd::borrow_raw(socket.raw()) };
    if !matches!(bytes, Bytes::Gathered(_)) || !sys::is_nonblocking(socket) {
        return bytes;
    }
    let copied = SharedBytes::new(bytes.copied(pool));
    Bytes::Shared(copied.first(copied.len()))
}

/// Where bytes in memory are, and how many.
fn place(bytes: &Bytes, pool: &BufferPool) -> (*const u8, usize) {
    let address = match bytes {
        Bytes::Static(bytes) => bytes.as_ptr(),
        Bytes::Shared(part) => part.as_ptr(),
        Bytes::Pool(range) => pool.range_address(*range),
        Bytes::Pipe { .. } | Bytes::File(_) | Bytes::Gathered(_) => {
            unreachable!("{bytes:?} are in no one place")
        }
    };
    (address, bytes.len())
}

/// A descriptor that the kernel will close.
fn given_up(socket: OwnedFd) -> Descriptor {
    let descriptor = Descriptor::of(&socket);
    let _ = socket.into_raw_fd();
    descriptor
}

fn new_descriptor(fd: i32) -> OwnedFd {
    // SAFETY: a successful accept or socket brings a new descriptor that nobody else knows.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn outcome(entry: &cqueue::Entry) -> Result<i32, Errno> {
    match entry.result() {
        value @ 0.. => Ok(value),
        errno => Err(Errno(-errno)),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::new().sec(duration.as_secs()).nsec(duration.subsec_nanos())
}

#[cfg(test)]
mod tests;
