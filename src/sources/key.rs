//! What of an address makes it a source.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use ipnet::IpNet;

use super::network::Network;

/// How many leading bits of an address tell sources apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    /// Of an IPv4 address, 8 to 32.
    pub ipv4: u8,
    /// Of an IPv6 address, 32 to 64.
    pub ipv6: u8,
}

/// A source, or a site of them, in one word.
///
/// ```text
///   IPv6 source   PPPPPPPP PPPPPPPP    leading 64 bits of the address
///   IPv6 site     0001PPPP PPPPPPPP    leading 48 bits
///   IPv4 source   00000002 AAAAAAAA
///   ::/64         00000003 00000000
/// ```
/// Nobody has an address whose first 16 bits are 0 or 1 (0000::/8 is reserved, RFC 4291), except ::1 and its
/// neighbours, all of which lie in ::/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey(NonZeroU64);

const SITE: u64 = 1 << 48;
const IPV4: u64 = 2 << 32;
const UNSPECIFIED: u64 = 3 << 32;

/// Bits of an address that its site has, and bits of a source's word that come from the address.
const SITE_BITS: u32 = 48;
const SOURCE_BITS: u32 = 64;

impl Default for Prefixes {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

impl SourceKey {
    /// Leading bits that make a site.
    pub const SITE_PREFIX: u8 = SITE_BITS as u8;

    /// The source that an address belongs to. An IPv4 address that is mapped into IPv6 is an IPv4 address.
    pub fn of(address: IpAddr, prefixes: Prefixes) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX << (32 - u32::from(prefixes.ipv4.clamp(1, 32)));
                Self::new(IPV4 | u64::from(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let leading = (address.to_bits() >> SOURCE_BITS) as u64;
                let mask = u64::MAX << (SOURCE_BITS - u32::from(prefixes.ipv6.clamp(1, 64)));
                Self::new(match leading & mask {
                    prefix if prefix >> SITE_BITS > SITE >> SITE_BITS => prefix,
                    _ => UNSPECIFIED,
                })
            }
        }
    }

    /// The /48 that an IPv6 source lies in.
    pub fn site(self) -> Option<Self> {
        let prefix = self.get();
        let is_ipv6 = prefix >> SITE_BITS > SITE >> SITE_BITS;
        is_ipv6.then(|| Self::new(SITE | prefix >> (SOURCE_BITS - SITE_BITS)))
    }

    /// Whether it is a site.
    pub fn is_site(self) -> bool {
        self.get() >> SITE_BITS == SITE >> SITE_BITS
    }

    /// As one word, never 0.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// From such a word.
    pub fn from_word(word: u64) -> Option<Self> {
        NonZeroU64::new(word).map(Self)
    }

    /// The first address of it.
    pub fn address(self) -> IpAddr {
        let word = self.get();
        let ipv6 = |prefix: u64| Ipv6Addr::from_bits(u128::from(prefix) << SOURCE_BITS);
        match word {
            UNSPECIFIED => Ipv6Addr::UNSPECIFIED.into(),
            _ if word >> 32 == IPV4 >> 32 => Ipv4Addr::from_bits(word as u32).into(),
            _ if self.is_site() => ipv6(word << (SOURCE_BITS - SITE_BITS)).into(),
            _ => ipv6(word).into(),
        }
    }

    fn new(word: u64) -> Self {
        Self(NonZeroU64::new(word).unwrap_or(NonZeroU64::MIN))
    }
}

impl SourceKey {
    /// All addresses of it, where sources have these prefixes.
    pub fn network(self, prefixes: Prefixes) -> Network {
        let first = self.address();
        let prefix = match first {
            _ if self.is_site() => Self::SITE_PREFIX,
            IpAddr::V4(_) => prefixes.ipv4,
            IpAddr::V6(_) => prefixes.ipv6,
        };
        let network = IpNet::new(first, prefix).ok().and_then(|it| Network::try_from(it).ok());
        network.unwrap_or_else(|| Network::of(first))
    }
}

/// Where sources have the default prefixes.
impl fmt::Display for SourceKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            IpAddr::V4(address) => address.fmt(to),
            IpAddr::V6(address) if self.is_site() => write!(to, "{address}/{SITE_BITS}"),
            IpAddr::V6(address) => write!(to, "{address}/{SOURCE_BITS}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> SourceKey {
        SourceKey::of(address.parse().unwrap(), Prefixes::default())
    }

    #[test]
    fn what_is_one_source() {
        assert_eq!(key("10.1.2.3").to_string(), "10.1.2.3");
        assert_eq!(key("::ffff:10.1.2.3"), key("10.1.2.3"));
        assert_ne!(key("10.1.2.3"), key("10.1.2.4"));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(key("::1").to_string(), "::/64");
        assert_eq!(key("0.0.0.0").to_string(), "0.0.0.0");
    }

    #[test]
    fn prefixes_are_cut() {
        let prefixes = Prefixes { ipv4: 24, ipv6: 56 };
        let of = |text: &str| SourceKey::of(text.parse().unwrap(), prefixes).address().to_string();
        assert_eq!(of("10.1.2.3"), "10.1.2.0");
        assert_eq!(of("2001:db8:1:2ff::1"), "2001:db8:1:200::");
    }

    #[test]
    fn a_source_is_shown_as_the_network_that_it_is() {
        let shown = |text: &str, (ipv4, ipv6): (u8, u8)| {
            let prefixes = Prefixes { ipv4, ipv6 };
            SourceKey::of(text.parse().unwrap(), prefixes).network(prefixes).to_string()
        };
        for (text, prefixes, expected) in [
            ("10.1.2.3", (32, 64), "10.1.2.3"),
            ("10.1.2.3", (24, 64), "10.1.2.0/24"),
            ("10.1.2.3", (8, 64), "10.0.0.0/8"),
            ("2001:db8:1:2ff::1", (24, 64), "2001:db8:1:2ff::/64"),
            ("2001:db8:1:2ff::1", (32, 56), "2001:db8:1:200::/56"),
            ("2001:db8:1:2ff::1", (32, 32), "2001:db8::/32"),
            ("::1", (32, 64), "::/64"),
        ] {
            assert_eq!(shown(text, prefixes), expected, "{prefixes:?}");
        }
        let prefixes = Prefixes { ipv4: 24, ipv6: 56 };
        let site = key("2001:db8:1:2::1").site().unwrap();
        assert_eq!(site.network(prefixes).to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn a_site_is_no_source() {
        let site = key("2001:db8:1:2::1").site().unwrap();
        assert_eq!(site.to_string(), "2001:db8:1::/48");
        assert_eq!(key("2001:db8:1:ff::1").site(), Some(site));
        assert_ne!(key("2001:db8:2::1").site(), Some(site));
        assert!(site.is_site() && site.site().is_none());
        assert_eq!([key("10.1.2.3").site(), key("::1").site()], [None, None]);
        assert!(!key("2001:db8:1::1").is_site() && key("2001:db8:1::1") != site);
    }
}
