//! The program that the kernel runs for banned sources: as a property, and as the kernel itself runs it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use proptest::prelude::*;
use uring_acceptor::sources::{BANS_MAX, Network, filter};
use uring_acceptor::sys::{self, FILTER_STEPS_MAX};

#[path = "../fuzz/src/ban_filter.rs"]
#[expect(unreachable_pub, reason = "for the fuzz targets it is a library")]
mod checks;

use checks::{ACK, SYN, Segment, contains, passes};

fn numbered(number: u32) -> Network {
    Network::of(IpAddr::from(Ipv4Addr::from_bits(number)))
}

proptest! {
    // Each case looks up a thousand addresses.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_tree_drops_who_is_in_the_list_and_nobody_else(
        data in prop::collection::vec(any::<u8>(), 0..9 * 300),
    ) {
        checks::ban_filter(&data);
    }

    /// Near each other, so that ranges touch and overlap.
    #[test]
    fn neighbours_are_told_apart(
        data in prop::collection::vec((0..8_u8, 0..64_u8, 0..4_u8, any::<u8>()), 0..400),
    ) {
        let of = |(kind, prefix, high, low): (u8, u8, u8, u8)| match kind % 2 {
            0 => [kind, prefix, 10, 0, high, low, 0, 0, 0],
            _ => [kind, prefix, 0x20, 1, high, 0, 0, 0, low],
        };
        let bytes: Vec<u8> = data.into_iter().flat_map(of).collect();
        checks::ban_filter(&bytes);
    }
}

/// How many fit is what docs/LIMITS.md tells.
#[test]
fn what_does_not_fit_is_left_out_from_the_end() {
    let apart: Vec<Network> = (1..=BANS_MAX as u32).map(|number| numbered(number * 5)).collect();
    let filter = filter::compile(&apart);
    assert!((3200..3600).contains(&filter.taken), "{}", filter.taken);
    assert!(filter.program.len() <= FILTER_STEPS_MAX);
    for (place, number) in (1..=BANS_MAX as u32).enumerate() {
        let source = IpAddr::from(Ipv4Addr::from_bits(number * 5));
        let (passed, _) = passes(&filter.program, &Segment::new(source, SYN));
        assert_eq!(passed, place >= filter.taken, "{source}");
    }
    // Addresses that touch are one range.
    let together: Vec<Network> = (1..=BANS_MAX as u32).map(numbered).collect();
    let filter = filter::compile(&together);
    assert!(filter.taken == BANS_MAX && filter.program.len() < 30, "{}", filter.program.len());
    let spread = |number: u64| -> Network {
        let bits = u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64;
        format!("{}/64", std::net::Ipv6Addr::from_bits(bits)).parse().unwrap()
    };
    let apart: Vec<Network> = (1..=BANS_MAX as u64).map(spread).collect();
    let filter = filter::compile(&apart);
    assert!((500..900).contains(&filter.taken), "{}", filter.taken);
    let in_one_32: Vec<Network> = (0..BANS_MAX as u32)
        .map(|number| {
            format!("2001:db8:{:x}:{:x}::/64", number >> 8, (number & 255) * 7).parse().unwrap()
        })
        .collect();
    let filter = filter::compile(&in_one_32);
    assert!((3200..3600).contains(&filter.taken), "{}", filter.taken);
}

/// A datagram over loopback stands for a segment: its sixth byte is where TCP has its flags.
#[test]
fn the_kernel_drops_what_the_list_says() {
    const FLAGS: usize = 5;
    const SOURCES: u32 = 300;
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let source = |number: u32| Ipv4Addr::from_bits(0x7F01_0000 + number * 3);
    let mut banned: Vec<Network> =
        (0..SOURCES).filter(|it| it % 2 == 0).map(|it| Network::of(source(it).into())).collect();
    // As long as a program may be, so that long ways are gone, too.
    banned.extend((0..2900).map(|number| numbered(0x0A00_0000 + number * 7)));
    let networks = ["127.1.2.0/26", "127.1.3.32/27"].map(|text| text.parse().unwrap());
    banned.extend::<[Network; 2]>(networks);
    let filter = filter::compile(&banned);
    assert_eq!(filter.taken, banned.len());
    if let Err(error) = sys::attach_filter(receiver.as_fd(), &filter.program) {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        return eprintln!("SKIPPED: a packet filter wants CAP_NET_ADMIN");
    }
    let mut came = [0; 16];
    for number in 0..SOURCES {
        let from = IpAddr::from(source(number));
        let sender = UdpSocket::bind((from, 0)).unwrap();
        for flags in [SYN, ACK] {
            let mut segment = [0; 12];
            segment[FLAGS] = flags;
            sender.send_to(&segment, receiver.local_addr().unwrap()).unwrap();
        }
        let is_banned = banned.iter().any(|network| contains(*network, from));
        let expected = if is_banned { vec![ACK] } else { vec![SYN, ACK] };
        for flags in expected {
            let (_, peer) = receiver.recv_from(&mut came).unwrap();
            assert_eq!((peer.ip(), came[FLAGS]), (from, flags));
        }
    }
    receiver.set_nonblocking(true).unwrap();
    assert_eq!(receiver.recv_from(&mut came).unwrap_err().kind(), ErrorKind::WouldBlock);
    let passed = (0..SOURCES)
        .filter(|it| passes(&filter.program, &Segment::new(source(*it).into(), SYN)).0)
        .count();
    assert!((100..200).contains(&passed), "{passed}: some pass and some do not");
    // Once it is detached, all pass.
    sys::detach_filter(receiver.as_fd()).unwrap();
    let sender = UdpSocket::bind((source(0), 0)).unwrap();
    sender.send_to(&[0, 0, 0, 0, 0, SYN], receiver.local_addr().unwrap()).unwrap();
    receiver.set_nonblocking(false).unwrap();
    assert_eq!(receiver.recv_from(&mut came).unwrap().0, 6);
}
