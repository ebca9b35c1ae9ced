//! The kernel, io_uring, and which engine a server takes.

use crate::doctor::check::Check;
use crate::doctor::exercise::{End, Found, Step};
use crate::doctor::facts::Facts;
use crate::ring::engine::Notice;
use crate::ring::{OLDEST_KERNEL, Refusal};
use crate::sys::{KernelRelease, SIGSYS};

/// Kernels whose multishot accept could name a descriptor that is none when its completion queue
/// overflowed: 6.6 to 6.8-rc4, fixed in 6.8-rc5 and in later stable releases.
/// <https://github.com/axboe/liburing/issues/1062>
const BOGUS_ACCEPT_FROM: KernelRelease = KernelRelease { major: 6, minor: 6 };
const BOGUS_ACCEPT_FIXED: KernelRelease = KernelRelease { major: 6, minor: 8 };
const BOGUS_ACCEPT_FIXED_CANDIDATE: u32 = 5;

/// Lets io_uring through a container's seccomp profile. Podman takes the same option.
const FIX_PROFILE: &str = "docker run --security-opt seccomp=deploy/seccomp.json ...";

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), calls(facts)];
    checks.extend(Step::ALL.map(|step| exercised(facts, step)));
    checks.push(engine(facts));
    checks
}

fn kernel(facts: &Facts) -> Check {
    let release = facts.kernel.as_str();
    match KernelRelease::parse(release) {
        None => Check::warn("kernel", release)
            .because("it does not say which release it is, so nothing can be said about it"),
        Some(parsed) if parsed < OLDEST_KERNEL => Check::warn("kernel", release)
            .because(format!("io_uring can do what is needed here from {OLDEST_KERNEL} on"))
            .fix(format!("install Linux {OLDEST_KERNEL} or later")),
        Some(parsed) if has_bogus_accept(parsed, release) => Check::warn("kernel", release)
            .because(
                "6.6 to 6.8-rc4: a multishot accept may name a wrong descriptor when its \
                 completion queue is full, unless a stable update has fixed it. The server makes \
                 the queue as long as the accept queues together, so that it does not fill: do not \
                 set --cq-entries",
            )
            .fix("install Linux 6.8 or later"),
        Some(_) => Check::ok("kernel", release).because(
            "kernels before a fix of March 2026 can lose the end of a connection whose last bytes \
             and FIN come together; the idle timeout then closes it",
        ),
    }
}

fn has_bogus_accept(parsed: KernelRelease, release: &str) -> bool {
    if parsed == BOGUS_ACCEPT_FIXED {
        return candidate(release).is_some_and(|number| number < BOGUS_ACCEPT_FIXED_CANDIDATE);
    }
    (BOGUS_ACCEPT_FROM..BOGUS_ACCEPT_FIXED).contains(&parsed)
}

/// The 4 of `6.8.0-rc4`.
fn candidate(release: &str) -> Option<u32> {
    let (_, rest) = release.split_once("-rc")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The three calls of io_uring.
fn calls(facts: &Facts) -> Check {
    match &facts.ring {
        Ok(()) => Check::ok("io-uring", "works"),
        Err(refusal) => refused(facts, refusal),
    }
}

/// In the same words as the server's message, with what else is known here.
fn refused(facts: &Facts, refusal: &Refusal) -> Check {
    let warn = |value: &str| Check::warn("io-uring", value);
    match refusal {
        Refusal::Sysctl(level) => warn("refused (EPERM)")
            .because(format!("kernel.io_uring_disabled is {level}{}", group(facts, *level)))
            .fix("sysctl -w kernel.io_uring_disabled=0"),
        Refusal::Seccomp if facts.seccomp == Some(false) => warn("refused (EPERM)")
            .because(
                "kernel.io_uring_disabled allows it and no seccomp filter is in force: a security \
                 module (SELinux, AppArmor) forbids it",
            )
            .fix("ausearch -m avc -ts recent, and allow io_uring in the policy"),
        Refusal::Seccomp => warn("refused (EPERM)")
            .because(
                "a seccomp filter forbids it, as those of Docker (from 25) and containerd (from 2) \
                 do by default; docs/CONTAINERS.md has the others",
            )
            .fix(FIX_PROFILE),
        Refusal::Missing if hidden(facts) => warn("missing (ENOSYS)")
            .because("the kernel has io_uring, so a seccomp filter hides it")
            .fix(FIX_PROFILE),
        Refusal::Missing => warn("missing (ENOSYS)")
            .because("the kernel was built without it, or a sandbox such as gVisor hides it")
            .fix("use a kernel with CONFIG_IO_URING=y, or another sandbox"),
        Refusal::Memory => warn("no memory (ENOMEM)")
            .because("the locked-memory limit or the control group's memory limit is too low")
            .fix("ulimit -l unlimited (systemd: LimitMEMLOCK=infinity), or raise memory.max"),
        Refusal::KernelTooOld(release) => warn("too old")
            .because(format!("this kernel is {release}; it takes {OLDEST_KERNEL} or later"))
            .fix(format!("install Linux {OLDEST_KERNEL} or later")),
        Refusal::Killed(SIGSYS) => killed("killed (SIGSYS)"),
        Refusal::Killed(signal) => killed(&format!("killed (signal {signal})")),
        Refusal::Step { .. } => warn("refused").because(refusal.to_string()),
    }
}

fn killed(value: &str) -> Check {
    Check::warn("io-uring", value)
        .because(
            "a seccomp filter kills whoever calls it; SystemCallFilter= of a systemd unit does, \
             and a profile whose default is to kill",
        )
        .fix("allow io_uring_setup, io_uring_enter and io_uring_register in the filter")
}

/// Level 1 lets a group in.
fn group(facts: &Facts, level: u32) -> String {
    if level != 1 {
        return String::new();
    }
    let group = facts.sysctls.text("kernel.io_uring_group").unwrap_or("-1");
    match group {
        "-1" => "; kernel.io_uring_group names no group that is let in".to_owned(),
        group => format!("; only the group {group} (kernel.io_uring_group) is let in"),
    }
}

/// A kernel that has the switch (6.6) has what it switches.
fn hidden(facts: &Facts) -> bool {
    facts.seccomp != Some(false) && facts.sysctls.text("kernel.io_uring_disabled").is_some()
}

/// What the child did with a ring.
fn exercised(facts: &Facts, step: Step) -> Check {
    let name = step.name();
    if facts.ring.is_err() {
        return Check::skipped(name, "not tried").because("io_uring is not to be had");
    }
    match (facts.exercise.of(step), &facts.exercise.end, facts.exercise.stuck_at()) {
        (Some(Found::Works), ..) => Check::ok(name, "works").because(use_of(step)),
        (Some(Found::Absent), ..) => absent(step),
        (Some(Found::Failed(why)), ..) => failed(step, why),
        (None, _, Some((stuck, how))) if stuck == step => failed(step, how),
        (None, End::NotBegun(why), _) => Check::skipped(name, "not tried").because(why),
        (None, ..) => Check::skipped(name, "not tried").because("the step before it ended the try"),
    }
}

/// The server asks for a ring only, so it would take io_uring and then fail.
fn failed(step: Step, why: &str) -> Check {
    Check::fail(step.name(), "fails")
        .because(format!("{why}; a server on io_uring needs it: {}", use_of(step)))
        .fix("allow io_uring_setup, io_uring_enter and io_uring_register, or use --engine epoll")
}

fn use_of(step: Step) -> &'static str {
    match step {
        Step::Rings => "SINGLE_ISSUER, DEFER_TASKRUN, a registered ring and a buffer ring",
        Step::MultishotAccept => "one submission accepts until it is cancelled",
        Step::Receive => "buffers are taken when bytes have come; an idle connection has none",
        Step::ReceiveCredit => "one submission receives until the byte budget is spent",
        Step::Send => "answers are sent from where they are",
        Step::Wake => "MSG_RING wakes a worker for a batch of new connections",
    }
}

/// What a server can do without: only the credit of a receive is such a thing.
fn absent(step: Step) -> Check {
    Check::warn(step.name(), "absent")
        .because(
            "before Linux 6.17 each receive is a submission of its own: about a tenth more CPU \
             time for each exchange on an open connection",
        )
        .fix("install Linux 6.17 or later")
}

fn engine(facts: &Facts) -> Check {
    let notice = facts.rehearsal.and_then(|rehearsal| rehearsal.notice);
    let ring =
        if matches!(notice, Some(Notice::Epoll(_))) { Err(()) } else { facts.ring.map_err(drop) };
    match (ring, &facts.epoll) {
        (Ok(()), _) if notice.is_some() => Check::warn("engine", "io_uring, smaller queues")
            .because("what --engine auto takes: the locked memory does not allow more")
            .fix("the fix of locked-memory"),
        (Ok(()), _) => Check::ok("engine", "io_uring").because("what --engine auto takes"),
        (Err(_), Ok(())) => Check::warn("engine", "epoll")
            .because(
                "what --engine auto takes, since io_uring is not to be had; the same behaviour, \
                 for more CPU time",
            )
            .fix("the fix of io-uring or locked-memory, or --engine epoll to silence this warning"),
        (Err(_), Err(errno)) => Check::fail("engine", "none")
            .because(format!("neither io_uring nor epoll ({errno}) can be had"))
            .fix("the fix of io-uring, or another sandbox"),
    }
}
