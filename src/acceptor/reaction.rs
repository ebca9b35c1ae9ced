//! What an error of accept(2) means for the listener.

use crate::metrics::Counter;
use crate::sys::Errno;

/// What to do about a failed accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// One connection was lost before it was ours; accept on.
    Retry,
    /// Something has run out; what waits in the kernel's queue stays there until some is back.
    Pause,
    /// The listener is broken.
    Stop,
}

/// Sorts the errors of accept(2) and names their counter. An errno that the manual page does not
/// list pauses: that neither spins nor gives up.
pub fn reaction(errno: Errno) -> (Reaction, Counter) {
    match errno {
        Errno::ECONNABORTED => (Reaction::Retry, Counter::AcceptAborted),
        Errno::EINTR => (Reaction::Retry, Counter::AcceptInterrupted),
        Errno::EPERM => (Reaction::Retry, Counter::AcceptFirewall),
        Errno::EPROTO
        | Errno::ENETDOWN
        | Errno::ENOPROTOOPT
        | Errno::EHOSTDOWN
        | Errno::ENONET
        | Errno::EHOSTUNREACH
        | Errno::ENETUNREACH
        | Errno::ETIMEDOUT
        | Errno::ECONNRESET => (Reaction::Retry, Counter::AcceptNetwork),
        Errno::EMFILE => (Reaction::Pause, Counter::AcceptProcessDescriptors),
        Errno::ENFILE => (Reaction::Pause, Counter::AcceptSystemDescriptors),
        Errno::ENOBUFS | Errno::ENOMEM => (Reaction::Pause, Counter::AcceptMemory),
        Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP | Errno::EFAULT => {
            (Reaction::Stop, Counter::AcceptBroken)
        }
        _ => (Reaction::Pause, Counter::AcceptUnknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors section of accept(2), and what follows from it.
    const MANUAL_PAGE: [(Errno, Reaction); 23] = [
        (Errno::EAGAIN, Reaction::Pause),
        (Errno::EBADF, Reaction::Stop),
        (Errno::ECONNABORTED, Reaction::Retry),
        (Errno::EFAULT, Reaction::Stop),
        (Errno::EINTR, Reaction::Retry),
        (Errno::EINVAL, Reaction::Stop),
        (Errno::EMFILE, Reaction::Pause),
        (Errno::ENFILE, Reaction::Pause),
        (Errno::ENOBUFS, Reaction::Pause),
        (Errno::ENOMEM, Reaction::Pause),
        (Errno::ENOTSOCK, Reaction::Stop),
        (Errno::EOPNOTSUPP, Reaction::Stop),
        (Errno::EPERM, Reaction::Retry),
        (Errno::EPROTO, Reaction::Retry),
        (Errno::ENETDOWN, Reaction::Retry),
        (Errno::ENOPROTOOPT, Reaction::Retry),
        (Errno::EHOSTDOWN, Reaction::Retry),
        (Errno::ENONET, Reaction::Retry),
        (Errno::EHOSTUNREACH, Reaction::Retry),
        (Errno::ENETUNREACH, Reaction::Retry),
        (Errno::ETIMEDOUT, Reaction::Retry),
        (Errno::ENOSYS, Reaction::Pause),
        (Errno(9999), Reaction::Pause),
    ];

    #[test]
    fn every_errno_of_the_manual_page_has_its_reaction() {
        for (errno, expected) in MANUAL_PAGE {
            assert_eq!(reaction(errno).0, expected, "{errno}");
        }
    }
}
