//! The length of the accept queue. See listen(2).

use std::num::NonZeroU32;

use crate::config::SocketOptions;
use crate::sys;

/// Asked for when none is configured and `net.core.somaxconn` cannot be read: its default since
/// Linux 5.4.
const FALLBACK: u32 = 4096;

/// How many connections may wait in the accept queue, as asked for and as given: the kernel cuts
/// what is above `net.core.somaxconn` without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// What listen(2) was given.
    pub asked: u32,
    /// What the kernel made of it.
    pub effective: u32,
}

impl Backlog {
    /// Whether the kernel gave less than was asked for.
    pub fn clamped(self) -> bool {
        self.effective < self.asked
    }

    /// For the operator, when the kernel gave less than was asked for.
    pub fn warning(self) -> Option<String> {
        let Self { asked, effective } = self;
        self.clamped().then(|| {
            format!(
                "a backlog of {asked} was asked for, the kernel gives {effective}: \
                 net.core.somaxconn limits it. Raise it and start again: \
                 sysctl -w net.core.somaxconn={asked}"
            )
        })
    }
}

/// What to give listen(2).
pub(super) fn asked(options: &SocketOptions) -> u32 {
    options.backlog.map_or_else(|| default_from(sys::somaxconn().ok()), NonZeroU32::get)
}

fn default_from(somaxconn: Option<u32>) -> u32 {
    somaxconn.unwrap_or(FALLBACK)
}

/// As the `int` that listen(2) takes; the kernel cuts it further.
pub(super) fn as_argument(asked: u32) -> i32 {
    i32::try_from(asked).unwrap_or(i32::MAX)
}

/// What the kernel will make of the accept queue of a listener with these options.
pub fn expected(options: &SocketOptions) -> Backlog {
    assumed(asked(options))
}

/// What the kernel makes of `asked` where it cannot be asked.
pub(super) fn assumed(asked: u32) -> Backlog {
    Backlog { asked, effective: asked.min(default_from(sys::somaxconn().ok())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_both_numbers_the_sysctl_and_the_command() {
        let warning = Backlog { asked: 65_535, effective: 128 }.warning().unwrap();
        assert_eq!(
            warning,
            "a backlog of 65535 was asked for, the kernel gives 128: net.core.somaxconn limits it. \
             Raise it and start again: sysctl -w net.core.somaxconn=65535"
        );
    }

    #[test]
    fn a_backlog_that_was_given_in_full_needs_no_warning() {
        for effective in [128, 129] {
            let backlog = Backlog { asked: 128, effective };
            assert!(!backlog.clamped());
            assert_eq!(backlog.warning(), None);
        }
    }

    #[test]
    fn without_somaxconn_the_default_is_that_of_the_kernel() {
        assert_eq!(default_from(None), 4096);
        assert_eq!(default_from(Some(128)), 128);
    }

    #[test]
    fn what_is_asked_for_fits_the_argument_of_listen() {
        assert_eq!(as_argument(128), 128);
        assert_eq!(as_argument(u32::MAX), i32::MAX);
    }
}
