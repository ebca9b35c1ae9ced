//! What can be banned: an IPv4 network, or an IPv6 network of a /64 or larger.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::ConfigError;

/// The longest prefix of IPv6: whoever has one address has 2^64 of them.
const IPV6_PREFIX_MAX: u8 = 64;

/// Where connections come from: an IPv4 network, of one address mostly, or an IPv6 network of a /64 or larger.
///
/// An IPv6 address alone stands for its /64. An IPv4-mapped IPv6 address is the IPv4 address, as which it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// What the connections of an address count as.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Net::from(address).into(),
            IpAddr::V6(address) => Ipv6Net::new_assert(address, IPV6_PREFIX_MAX).trunc().into(),
        })
    }

    /// The numbers of its addresses, of the first and the last.
    pub(super) fn span(self) -> Span {
        match self.0 {
            IpNet::V4(it) => Span::V4(it.network().to_bits(), it.broadcast().to_bits()),
            IpNet::V6(it) => Span::V6(number_v6(it.network()), number_v6(it.broadcast())),
        }
    }
}

impl TryFrom<IpNet> for Network {
    type Error = ConfigError;

    fn try_from(network: IpNet) -> Result<Self, ConfigError> {
        let wrong = |why: String| Err(ConfigError::new(format!("network {network}: {why}")));
        let network = unmapped(network);
        if network.addr() != network.network() {
            return wrong(format!(
                "there are bits behind the prefix; the network is {}, and one address has no prefix",
                network.trunc()
            ));
        }
        match network {
            _ if network.prefix_len() == 0 => {
                wrong("that is everybody; drain the frontend instead".to_owned())
            }
            IpNet::V6(network) if network.prefix_len() > IPV6_PREFIX_MAX => wrong(format!(
                "an IPv6 source has a /{IPV6_PREFIX_MAX}, so nothing smaller can be named"
            )),
            network => Ok(Self(network)),
        }
    }
}

/// IPv4-mapped IPv6 networks are IPv4 networks.
fn unmapped(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(address)) => {
            let prefix = mapped.prefix_len().checked_sub(MAPPED_BITS);
            prefix.map_or(network, |prefix| Ipv4Net::new_assert(address, prefix).into())
        }
        _ => network,
    }
}

impl FromStr for Network {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::of(address));
        }
        let network: IpNet = text.parse().map_err(|_| {
            ConfigError::new(format!(
                "'{text}' is neither an address nor a network; write 192.0.2.7, 192.0.2.0/24, 2001:db8::1 or \
                 2001:db8::/48"
            ))
        })?;
        Self::try_from(network)
    }
}

/// One IPv4 address stands for itself.
impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpNet::V4(one) if one.prefix_len() == 32 => one.addr().fmt(formatter),
            network => network.fmt(formatter),
        }
    }
}

/// From the first number to the last.
pub(super) enum Span {
    V4(u32, u32),
    V6(u64, u64),
}

/// The number of an IPv4 address, and of the /64 of an IPv6 one.
pub(super) enum Number {
    V4(u32),
    V6(u64),
}

impl Number {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(number_v6(address)),
        }
    }
}

fn number_v6(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}
