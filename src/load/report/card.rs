//! The machine card: what somebody who repeats a run must know about the machine.

use std::collections::BTreeMap;
use std::time::SystemTime;
use std::{fs, io, thread};

use serde::{Deserialize, Serialize};

/// Sysctls that change what a load generator or its server sees.
const SYSCTLS: &[&str] = &[
    "kernel.io_uring_disabled",
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fastopen",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
];

/// What stands where /proc does not say.
const UNKNOWN: &str = "unknown";

/// The machine and the program that a run was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Version of the load generator.
    pub program_version: String,
    /// Release of the kernel: `6.18.44`.
    pub kernel_release: String,
    /// As /proc/cpuinfo names it.
    pub cpu_model: String,
    /// CPUs that the generator may use.
    pub cpus: usize,
    /// Sysctls that matter, those that the kernel has.
    pub sysctls: BTreeMap<String, String>,
    /// Tells machines and their reboots apart: /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Tells network namespaces of a machine apart: `net:[4026531840]`.
    pub net_namespace: String,
    /// When the card was read, milliseconds since 1970. A run reads it just before it begins.
    pub read_at_unix_ms: u64,
}

impl Card {
    /// Reads the card of this machine; what /proc does not say is `unknown`.
    pub fn read() -> Self {
        Self {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: line("/proc/sys/kernel/osrelease"),
            cpu_model: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            sysctls: sysctls(),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            net_namespace: net_namespace().unwrap_or_else(|_| UNKNOWN.to_owned()),
            read_at_unix_ms: unix_ms(SystemTime::now()),
        }
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or(UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

/// x86 writes `model name`; Arm writes a part number only.
fn cpu_model(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let part = || field("CPU part").map(|part| format!("part {part}"));
    field("model name").or_else(part).unwrap_or_else(|| UNKNOWN.to_owned())
}

fn sysctls() -> BTreeMap<String, String> {
    let read = |name: &&str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some(((*name).to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    SYSCTLS.iter().filter_map(read).collect()
}

fn net_namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/net")?.to_string_lossy().into_owned())
}

/// Milliseconds since 1970.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_models() {
        let table = [
            ("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n", "Fast CPU @ 3 GHz"),
            ("processor\t: 0\nCPU part\t: 0xd40\n", "part 0xd40"),
            ("", UNKNOWN),
        ];
        for (text, expected) in table {
            assert_eq!(cpu_model(text), expected, "{text}");
        }
    }

    #[test]
    fn this_machine_has_a_card() {
        let card = Card::read();
        assert!(card.cpus > 0);
        assert_ne!(card.kernel_release, UNKNOWN);
        assert!(card.sysctls.contains_key("net.core.somaxconn"), "{card:?}");
        assert!(card.net_namespace.starts_with("net:["), "{card:?}");
    }
}
