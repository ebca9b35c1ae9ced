//! An address to listen on: `127.0.0.1:7000`, `[::]:7000`, `unix:/path` or `unix:@name`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::{ConfigError, UnixAddress};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// TCP; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(UnixAddress),
}

/// The port when none is configured.
const DEFAULT_PORT: u16 = 7000;

impl Default for ListenAddress {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))
    }
}

impl FromStr for ListenAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.strip_prefix("unix:") {
            Some(name) => UnixAddress::parse(text, name).map(Self::Unix),
            None => text.parse().map(Self::Tcp).map_err(|_| not_an_address(text, hint(text))),
        }
    }
}

fn hint(text: &str) -> &'static str {
    if text.parse::<std::net::IpAddr>().is_ok() {
        "it has no port"
    } else if text.parse::<u16>().is_ok() || text.starts_with(':') {
        "it has no IP address; for all addresses use [::]:PORT"
    } else {
        "it is not IP:PORT; names are not resolved"
    }
}

/// Of whatever is typed for an address to listen on.
pub(super) fn not_an_address(text: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!(
        "'{text}' cannot be listened on: {hint}. \
         Examples: 127.0.0.1:7000, [::]:7000, unix:/run/name.sock"
    ))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(name) => name.fmt(formatter),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
