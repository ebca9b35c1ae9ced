//! What is counted of one endpoint, by all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Padded;
use crate::sys::Errno;

/// Why a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// Nobody listens there (ECONNREFUSED; ENOENT for a unix socket).
    Refused,
    /// No answer in time.
    TimedOut,
    /// No way there (EHOSTUNREACH, ENETUNREACH and their like).
    Unreachable,
    /// Answered and taken back (ECONNRESET, ECONNABORTED, EPIPE).
    Reset,
    /// This machine is short of something: descriptors, ports, memory. It says nothing about the
    /// endpoint, so it never ejects it.
    Local,
    /// Anything else, EACCES of a unix socket and EPERM of a firewall among it.
    Other,
}

impl ConnectFailure {
    /// Sorts the errors of connect(2).
    pub fn of(errno: Errno) -> Self {
        match errno {
            Errno::ECONNREFUSED | Errno::ENOENT => Self::Refused,
            Errno::ETIMEDOUT | Errno::ETIME => Self::TimedOut,
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN => {
                Self::Unreachable
            }
            Errno::ECONNRESET | Errno::ECONNABORTED | Errno::EPIPE => Self::Reset,
            Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EADDRNOTAVAIL
            | Errno::EADDRINUSE
            | Errno::ECANCELED => Self::Local,
            _ => Self::Other,
        }
    }

    /// True if the endpoint may be to blame.
    pub fn blames_endpoint(self) -> bool {
        self != Self::Local
    }

    pub(super) fn counter(self) -> EndpointCounter {
        match self {
            Self::Refused => EndpointCounter::ConnectsRefused,
            Self::TimedOut => EndpointCounter::ConnectsTimedOut,
            Self::Unreachable => EndpointCounter::ConnectsUnreachable,
            Self::Reset => EndpointCounter::ConnectsReset,
            Self::Local => EndpointCounter::ConnectsLocal,
            Self::Other => EndpointCounter::ConnectsOther,
        }
    }
}

/// A counter of one endpoint. Counts from when the endpoint was first seen and never goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointCounter {
    /// Connections that were opened.
    Connects,
    /// Connects that nobody listened for.
    ConnectsRefused,
    /// Connects that were not answered in time.
    ConnectsTimedOut,
    /// Connects that found no way.
    ConnectsUnreachable,
    /// Connects that were reset.
    ConnectsReset,
    /// Connects for which this machine lacked something.
    ConnectsLocal,
    /// Connects that failed otherwise.
    ConnectsOther,
    /// Connections that were tried here and then elsewhere.
    RetriesAway,
    /// Connections that a deadline ended while they waited for the endpoint.
    Timeouts,
    /// Ejections.
    Ejections,
    /// Ejections that were due and not made, since too many endpoints were out.
    EjectionsWithheld,
    /// Changes from up to down by health checks.
    WentDown,
    /// Changes from down to up by health checks.
    CameUp,
    /// Health checks that passed.
    ChecksPassed,
    /// Health checks that failed.
    ChecksFailed,
    /// Bytes sent to the endpoint.
    BytesTo,
    /// Bytes received from the endpoint.
    BytesFrom,
}

impl EndpointCounter {
    /// All counters, in the order of their values.
    pub const ALL: [Self; 17] = [
        Self::Connects,
        Self::ConnectsRefused,
        Self::ConnectsTimedOut,
        Self::ConnectsUnreachable,
        Self::ConnectsReset,
        Self::ConnectsLocal,
        Self::ConnectsOther,
        Self::RetriesAway,
        Self::Timeouts,
        Self::Ejections,
        Self::EjectionsWithheld,
        Self::WentDown,
        Self::CameUp,
        Self::ChecksPassed,
        Self::ChecksFailed,
        Self::BytesTo,
        Self::BytesFrom,
    ];

    /// The name under which it is exported.
    pub fn name(self) -> &'static str {
        self.description().0
    }

    /// What it counts, in a sentence.
    pub fn help(self) -> &'static str {
        self.description().1
    }

    #[rustfmt::skip]
    fn description(self) -> (&'static str, &'static str) {
        match self {
            Self::Connects => ("connects", "Connections that were opened."),
            Self::ConnectsRefused => ("connects_refused", "Connects that nobody listened for."),
            Self::ConnectsTimedOut => ("connects_timed_out", "Connects that were not answered in time."),
            Self::ConnectsUnreachable => ("connects_unreachable", "Connects that found no way."),
            Self::ConnectsReset => ("connects_reset", "Connects that were reset."),
            Self::ConnectsLocal => ("connects_local_errors", "Connects for which this machine lacked something."),
            Self::ConnectsOther => ("connects_other_errors", "Connects that failed otherwise."),
            Self::RetriesAway => ("retries_away", "Connections that were tried here and then elsewhere."),
            Self::Timeouts => ("timeouts", "Connections that a deadline ended while they waited for the endpoint."),
            Self::Ejections => ("ejections", "Ejections."),
            Self::EjectionsWithheld => ("ejections_withheld", "Ejections that were due and not made, since too many endpoints were out."),
            Self::WentDown => ("went_down", "Changes from up to down by health checks."),
            Self::CameUp => ("came_up", "Changes from down to up by health checks."),
            Self::ChecksPassed => ("checks_passed", "Health checks that passed."),
            Self::ChecksFailed => ("checks_failed", "Health checks that failed."),
            Self::BytesTo => ("bytes_to", "Bytes sent to the endpoint."),
            Self::BytesFrom => ("bytes_from", "Bytes received from the endpoint."),
        }
    }
}

/// The counters of one endpoint. Every worker writes them, so add bytes in large steps: at the end of
/// a connection, or every so many reads.
#[derive(Debug, Default)]
pub struct EndpointCounters(Padded<[AtomicU64; EndpointCounter::ALL.len()]>);

impl EndpointCounters {
    /// Adds to a counter.
    pub fn add(&self, counter: EndpointCounter, amount: u64) {
        self.0.0[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Forgets what was counted.
    pub(super) fn reset(&self) {
        self.0.0.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    /// Adds one.
    pub fn count(&self, counter: EndpointCounter) {
        self.add(counter, 1);
    }

    /// The value of a counter.
    pub fn get(&self, counter: EndpointCounter) -> u64 {
        self.0.0[counter as usize].load(Ordering::Relaxed)
    }
}
