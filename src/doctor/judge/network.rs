//! What the kernel's TCP is set to. See tcp(7) and Documentation/networking/ip-sysctl.rst.

use super::unread;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;

/// A shorter accept queue overflows in a burst that takes a busy thread tens of milliseconds.
const SHORT_QUEUE: u64 = 1024;
/// The default of `net.core.somaxconn` since Linux 5.4.
const USUAL_QUEUE: u64 = 4096;
/// Fewer local ports are used up within a second or two by a load generator.
const FEW_PORTS: u64 = 10_000;
/// Share of the connection-tracking table, in percent, that may be in use.
const CONNTRACK_PERCENT: u64 = 80;

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    vec![
        accept_queue(facts),
        syn_cookies(facts),
        syn_queue(facts),
        overflow(facts),
        migration(facts),
        local_ports(facts),
        time_wait(facts),
        conntrack(facts),
    ]
}

fn accept_queue(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.core.somaxconn";
    let Some(most) = facts.sysctls.number(SYSCTL) else { return unread("accept-queue", SYSCTL) };
    let check = if most < SHORT_QUEUE { Check::warn } else { Check::ok };
    let check = check("accept-queue", format!("{most} ({SYSCTL})"));
    if most >= SHORT_QUEUE {
        return check.because("every backlog is cut to it");
    }
    check
        .because(
            "every backlog is cut to it; when that many connections wait, the kernel drops SYNs, \
             and clients connect seconds later. Each network namespace has its own: a container \
             gets it with --sysctl",
        )
        .fix(format!("sysctl -w {SYSCTL}={USUAL_QUEUE}"))
}

fn syn_cookies(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.tcp_syncookies";
    let Some(switch) = facts.sysctls.number(SYSCTL) else { return unread("syn-cookies", SYSCTL) };
    let value = format!("{switch} ({SYSCTL})");
    let fix = format!("sysctl -w {SYSCTL}=1");
    match switch {
        1 => Check::ok("syn-cookies", value).because("sent when the SYN queue is full"),
        0 => Check::warn("syn-cookies", value)
            .because("a flood of SYNs fills the SYN queue and keeps everybody else out")
            .fix(fix),
        _ => Check::warn("syn-cookies", value)
            .because("always sent, which is for tests: connections lose TCP options")
            .fix(fix),
    }
}

/// The kernel looks at it only where it may not send cookies (tcp_conn_request()).
fn syn_queue(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.tcp_max_syn_backlog";
    let Some(most) = facts.sysctls.number(SYSCTL) else { return unread("syn-queue", SYSCTL) };
    let value = format!("{most} ({SYSCTL})");
    if facts.sysctls.number("net.ipv4.tcp_syncookies") != Some(0) {
        return Check::ok("syn-queue", value)
            .because("with SYN cookies the backlog alone bounds the SYN queue");
    }
    if most >= SHORT_QUEUE {
        return Check::ok("syn-queue", value);
    }
    Check::warn("syn-queue", value)
        .because("without SYN cookies, three quarters of it is all that may be in a handshake")
        .fix(format!("sysctl -w {SYSCTL}={USUAL_QUEUE}"))
}

fn overflow(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.tcp_abort_on_overflow";
    let Some(switch) = facts.sysctls.number(SYSCTL) else { return unread("overflow", SYSCTL) };
    let value = format!("{switch} ({SYSCTL})");
    if switch == 0 {
        return Check::ok("overflow", value)
            .because("a full accept queue delays clients, which try again");
    }
    Check::warn("overflow", value)
        .because("a full accept queue resets clients, where they would try again")
        .fix(format!("sysctl -w {SYSCTL}=0"))
}

fn migration(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.tcp_migrate_req";
    let Some(switch) = facts.sysctls.number(SYSCTL) else { return unread("migration", SYSCTL) };
    let value = format!("{switch} ({SYSCTL})");
    let reason = if switch == 0 {
        "where several sockets share a port (--acceptors 0, or above 1), closing one resets what \
         waits in its queue; a drain empties the queues first"
    } else {
        "where several sockets share a port, what waits in the queue of one that closes goes to \
         the others"
    };
    Check::ok("migration", value).because(reason)
}

fn local_ports(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.ip_local_port_range";
    let Some(range) = facts.sysctls.range(SYSCTL) else { return unread("local-ports", SYSCTL) };
    let (low, high) = (*range.start(), *range.end());
    let count = (high + 1).saturating_sub(low);
    let value = format!("{count} ({low} to {high})");
    if count >= FEW_PORTS {
        return Check::ok("local-ports", value)
            .because("for each pair of local address and target; loadgen and proxies use them, and each source \
                      address that they are given has as many");
    }
    Check::warn("local-ports", value)
        .because(
            "a proxy or a load generator has no more connections than that to one target from \
             one address",
        )
        .fix(format!("sysctl -w {SYSCTL}=\"32768 60999\""))
}

fn time_wait(facts: &Facts) -> Check {
    const SYSCTL: &str = "net.ipv4.tcp_tw_reuse";
    let Some(switch) = facts.sysctls.number(SYSCTL) else { return unread("time-wait", SYSCTL) };
    let value = format!("{switch} ({SYSCTL})");
    match switch {
        0 => Check::warn("time-wait", value)
            .because(
                "whoever closes first, a proxy or a load generator, gets the local port back only \
                 after a minute",
            )
            .fix(format!("sysctl -w {SYSCTL}=2")),
        1 => Check::ok("time-wait", value).because("local ports come back after a second"),
        _ => Check::ok("time-wait", value)
            .because("local ports come back after a second on loopback, after a minute elsewhere"),
    }
}

fn conntrack(facts: &Facts) -> Check {
    let number = |name| facts.sysctls.number(name);
    let count = number("net.netfilter.nf_conntrack_count");
    let (Some(used), Some(most)) = (count, number("net.netfilter.nf_conntrack_max")) else {
        return Check::skipped("conntrack", "not loaded");
    };
    let value = format!("{used} of {most} (nf_conntrack_max)");
    if most == 0 || used < most.saturating_mul(CONNTRACK_PERCENT) / 100 {
        return Check::ok("conntrack", value);
    }
    Check::warn("conntrack", value)
        .because("a full table drops the packets of every new connection")
        .fix(format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(4)))
}
