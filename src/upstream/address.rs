//! Where an endpoint is.

use std::fmt;
use std::net::SocketAddr;

use socket2::SockAddr;

use crate::config::UnixAddress;
use crate::config::upstream::Target;

/// An address that connect(2) takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(UnixAddress),
}

impl EndpointAddress {
    /// A backend that is this address.
    pub(super) fn target(&self) -> Target {
        match self {
            Self::Tcp(address) => Target::Socket(*address),
            Self::Unix(path) => Target::Unix(path.clone()),
        }
    }

    /// As it is displayed; `None` if it is no address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(Target::Socket(address)) => Some(Self::Tcp(address)),
            Ok(Target::Unix(name)) => Some(Self::Unix(name)),
            Ok(Target::Name { .. } | Target::Srv { .. }) | Err(_) => None,
        }
    }

    /// As the kernel takes it.
    ///
    /// # Panics
    /// With a name that is too long for a unix socket. `UpstreamConfig::validate_backends` refuses it.
    pub(super) fn to_sock_addr(&self) -> SockAddr {
        match self {
            Self::Tcp(address) => (*address).into(),
            Self::Unix(name) => SockAddr::unix(name.as_sun_path()).expect("its length was checked"),
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
