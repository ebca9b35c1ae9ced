//! Names and all addresses: what is listened on for them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::lookup::Wanted;
use super::*;
use crate::config::Listen;

fn bind(text: &str) -> Result<super::super::Bound, BindError> {
    let options = SocketOptions::default();
    Wanted::look_up(&text.parse().unwrap())?.bind(&options, Sharing::Exclusive)
}

/// What a name would be that has these addresses.
fn name(addresses: &[&str], port: u16) -> Wanted {
    let listen = Listen::Name { name: "made-up".to_owned(), port };
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Wanted::made_up(listen, addresses)
}

fn try_name(addresses: &[&str], port: u16) -> Result<super::super::Bound, BindError> {
    name(addresses, port).bind(&SocketOptions::default(), Sharing::Exclusive)
}

#[test]
fn all_addresses_are_both_families_on_one_socket() {
    let bound = bind(":0").unwrap();
    let [listener] = &bound.listeners[..] else { panic!("{bound:?}") };
    let port = tcp_address(listener).port();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        TcpStream::connect_timeout(&SocketAddr::new(ip, port), DEADLINE).unwrap();
    }
}

#[test]
fn a_name_that_does_not_resolve_is_named_with_the_command_that_tells_more() {
    let error = bind("no.such.name.invalid:80").unwrap_err().to_string();
    let expected = "cannot listen on no.such.name.invalid:80: the name does not resolve: ";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.ends_with("getent ahosts no.such.name.invalid"), "{error}");
}

#[test]
fn localhost_is_found() {
    let bound = bind("localhost:0").unwrap();
    assert!(bound.listeners.iter().all(|listener| tcp_address(listener).ip().is_loopback()));
}

#[test]
fn each_address_of_a_name_has_the_same_port() {
    let bound = try_name(&["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"], 0).unwrap();
    let addresses: Vec<_> = bound.listeners.iter().map(tcp_address).collect();
    let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.2", "::1"]);
    assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    assert_ne!(addresses[0].port(), 0);
}

#[test]
fn all_addresses_of_a_name_or_none() {
    // Below those that the kernel chooses: one of them may be the local port of any connection of another test.
    let port = 10_000 + (std::process::id() % 20_000) as u16;
    let _holder = listen_plainly(&format!("127.0.0.2:{port}"));
    let error = try_name(&[&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")], port);
    assert!(matches!(error, Err(BindError::InUse { .. })), "{error:?}");
    listen_plainly(&format!("127.0.0.1:{port}"));
    let foreign = try_name(&["127.0.0.1:0", "192.0.2.1:0"], 0);
    assert!(matches!(foreign, Err(BindError::NotLocal { .. })), "{foreign:?}");
    // Only where the machine has no IPv6 is an IPv6 address left out.
    let foreign = try_name(&["127.0.0.1:0", "[2001:db8::1]:0"], 0);
    assert!(matches!(foreign, Err(BindError::NotLocal { .. })), "{foreign:?}");
}

/// A machine may lack IPv6 altogether, have it disabled, or have no interface up that has it.
#[test]
fn what_is_not_listened_on_names_its_cause() {
    let wanted = name(&["127.0.0.1:80", "[::1]:80"], 80);
    let missing: ListenAddress = "[::1]:80".parse().unwrap();
    let (loopback, all) = ("[::1]:80".parse().unwrap(), "[::]:80".parse().unwrap());
    let table = [
        (BindError::NoIpv6 { address: loopback }, "this kernel has no IPv6"),
        (BindError::NotLocal { address: loopback }, "is lo down, or net.ipv6.conf.lo.disable_ipv6"),
        (BindError::NotLocal { address: all }, "disabled here (net.ipv6.conf.all.disable_ipv6)"),
    ];
    for (error, why) in table {
        let notice = wanted.notice(&missing, &error);
        assert!(notice.starts_with("made-up:80 is listened on for IPv4 only, not on [::1]:80: "));
        assert!(notice.contains(why), "{notice}");
    }
}
