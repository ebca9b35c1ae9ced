//! The simulated engine: the ring contract without a kernel.
//!
//! A [`Network`] holds virtual sockets, a virtual clock and an agenda. Rings made by
//! [`Network::ring`] work on it. Everything that the contract leaves open is drawn from a seed: the
//! order and the lateness of completions, how much a receive brings, which multishot ends when, what
//! fails. So the same seed is the same run, bit for bit, on every machine.
//!
//! ```text
//!   Operation --> start --> in flight --(agenda)--> attempt --> ready --> reap --> Completion
//!                               ^                     |
//!                               +---- waits for ------+
//!                                  bytes, a window, a connection
//! ```
//!
//! What breaks the contract, such as two sends in flight on one socket or a close over a pending
//! receive, is noted as a violation, see [`Network::violation`]. Descriptors are real but mean
//! nothing to the real kernel: see [`Operation`] and the tokens.

mod attempt;
mod faults;
mod listener;
mod notice;
mod owner;
mod remote;
mod socket;
mod start;
mod token;
mod world;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use faults::Faults;
pub use listener::Listener;
pub use notice::Notice;
pub use remote::{Behaviour, Network, RemoteEnd, RemoteRead};
use socket::Role;
use world::{Happening, Outcome, Payload, Queue, Raw, RingId};

use super::operation::{Bytes, Descriptor, Operation, Operations, PipeEnds};
use super::pool::{BufferPool, PoolRange};
use super::{
    Capabilities, Completion, Event, Received, Ring, RingAddress, RingCounts, Wait, Waker,
};
use crate::sys;

/// How long a ring that waits for ever waits for a wake from a real thread.
const PATIENCE: Duration = Duration::from_secs(5);

/// How large a simulated ring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Completions that one wait brings at most; multishots end when so many wait.
    pub completion_entries: usize,
    /// Buffers in the pool, at least one.
    pub buffers: usize,
    /// Bytes of one buffer.
    pub buffer_bytes: usize,
    /// Whether receives may have many shots.
    pub receive_credit: bool,
}

/// A ring on a simulated network.
#[derive(Debug)]
pub struct Simulated {
    network: Network,
    id: RingId,
    pool: BufferPool,
    /// What is in each pipe. A number that comes back is overwritten.
    pipes: HashMap<PipeEnds, Vec<u8>>,
    window: usize,
    eventfd: Arc<OwnedFd>,
    address: RingAddress,
    capabilities: Capabilities,
}

impl Network {
    /// A ring on this network. `name` stands for it in the trace.
    ///
    /// # Errors
    /// Those of eventfd(2) and mmap(2).
    pub fn ring(&self, name: &str, sizes: &Sizes) -> io::Result<Simulated> {
        let eventfd = sys::eventfd()?;
        socket2::SockRef::from(&eventfd).set_nonblocking(true)?;
        let address = Arc::new(eventfd.try_clone()?);
        let pool = BufferPool::new(sizes.buffers.max(1), sizes.buffer_bytes)?;
        let mut world = self.0.borrow_mut();
        let id = RingId(world.rings.len());
        world.rings.push(Queue {
            name: name.into(),
            lent: Vec::new(),
            buffer_bytes: sizes.buffer_bytes,
            ready: std::collections::VecDeque::new(),
            released: Vec::new(),
            capacity: sizes.completion_entries.max(1),
            woken: false,
            eventfd: eventfd.try_clone()?.into(),
            address: Descriptor::of(&address),
            in_flight: 0,
            gone: false,
            progress: false,
        });
        drop(world);
        Ok(Simulated {
            network: self.clone(),
            id,
            // Half stays with us, as in the io_uring engine, for answers that have to be written.
            window: pool.count().div_ceil(2),
            pool,
            pipes: HashMap::new(),
            eventfd: Arc::new(eventfd),
            address: RingAddress::new(address),
            capabilities: Capabilities {
                receive_credit: sizes.receive_credit,
                accepts_blocking: false,
            },
        })
    }
}

impl Simulated {
    /// Starts operations without waiting.
    pub fn start(&mut self, operations: &mut Operations) {
        self.lend();
        for (key, operation) in operations.drain() {
            let payload = match &operation {
                Operation::Send { bytes, .. } | Operation::SendAndClose { bytes, .. } => {
                    Some(self.payload(bytes.clone()))
                }
                _ => None,
            };
            self.network.0.borrow_mut().start(self.id, key, operation, payload);
        }
    }

    /// Whether a wait would return: something has completed, or a wake has come.
    pub fn is_ready(&self) -> bool {
        let mut world = self.network.0.borrow_mut();
        let queue = &mut world.rings[self.id.0];
        !queue.ready.is_empty() || !queue.released.is_empty() || queue.woken
    }

    /// Looks for wakes from threads, which cost a system call to see.
    pub fn poll_wakes(&self) {
        self.network.0.borrow_mut().rings[self.id.0].poll_eventfd();
    }

    /// Operations that have not ended, and completions that nobody has taken.
    pub fn pending(&self) -> usize {
        let world = self.network.0.borrow();
        let queue = &world.rings[self.id.0];
        queue.in_flight + queue.ready.len()
    }

    /// What stands for it among the rings of its network.
    pub fn number(&self) -> usize {
        self.id.0
    }

    /// Whether anything but failures for want of something has come since the last call.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.network.0.borrow_mut().rings[self.id.0].progress)
    }

    /// The network that it is on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn lend(&mut self) {
        let mut world = self.network.0.borrow_mut();
        let queue = &mut world.rings[self.id.0];
        while self.pool.lent() < self.window
            && let Some((id, _)) = self.pool.lend()
        {
            queue.lent.push(id);
        }
    }

    fn payload(&mut self, bytes: Bytes) -> Payload {
        match bytes {
            Bytes::Static(bytes) => Payload::Static(bytes),
            Bytes::Shared(part) => Payload::Shared(part),
            Bytes::Gathered(parts) => {
                let in_pool = |part: &Bytes| match part {
                    Bytes::Pool(range) => Some((*range, self.pool.range_bytes(*range))),
                    _ => None,
                };
                let pooled = parts.iter().filter_map(in_pool).collect();
                Payload::Gathered(pooled, Bytes::Gathered(parts).copied(&self.pool))
            }
            Bytes::File(part) => Payload::File(part.read().unwrap_or_default()),
            Bytes::Pool(range) => Payload::Pool(range, self.pool.range_bytes(range)),
            Bytes::Pipe { pipe, len } => {
                let bytes = self.pipes.remove(&pipe).unwrap_or_default();
                if bytes.len() != len as usize {
                    let held = bytes.len();
                    let mut world = self.network.0.borrow_mut();
                    world.violate(|| format!("{len} bytes are sent from a pipe that has {held}"));
                }
                Payload::Pipe(pipe, bytes)
            }
        }
    }

    /// Lets the network run as long as a wait may last.
    fn wait(&mut self, wait: Wait) {
        let end = match wait {
            Wait::No => Some(self.network.elapsed()),
            Wait::For(duration) => Some(self.network.elapsed() + duration),
            Wait::Forever => None,
        };
        self.poll_wakes();
        while !self.is_ready() {
            match (self.network.next_due(), end) {
                (Some(due), end) if end.is_none_or(|end| due <= end) => {
                    self.network.run_next();
                }
                (_, Some(end)) => {
                    let now = self.network.elapsed();
                    return self.network.pass(end.saturating_sub(now));
                }
                (_, None) => self.wait_for_thread(),
            }
        }
    }

    /// Only a real thread can end this wait.
    fn wait_for_thread(&self) {
        let start = Instant::now();
        while !self.network.0.borrow_mut().rings[self.id.0].poll_eventfd() {
            assert!(start.elapsed() < PATIENCE, "a wait that nothing will ever end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        let (ready, released) = {
            let mut world = self.network.0.borrow_mut();
            let world = &mut *world;
            let partial = Faults::happens(&mut world.rng, world.faults.partial_reap);
            let queue = &mut world.rings[self.id.0];
            queue.woken = false;
            let most = queue.ready.len().min(queue.capacity);
            let count = if partial && most > 0 { world.rng.usize(1..=most) } else { most };
            let ready = queue.ready.drain(..count).collect::<Vec<_>>();
            let released = std::mem::take(&mut queue.released);
            released.iter().for_each(|(_, socket)| world.given_back(Descriptor::of(socket)));
            (ready, released)
        };
        completions.extend(ready.into_iter().map(|raw| self.finish(raw)));
        let given_back =
            |(key, socket)| Completion { key, more: false, event: Event::Released(socket) };
        completions.extend(released.into_iter().map(given_back));
    }

    fn finish(&mut self, raw: Raw) -> Completion {
        self.network.0.borrow_mut().told(self.id, &raw);
        let event = match raw.outcome {
            Outcome::Opened(result) => Event::Opened(result),
            Outcome::Connected(result) => Event::Connected(result),
            Outcome::Accepted(result) => Event::Accepted(result),
            Outcome::Received(result) => Event::Received(result.map(|some| match some {
                Some((id, bytes)) => {
                    let mut buffer = self.pool.returned(id);
                    self.pool.write(&mut buffer, 0, &bytes);
                    Received::Bytes { buffer, len: bytes.len() }
                }
                None => Received::End,
            })),
            Outcome::Spliced(result, pipe) => Event::Spliced(result.map(|(spliced, left)| {
                self.pipes.insert(pipe, left);
                spliced
            })),
            Outcome::Sent(result, payload) => {
                self.check_unchanged(&payload);
                if let (Ok(sent), Payload::Pipe(pipe, mut bytes)) = (result, payload) {
                    bytes.drain(..sent);
                    self.pipes.insert(pipe, bytes);
                }
                Event::Sent(result)
            }
        };
        Completion { key: raw.key, more: raw.more, event }
    }

    /// What is being sent belongs to the kernel until the send has ended.
    fn check_unchanged(&self, payload: &Payload) {
        let changed = |range: &PoolRange, bytes: &Vec<u8>| self.pool.range_bytes(*range) != *bytes;
        let is_changed = match payload {
            Payload::Pool(range, bytes) => changed(range, bytes),
            Payload::Gathered(parts, _) => parts.iter().any(|(range, bytes)| changed(range, bytes)),
            _ => false,
        };
        if is_changed {
            let mut world = self.network.0.borrow_mut();
            world.violate(|| "bytes were changed while they were being sent".into());
        }
    }

    /// A wait that returns for no reason is due.
    fn plan_spurious_wake(&mut self) {
        let mut world = self.network.0.borrow_mut();
        let world = &mut *world;
        if Faults::happens(&mut world.rng, world.faults.spurious) {
            let later = Duration::from_micros(world.rng.u64(0..2000));
            world.at(world.now + later, Happening::Spurious(self.id.0));
        }
    }
}

impl Ring for Simulated {
    const CALL: &'static str = "the simulated enter";

    fn enter(
        &mut self,
        operations: &mut Operations,
        completions: &mut Vec<Completion>,
        wait: Wait,
    ) -> io::Result<()> {
        self.start(operations);
        let driven = self.network.0.borrow().driven;
        if driven {
            self.poll_wakes();
            self.plan_spurious_wake();
        } else {
            self.wait(wait);
        }
        self.reap(completions);
        Ok(())
    }

    fn buffers(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn counts(&self) -> RingCounts {
        RingCounts::default()
    }

    fn now(&self) -> Instant {
        self.network.now()
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.eventfd))
    }

    fn address(&self) -> RingAddress {
        self.address.clone()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let mut world = self.network.0.borrow_mut();
        let queue = &mut world.rings[self.id.0];
        queue.gone = true;
        let ready = std::mem::take(&mut queue.ready);
        drop(world);
        drop(ready);
    }
}

#[cfg(test)]
mod tests;
