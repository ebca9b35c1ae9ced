//! Where an endpoint is.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::SockAddr;

use crate::config::UnixAddress;

/// An address that connect(2) takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(UnixAddress),
}

impl EndpointAddress {
    /// As the kernel takes it.
    ///
    /// # Errors
    /// A path that is too long for a unix socket.
    pub(super) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address) => Ok((*address).into()),
            Self::Unix(name) => SockAddr::unix(name.as_sun_path()),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(name) => name.fmt(formatter),
        }
    }
}
