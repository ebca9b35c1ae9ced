//! A connection that no thread has: taken off one thread, to be resumed on another one, of this process or of the
//! process that takes its place.

mod pair;
mod place;
mod session;

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use pair::{LackedRecord, PairRecord, PairStage, SideRecord, TimesRecord};
pub use place::Place;
pub use session::{Awaited, SessionLog, SessionRecord, SessionStage, TakingRecord};

use crate::dispatch::FrontendId;

/// Most bytes that may wait for either end of a connection that is suspended: they are copied, in a turn of its thread.
/// One with more stays until some of that has gone.
pub const UNSENT_MAX_BYTES: usize = 1024 * 1024;

/// See the module. Nothing is in flight on its sockets, and no byte of it is anywhere but in the kernel and here.
#[derive(Debug)]
pub struct Suspended {
    /// What it came in through.
    pub frontend: FrontendId,
    /// What it is besides its sockets.
    pub record: Record,
    /// The client's, and behind it the backend's, if there is one.
    pub sockets: Vec<OwnedFd>,
    /// Where it is counted.
    pub place: Place,
}

/// What a connection is besides its sockets: plain data, as it is sent to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// Of a service.
    Session(Box<SessionRecord>),
    /// Of a proxy.
    Pair(Box<PairRecord>),
}

impl Record {
    /// The kinds that there are, as they are written.
    pub const KINDS: [&'static str; 2] = ["session", "pair"];

    /// Bytes that are still to be sent.
    pub fn unsent_bytes(&self) -> usize {
        match self {
            Self::Session(session) => session.unsent.len(),
            Self::Pair(pair) => pair.sides.iter().map(|side| side.unsent.len()).sum(),
        }
    }
}
