//! What is said between the two processes. It is CBOR (RFC 8949): what a reader does not know of a message it leaves
//! out, and what is new in a message has a default, so that the format stays the same as long as that is enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::connection::suspended::Record;
use crate::listener::Origin;
use crate::server::{BanRecord, ByHand, Figures, Offer, OpenCounts};
use crate::upstream::{NameRecord, UpstreamRecord};

/// The version of what is said. It goes up when a reader of the one before would not understand.
pub const FORMAT: u32 = 1;

/// One message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// The new process asks.
    Hello(Hello),
    /// The old one agrees; so many sockets come.
    Welcome(Welcome),
    /// Listening sockets, each with its descriptor.
    Sockets(Vec<SocketEntry>),
    /// The new one could serve.
    Ready(ReadyToServe),
    /// The old one accepts nobody any more.
    Begin(Counts),
    /// The new one knows that.
    Begun,
    /// What was agreed on last is so.
    Go,
    /// Connections, each with its descriptors.
    Connections(Vec<Moved>),
    /// The new one will serve them, but for these: their places in the message.
    Taken(Vec<u32>),
    /// What the old one still has, and what it has counted.
    Counts(Counts),
    /// No more connections come; and the answer to that.
    Done,
    /// Whoever says it has gone back to what was before, for this reason.
    GiveUp(String),
}

/// See [`Message::Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Hello {
    pub(super) format: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    /// Kinds of connections that it knows of.
    pub(super) kinds: Vec<String>,
    /// Whether it knows of bans.
    #[serde(default)]
    pub(super) bans: bool,
}

/// See [`Message::Welcome`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Welcome {
    pub(super) format: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) sockets: u32,
    /// What names of backends have resolved to, for those that resolve no more.
    #[serde(default)]
    pub(super) names: Vec<NameRecord>,
    #[serde(default)]
    pub(super) by_hand: Vec<ByHand>,
}

/// See [`Message::Sockets`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SocketEntry {
    pub(super) number: u32,
    pub(super) origin: Origin,
}

/// See [`Message::Ready`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ReadyToServe {
    pub(super) offers: Vec<Offer>,
    /// Numbers of sockets that it does not listen on.
    pub(super) unclaimed: Vec<u32>,
}

/// What the old process has, and has counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Counts {
    pub(super) open: OpenCounts,
    /// Counters since the first process started, by their names.
    pub(super) counters: BTreeMap<String, u64>,
    /// All else that is counted. There is much of it, so it does not always come along.
    pub(super) figures: Option<Box<Figures>>,
    /// How upstreams are, at the begin.
    pub(super) upstreams: Vec<UpstreamRecord>,
    /// Who is banned, at the begin.
    pub(super) bans: Vec<BanRecord>,
}

/// A connection, whose descriptors come with the message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Moved {
    pub(super) frontend: String,
    pub(super) sockets: u8,
    pub(super) record: Record,
}

impl Message {
    /// In a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Sockets(_) => "sockets",
            Self::Ready(_) => "ready",
            Self::Begin(_) => "begin",
            Self::Begun => "begun",
            Self::Go => "go",
            Self::Connections(_) => "connections",
            Self::Taken(_) => "taken",
            Self::Counts(_) => "counts",
            Self::Done => "done",
            Self::GiveUp(_) => "give-up",
        }
    }
}
