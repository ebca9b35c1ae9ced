//! What a run has shown.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::answer::Broken;
use super::plan::Plan;
use crate::sys::Errno;

/// Longest latency that is told apart from longer ones, in nanoseconds: an hour.
pub const LONGEST_NS: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds, with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("constant bounds")
}

/// Where in an operation something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Making the connection.
    Connect,
    /// Sending the request.
    Send,
    /// Receiving the response.
    Receive,
    /// The response was not what it should be.
    Verify,
    /// Ending the connection.
    Close,
}

/// What went wrong in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The kernel said so.
    Errno(Errno),
    /// It took longer than the [`Timeouts`](super::Timeouts) allow.
    TimedOut,
    /// The server's FIN came too early.
    EarlyEnd,
    /// Other bytes than expected.
    WrongBytes,
    /// An HTTP status that the plan does not expect.
    WrongStatus,
    /// An HTTP body of another size than the plan expects.
    WrongSize,
    /// An HTTP answer, or more of one, that no request had asked for.
    UnaskedAnswer,
    /// An HTTP answer that is none.
    Http(Broken),
    /// The user stopped the run without waiting for it.
    CutOff,
}

/// Latencies in nanoseconds, of operations that succeeded within the window.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    /// Handshake: from the actual start.
    pub connect: Histogram<u64>,
    /// From the actual start to the first byte of the response (or the server's FIN in accept mode).
    pub first_byte: Histogram<u64>,
    /// The whole operation, from its **planned** start. In a closed loop the same as `service`.
    pub total: Histogram<u64>,
    /// The whole operation, from its actual start.
    pub service: Histogram<u64>,
    /// From our FIN, or the end of the response, to the end of the connection.
    pub close: Histogram<u64>,
    /// How late operations started: actual minus planned start. The generator's own fault.
    pub lateness: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            connect: histogram(),
            first_byte: histogram(),
            total: histogram(),
            service: histogram(),
            close: histogram(),
            lateness: histogram(),
        }
    }
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Start, from the start of the window.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// Operations that succeeded.
    pub completed: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Latency from the planned start, nanoseconds.
    pub total: Histogram<u64>,
}

/// Growth of the kernel's counters over the window, in the generator's network namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Connections accepted by listeners of this namespace (TcpPassiveOpens).
    pub passive_opens: u64,
    /// Connections begun in this namespace (TcpActiveOpens).
    pub active_opens: u64,
    /// Completed handshakes that a full accept queue dropped (ListenOverflows).
    pub listen_overflows: u64,
    /// All that listeners dropped (ListenDrops).
    pub listen_drops: u64,
    /// Segments sent again (TcpRetransSegs).
    pub retransmitted: u64,
    /// Connections that left TIME_WAIT early (TCPTimeWaitOverflow).
    pub time_wait_overflow: u64,
}

/// What the observed server used during the window. From /proc alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerUsage {
    /// CPU time of all its threads and children, nanoseconds.
    pub cpu_ns: u64,
    /// That of the thread which used most.
    pub busiest_ns: u64,
    /// Its threads at the end.
    pub threads: u32,
    /// Resident memory at the end, bytes.
    pub rss_bytes: u64,
    /// Context switches, voluntary and not.
    pub switches: u64,
}

/// Whether the figures can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They can.
    Valid,
    /// They cannot, for these reasons.
    Invalid(Vec<String>),
}

/// From some moment of the window on, nothing succeeded any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When it began, from the start of the window.
    pub since: Duration,
    /// Operations that failed since then.
    pub failed: u64,
}

/// What a run has shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What it was to do.
    pub plan: Plan,
    /// Start of the window, by the clock on the wall.
    pub started_at: SystemTime,
    /// How long the window really was.
    pub elapsed: Duration,
    /// Operations begun in the window.
    pub started: u64,
    /// Operations that succeeded in the window.
    pub completed: u64,
    /// Operations that failed in the window.
    pub failed: u64,
    /// Operations that were due and did not start: without room under max-inflight, or still waiting
    /// for a connection at the end.
    pub not_started: u64,
    /// Operations that were due while all connections of a fixed number were busy.
    pub queued: u64,
    /// Connections made in the window.
    pub connections: u64,
    /// Kept connections that the server ended in the window.
    pub closed_by_server: u64,
    /// Kept connections whose end the server announced in the window, and that the client ended, since the
    /// server's FIN did not come.
    pub closed_by_client: u64,
    /// Connections on which bytes came in the window that no request had asked for, while none was out.
    pub unasked: u64,
    /// Requests that went out again on a new connection, since the server had ended theirs before a byte
    /// of the answer.
    pub resent: u64,
    /// Requests that failed in that way, since their method does not allow to send them twice.
    pub not_resent: u64,
    /// Whole HTTP answers by status, right or wrong.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Payload bytes sent and received in the window.
    pub sent_bytes: u64,
    /// See `sent_bytes`.
    pub received_bytes: u64,
    /// Latencies of what succeeded.
    pub latencies: Latencies,
    /// What failed, where and why.
    pub faults: BTreeMap<(Phase, Fault), u64>,
    /// Whether the window ended with failures only.
    pub absence: Option<Absence>,
    /// Connects that took as long as one, two, three dropped SYNs make them take: see [`syn`](super::syn).
    pub dropped_syns: [u64; 3],
    /// The window, second by second.
    pub intervals: Vec<Interval>,
    /// What the kernel counted; `None` where /proc does not say.
    pub kernel: Option<KernelCounters>,
    /// What the server used, if it was observed.
    pub server: Option<ServerUsage>,
    /// CPU time of the generator itself over the window, nanoseconds.
    pub own_cpu_ns: u64,
    /// Whether the figures can be trusted.
    pub verdict: Verdict,
    /// What else is to be known about them, in sentences.
    pub notes: Vec<String>,
}
