//! What a missing capability costs. A server runs without any.

use super::unread;
use crate::config::{Listen, ListenAddress};
use crate::doctor::check::Check;
use crate::doctor::facts::{Bytes, Capability, Facts, Rehearsal};
use crate::ring::Refusal;
use crate::ring::engine::Notice;
use crate::sys::Errno;

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    vec![drain(facts), bans(facts), low_ports(facts), locked_memory(facts), pipes(facts)]
}

/// Whether this process has it, in words; not known without /proc.
fn missing(facts: &Facts, capability: Capability) -> bool {
    facts.capabilities.is_some_and(|own| !own.has(capability))
}

/// No established connection is lost either way, so neither is a warning.
fn drain(facts: &Facts) -> Check {
    if facts.packet_filter.is_ok() {
        return Check::ok("drain", "new connections meet silence")
            .because("they try again a second later and find the next server");
    }
    Check::ok("drain", "new connections are refused (no CAP_NET_ADMIN)").because(
        "a packet filter would meet them with silence, so that they try again a second later; \
         without CAP_NET_ADMIN their SYN is answered with a reset. Established connections and those \
         in the accept queue are served in either case",
    )
}

/// A ban holds either way, so this is no warning.
fn bans(facts: &Facts) -> Check {
    match facts.packet_filter {
        Ok(()) => Check::ok("bans", "in the kernel").because(
            "the SYNs of a banned source are dropped before a handshake, which costs next to nothing",
        ),
        Err(errno) => {
            let why = if errno == Errno::EPERM { "no CAP_NET_ADMIN" } else { errno.name() };
            Check::ok("bans", format!("at accept ({why})")).because(
                "a banned source is accepted and reset; with CAP_NET_ADMIN the kernel drops its SYNs before a handshake",
            )
        }
    }
}

fn low_ports(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
    if facts.capabilities.is_some_and(|own| own.has(Capability::NetBindService)) {
        return Check::ok("low-ports", "all").because("CAP_NET_BIND_SERVICE");
    }
    let Some(first) = facts.sysctls.number(SYSCTL) else { return unread("low-ports", SYSCTL) };
    let value = format!("from {first} ({SYSCTL}, no CAP_NET_BIND_SERVICE)");
    let asked = facts.trials.iter().filter_map(|trial| port(&trial.address));
    match asked.map(u64::from).filter(|port| (1..first).contains(port)).min() {
        None => Check::ok("low-ports", value).because("ports below that cannot be listened on"),
        Some(port) => Check::warn("low-ports", value)
            .because(format!("port {port} is below that"))
            .fix(format!(
                "setcap cap_net_bind_service+ep, AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd, \
                 or: sysctl -w {SYSCTL}={port}"
            )),
    }
}

fn port(listen: &Listen) -> Option<u16> {
    match listen {
        Listen::Address(ListenAddress::Tcp(address)) => Some(address.port()),
        Listen::Address(ListenAddress::Unix(_)) => None,
        Listen::All { port } | Listen::Name { port, .. } => Some(*port),
    }
}

/// Not even the smallest rings can be made.
const TOO_LITTLE: Notice = Notice::Epoll(Refusal::Memory);

/// RLIMIT_MEMLOCK against the rings that a server would make.
fn locked_memory(facts: &Facts) -> Check {
    const FIX: &str = "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity), or CAP_IPC_LOCK";
    let limit = facts.locked_memory.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let warn = |limit: String| Check::warn("locked-memory", limit);
    let fits = |wanted: &Bytes| facts.locked_memory.is_none_or(|limit| *wanted <= limit);
    match &facts.rehearsal {
        Some(Rehearsal {
            wanted,
            notice: Some(notice @ (Notice::Smaller { .. } | TOO_LITTLE)),
        }) if fits(wanted) => {
            let then = match notice {
                Notice::Smaller { .. } => "smaller rings",
                Notice::Epoll(_) => "epoll",
            };
            warn(limit)
                .because(format!(
                    "the {wanted} that the rings of a server here want would fit, but other processes of this \
                     user have taken too much of it: a further server would take {then}. If a server runs \
                     already, this is about one beside it"
                ))
                .fix(format!("nothing for one server; for a further one: {FIX}"))
        }
        Some(Rehearsal { wanted, notice: Some(Notice::Smaller { .. }) }) => warn(limit)
            .because(format!(
                "the rings of a server here want {wanted}, so --engine auto makes smaller ones and \
                 --engine uring does not start; all processes of this user share the limit"
            ))
            .fix(FIX),
        Some(Rehearsal { wanted, notice: Some(TOO_LITTLE) }) => warn(limit)
            .because(format!(
                "the rings of a server here want {wanted} and even the smallest do not fit, so \
                 --engine auto takes epoll; all processes of this user share the limit"
            ))
            .fix(FIX),
        None if facts.ring == Err(Refusal::Memory) => {
            warn(limit).because("not even one ring fits, so --engine auto takes epoll").fix(FIX)
        }
        _ if facts.capabilities.is_some_and(|own| own.has(Capability::IpcLock)) => {
            Check::ok("locked-memory", limit).because("it does not count: CAP_IPC_LOCK")
        }
        Some(Rehearsal { wanted, .. }) => Check::ok("locked-memory", limit).because(format!(
            "enough for the {wanted} that the rings of a server here want (recent kernels charge \
             them to it)"
        )),
        None => Check::ok("locked-memory", limit).because("there are no rings that need it"),
    }
}

/// A pipe beyond the soft limit of its user is too small to splice through.
fn pipes(facts: &Facts) -> Check {
    const SYSCTL: &str = "fs.pipe-user-pages-soft";
    let Some(pages) = facts.sysctls.number(SYSCTL) else { return unread("pipes", SYSCTL) };
    let free = pages == 0 || !missing(facts, Capability::SysResource);
    if free {
        return Check::ok("pipes", "unlimited")
            .because("fs.pipe-user-pages-soft does not count here");
    }
    /// Of a pipe of 64 KiB.
    const PAGES_OF_A_PIPE: u64 = 16;
    let count = pages / PAGES_OF_A_PIPE;
    Check::ok("pipes", format!("{count} ({SYSCTL}, no CAP_SYS_RESOURCE)")).because(
        "all processes of this user share them; what large transfers of a proxy have no pipe for is \
         copied",
    )
}
