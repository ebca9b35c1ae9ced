//! A connection as it is shown to whoever asks for a list of them.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use super::Stream;
use crate::dispatch::FrontendId;
use crate::ring::{Generation, Key};
use crate::sys;

/// What is known of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As its thread knows it.
    pub key: Key,
    /// What it came in through.
    pub frontend: FrontendId,
    /// The client's address, as the kernel or a trusted PROXY header says; `None` for unix sockets.
    pub client: Option<SocketAddr>,
    /// Where it is passed on to.
    pub backend: Option<String>,
    /// Since it came to its thread.
    pub age: Duration,
    /// Since when nothing has come forward.
    pub idle: Duration,
    /// In the kernel's accept queue, if that was noted when it came.
    pub waited: Option<Duration>,
    /// For how long a peer has taken nothing of what is being sent to it; `None` if nothing is.
    pub stalled: Option<Duration>,
    /// Bytes that came from the client.
    pub from_client: u64,
    /// Bytes that the client has received, or for a proxied connection that its backend has sent.
    pub to_client: u64,
    /// Where it is in its life, in one word.
    pub stage: &'static str,
}

/// A connection of a server: its thread, and its key there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The place of the thread.
    pub thread: u16,
    /// Its key there.
    pub key: Key,
}

/// `thread.slot.generation`
impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, key: Key { slot, generation } } = self;
        write!(formatter, "{thread}.{slot}.{}", generation.number())
    }
}

impl FromStr for ConnectionId {
    type Err = NoConnectionId;

    fn from_str(text: &str) -> Result<Self, NoConnectionId> {
        let parse = || {
            let mut parts = text.split('.');
            let (thread, slot) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let generation = Generation::from_number(parts.next()?.parse().ok()?)?;
            parts.next().is_none().then_some(Self { thread, key: Key { slot, generation } })
        };
        parse().ok_or_else(|| NoConnectionId(text.to_owned()))
    }
}

/// It names no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no connection; the list of connections has them, such as 0.17.3")]
pub struct NoConnectionId(String);

impl Stream {
    /// The peer's address; `None` for a unix socket, and where nobody knows any more.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.socket.as_ref().and_then(|socket| sys::peer_address(socket.as_fd()).ok().flatten())
    }

    /// Bytes that the kernel has received from the peer, and those that the peer has acknowledged; zero for a unix
    /// socket.
    pub(crate) fn moved_bytes(&self) -> (u64, u64) {
        let moved = self.socket.as_ref().and_then(|socket| sys::tcp_bytes(socket.as_fd()).ok());
        moved.map_or((0, 0), |moved| (moved.received, moved.acknowledged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_is_written() {
        let generation = Generation::FIRST.next();
        for slot in [0, 7, u32::MAX] {
            let id = ConnectionId { thread: 3, key: Key { slot, generation } };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in ["", "1", "1.2", "1.2.3.4", "a.1.1", "1.1.99999999999", "70000.1.1", "-1.1.1"]
        {
            assert!(wrong.parse::<ConnectionId>().is_err(), "{wrong}");
        }
    }
}
