//! The sysctls that say how many local ports an address has, and when they come back.

use std::fs;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Before Linux 6.14 the delay is a second, and no sysctl.
const DEFAULT_REUSE_DELAY: Duration = Duration::from_secs(1);

/// Local ports of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRoom {
    /// net.ipv4.ip_local_port_range; IPv6 uses it as well.
    pub range: RangeInclusive<u16>,
    /// Ports of the range that net.ipv4.ip_local_reserved_ports takes out.
    pub reserved: usize,
    /// When connect(2) takes a port in TIME_WAIT.
    pub reuse: TimeWaitReuse,
    /// Differs from run to run; chooses the block of loopback addresses.
    pub block: u32,
}

/// When connect(2) takes a port whose last connection with the same target is in TIME_WAIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeWaitReuse {
    /// net.ipv4.tcp_tw_reuse is 0, or TCP timestamps are off.
    Never,
    /// It is 2: to a loopback address, after this time.
    OnLoopbackAfter(Duration),
    /// It is 1: after this time.
    After(Duration),
}

impl PortRoom {
    /// Of this network namespace; the block is this process's. Where there is no /proc, as in a chroot, what
    /// the kernel has by default is taken.
    ///
    /// # Errors
    /// Names the sysctl that cannot be read.
    pub fn read() -> Result<Self, String> {
        let range = parse_range(&sysctl("ip_local_port_range", "32768 60999")?)?;
        let listed = sysctl("ip_local_reserved_ports", "").unwrap_or_default();
        let delay = sysctl("tcp_tw_reuse_delay", "").ok().and_then(|text| text.parse().ok());
        let delay = delay.map_or(DEFAULT_REUSE_DELAY, Duration::from_millis);
        let timestamps = sysctl("tcp_timestamps", "1")? != "0";
        Ok(Self {
            reserved: reserved(&listed, &range),
            range,
            reuse: reuse(&sysctl("tcp_tw_reuse", "2")?, timestamps, delay),
            block: std::process::id(),
        })
    }

    /// Ports that the kernel may choose, at least 1.
    pub fn ports(&self) -> usize {
        self.range.len().saturating_sub(self.reserved).max(1)
    }
}

/// Its value, or `default` if there is none.
fn sysctl(name: &str, default: &str) -> Result<String, String> {
    match fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(default.to_owned()),
        Err(error) => Err(format!("net.ipv4.{name} cannot be read: {error}")),
    }
}

pub(super) fn parse_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports: Vec<u16> = text.split_whitespace().flat_map(str::parse).collect();
    match ports[..] {
        [low, high] if low <= high => Ok(low..=high),
        _ => Err(format!("net.ipv4.ip_local_port_range is '{text}', not two ports")),
    }
}

/// Ports of `range` that a list such as `32768,40000-40009` names.
pub(super) fn reserved(listed: &str, range: &RangeInclusive<u16>) -> usize {
    let within = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: u16 = low.trim().parse().ok()?;
        let high: u16 = high.trim().parse().ok()?;
        Some((low.max(*range.start())..=high.min(*range.end())).len())
    };
    listed.split(',').filter_map(within).sum()
}

pub(super) fn reuse(tcp_tw_reuse: &str, timestamps: bool, delay: Duration) -> TimeWaitReuse {
    match tcp_tw_reuse {
        "1" if timestamps => TimeWaitReuse::After(delay),
        "2" if timestamps => TimeWaitReuse::OnLoopbackAfter(delay),
        _ => TimeWaitReuse::Never,
    }
}
