//! What is written can be read, and no bytes at all confuse the reader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::preread::proxy_protocol::MAX_V1_BYTES;

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        // With runs of zeros, which the notation of IPv6 shortens, and mapped ones.
        any::<([bool; 8], [u16; 8])>().prop_map(|(keep, groups)| {
            let groups: [u16; 8] = std::array::from_fn(|at| if keep[at] { groups[at] } else { 0 });
            Ipv6Addr::from(groups).into()
        }),
        any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from(ip).to_ipv6_mapped().into()),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

/// Both ends as a reader sees them: of one family, which is IPv4 if both can be.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port()).into();
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), address.port()).into(),
        IpAddr::V6(_) => address,
    };
    let both: (SocketAddr, SocketAddr) = (canonical(source), canonical(destination));
    if both.0.is_ipv4() && both.1.is_ipv4() { both } else { (mapped(source), mapped(destination)) }
}

/// Something that is nearly a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let header = (any_address(), any_address(), any::<bool>()).prop_map(|(from, to, text)| {
        let endpoints = Endpoints::Tcp { source: from, destination: to };
        if text { written_v1(endpoints) } else { written_v2(endpoints) }
    });
    let fixtures = [
        include_str!("../../testdata/haproxy-v2-ssl.hex"),
        include_str!("../../testdata/haproxy-v2-crc32c.hex"),
        include_str!("../../testdata/haproxy-v1-unix.hex"),
    ];
    let fixture = (0..fixtures.len()).prop_map(move |index| unhex(fixtures[index]));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let tail = prop::collection::vec(any::<u8>(), 0..150);
    (prop_oneof![header, fixture], changes, tail).prop_map(|(mut bytes, changes, tail)| {
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(source in any_address(), destination in any_address()) {
        let endpoints = Endpoints::Tcp { source, destination };
        let (source, destination) = of_one_family(source, destination);
        let expected = Endpoints::Tcp { source, destination };
        let line = written_v1(endpoints);
        prop_assert!(line.len() <= MAX_V1_BYTES);
        prop_assert_eq!(whole(&line).endpoints, expected);
        let header = written_v2(endpoints);
        prop_assert_eq!(whole(&header).endpoints, expected);
    }

    #[test]
    fn unix_names_are_read_as_written(
        source in prop::collection::vec(1u8.., 0..=108),
        name in prop::collection::vec(1u8.., 0..=107),
    ) {
        let destination = [b"\0", name.as_slice()].concat();
        let destination = if name.is_empty() { &[] } else { destination.as_slice() };
        let endpoints = Endpoints::Unix { source: &source, destination };
        let header = written_v2(endpoints);
        prop_assert_eq!(whole(&header).endpoints, endpoints);
    }

    /// With changed bytes a reader may accept or refuse, but it sticks to what it said, asks for no
    /// more than the limit, and its header never ends behind the bytes.
    #[test]
    fn a_reader_never_changes_its_mind(bytes in nearly()) {
        let limit = if bytes[0] == b'P' { MAX_V1_BYTES } else { MAX_V2_BYTES };
        let verdict = read_in_steps(&bytes, limit, read);
        if let Verdict::Done((_, len)) = verdict {
            prop_assert!(len <= bytes.len());
        }
    }
}
