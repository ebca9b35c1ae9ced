//! A connection as it is shown to whoever asks for a list of them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::LazyLock;
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

/// What tells the connections of this process from those of another, such as the one whose place it has taken: a number that
/// each process draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessMark(u32);

impl ProcessMark {
    /// Bits of it: two processes have the same once in 16 million times.
    const BITS: u32 = 24;
    /// Hexadecimal digits that it is written with.
    const DIGITS: usize = 6;

    /// That of this process.
    pub fn own() -> Self {
        static OWN: LazyLock<u32> =
            LazyLock::new(|| (RandomState::new().hash_one(()) >> (64 - ProcessMark::BITS)) as u32);
        Self(*OWN)
    }

    fn parse(text: &str) -> Option<Self> {
        let is_whole = text.len() == Self::DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| is_whole).map(Self)
    }
}

/// A connection of a server: its process, its thread, and its key there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Of which process: one that has moved has another id.
    pub process: ProcessMark,
    /// The place of the thread.
    pub thread: u16,
    /// Its key there.
    pub key: Key,
}

/// `thread.slot.generation.process`
impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process: ProcessMark(process), thread, key: Key { slot, generation } } = self;
        let (generation, digits) = (generation.number(), ProcessMark::DIGITS);
        write!(formatter, "{thread}.{slot}.{generation}.{process:0digits$x}")
    }
}

impl FromStr for ConnectionId {
    type Err = NoConnectionId;

    fn from_str(text: &str) -> Result<Self, NoConnectionId> {
        let parse = || {
            let mut parts = text.split('.');
            let (thread, slot) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let generation = Generation::from_number(parts.next()?.parse().ok()?)?;
            let (process, key) = (ProcessMark::parse(parts.next()?)?, Key { slot, generation });
            parts.next().is_none().then_some(Self { process, thread, key })
        };
        parse().ok_or_else(|| NoConnectionId(text.to_owned()))
    }
}

/// It names no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no connection; the list of connections has them, such as 0.17.3.5f0c2a")]
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
            for process in
                [ProcessMark::own(), ProcessMark(0), ProcessMark((1 << ProcessMark::BITS) - 1)]
            {
                let id = ConnectionId { process, thread: 3, key: Key { slot, generation } };
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
        let (own, mut other) = (ProcessMark::own(), ProcessMark::own());
        other.0 ^= 1;
        assert!(own == ProcessMark::own() && own != other);
        let parts = ["", "1", "1.2", "a.1.1", "1.1.99999999999", "70000.1.1", "-1.1.1"];
        let with_process = parts.map(|wrong| format!("{wrong}.5f0c2a"));
        let processes = ["", ".", ".5", ".5f0c2g", ".+f0c2a", ".5f0c2ab", ".5f0c2a.1"];
        let wrong = processes.map(|wrong| format!("1.2.3{wrong}"));
        for wrong in with_process.iter().chain(&wrong) {
            assert!(wrong.parse::<ConnectionId>().is_err(), "{wrong}");
        }
    }
}
