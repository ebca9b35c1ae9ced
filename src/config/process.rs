//! What belongs to a process and to none of its frontends: threads, rings, limits of the whole.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::human::Human;
use super::{
    AdminAddress, ConfigError, CpuList, Rate, SourceSizes, UnixAddress, in_range, timeout_in_range,
};

/// Threads and what they share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Threads and where they run.
    pub threads: Threads,
    /// How a connection finds its worker.
    pub dispatch: DispatchPolicy,
    /// Open connections of all frontends together; `None` derives it from RLIMIT_NOFILE.
    pub max_connections: Option<NonZeroUsize>,
    /// What a source is, and how many are known at a time.
    pub sources: SourceSizes,
    /// Open connections of one source, of all frontends together.
    pub max_per_source: Option<NonZeroU32>,
    /// New connections of one source, of all frontends together.
    pub rate_per_source: Option<Rate>,
    /// From the first signal to the end of the last connection.
    pub drain_timeout: Duration,
    /// Over how long idle connections are closed in a drain, evenly; zero is at once, and leaves proxied ones open.
    pub drain_spread: Duration,
    /// What reads and writes.
    pub engine: Engine,
    /// Sizes of each thread's ring and buffers.
    pub ring: RingSizes,
    /// Where the control socket is; `None` is no such socket.
    pub control: Option<UnixAddress>,
    /// Where the admin endpoint is; `None` is no such endpoint.
    pub admin: Option<AdminAddress>,
}

/// What reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// io_uring, or epoll on a machine that refuses it.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// How many threads accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptors {
    /// The first worker accepts for all, on one socket for each address; with more than four workers, a thread that
    /// does nothing else.
    Auto,
    /// None of its own: every worker accepts on its own SO_REUSEPORT socket.
    Inline,
    /// This many threads that do nothing else; more than one share each port by SO_REUSEPORT.
    Dedicated(NonZeroUsize),
}

/// Threads and where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    /// Worker threads; `None` is the number of CPUs this process may use.
    pub workers: Option<NonZeroUsize>,
    /// Threads that accept.
    pub acceptors: Acceptors,
    /// CPUs to pin threads to, in turn: workers first, then acceptors. `None` does not pin.
    pub cpus: Option<CpuList>,
    /// What the names of threads begin with, for a process with several servers; at most 6 bytes of it are seen.
    pub prefix: String,
}

/// How a connection finds its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DispatchPolicy {
    /// The worker with the fewest open connections; ties rotate.
    LeastConnections,
    /// Each worker in turn.
    RoundRobin,
    /// By a hash of the peer's IP address, so that one client stays with one worker.
    SourceHash,
    /// The worker of the CPU on which the kernel received the connection (SO_INCOMING_CPU).
    IncomingCpu,
}

/// Sizes of each thread's ring and buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingSizes {
    /// Entries of the submission queue.
    pub submission_entries: u32,
    /// Entries of the completion queue; `None` derives it from the backlogs.
    pub completion_entries: Option<NonZeroU32>,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
    /// Buffers of one worker; `None` gives each possible connection one.
    pub buffers: Option<NonZeroU32>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            threads: Threads {
                workers: None,
                acceptors: Acceptors::Auto,
                cpus: None,
                prefix: String::new(),
            },
            dispatch: DispatchPolicy::LeastConnections,
            max_connections: None,
            drain_timeout: Duration::from_secs(10),
            sources: SourceSizes::default(),
            max_per_source: None,
            rate_per_source: None,
            drain_spread: Duration::ZERO,
            engine: Engine::Auto,
            ring: RingSizes::default(),
            control: None,
            admin: None,
        }
    }
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            submission_entries: 1024,
            completion_entries: None,
            buffer_bytes: 16 * 1024,
            buffers: None,
        }
    }
}

impl Process {
    /// Clients of the control socket at a time.
    pub const CONTROL_CLIENTS: usize = 32;
    /// Clients of the admin endpoint at a time.
    pub const ADMIN_CLIENTS: usize = 64;

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.threads.validate()?;
        timeout_in_range("drain", self.drain_timeout)?;
        self.spread_fits()?;
        self.sources.validate()?;
        self.rate_per_source.map_or(Ok(()), Rate::validate)?;
        self.ring.validate()
    }

    fn spread_fits(&self) -> Result<(), ConfigError> {
        let (spread, timeout) = (Human(self.drain_spread), Human(self.drain_timeout));
        if spread.0 < timeout.0 || spread.0.is_zero() {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "the drain spread of {spread} has to be shorter than the drain timeout of {timeout}, at whose end all \
             connections are cut off; make it shorter, or the timeout longer"
        )))
    }
}

impl Threads {
    /// Most workers, and most acceptors: as many as there are CPUs that the kernel can name. Each has
    /// a ring, buffers and descriptors of its own.
    pub const MOST: usize = CpuList::LIMIT;

    fn validate(&self) -> Result<(), ConfigError> {
        let acceptors = match self.acceptors {
            Acceptors::Dedicated(count) => count.get(),
            Acceptors::Auto | Acceptors::Inline => 0,
        };
        let workers = self.workers.map_or(1, NonZeroUsize::get);
        for (what, count) in [("workers", workers), ("acceptors", acceptors)] {
            if count > Self::MOST {
                let most = Self::MOST;
                return Err(ConfigError::new(format!(
                    "{count} {what} are too many; give at most {most}"
                )));
            }
        }
        Ok(())
    }
}

impl RingSizes {
    /// Bytes of one receive buffer: the kernel wants no more, and less is all overhead.
    pub const BUFFER_BYTES: std::ops::RangeInclusive<u32> = 64..=32 * 1024;
    /// Most buffers of one worker: a buffer id has 16 bits.
    pub const BUFFERS: std::ops::RangeInclusive<u32> = 1..=65_535;
    /// Entries of the submission queue that the kernel accepts.
    pub const SUBMISSION_ENTRIES: std::ops::RangeInclusive<u32> = 8..=32_768;
    /// Entries of the completion queue that the kernel accepts.
    pub const COMPLETION_ENTRIES: std::ops::RangeInclusive<u32> = 2..=65_536;

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("the buffer size", self.buffer_bytes, Self::BUFFER_BYTES)?;
        in_range("the submission queue", self.submission_entries, Self::SUBMISSION_ENTRIES)?;
        let completion = self.completion_entries.map_or(2, NonZeroU32::get);
        in_range("the completion queue", completion, Self::COMPLETION_ENTRIES)?;
        in_range("the number of buffers", self.buffers.map_or(1, NonZeroU32::get), Self::BUFFERS)
    }
}
