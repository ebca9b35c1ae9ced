//! Why a machine has no ring for us, told apart for the operator.

use crate::sys::{Errno, KernelRelease};

/// The oldest kernel on which the contract can be kept: multishot accept and receive, buffer rings,
/// SINGLE_ISSUER with DEFER_TASKRUN, MSG_RING.
pub const OLDEST_KERNEL: KernelRelease = KernelRelease { major: 6, minor: 1 };

/// Why io_uring cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sysctl forbids it.
    #[error(
        "io_uring is refused (EPERM): kernel.io_uring_disabled is {0}; \
         allow it with 'sysctl -w kernel.io_uring_disabled=0'{hint}",
        hint = if *.0 == 1 { ", or run in the group of kernel.io_uring_group" } else { "" }
    )]
    Sysctl(u32),
    /// EPERM although the sysctl allows it.
    #[error(
        "io_uring is refused (EPERM) although kernel.io_uring_disabled allows it: \
         a seccomp profile forbids it, as those of Docker and containerd do by default; run the \
         container with a profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Seccomp,
    /// The probing child was killed by this signal.
    #[error(
        "io_uring is refused with signal {0}{name}: a seccomp filter kills whoever calls it; allow \
         io_uring_setup, io_uring_enter and io_uring_register in it (SystemCallFilter in systemd)",
        name = if *.0 == crate::sys::SIGSYS { " (SIGSYS)" } else { "" }
    )]
    Killed(i32),
    /// ENOSYS.
    #[error(
        "io_uring does not exist here (ENOSYS): the kernel was built without CONFIG_IO_URING, \
         or a sandbox such as gVisor or an old seccomp profile hides it"
    )]
    Missing,
    /// ENOMEM.
    #[error(
        "io_uring has no memory for its rings (ENOMEM): raise the locked-memory limit \
         ('ulimit -l unlimited', LimitMEMLOCK=infinity in systemd) or the cgroup's memory limit"
    )]
    Memory,
    /// The kernel is below the floor.
    #[error("this kernel is {0}; io_uring can do what is needed here from {OLDEST_KERNEL} on")]
    KernelTooOld(KernelRelease),
    /// Anything else, at the named step.
    #[error("io_uring cannot be set up: {step} failed with {errno}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What came back.
        errno: Errno,
    },
}

impl Refusal {
    /// Sorts the errno of `step`; `disabled` is the value of kernel.io_uring_disabled if it exists.
    pub fn from_errno(step: &'static str, errno: Errno, disabled: Option<u32>) -> Self {
        match (errno, disabled) {
            (Errno::EPERM, Some(level @ 1..)) => Self::Sysctl(level),
            (Errno::EPERM, _) => Self::Seccomp,
            (Errno::ENOSYS, _) => Self::Missing,
            (Errno::ENOMEM, _) => Self::Memory,
            _ => Self::Step { step, errno },
        }
    }

    /// Whether smaller or fewer rings might do. Programs know by which of their options.
    pub fn wants_memory(&self) -> bool {
        *self == Self::Memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_cause_and_its_fix() {
        let table = [
            (Errno::EPERM, Some(2), "kernel.io_uring_disabled is 2"),
            (Errno::EPERM, Some(1), "kernel.io_uring_group"),
            (Errno::EPERM, Some(0), "seccomp"),
            (Errno::EPERM, None, "seccomp"),
            (Errno::ENOSYS, Some(0), "CONFIG_IO_URING"),
            (Errno::ENOMEM, Some(0), "locked-memory"),
            (Errno::EINVAL, Some(0), "io_uring_setup failed with EINVAL"),
        ];
        for (errno, disabled, expected) in table {
            let text = Refusal::from_errno("io_uring_setup", errno, disabled).to_string();
            assert!(text.contains(expected), "{errno} {disabled:?}: {text}");
        }
        assert!(!Refusal::Sysctl(2).to_string().contains("group"));
        assert!(Refusal::Killed(crate::sys::SIGSYS).to_string().contains("SIGSYS"));
    }

    #[test]
    fn only_a_lack_of_memory_wants_memory() {
        assert!(Refusal::from_errno("io_uring_setup", Errno::ENOMEM, None).wants_memory());
        assert!(!Refusal::from_errno("io_uring_setup", Errno::EPERM, None).wants_memory());
    }

    #[test]
    fn an_old_kernel_is_named() {
        let old = Refusal::KernelTooOld(KernelRelease { major: 5, minor: 15 });
        assert!(old.to_string().contains("5.15") && old.to_string().contains("6.1"), "{old}");
    }
}
