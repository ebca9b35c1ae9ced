//! What a server is told: values with their units in their names, checked once, each default here.

mod address;
mod cpus;
mod listen;
pub mod localhost;
mod proxy;
mod unix;
pub mod upstream;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

pub use address::ListenAddress;
pub use cpus::CpuList;
pub use listen::Listen;
pub use proxy::{ProxyConfig, ProxyProtocolVersion, ProxyTimeouts};
pub use unix::UnixAddress;

/// Everything a server is told. Start from [`Config::default`] and change what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen, in the order in which listeners are numbered.
    pub listen: Vec<Listen>,
    /// Options of the listening sockets, inherited by what they accept.
    pub socket: SocketOptions,
    /// Threads and where they run.
    pub threads: Threads,
    /// How a connection finds its worker.
    pub dispatch: DispatchPolicy,
    /// How much there may be of what.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// What reads and writes.
    pub engine: Engine,
    /// Sizes of each thread's ring and buffers.
    pub ring: RingSizes,
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

/// Options of the listening sockets. See tcp(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Length of the accept queue asked for; `None` asks for `net.core.somaxconn`.
    pub backlog: Option<NonZeroU32>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// TCP_DEFER_ACCEPT: hand a connection over only when its first bytes have come. For protocols
    /// in which the client speaks first.
    pub defer_accept: bool,
    /// TCP_FASTOPEN: how many connections may wait with data in their SYN; `None` is off.
    pub fast_open: Option<NonZeroU32>,
    /// SO_KEEPALIVE with this idle time before the first probe; `None` is off.
    pub keepalive_idle: Option<Duration>,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged; `None` leaves the kernel's rule.
    pub user_timeout: Option<Duration>,
    /// IPV6_V6ONLY: an IPv6 wildcard takes IPv6 only; off means dual stack.
    pub v6_only: bool,
}

/// How many threads accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptors {
    /// One, or [`Acceptors::Inline`] when there is one worker.
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

/// How much there may be of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of the whole server; `None` derives it from RLIMIT_NOFILE.
    pub max_connections: Option<NonZeroUsize>,
    /// Bytes that may be queued for a peer before it is no longer read from.
    pub budget_bytes: u32,
}

/// How long anything may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// Without any byte, after the first.
    pub idle: Duration,
    /// With bytes to send and a peer that takes none.
    pub write_stall: Duration,
    /// How long a peer may go on sending after a refusal, see [`Action::Linger`](crate::service::Action).
    pub linger: Duration,
    /// From the first signal to the end of the last session.
    pub drain: Duration,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listen::default()],
            socket: SocketOptions::default(),
            threads: Threads { workers: None, acceptors: Acceptors::Auto, cpus: None },
            dispatch: DispatchPolicy::LeastConnections,
            limits: Limits { max_connections: None, budget_bytes: 64 * 1024 },
            timeouts: Timeouts::default(),
            engine: Engine::Auto,
            ring: RingSizes::default(),
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: None,
            nodelay: true,
            defer_accept: false,
            fast_open: None,
            keepalive_idle: None,
            user_timeout: None,
            v6_only: false,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(10),
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

/// A configuration that cannot be run. The text says what, which value, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Longest timeout that can be set: the deadlines count milliseconds in 32 bits.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl Config {
    /// Checks everything that can be known without looking at the machine.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::new("no address to listen on; give at least one"));
        }
        self.threads.validate()?;
        self.limits.validate()?;
        self.timeouts.validate()?;
        self.ring.validate()
    }
}

impl Limits {
    /// Least and most bytes that may be queued for one peer.
    pub const BUDGET_BYTES: std::ops::RangeInclusive<u32> = 1024..=16 * 1024 * 1024;

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("the byte budget of a connection", self.budget_bytes, Self::BUDGET_BYTES)
    }
}

impl Timeouts {
    fn validate(&self) -> Result<(), ConfigError> {
        let named = [
            ("first-byte", self.first_byte),
            ("idle", self.idle),
            ("write-stall", self.write_stall),
            ("linger", self.linger),
            ("drain", self.drain),
        ];
        named.into_iter().try_for_each(|(name, value)| timeout_in_range(name, value))
    }
}

/// A drain may take no time; everything else needs some.
fn timeout_in_range(name: &str, value: Duration) -> Result<(), ConfigError> {
    if value > TIMEOUT_MAX {
        let max = humantime::format_duration(TIMEOUT_MAX);
        return Err(ConfigError::new(format!("the {name} timeout is above {max}")));
    }
    if value.is_zero() && name != "drain" {
        return Err(ConfigError::new(format!(
            "the {name} timeout is zero, so no connection could live; \
             every connection needs a deadline, the longest is 7days"
        )));
    }
    Ok(())
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

fn in_range(
    what: &str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(ConfigError::new(format!("{what} is {value}; it must be {least} to {most}")))
}

#[cfg(test)]
mod tests;
