//! Tables of what fits, what is rotated and what is refused.

use super::ports::{parse_range, reserved, reuse};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// 28,232 ports, as kernels have them by default.
fn room(reuse: TimeWaitReuse) -> PortRoom {
    PortRoom { range: 32768..=60999, reserved: 0, reuse, block: 6 }
}

const LOOPBACK: TimeWaitReuse = TimeWaitReuse::OnLoopbackAfter(SECOND);

fn demand(rate: f64, seconds: u64, close: CloseStyle) -> Demand {
    let duration = Duration::from_secs(seconds);
    Demand { rate: Rate::Planned(rate), at_once: 100, duration, close }
}

fn tcp(address: &str) -> Target {
    Target::Tcp(address.parse().unwrap())
}

/// Addresses in turn, 0 for the kernel's choice.
fn addresses(target: &str, demand: &Demand, reuse: TimeWaitReuse) -> Result<usize, String> {
    match plan_sources(&tcp(target), demand, None, &room(reuse))? {
        Sources::Kernel => Ok(0),
        Sources::Rotate(addresses) => Ok(addresses.len()),
    }
}

#[test]
fn loopback_takes_as_many_addresses_as_the_ports_need() {
    use CloseStyle::{Fin, Half, Rst, Server};
    use TimeWaitReuse::{After, Never};
    // Half of 28,232 ports in use is comfortable: 14,116.
    let table = [
        (demand(200.0, 3600, Fin), Never, 0),
        (demand(1000.0, 10, Fin), Never, 0),
        (demand(1000.0, 60, Fin), Never, 5),
        (demand(1000.0, 3600, Fin), Never, 5),
        (demand(1000.0, 3600, Half), Never, 5),
        (demand(1000.0, 3600, Rst), Never, 0),
        (demand(1000.0, 3600, Server), Never, 0),
        (demand(1000.0, 3600, Fin), LOOPBACK, 0),
        (demand(14_000.0, 60, Fin), LOOPBACK, 0),
        (demand(30_000.0, 60, Fin), LOOPBACK, 3),
        (demand(30_000.0, 60, Fin), After(2 * SECOND), 5),
        (Demand { at_once: 100_000, ..demand(0.0, 10, Server) }, LOOPBACK, 8),
        (Demand { rate: Rate::AtMost(50_000.0), ..demand(0.0, 60, Fin) }, LOOPBACK, 4),
    ];
    for (demand, reuse, expected) in table {
        let found = addresses("127.0.0.1:80", &demand, reuse);
        assert_eq!(found, Ok(expected), "{demand:?} {reuse:?}");
    }
}

#[test]
fn one_address_must_do_elsewhere() {
    use CloseStyle::{Fin, Rst, Server};
    use TimeWaitReuse::{After, Never};
    let table = [
        ("10.0.0.1:80", demand(400.0, 3600, Fin), Never, true),
        ("10.0.0.1:80", demand(500.0, 3600, Fin), Never, false),
        ("10.0.0.1:80", demand(500.0, 20, Fin), Never, true),
        // 2 is for loopback addresses, not for those of an interface of this machine.
        ("10.0.0.1:80", demand(500.0, 3600, Fin), LOOPBACK, false),
        ("10.0.0.1:80", demand(500.0, 3600, Fin), After(SECOND), true),
        ("10.0.0.1:80", demand(500.0, 3600, Server), Never, true),
        ("10.0.0.1:80", demand(500.0, 3600, Rst), Never, true),
        // There is one ::1.
        ("[::1]:80", demand(20_000.0, 60, Fin), LOOPBACK, true),
        ("[::1]:80", demand(30_000.0, 60, Fin), LOOPBACK, false),
        ("10.0.0.1:80", Demand { at_once: 30_000, ..demand(0.0, 9, Server) }, Never, false),
        ("10.0.0.1:80", Demand { rate: Rate::AtMost(1e5), ..demand(0.0, 60, Fin) }, Never, true),
    ];
    for (target, demand, reuse, fits) in table {
        let found = addresses(target, &demand, reuse);
        assert_eq!(found.is_ok(), fits, "{target} {demand:?} {reuse:?}: {found:?}");
    }
}

#[test]
fn a_refusal_says_how_many_ports_what_fits_and_what_mends_it() {
    let demand = demand(1000.0, 3600, CloseStyle::Fin);
    let text = addresses("10.0.0.1:80", &demand, LOOPBACK).unwrap_err();
    for part in [
        "60100 local ports",
        "28232",
        "468 connections per second fit",
        "--source",
        "--close server",
        "net.ipv4.tcp_tw_reuse=1",
        "net.ipv4.ip_local_port_range",
    ] {
        assert!(text.contains(part), "no '{part}': {text}");
    }
    let crowd = Demand { at_once: 40_000, ..demand };
    let text = addresses("10.0.0.1:80", &crowd, LOOPBACK).unwrap_err();
    assert!(text.contains("--connections") && !text.contains("fit;"), "{text}");
    // A mode that keeps its connections has neither a rate nor a say in who closes.
    let kept = Demand { rate: Rate::Planned(0.0), ..crowd };
    let text = addresses("10.0.0.1:80", &kept, LOOPBACK).unwrap_err();
    assert!(text.contains("Open fewer connections") && text.contains("--source"), "{text}");
    for option in ["--rate", "--close", "--max-inflight"] {
        assert!(!text.contains(option), "{option} is no option there: {text}");
    }
}

#[test]
fn explicit_sources_are_kept_when_they_do() {
    let explicit = |target: &str, sources: &[&str], rate| {
        let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        let demand = demand(rate, 3600, CloseStyle::Fin);
        plan_sources(&tcp(target), &demand, Some(sources), &room(TimeWaitReuse::Never))
    };
    let two = ["10.0.0.8", "10.0.0.9"];
    let kept = Sources::Rotate(two.map(|source| source.parse().unwrap()).to_vec());
    assert_eq!(explicit("10.0.0.1:80", &two, 900.0), Ok(kept));
    let table = [
        ("10.0.0.1:80", &two[..], 1000.0, "60100 local ports"),
        ("10.0.0.1:80", &["::1"], 1.0, "another address family"),
        ("[fd00::1]:80", &two, 1.0, "another address family"),
        ("10.0.0.1:80", &["0.0.0.0"], 1.0, "an address of this machine"),
        ("10.0.0.1:80", &["10.0.0.8", "10.0.0.8"], 1.0, "given twice"),
    ];
    for (target, sources, rate, part) in table {
        let text = explicit(target, sources, rate).unwrap_err();
        assert!(text.contains(part), "no '{part}': {text}");
    }
}

#[test]
fn a_unix_socket_needs_no_ports() {
    let target = Target::Unix("/run/x.sock".into());
    let demand = demand(1e6, 3600, CloseStyle::Fin);
    let plan = |explicit| plan_sources(&target, &demand, explicit, &room(TimeWaitReuse::Never));
    assert_eq!(plan(None), Ok(Sources::Kernel));
    assert!(plan(Some(vec!["127.0.0.2".parse().unwrap()])).unwrap_err().contains("--source"));
}

#[test]
fn loopback_addresses_are_distinct_and_each_run_has_its_block() {
    let with = |count, block| {
        let room = PortRoom { block, ..room(LOOPBACK) };
        rotate_loopback(count, true, &room).unwrap()
    };
    let all = with(MOST_SOURCES as f64, 0);
    assert!(all.iter().all(IpAddr::is_loopback));
    assert!(all.is_sorted_by(|a, b| a < b) && all.len() == MOST_SOURCES);
    assert_eq!(with(2.0, 6), ["127.7.0.1", "127.7.0.2"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_ne!(with(1.0, 7), with(1.0, 8));
    assert_eq!(with(1.0, u32::MAX).len(), 1);
    let too_many = |closes| rotate_loopback(5000.0, closes, &room(LOOPBACK)).unwrap_err();
    assert!(too_many(true).contains("--rate") && !too_many(false).contains("--"));
}

#[test]
fn sysctls_are_read_as_the_kernel_writes_them() {
    assert_eq!(parse_range("32768\t60999"), Ok(32768..=60999));
    for text in ["", "1", "2 1", "a b", "1 2 3"] {
        assert!(parse_range(text).is_err(), "{text}");
    }
    for (listed, count) in [("", 0), ("80", 0), ("40000", 1), ("80,40000-40009,60999-65535", 11)] {
        assert_eq!(reserved(listed, &(32768..=60999)), count, "{listed}");
    }
    assert_eq!(reuse("2", true, SECOND), LOOPBACK);
    assert_eq!(reuse("1", true, SECOND), TimeWaitReuse::After(SECOND));
    assert_eq!(reuse("1", false, SECOND), TimeWaitReuse::Never);
    assert_eq!(reuse("0", true, SECOND), TimeWaitReuse::Never);
    let here = PortRoom::read().unwrap();
    assert!(here.ports() >= 1);
}

#[test]
fn several_targets_have_ports_of_their_own_and_sources_of_their_family() {
    let targets = [tcp("127.0.0.1:80"), tcp("[::1]:80")];
    let demand = Demand { rate: Rate::AtMost(50_000.0), ..demand(0.0, 60, CloseStyle::Fin) };
    let for_both =
        |explicit: Option<&[IpAddr]>| for_targets(&targets, &demand, explicit, &room(LOOPBACK));
    // Half of the load goes to each: two addresses of 127.0.0.0/8 do for theirs; ::1 is alone.
    let Ok(Sources::Rotate(addresses)) = for_both(None) else {
        panic!("the ports of one do not do")
    };
    assert!(addresses.len() == 2 && addresses.iter().all(IpAddr::is_ipv4), "{addresses:?}");
    let both: [IpAddr; 2] = ["127.0.0.5".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(for_both(Some(&both)), Ok(Sources::Rotate(both.to_vec())));
    let one = for_both(Some(&both[..1])).unwrap_err();
    assert!(one.contains("[::1]:80") && one.contains("--ipv4"), "{one}");
    let none = for_targets(&targets[..1], &demand, Some(&both), &room(LOOPBACK)).unwrap_err();
    assert!(none.contains("--source ::1: no target"), "{none}");
}
