//! Networks, the list of bans, and what acceptors know of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

fn network(text: &str) -> Network {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn networks_are_written_as_they_are_read() {
    let table = [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::/48", "2001:db8::/48"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ];
    for (text, written) in table {
        assert_eq!(network(text).to_string(), written, "{text}");
        assert_eq!(network(written), network(text));
    }
}

#[test]
fn what_is_no_network_is_told() {
    let table = [
        ("", "neither an address nor a network"),
        ("localhost", "neither an address nor a network"),
        ("192.0.2.7/33", "neither an address nor a network"),
        ("192.0.2.7/24", "the network is 192.0.2.0/24"),
        ("0.0.0.0/0", "that is everybody"),
        ("::/0", "that is everybody"),
        ("::ffff:0.0.0.0/96", "that is everybody"),
        ("2001:db8::1/128", "nothing smaller can be named"),
        ("2001:db8::/65", "nothing smaller can be named"),
    ];
    for (text, told) in table {
        let error = text.parse::<Network>().unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn a_set_has_all_of_its_networks_and_no_more() {
    let networks = ["10.0.0.0/8", "192.0.2.7", "192.0.2.8", "2001:db8::/48", "2001:db8:1::1"];
    let ranges = Ranges::of(&networks.map(network));
    let table = [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("192.0.2.6", false),
        ("192.0.2.7", true),
        ("::ffff:192.0.2.8", true),
        ("192.0.2.9", false),
        ("2001:db8:0:ffff::1", true),
        ("2001:db8:1::2", true),
        ("2001:db8:1:1::", false),
        ("2001:db7:ffff:ffff::", false),
    ];
    for (text, is_in) in table {
        assert_eq!(ranges.contains(address(text)), is_in, "{text}");
    }
    assert!(Ranges::of(&[]).is_empty() && !ranges.is_empty());
}

fn ban(text: &str, until: Instant, by: BannedBy) -> Ban {
    Ban { network: network(text), until, by }
}

#[test]
fn bans_end_and_those_that_end_last_come_first() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut bans = Bans::default();
    for (text, seconds) in [("10.0.0.1", 2), ("10.0.0.2", 3), ("10.0.0.3", 1)] {
        bans.add(ban(text, start + seconds * second, BannedBy::Operator)).unwrap();
    }
    let order: Vec<_> = bans.all().iter().map(|ban| ban.network.to_string()).collect();
    assert_eq!(order, ["10.0.0.2", "10.0.0.1", "10.0.0.3"]);
    assert_eq!(bans.take_over(start), []);
    assert_eq!(bans.take_over(start + 2 * second).len(), 2);
    assert!(!bans.remove(network("10.0.0.1")) && bans.remove(network("10.0.0.2")));
    assert!(bans.is_empty());
}

#[test]
fn the_last_word_is_the_operators() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut bans = Bans::default();
    let mut ends = |seconds: u32, by| {
        bans.add(ban("10.0.0.1", start + seconds * second, by)).unwrap();
        (bans.all()[0].until - start, bans.all()[0].by, bans.len())
    };
    assert_eq!(ends(5, BannedBy::Limit), (5 * second, BannedBy::Limit, 1));
    assert_eq!(ends(3, BannedBy::Limit), (5 * second, BannedBy::Limit, 1));
    assert_eq!(ends(7, BannedBy::Limit), (7 * second, BannedBy::Limit, 1));
    assert_eq!(ends(2, BannedBy::Operator), (2 * second, BannedBy::Operator, 1));
    assert_eq!(ends(9, BannedBy::Limit), (2 * second, BannedBy::Operator, 1));
    assert_eq!(ends(1, BannedBy::Operator), (second, BannedBy::Operator, 1));
}

#[test]
fn a_full_list_gives_up_what_a_limit_has_banned_and_would_end_first() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let numbered = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
    let mut bans = Bans::default();
    let mut add = |number: usize, seconds: usize, by| {
        let until = start + second * u32::try_from(seconds).unwrap();
        bans.add(Ban { network: Network::of(numbered(number)), until, by })?;
        Ok(bans.len())
    };
    for number in 1..BANS_MAX - 1 {
        assert_eq!(add(number, 1, BannedBy::Operator), Ok(number));
    }
    add(8000, 20, BannedBy::Limit).unwrap();
    assert_eq!(add(8001, 10, BannedBy::Limit), Ok(BANS_MAX));
    assert_eq!(add(8002, 5, BannedBy::Limit), Ok(BANS_MAX));
    assert_eq!(add(8003, 1, BannedBy::Operator), Ok(BANS_MAX));
    assert_eq!(add(8004, 1, BannedBy::Operator), Ok(BANS_MAX));
    // One that is there already takes no room.
    assert_eq!(add(8004, 2, BannedBy::Operator), Ok(BANS_MAX));
    assert_eq!(add(8005, 9, BannedBy::Operator), Err(NoRoom));
    assert_eq!(add(8005, 9, BannedBy::Limit), Err(NoRoom));
    let all = bans.all();
    for number in [8000, 8001, 8002] {
        assert!(!all.iter().any(|ban| ban.network == Network::of(numbered(number))), "{number}");
    }
}

/// However long it is, and right after it began.
#[test]
fn what_is_left_of_a_ban_is_rounded_up_to_seconds() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    for time in [second, 600 * second, 365 * 24 * 3600 * second] {
        let ban = ban("192.0.2.7", start + time, BannedBy::Operator);
        let left = |after: Duration| ban.left(start + after);
        assert_eq!(left(Duration::ZERO), time);
        assert_eq!(left(Duration::from_nanos(1)), time);
        assert_eq!(left(second - Duration::from_nanos(1)), time);
        assert_eq!(left(second), time - second);
        assert_eq!(left(time + second), Duration::ZERO);
    }
}

#[test]
fn an_acceptor_knows_who_is_refused() {
    let shared = Arc::new(Refusals::default());
    let mut refuses = Refuses::of(&shared);
    assert!(!refuses.anybody() && !refuses.address(address("10.0.0.1")));
    shared.set(Ranges::of(&[network("10.0.0.1")]));
    assert!(refuses.anybody());
    assert!(refuses.address(address("10.0.0.1")) && refuses.address(address("::ffff:10.0.0.1")));
    assert!(!refuses.address(address("10.0.0.2")));
    shared.set(Ranges::of(&[network("10.0.0.2")]));
    assert!(!refuses.address(address("10.0.0.1")) && refuses.address(address("10.0.0.2")));
    shared.set(Ranges::default());
    assert!(!refuses.anybody() && !refuses.address(address("10.0.0.2")));
    shared.set(Ranges::of(&[network("10.0.0.2")]));
    assert!(refuses.address(address("10.0.0.2")), "the same set once more");
}

/// What docs/LIMITS.md says of the room in a filter.
#[test]
fn how_many_bans_a_filter_has_room_for() {
    let ipv6 = |first_half: u32, second_half: u32| {
        let prefix = u64::from(first_half) << 32 | u64::from(second_half);
        Network::of(std::net::Ipv6Addr::from_bits(u128::from(prefix) << 64).into())
    };
    let taken = |network: &dyn Fn(u32) -> Network| {
        let all: Vec<Network> = (0..BANS_MAX as u32).map(network).collect();
        filter::compile(&all).taken
    };
    // None is beside another.
    let in_each = |count: u32| {
        move |number: u32| ipv6(0x2001_0000 + 2 * (number / count), 2 * (number % count))
    };
    let ipv4 = |number: u32| Network::of(IpAddr::from((0x0a00_0000 + 2 * number).to_be_bytes()));
    let slash_24 = |number: u32| format!("10.{}.{}.0/24", number / 128, number % 128 * 2);
    let slash_48 = |number: u32| network(&format!("2001:{:x}:1::/48", 2 * number));
    type Row<'a> = (&'a str, &'a dyn Fn(u32) -> Network, usize);
    let table: [Row<'_>; 7] = [
        ("IPv4 addresses", &ipv4, 3_300),
        ("IPv4 /24s", &|number| network(&slash_24(number)), 1_800),
        ("IPv6 /64s of one /32", &in_each(BANS_MAX as u32), 3_300),
        ("IPv6 /64s, one in each /32", &in_each(1), 580),
        ("IPv6 /64s, two in each /32", &in_each(2), 1_000),
        ("IPv6 /64s, eight in each /32", &in_each(8), 2_300),
        ("IPv6 /48s, one in each /32", &slash_48, 500),
    ];
    for (what, network, least) in table {
        let taken = taken(network);
        assert!(taken >= least && taken < least + least / 8, "{what}: {taken}");
    }
}
