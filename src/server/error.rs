//! Why a server does not start, or stopped.

use std::io;

use crate::access_log::OpenError;
use crate::config::{ConfigError, Listen, ListenAddress};
use crate::listener::BindError;
use crate::process::NoThread;
use crate::ring::Refusal;
use crate::sys::Errno;
use crate::upstream::UpstreamError;

/// Why a server does not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be run, here or anywhere.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("{error}")]
    Bind {
        /// Whose it is.
        frontend: String,
        /// As configured.
        listen: Listen,
        /// What is in the way.
        error: BindError,
    },
    /// A backend's name does not resolve, or its health cannot be checked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// An access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// The machine has no ring for us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No thread can be made.
    #[error("{0}")]
    Thread(NoThread),
    /// The machine's limits cannot be read, or a ring cannot be made.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What came back.
        error: io::Error,
    },
}

/// Why a running server was not changed. It runs on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration cannot be run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It is about to end.
    #[error("the server drains, so it is not changed any more")]
    Draining,
    /// It was drained by hand.
    #[error(
        "frontend {name} is drained by hand and listens nowhere, so this would change nothing; it listens \
         again after a reload"
    )]
    Drained {
        /// The name.
        name: String,
    },
    /// There is no frontend of this name.
    #[error("there is no frontend '{name}'; known: {}", .known.join(", "))]
    NoFrontend {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

/// Why a server stopped on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The engine of a thread has become unusable.
    #[error(
        "thread '{thread}' cannot go on: {call} failed with {}; the server stops and cuts off the \
         open connections ({open})",
        named(.error)
    )]
    Ring {
        /// The thread's name.
        thread: String,
        /// The system call that failed.
        call: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// Connections that were open then.
        open: usize,
    },
    /// Every listener has broken; the server has drained then.
    #[error("no listener was left on {}, so the server has drained and ends; start it again", listed(.addresses))]
    NoListener {
        /// Where it listened.
        addresses: Vec<ListenAddress>,
    },
    /// A thread panicked: a defect of this program.
    #[error("thread '{thread}' panicked; this is a defect, please report it")]
    Panicked {
        /// The thread's name.
        thread: String,
    },
}

/// With the name of its errno, if it has one.
fn named(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno(errno).to_string())
}

fn listed(addresses: &[ListenAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_server_names_the_call_and_what_it_means() {
        let (thread, call, error) = ("worker-0".into(), "io_uring_enter(2)", Errno::EINVAL.into());
        let ring = ServerError::Ring { thread, call, error, open: 7 }.to_string();
        for part in
            ["'worker-0'", "io_uring_enter(2) failed with EINVAL", "the open connections (7)"]
        {
            assert!(ring.contains(part), "{ring}");
        }
        let addresses = ["127.0.0.1:1", "unix:/a"].map(|it| it.parse().unwrap()).to_vec();
        let broken = ServerError::NoListener { addresses }.to_string();
        assert!(broken.contains("left on 127.0.0.1:1, unix:/a, so the server"), "{broken}");
    }
}
