//! What a proxied connection is besides its sockets.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where it is in its life. One that is being connected is not suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairStage {
    /// Nothing has come of what the client has to send first.
    Preread,
    /// It waits for a backend with room; what the client sent first has been read.
    Waiting,
    /// Bytes go both ways.
    Forwarding,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PairRecord {
    /// Where it is in its life.
    pub stage: PairStage,
    /// The name of the upstream that it goes to.
    pub upstream: String,
    /// The address of the backend, once it is connected.
    pub endpoint: Option<String>,
    /// Connects that have begun, and those of them that have failed.
    pub attempts: u8,
    /// See `attempts`.
    pub failures: u8,
    /// Why the last of those failed, or what was lacking for one: an error number.
    pub errno: Option<i32>,
    /// What it has waited for, each of which is counted once.
    pub lacked: LackedRecord,
    /// Whether the last bytes came from the client.
    pub asked: bool,
    /// Whether it was the client whose FIN came first, once one has come.
    pub client_ended_first: Option<bool>,
    /// Bytes that came from the client and from the backend.
    pub bytes: [u64; 2],
    /// The client's side, and the backend's.
    pub sides: [SideRecord; 2],
    /// Who the client is, if that was asked, or said by a PROXY header.
    pub client: Option<SocketAddr>,
    /// Where it connected to, if a PROXY header said so.
    pub destination: Option<SocketAddr>,
    /// Since it came to a thread.
    pub age: Duration,
    /// Its part of the spread of lifetimes, so that it ends when it would have ended.
    pub lifetime_share: u8,
    /// Since something came forward.
    pub idle: Duration,
    /// In the accept queue, if that was noted.
    pub waited: Option<Duration>,
    /// What the access log wants to know.
    pub times: TimesRecord,
}

/// One end of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SideRecord {
    /// Whether it has sent anything.
    pub spoken: bool,
    /// Whether its FIN has come.
    pub ended: bool,
    /// Whether our FIN has been sent to it.
    pub shut: bool,
    /// What is still to be sent to it.
    #[serde(with = "serde_bytes")]
    pub unsent: Vec<u8>,
    /// How long it has taken nothing of that, if something was being sent.
    pub stalled: Option<Duration>,
    /// What the kernel had still to send to it when that was last looked at.
    pub queued: Option<u32>,
}

/// What a pair has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LackedRecord {
    /// A backend with room.
    pub room: bool,
    /// A socket.
    pub socket: bool,
    /// A local port.
    pub port: bool,
}

/// The moments of the access log, each as the time since.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TimesRecord {
    /// How long it was in the accept queue.
    pub queued: Option<Duration>,
    /// Since it was accepted.
    pub accepted: Option<Duration>,
    /// Since it came to a thread.
    pub adopted: Option<Duration>,
    /// Since the backend was connected.
    pub connected: Option<Duration>,
    /// Since the backend's first byte came.
    pub first_byte: Option<Duration>,
}
