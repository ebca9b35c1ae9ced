//! What the kernel counts for the network namespace.

use std::fs;

use crate::sys;

/// What the kernel counts for the network namespace of the process, all servers in it together (TcpExt in
/// /proc/net/netstat). Zero for what this kernel does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceCounters {
    /// ListenOverflows: handshakes and SYNs that a full accept queue dropped.
    pub listen_overflows: u64,
    /// ListenDrops: all that listeners dropped, for whatever reason.
    pub listen_drops: u64,
    /// SyncookiesSent.
    pub syn_cookies_sent: u64,
    /// SyncookiesFailed: answers to cookies that were none.
    pub syn_cookies_failed: u64,
    /// TCPReqQFullDrop: SYNs that a full queue of handshakes dropped.
    pub syn_queue_full_drops: u64,
    /// TCPReqQFullDoCookies: SYNs that it answered with a cookie.
    pub syn_queue_full_cookies: u64,
}

impl NamespaceCounters {
    /// As they are now; `None` if they cannot be read, for want of a descriptor perhaps.
    pub fn read() -> Option<Self> {
        fs::read_to_string("/proc/self/net/netstat").ok().map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let counter = |name| sys::net_counter(text, "TcpExt:", name).unwrap_or(0);
        Self {
            listen_overflows: counter("ListenOverflows"),
            listen_drops: counter("ListenDrops"),
            syn_cookies_sent: counter("SyncookiesSent"),
            syn_cookies_failed: counter("SyncookiesFailed"),
            syn_queue_full_drops: counter("TCPReqQFullDrop"),
            syn_queue_full_cookies: counter("TCPReqQFullDoCookies"),
        }
    }
}

/// What the namespace has counted around a look at listeners.
///
/// ```text
///   a look:            begin ... drops of each listener ... end       begin ... drops of each ... end
///   drops that it finds:        ------------------------------------------------------>
///   what it compares with:  begin of the one before ------------------------------------------> end
/// ```
///
/// The kernel counts an overflow before the drop that it is. So what a listener has dropped since the last look is
/// counted between these two, whenever it happened.
#[derive(Debug, Default)]
pub(super) struct NamespaceChanges {
    /// The beginning of the last look.
    pub(super) before: Option<NamespaceCounters>,
}

impl NamespaceChanges {
    /// What has changed, from what was read at the beginning and at the end of a look.
    pub(super) fn take(
        &mut self,
        begin: Option<NamespaceCounters>,
        end: Option<NamespaceCounters>,
    ) -> (u64, u64) {
        // What cannot be read now is compared the next time.
        let before = self.before;
        self.before = begin.or(before);
        let (Some(old), Some(new)) = (before, end) else { return (0, 0) };
        let grown =
            |counter: fn(&NamespaceCounters) -> u64| counter(&new).saturating_sub(counter(&old));
        (grown(|it| it.listen_overflows), grown(|it| it.syn_queue_full_drops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_namespace_are_found_by_name() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 4 5 6 7\n";
        let expected = NamespaceCounters {
            syn_cookies_sent: 4,
            listen_overflows: 5,
            listen_drops: 6,
            syn_queue_full_drops: 7,
            ..NamespaceCounters::default()
        };
        assert_eq!(NamespaceCounters::parse(text), expected);
    }

    fn overflows(count: u64) -> Option<NamespaceCounters> {
        Some(NamespaceCounters { listen_overflows: count, ..NamespaceCounters::default() })
    }

    #[test]
    fn what_is_counted_during_a_look_is_missed_by_none() {
        let mut changes = NamespaceChanges::default();
        let mut look = |begin, end| changes.take(begin, end).0;
        assert_eq!(look(overflows(5), overflows(5)), 0, "nothing is known of before");
        assert_eq!(look(overflows(5), overflows(6)), 1, "its drop may have been seen in this look");
        assert_eq!(look(overflows(6), overflows(6)), 1, "or it was not, and is seen in the next");
        assert_eq!(look(overflows(6), overflows(6)), 0);
        assert_eq!(look(None, None), 0);
        assert_eq!(look(overflows(8), overflows(8)), 2, "it could not be read before");
        assert_eq!(look(None, overflows(9)), 1);
        assert_eq!(look(overflows(9), overflows(9)), 1);
    }
}
