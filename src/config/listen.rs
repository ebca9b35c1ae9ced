//! Where to listen, as it is typed: an address, `:7000` or `*:7000` for all addresses, or `NAME:7000`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::address::not_an_address;
use super::upstream::is_name;
use super::{ConfigError, ListenAddress};

/// Where to listen. What is not an address is looked up at the start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// One address.
    Address(ListenAddress),
    /// All addresses of this machine, IPv6 and IPv4 on one socket; IPv4 alone where there is no IPv6.
    All {
        /// 0 lets the kernel choose.
        port: u16,
    },
    /// Each address of a name, with a socket of its own.
    Name {
        /// Resolved as any program on this machine would (nsswitch.conf, hosts, DNS).
        name: String,
        /// The same for each address; 0 lets the kernel choose.
        port: u16,
    },
}

impl Listen {
    /// Sockets that are kept room for; a name may have a few more.
    pub fn sockets(&self) -> usize {
        match self {
            Self::Address(_) | Self::All { .. } => 1,
            Self::Name { .. } => 2,
        }
    }

    /// Whether the kernel chooses the port.
    pub fn any_port(&self) -> bool {
        match self {
            Self::Address(ListenAddress::Tcp(address)) => address.port() == 0,
            Self::Address(ListenAddress::Unix(_)) => false,
            Self::All { port } | Self::Name { port, .. } => *port == 0,
        }
    }

    /// What all addresses are as one: the IPv6 wildcard, which takes IPv4 too.
    pub fn all(port: u16) -> ListenAddress {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::Address(ListenAddress::default())
    }
}

impl FromStr for Listen {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text.starts_with("unix:") || text.parse::<SocketAddr>().is_ok() {
            return text.parse().map(Self::Address);
        }
        if text.parse::<u16>().is_ok() {
            let hint = format!("it has no address; for all addresses write :{text}");
            return Err(not_an_address(text, &hint));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some(parts) if text.parse::<IpAddr>().is_err() => parts,
            _ => return Err(not_an_address(text, "it has no port")),
        };
        let port = port.parse().map_err(|_| not_an_address(text, "its port is not 0 to 65535"));
        match host {
            "" | "*" => Ok(Self::All { port: port? }),
            name if is_name(name) => Ok(Self::Name { name: name.to_owned(), port: port? }),
            _ => Err(not_an_address(text, "it is neither IP:PORT nor NAME:PORT")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::All { port } => write!(formatter, "*:{port}"),
            Self::Name { name, port } => write!(formatter, "{name}:{port}"),
        }
    }
}

impl<A: Into<ListenAddress>> From<A> for Listen {
    fn from(address: A) -> Self {
        Self::Address(address.into())
    }
}
