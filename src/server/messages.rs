//! What the log is told of sockets that stop to listen, and what follows from it.

use std::fmt;
use std::time::{Instant, SystemTime};

use humantime::{format_duration, format_rfc3339_micros};

use super::lifecycle::{Lifecycle, Phase};
use super::sockets::Left;
use crate::config::ListenAddress;
use crate::dispatch::ListenerId;
use crate::sys::Errno;

/// A socket has broken while the server was serving. If nothing listens any more, the server drains.
pub(super) fn lose(
    lifecycle: &Lifecycle,
    (listener, address): (ListenerId, &ListenAddress),
    errno: Errno,
    (open, now): (usize, Instant),
) {
    let left = lifecycle.sockets().lose(listener);
    if left.all == 0 {
        lifecycle.enter(Phase::Draining, now);
    }
    let over = Over { address, errno, left, open, drain: Drain::new(lifecycle, now) };
    if left.here > 0 {
        tracing::warn!("{over}");
    } else {
        tracing::error!("{over}");
    }
}

/// How long a drain lasts at most.
#[derive(Debug, Clone, Copy)]
struct Drain {
    timeout: std::time::Duration,
    until: SystemTime,
}

impl Drain {
    fn new(lifecycle: &Lifecycle, now: Instant) -> Self {
        let left = lifecycle
            .drain_until()
            .map_or(lifecycle.drain_timeout(), |end| end.saturating_duration_since(now));
        Self { timeout: lifecycle.drain_timeout(), until: SystemTime::now() + left }
    }
}

/// A socket that is over, in the words of the log.
struct Over<'a> {
    address: &'a ListenAddress,
    errno: Errno,
    left: Left,
    open: usize,
    drain: Drain,
}

impl fmt::Display for Over<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, errno, left: Left { here, all }, open, drain } = *self;
        if here > 0 {
            let sockets = if here == 1 { "socket" } else { "sockets" };
            return write!(
                formatter,
                "one of the sockets that listen on {address} is over: accept(2) failed with {errno}; new \
                 connections go to the other {sockets} of this address ({here}), what waited in its queue is \
                 reset, the open connections ({open}) go on"
            );
        }
        write!(
            formatter,
            "listening on {address} is over: accept(2) failed with {errno}; nobody can connect there any \
             more until the server starts again"
        )?;
        if all > 0 {
            return write!(
                formatter,
                "; the other listeners and the open connections ({open}) go on"
            );
        }
        let (timeout, until) = (format_duration(drain.timeout), format_rfc3339_micros(drain.until));
        write!(
            formatter,
            ", and nothing else listens: the server drains; the open connections ({open}) have {timeout} to \
             end, until {until}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dispatch::FrontendId;

    #[test]
    fn each_line_says_what_is_left() {
        let address: ListenAddress = "127.0.0.1:1".parse().unwrap();
        let drain = Drain {
            timeout: Duration::from_secs(10),
            until: SystemTime::UNIX_EPOCH + Duration::from_micros(1),
        };
        let table = [
            (Left { here: 2, all: 3 }, "the other sockets of this address (2)", "(7) go on"),
            (Left { here: 1, all: 1 }, "the other socket of this address (1)", "(7) go on"),
            (Left { here: 0, all: 1 }, "nobody can connect there", "(7) go on"),
            (
                Left { here: 0, all: 0 },
                "the server drains",
                "to end, until 1970-01-01T00:00:00.000001Z",
            ),
        ];
        for (left, middle, end) in table {
            let over = Over { address: &address, errno: Errno::EINVAL, left, open: 7, drain };
            let text = over.to_string();
            assert!(text.contains("127.0.0.1:1 is over: accept(2) failed with EINVAL"), "{text}");
            assert!(text.contains(middle) && text.ends_with(end), "{text}");
            assert_eq!(text.contains("nobody can connect"), left.here == 0, "{text}");
        }
    }

    /// One that is left keeps the server alive.
    #[test]
    fn the_last_socket_begins_the_drain() {
        let (lifecycle, now) = (Lifecycle::new(Duration::from_secs(10), 1), Instant::now());
        let listener = ListenerId { frontend: FrontendId(0), index: 0 };
        lifecycle.sockets().add(listener, 2);
        let address: ListenAddress = "127.0.0.1:1".parse().unwrap();
        for phase in [Phase::Serving, Phase::Draining] {
            lose(&lifecycle, (listener, &address), Errno::EINVAL, (0, now));
            assert_eq!(lifecycle.phase(), phase);
        }
        assert_eq!(lifecycle.drain_until(), Some(now + Duration::from_secs(10)));
    }
}
