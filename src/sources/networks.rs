//! A list of networks that is asked for one address.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks, without those that lie in others, in order. Looked up by halving, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// From networks in any order; those that lie in others or beside each other are put together.
    pub fn new(networks: &[IpNet]) -> Self {
        let canonical: Vec<IpNet> = networks.iter().map(IpNet::trunc).collect();
        let mut all = IpNet::aggregate(&canonical);
        all.sort_unstable_by_key(IpNet::network);
        Self(all)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address lies in one of them. An IPv4 address that is mapped into IPv6 is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let behind = self.0.partition_point(|network| network.network() <= address);
        behind > 0 && self.0[behind - 1].contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let all: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Networks::new(&all)
    }

    #[test]
    fn an_address_lies_in_a_network() {
        let list = networks(&["10.0.0.0/8", "192.0.2.7/32", "10.1.0.0/16", "2001:db8::/32"]);
        for (address, inside) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(list.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!networks(&[]).contains(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(networks(&["0.0.0.0/0"]).contains(IpAddr::V4(Ipv4Addr::BROADCAST)));
    }

    proptest! {
        /// A plain search says the same.
        #[test]
        fn a_list_says_the_same(
            fours in proptest::collection::vec((0..64_u32, 24..=32_u8), 0..20),
            sixes in proptest::collection::vec((0..64_u128, 120..=128_u8), 0..20),
            asked in 0..64_u32,
        ) {
            let four = |&(low, len): &(u32, u8)| {
                IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(low), len).unwrap())
            };
            let six = |&(low, len): &(u128, u8)| {
                IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(1 << 120 | low), len).unwrap())
            };
            let all: Vec<IpNet> = fours.iter().map(four).chain(sixes.iter().map(six)).collect();
            let list = Networks::new(&all);
            for address in [
                IpAddr::V4(Ipv4Addr::from_bits(asked)),
                IpAddr::V6(Ipv6Addr::from_bits(1 << 120 | u128::from(asked))),
            ] {
                let plain = all.iter().any(|network| network.contains(&address));
                prop_assert_eq!(list.contains(address), plain, "{}", address);
            }
        }
    }
}
