//! One process takes the place of another: it gets the listening sockets with their accept queues, and the connections in
//! the middle of what they do. docs/UPGRADE.md has what is said between the two.
//!
//! ```text
//!        new process                                            old process
//!        -----------                                            -----------
//!   Hello: format, version       ---------------------->
//!                                <----------------------  Welcome, Sockets: what is listened on
//!   Ready: what it serves        ---------------------->  accepts nobody any more
//!                                <----------------------  Begin: what is open and counted, how upstreams are
//!   Begun                        ---------------------->
//!   accepts                      <----------------------  Go
//!                                <----------------------  Connections: off their threads
//!   Taken: those it can serve    ---------------------->  goes on with the others
//!   serves them                  <----------------------  Go, Counts          (and so on)
//!                                <----------------------  Done
//!   Done                         ---------------------->  drains what is left, and ends
//!                                <----------------------  Counts              (until it has ended)
//! ```
//!
//! Up to `Done` the old process can take everything back that it has not said `Go` for: it gives up, accepts again, and
//! goes on with its connections. Whatever it has said `Go` for belongs to the new one.

mod give;
mod message;
mod step;
mod take;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::time::Duration;

pub use give::{Announce, Beside, Extra, Given, Giving, NotGiven, ended_with, give};
pub use message::FORMAT;
pub use step::Step;
pub use take::{Taken, Taking};
pub use wire::Channel;

/// How long the new process may take to be ready: it reads its configuration, looks up names, and makes its threads.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// How long either may take for any other answer.
pub const STEP_LIMIT: Duration = Duration::from_secs(10);

/// How long a thread may take to give connections that it was asked for. What comes later goes back to it.
pub const SUSPEND_LIMIT: Duration = Duration::from_millis(500);

/// How long the new process may take to answer while connections are on their way: they stand still.
pub const MOVE_LIMIT: Duration = Duration::from_secs(3);

/// Connections that are off each thread at a time.
pub const BATCH: usize = 64;

/// How long it is tried to move connections that cannot be moved now, such as those that are being connected.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Why an upgrade has not taken place.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The other process says why.
    #[error("{0}")]
    GivenUp(String),
    /// It has ended, or closed its end, without a word.
    #[error("the other process has ended")]
    Ended,
    /// It has not answered in time.
    #[error("the other process has not answered within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// What it says is not what was to come.
    #[error("the other process said {0}, which makes no sense here; is it another program?")]
    Unexpected(String),
    /// It speaks another format.
    #[error(
        "the other process (version {version}) speaks format {theirs} of the upgrade, and this one (version {}) \
         format {}; use a version between the two, or restart",
        env!("CARGO_PKG_VERSION"),
        FORMAT
    )]
    Format {
        /// Theirs.
        theirs: u32,
        /// What it is.
        version: String,
    },
    /// It is in another network namespace.
    #[error(
        "the two processes are in different network namespaces: what the new one binds or connects to would be in another \
         network; start it where the old one runs (containers of one pod share a network)"
    )]
    Elsewhere,
    /// This process may not have more descriptors.
    #[error(
        "{came} of {count} listening sockets came: this process may not have more descriptors; raise the limit on open files"
    )]
    Descriptors {
        /// So many came.
        came: usize,
        /// Of so many.
        count: usize,
    },
    /// The accept queues cannot be left.
    #[error("{0}")]
    StillAccepting(#[from] crate::server::StillAccepting),
    /// This process drains already.
    #[error("the server drains")]
    Draining,
    /// The socket between the two has failed.
    #[error("the socket between the two processes: {0}")]
    Io(#[from] io::Error),
}
