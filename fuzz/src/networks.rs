//! Files of networks, read beside a plain reader and looked up beside a plain look through the list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use uring_acceptor::config_file;
use uring_acceptor::sources::Networks;

/// Networks that are looked up, of one file.
const LOOKED_UP: usize = 64;

/// What is taken is what a plain reader finds, and is written as a file that says the same. What is refused is told by
/// its line, in words of one line: all before it is right, and it alone is wrong for the same reason.
pub fn networks(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plain: Vec<Option<IpNet>> = text.lines().filter_map(plain).collect();
    match config_file::networks(text) {
        Ok(networks) => {
            let expected: Option<Vec<IpNet>> = plain.into_iter().collect();
            assert_eq!(Some(&networks), expected.as_ref(), "{text:?}");
            let written: String =
                networks.iter().map(|it| format!("\t{it} # {it}, 2001:db8::/32\r\n\n")).collect();
            assert_eq!(config_file::networks(&written).as_ref(), Ok(&networks), "{written:?}");
            looked_up(&networks);
        }
        Err((line, why)) => {
            assert!(plain.contains(&None), "{line}: {why}");
            assert!(!why.is_empty() && !why.chars().any(char::is_control), "{why:?}");
            let wrong = text.lines().nth(line - 1).expect("the line is in the text");
            assert_eq!(config_file::networks(wrong), Err((1, why)), "{wrong:?}");
            let before: Vec<&str> = text.lines().take(line - 1).collect();
            config_file::networks(&before.join("\n")).expect("all before it is right");
        }
    }
}

/// What a line says: nothing, or a network, which may be wrong.
fn plain(line: &str) -> Option<Option<IpNet>> {
    let network = line.find('#').map_or(line, |comment| &line[..comment]).trim();
    if network.is_empty() {
        return None;
    }
    let (address, prefix) = match network.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (network, None),
    };
    let is_number = |prefix: &&str| {
        prefix.bytes().all(|it| it.is_ascii_digit()) && (*prefix == "0" || !prefix.starts_with('0'))
    };
    let prefix = prefix.map(|prefix| Some(prefix).filter(is_number)?.parse::<u8>().ok());
    Some(address.parse().ok().and_then(|address: IpAddr| match (address.to_canonical(), prefix) {
        (_, Some(None)) => None,
        (address, None) => Some(IpNet::from(address)),
        // Mapped into IPv6.
        (four @ IpAddr::V4(_), Some(Some(len @ 96..=128))) if address.is_ipv6() => {
            IpNet::new(four, len - 96).ok()
        }
        (_, Some(Some(len))) => IpNet::new(address, len).ok(),
    }))
}

/// The edges of each network and their neighbours.
fn looked_up(networks: &[IpNet]) {
    let list = Networks::new(networks);
    assert_eq!(list.is_empty(), networks.is_empty());
    for network in networks.iter().take(LOOKED_UP) {
        // One that is mapped into IPv6 is an IPv4 address, whatever is around it.
        let is_mapped = network.addr().to_canonical() != network.addr();
        assert!(is_mapped || list.contains(network.addr()), "{network} lacks its own address");
        let edges = [network.network(), network.broadcast()];
        for address in edges.into_iter().flat_map(|edge| [edge, above(edge), below(edge)]) {
            let is_inside = networks.iter().any(|it| it.contains(&address.to_canonical()));
            assert_eq!(list.contains(address), is_inside, "{address} in {networks:?}");
        }
    }
}

fn above(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
    }
}

fn below(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_sub(1)).into(),
    }
}
