//! Text of /proc in, figures out. See proc(5).

use std::io;

use crate::load::outcome::KernelCounters;
use crate::sys::net_counter;

/// The first figure of a schedstat file: nanoseconds on a CPU.
pub(super) fn run_time_ns(schedstat: &str) -> io::Result<u64> {
    let first = schedstat.split_whitespace().next().and_then(|figure| figure.parse().ok());
    first.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("schedstat is '{}'", schedstat.trim()))
    })
}

/// VmRSS of a status file; a kernel thread and a zombie have none.
pub(super) fn resident_bytes(status: &str) -> u64 {
    field(status, "VmRSS:").unwrap_or(0) * 1024
}

/// Voluntary and other context switches of a thread's status file.
pub(super) fn switches(status: &str) -> u64 {
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
        .iter()
        .filter_map(|name| field(status, name))
        .sum()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The parent in a stat file. The name in parentheses before it may contain anything.
pub(super) fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The counters in the texts of /proc/net/snmp and /proc/net/netstat.
pub(super) fn counters(snmp: &str, netstat: &str) -> Result<KernelCounters, String> {
    let tcp = |name| net_counter(snmp, "Tcp:", name);
    let extended = |name| net_counter(netstat, "TcpExt:", name);
    Ok(KernelCounters {
        passive_opens: tcp("PassiveOpens")?,
        active_opens: tcp("ActiveOpens")?,
        retransmitted: tcp("RetransSegs")?,
        listen_overflows: extended("ListenOverflows")?,
        listen_drops: extended("ListenDrops")?,
        time_wait_overflow: extended("TCPTimeWaitOverflow")?,
    })
}
