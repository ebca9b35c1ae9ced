//! What is known of a machine before anything is judged.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::exercise::Exercise;
use crate::config::{Config, Listen};
use crate::listener::{Backlog, BindError};
use crate::ring::Refusal;
use crate::ring::engine::Notice;
use crate::sys::{Errno, NofileLimit};

/// Everything that was read, and what a server would be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the server would be told.
    pub config: Config,
    /// The kernel's release, as uname(2) writes it.
    pub kernel: String,
    /// Whether io_uring answers.
    pub ring: Result<(), Refusal>,
    /// What the operations that the server needs did in a child process.
    pub exercise: Exercise,
    /// What became of the rings that a server would make; `None` if they were not tried.
    pub rehearsal: Option<Rehearsal>,
    /// Whether epoll answers.
    pub epoll: Result<(), Errno>,
    /// Whether a seccomp filter is in force; `None` when /proc does not tell.
    pub seccomp: Option<bool>,
    /// What this process may do beyond a plain user's; `None` when /proc does not tell.
    pub capabilities: Option<Capabilities>,
    /// Whether a socket may have a packet filter, which a drain would like.
    pub packet_filter: Result<(), Errno>,
    /// CPUs that this process may use.
    pub cpus: Vec<usize>,
    /// The limit on descriptors.
    pub nofile: NofileLimit,
    /// The soft limit on locked memory; `None` when there is none or it is not known.
    pub locked_memory: Option<Bytes>,
    /// What the kernel is set to.
    pub sysctls: Sysctls,
    /// What the control group allows.
    pub control_group: ControlGroup,
    /// What became of each address that was asked for.
    pub trials: Vec<Trial>,
}

/// What became of the rings that a server would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// Locked memory that they want together.
    pub wanted: Bytes,
    /// What the server would say of them.
    pub notice: Option<Notice>,
}

/// The effective capabilities of a process, as `CapEff` of /proc/PID/status has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// Those that make a difference, by their number: see capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Ports below `net.ipv4.ip_unprivileged_port_start`.
    NetBindService = 10,
    /// Packet filters on sockets (Linux 6.18).
    NetAdmin = 12,
    /// Locked memory beyond RLIMIT_MEMLOCK.
    IpcLock = 14,
    /// Pipes beyond `fs.pipe-user-pages-soft`.
    SysResource = 24,
}

impl Capabilities {
    /// Whether this one is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u32 & 1 == 1
    }
}

/// The limits of the control groups that this process is in: the lowest from its own to the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ControlGroup {
    /// Memory, `None` without a limit.
    pub memory: Option<Bytes>,
    /// CPU time per time in thousandths of a CPU, `None` without a limit.
    pub cpu_millis: Option<u64>,
}

/// One address that was listened on for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// As asked for.
    pub address: Listen,
    /// The length of the accept queue, or why it cannot be listened on.
    pub outcome: Result<Backlog, BindError>,
    /// What a server would say of it at its start.
    pub notice: Option<String>,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1024;
        match self.0 {
            bytes if bytes < KIB => write!(formatter, "{bytes} B"),
            bytes if bytes < KIB * KIB => write!(formatter, "{} KiB", bytes / KIB),
            bytes if bytes < KIB * KIB * KIB => write!(formatter, "{} MiB", bytes / KIB / KIB),
            bytes => {
                let tenths = bytes / (KIB * KIB * KIB / 10);
                write!(formatter, "{}.{} GiB", tenths / 10, tenths % 10)
            }
        }
    }
}

/// The text of each sysctl that could be read, by its dotted name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sysctls(BTreeMap<&'static str, String>);

impl Sysctls {
    /// Those that are looked at.
    pub const NAMES: [&'static str; 16] = [
        "fs.file-max",
        "fs.file-nr",
        "fs.nr_open",
        "fs.pipe-user-pages-soft",
        "kernel.io_uring_disabled",
        "kernel.io_uring_group",
        "net.core.somaxconn",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_abort_on_overflow",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_migrate_req",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_tw_reuse",
        "net.netfilter.nf_conntrack_count",
        "net.netfilter.nf_conntrack_max",
    ];

    /// Reads all of [`Self::NAMES`]; those for which `read` has nothing are left out.
    pub fn collect(read: impl Fn(&'static str) -> Option<String>) -> Self {
        Self(Self::NAMES.into_iter().filter_map(|name| Some((name, read(name)?))).collect())
    }

    /// The text of a sysctl.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| text.trim())
    }

    /// The first number of a sysctl.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.split_whitespace().next()?.parse().ok()
    }

    /// A sysctl of two numbers.
    pub fn range(&self, name: &str) -> Option<RangeInclusive<u64>> {
        let mut numbers = self.text(name)?.split_whitespace().map(str::parse);
        match (numbers.next()?, numbers.next()?) {
            (Ok(low), Ok(high)) => Some(low..=high),
            _ => None,
        }
    }
}
