//! Why a server does not start, or stopped.

use std::io;

use crate::config::ConfigError;
use crate::listener::BindError;
use crate::ring::Refusal;
use crate::upstream::UpstreamError;

/// Why a server does not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be run, here or anywhere.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A backend's name does not resolve, or its health cannot be checked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The machine has no ring for us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine's limits cannot be read or no thread can be made.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What came back.
        error: io::Error,
    },
}

/// Why a server stopped on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A ring has become unusable.
    #[error("thread '{thread}' lost its ring: {error}")]
    Ring {
        /// The thread's name.
        thread: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Every listener of a thread is broken.
    #[error("thread '{thread}' has no listener left that accepts")]
    NoListener {
        /// The thread's name.
        thread: String,
    },
    /// A thread panicked: a defect of this program.
    #[error("thread '{thread}' panicked; this is a defect, please report it")]
    Panicked {
        /// The thread's name.
        thread: String,
    },
}
