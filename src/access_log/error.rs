//! Why there is no access log.

use std::fmt;

use crate::config::LogTarget;
use crate::process::NoThread;
use crate::sys::Errno;

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What it goes to cannot be opened.
    #[error("the access log {target} cannot be opened: {cause}")]
    Target {
        /// As it was configured.
        target: LogTarget,
        /// What is in the way.
        cause: Cause,
    },
    /// There is nobody to write it.
    #[error("the access log: {0}")]
    Thread(NoThread),
}

/// What is in the way of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It is a FIFO that nobody reads: open(2) would wait for its reader.
    Unread,
    /// What open(2) says of anything else.
    Refused(Errno),
    /// Nobody takes datagrams there.
    NoDaemon {
        /// The path of its socket, or its address.
        at: String,
        /// What connect(2) says.
        errno: Errno,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread => {
                let errno = Errno::ENXIO;
                write!(
                    formatter,
                    "open(2) failed with {errno}; nobody reads this FIFO: start its reader first"
                )
            }
            Self::Refused(errno) => {
                write!(formatter, "open(2) failed with {errno}{}", advice(*errno))
            }
            Self::NoDaemon { at, errno } => {
                let advice = match *errno {
                    Errno::EACCES | Errno::EPERM => "; this user must be able to write to it",
                    Errno::ENOENT | Errno::ECONNREFUSED => {
                        "; start the daemon, or mount its socket into the container"
                    }
                    _ => "",
                };
                write!(formatter, "connect(2) to {at} failed with {errno}{advice}")
            }
        }
    }
}

/// What to do about it, where that is known.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => "; make its directory first",
        Errno::EACCES | Errno::EPERM => {
            "; the directory, or the file that is there, must be writable for this user"
        }
        Errno::EROFS => "; the file system is mounted read-only: choose another path",
        Errno::EISDIR => "; it is a directory: give the path of a file in it",
        Errno::EMFILE | Errno::ENFILE => "; too many files are open: raise RLIMIT_NOFILE",
        Errno::ENOSPC => "; the disk is full: make room",
        _ => "",
    }
}

impl OpenError {
    /// What it goes to, as it was configured.
    pub fn target(&self) -> Option<&LogTarget> {
        match self {
            Self::Target { target, .. } => Some(target),
            Self::Thread(_) => None,
        }
    }

    /// The cause and what to do, without the target: that may be a secret.
    pub fn cause(&self) -> String {
        match self {
            // The socket stands in the target.
            Self::Target { cause: Cause::NoDaemon { errno, .. }, .. } => {
                format!("the access log cannot be opened: connect(2) failed with {errno}")
            }
            Self::Target { cause, .. } => format!("the access log cannot be opened: {cause}"),
            Self::Thread(error) => error.to_string(),
        }
    }
}
