//! What a connection of a service is besides its socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::service::CloseReason;

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionStage {
    /// A PROXY header is still to come, all of it.
    Preread {
        /// The place of the listener that it came in through among those of its frontend.
        listener: u16,
    },
    /// The service sees what comes.
    Open,
    /// What is queued is still sent; true: then it lingers.
    Flushing {
        /// Whether it lingers then.
        linger: bool,
    },
    /// Our FIN is out; at most so many bytes more are dropped.
    Lingering {
        /// So many.
        bytes_left: u32,
    },
}

/// What an open session is called for next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// For what the peer sends.
    #[default]
    Input,
    /// For what it is told; nothing is read meanwhile.
    Word,
    /// To write more of its answer, when there is room; nothing is read meanwhile.
    Room,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionRecord {
    /// Where it is in its life.
    pub stage: SessionStage,
    /// Why it ends, once that is decided.
    pub reason: CloseReason,
    /// What its service has made of its session: [`Service::suspend`](crate::service::Service::suspend).
    #[serde(with = "serde_bytes")]
    pub session: Vec<u8>,
    /// What it is called for next. Versions that did not know the others had none but the first.
    #[serde(default)]
    pub awaited: Awaited,
    /// What the client has sent and the session has not wanted yet.
    #[serde(default, with = "serde_bytes")]
    pub held: Vec<u8>,
    /// Whether the session is still to be told of the client's FIN.
    #[serde(default)]
    pub held_end: bool,
    /// How long its timer still runs, if it does.
    #[serde(default)]
    pub timer: Option<Duration>,
    /// What is still to be sent to the client.
    #[serde(with = "serde_bytes")]
    pub unsent: Vec<u8>,
    /// Whether the client has sent anything.
    pub spoken: bool,
    /// Whether its FIN has come.
    pub ended: bool,
    /// Who it is, if a PROXY header said so.
    pub told: Option<SocketAddr>,
    /// Since it came to a thread.
    pub age: Duration,
    /// Since something came forward.
    pub idle: Duration,
    /// Since the last request began that did not come in one piece. A version that did not know it lets it begin anew.
    #[serde(default)]
    pub begun: Duration,
    /// What it has taken of what is being sent to it, if it is slow.
    #[serde(default)]
    pub taking: Option<TakingRecord>,
    /// In the accept queue, if that was noted.
    pub waited: Option<Duration>,
    /// What the access log wants to know, if there is one.
    pub log: Option<SessionLog>,
}

/// What a client has taken of what is being sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TakingRecord {
    /// Since it was first found not to have taken all.
    pub since: Duration,
    /// Bytes since then.
    pub taken: u64,
}

/// What the access log wants to know of a connection of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionLog {
    /// As the kernel says.
    pub client: Option<SocketAddr>,
    /// In the accept queue.
    pub queued: Option<Duration>,
    /// Since it was accepted.
    pub accepted: Duration,
    /// Since it came to a thread.
    pub adopted: Duration,
    /// Since its first byte came.
    pub first_byte: Option<Duration>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
}
