//! Connects that waited for a dropped SYN, by how long they took.
//!
//! A SYN that a full accept queue drops is sent again after the initial retransmission timeout of
//! 1 s (TCP_TIMEOUT_INIT, RFC 6298). Later timeouts double, but from Linux 6.5 on the first
//! `net.ipv4.tcp_syn_linear_timeouts` (by default 4) stay at 1 s (tcp_retransmit_timer):
//!
//! ```text
//!   dropped                          1     2     3
//!   tcp_syn_linear_timeouts = 0      1 s   3 s   7 s
//!   tcp_syn_linear_timeouts = 4      1 s   2 s   3 s
//! ```

use std::fs;
use std::time::Duration;

/// TCP_TIMEOUT_INIT.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Drops that are told apart.
const MOST_DROPS: usize = 3;

/// The kernel counts in ticks of at most 10 ms (HZ=100), so a timer may end that much early.
const TICK: Duration = Duration::from_millis(10);

/// The timer wheel ends a timer up to an eighth of its time late (kernel/time/timer.c).
const WHEEL_SLACK_DIVISOR: u32 = 8;

/// The handshake after the last SYN, and the way to the completion. What takes longer than this was
/// slow for another reason as well and is not counted.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// Connect times that tell of one, two and three dropped SYNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynTimes([Window; MOST_DROPS]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: Duration,
    to: Duration,
}

impl SynTimes {
    /// For a kernel with this `tcp_syn_linear_timeouts`; one before Linux 6.5 has 0.
    pub fn new(linear_timeouts: u32) -> Self {
        let mut timeout = INITIAL_TIMEOUT;
        let mut resent = Duration::ZERO;
        let mut timeouts = 0;
        Self(std::array::from_fn(|_| {
            resent += timeout;
            timeouts += 1;
            if timeouts > linear_timeouts {
                timeout *= 2;
            }
            Window { from: resent - TICK, to: resent + resent / WHEEL_SLACK_DIVISOR + HANDSHAKE }
        }))
    }

    /// For the kernel that runs.
    pub fn of_this_kernel() -> Self {
        let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
        Self::new(text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// How many SYNs of a connect were dropped: 1 to 3, or `None` when its time, `connect`, does not
    /// tell of that.
    pub fn dropped(&self, connect: Duration) -> Option<usize> {
        let within = |window: &Window| (window.from..=window.to).contains(&connect);
        self.0.iter().position(within).map(|index| index + 1)
    }

    /// Counts a connect as [`Outcome::dropped_syns`](super::Outcome::dropped_syns) has it.
    pub fn count(&self, connect: Duration, dropped_syns: &mut [u64; MOST_DROPS]) {
        if let Some(drops) = self.dropped(connect) {
            dropped_syns[drops - 1] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds, and the drops under exponential and under linear timeouts.
    const TABLE: &[(u64, Option<usize>, Option<usize>)] = &[
        (0, None, None),
        (40, None, None),
        (400, None, None),
        (900, None, None),
        (989, None, None),
        (990, Some(1), Some(1)),
        (1018, Some(1), Some(1)),
        (1056, Some(1), Some(1)),
        (1225, Some(1), Some(1)),
        (1300, None, None),
        (1500, None, None),
        (2000, None, Some(2)),
        (2047, None, Some(2)),
        (2500, None, None),
        (3000, Some(2), Some(3)),
        (3071, Some(2), Some(3)),
        (3475, Some(2), Some(3)),
        (3600, None, None),
        (5000, None, None),
        (7000, Some(3), None),
        (7300, Some(3), None),
        (8000, None, None),
        (15_000, None, None),
    ];

    #[test]
    fn only_times_of_resent_syns_count() {
        for &(millis, exponential, linear) in TABLE {
            let connect = Duration::from_millis(millis);
            assert_eq!(SynTimes::new(0).dropped(connect), exponential, "{millis} ms, exponential");
            assert_eq!(SynTimes::new(4).dropped(connect), linear, "{millis} ms, linear");
        }
    }

    #[test]
    fn some_linear_timeouts_and_then_exponential_ones() {
        let resent = |linear| SynTimes::new(linear).0.map(|window| (window.from + TICK).as_secs());
        assert_eq!(resent(0), [1, 3, 7]);
        assert_eq!(resent(1), [1, 2, 4]);
        assert_eq!(resent(2), [1, 2, 3]);
        assert_eq!(resent(u32::MAX), [1, 2, 3]);
    }

    #[test]
    fn the_windows_do_not_overlap() {
        for linear in 0..=4 {
            let SynTimes(windows) = SynTimes::new(linear);
            assert!(windows.windows(2).all(|pair| pair[0].to < pair[1].from), "{linear}");
        }
    }

    #[test]
    fn counts_by_number_of_drops() {
        let mut counts = [0; 3];
        for millis in [3, 1010, 1020, 3050, 7010, 2000] {
            SynTimes::new(0).count(Duration::from_millis(millis), &mut counts);
        }
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(SynTimes::of_this_kernel().dropped(Duration::from_millis(1010)), Some(1));
    }
}
