//! Where the admin endpoint listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::{ConfigError, ListenAddress};

/// The address of the admin endpoint. Its text may be a port alone: then it is for this machine only. The endpoint
/// tells of clients and backends, and asks nobody who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdminAddress(pub ListenAddress);

impl FromStr for AdminAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let port = text.strip_prefix(':').unwrap_or(text).parse();
        match port {
            Ok(port) => Ok(Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())),
            Err(_) => text.parse().map(Self),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_for_this_machine() {
        let read = |text: &str| text.parse::<AdminAddress>().map(|address| address.to_string());
        assert_eq!(read("9100").unwrap(), "127.0.0.1:9100");
        assert_eq!(read(":9100").unwrap(), "127.0.0.1:9100");
        assert_eq!(read("0.0.0.0:9100").unwrap(), "0.0.0.0:9100");
        assert_eq!(read("[::]:9100").unwrap(), "[::]:9100");
        assert_eq!(read("unix:/run/admin.sock").unwrap(), "unix:/run/admin.sock");
        assert!(read("localhost").is_err() && read(":70000").is_err());
    }
}
