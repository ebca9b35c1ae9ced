//! What a run did to the server and the kernel, from /proc, and to the generator: a snapshot before
//! the window, one after it, and the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use super::outcome::{KernelCounters, ServerUsage};
use crate::sys;

mod parse;
#[cfg(test)]
mod tests;

use parse::{counters, parent, resident_bytes, run_time_ns, switches};

/// What the threads of a process and its children have used so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSnapshot {
    threads: BTreeMap<ThreadId, ThreadUsage>,
    rss_bytes: u64,
}

/// Process and thread. Thread ids alone could be given again to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ThreadId {
    process: u32,
    thread: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ThreadUsage {
    cpu_ns: u64,
    switches: u64,
}

impl UsageSnapshot {
    /// Reads the process `pid` and, however deep, its children.
    ///
    /// # Errors
    /// A sentence for the operator: there is no such process, or the kernel has no schedstat.
    /// A thread or a child that ends meanwhile is no error.
    pub fn take(pid: u32) -> Result<Self, String> {
        let mut snapshot = Self::default();
        snapshot.add_process(pid).map_err(|error| unreadable(pid, &error))?;
        for child in descendants(pid, &parents()) {
            match snapshot.add_process(child) {
                Err(error) if !gone(&error) => return Err(unreadable(child, &error)),
                _ => {}
            }
        }
        Ok(snapshot)
    }

    /// What was used since `before`. Threads that appeared count whole; the last time of those that
    /// ended in between is lost, since the kernel keeps it nowhere per process in nanoseconds.
    pub fn since(&self, before: &Self) -> ServerUsage {
        let mut usage = ServerUsage {
            threads: self.threads.len() as u32,
            rss_bytes: self.rss_bytes,
            ..ServerUsage::default()
        };
        for (id, now) in &self.threads {
            let then = before.threads.get(id).copied().unwrap_or_default();
            let cpu_ns = now.cpu_ns.saturating_sub(then.cpu_ns);
            usage.cpu_ns += cpu_ns;
            usage.busiest_ns = usage.busiest_ns.max(cpu_ns);
            usage.switches += now.switches.saturating_sub(then.switches);
        }
        usage
    }

    fn add_process(&mut self, process: u32) -> io::Result<()> {
        self.rss_bytes += resident_bytes(&fs::read_to_string(format!("/proc/{process}/status"))?);
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let Some(thread) = number(&entry?.file_name()) else { continue };
            match thread_usage(process, thread) {
                Ok(usage) => {
                    self.threads.insert(ThreadId { process, thread }, usage);
                }
                // The main thread is there as long as the process is.
                Err(error) if gone(&error) && thread != process => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn thread_usage(process: u32, thread: u32) -> io::Result<ThreadUsage> {
    let folder = format!("/proc/{process}/task/{thread}");
    let status = fs::read_to_string(format!("{folder}/status"))?;
    let schedstat = fs::read_to_string(format!("{folder}/schedstat"))?;
    Ok(ThreadUsage { cpu_ns: run_time_ns(&schedstat)?, switches: switches(&status) })
}

/// ESRCH comes from files of a thread that has ended since they were opened.
fn gone(error: &io::Error) -> bool {
    /// No such process; see errno(3).
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

fn unreadable(pid: u32, error: &io::Error) -> String {
    if !fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        return format!("--server-pid {pid}: there is no such process");
    }
    if gone(error) {
        return "the kernel has no /proc/PID/schedstat (CONFIG_SCHED_INFO); leave out --server-pid"
            .into();
    }
    format!("--server-pid {pid}: the process cannot be observed: {error}")
}

/// The parent of each process that can be seen.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let process = |entry: io::Result<fs::DirEntry>| {
        let pid = number(&entry.ok()?.file_name())?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent(&stat)?))
    };
    entries.filter_map(process).collect()
}

/// The children of `pid`, their children, and so on.
fn descendants(pid: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![pid];
    while let Some(next) = open.pop() {
        for (&child, _) in parents.iter().filter(|(_, parent)| **parent == next) {
            if child != pid && found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

fn number(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

/// The kernel's counters so far, of the network namespace of this process.
///
/// # Errors
/// Names the file or the counter that is not there.
pub fn kernel_counters() -> Result<KernelCounters, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))
    };
    counters(&read("/proc/self/net/snmp")?, &read("/proc/self/net/netstat")?)
}

/// What the counters grew by since `before`.
pub fn growth(now: &KernelCounters, before: &KernelCounters) -> KernelCounters {
    KernelCounters {
        passive_opens: now.passive_opens.saturating_sub(before.passive_opens),
        active_opens: now.active_opens.saturating_sub(before.active_opens),
        listen_overflows: now.listen_overflows.saturating_sub(before.listen_overflows),
        listen_drops: now.listen_drops.saturating_sub(before.listen_drops),
        retransmitted: now.retransmitted.saturating_sub(before.retransmitted),
        time_wait_overflow: now.time_wait_overflow.saturating_sub(before.time_wait_overflow),
    }
}

/// CPU time of the calling thread so far, in nanoseconds. Each thread of the generator reads its own
/// at both ends of the window: the busiest one decides whether the generator was at its limit.
///
/// # Errors
/// Those of clock_gettime(2).
pub fn thread_cpu_ns() -> io::Result<u64> {
    sys::thread_cpu_time().map(|time| time.as_nanos() as u64)
}
