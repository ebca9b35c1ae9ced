//! An address to listen on: `127.0.0.1:7000`, `[::]:7000` or `unix:/path`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::ConfigError;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// TCP; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix stream socket at this path.
    Unix(PathBuf),
}

/// Longest path of a unix socket, in bytes: `sun_path` without its terminating zero.
const UNIX_PATH_MAX_BYTES: usize = 107;

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
            Some(path) => unix(text, path),
            None => text.parse().map(Self::Tcp).map_err(|_| not_an_address(text)),
        }
    }
}

fn unix(text: &str, path: &str) -> Result<ListenAddress, ConfigError> {
    unix_path(text, path).map(ListenAddress::Unix)
}

/// The path behind `unix:` in `text`, if a socket can have it.
pub(super) fn unix_path(text: &str, path: &str) -> Result<PathBuf, ConfigError> {
    if path.is_empty() {
        return Err(ConfigError::new(format!("'{text}' has no path; write unix:/run/name.sock")));
    }
    if path.len() > UNIX_PATH_MAX_BYTES {
        let bytes = path.len();
        return Err(ConfigError::new(format!(
            "the path in '{text}' has {bytes} bytes; a unix socket takes at most {UNIX_PATH_MAX_BYTES}"
        )));
    }
    Ok(path.into())
}

fn not_an_address(text: &str) -> ConfigError {
    let hint = if text.parse::<std::net::IpAddr>().is_ok() {
        "it has no port"
    } else if text.parse::<u16>().is_ok() || text.starts_with(':') {
        "it has no IP address; for all addresses use [::]:PORT"
    } else {
        "it is not IP:PORT; names are not resolved"
    };
    ConfigError::new(format!(
        "'{text}' cannot be listened on: {hint}. \
         Examples: 127.0.0.1:7000, [::]:7000, unix:/run/name.sock"
    ))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
