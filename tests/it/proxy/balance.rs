//! Who gets a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::client::IO_TIMEOUT;

use super::backend::Backend;
use super::{Proxy, line, who_answers};

/// How many of so many connections, held open, each backend gets.
#[track_caller]
fn shares(to: &[&str], arguments: &[&str], connections: usize) -> BTreeMap<String, usize> {
    let proxy = Proxy::start_to(to, &[&["--workers", "1"], arguments].concat());
    let held: Vec<_> = (0..connections).map(|_| who_answers(proxy.address())).collect();
    let mut shares = BTreeMap::new();
    for (name, _) in &held {
        *shares.entry(name.clone()).or_insert(0) += 1;
    }
    drop(held);
    proxy.stop();
    shares
}

fn weighted(backend: &Backend, weight: u32) -> String {
    format!("{},weight={weight}", backend.to())
}

#[test]
fn weights() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let to = [&*weighted(&a, 3), &b.to()];
    for policy in ["round-robin", "least-connections"] {
        let shares = shares(&to, &["--balance", policy], 24);
        assert_eq!((shares["a"], shares["b"]), (18, 6), "{policy}");
    }
}

#[test]
fn equal_ones() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    for policy in ["round-robin", "least-connections"] {
        let shares = shares(&[&a.to(), &b.to()], &["--balance", policy], 20);
        assert_eq!((shares["a"], shares["b"]), (10, 10), "{policy}");
    }
}

/// The less loaded of two that are drawn: with two backends, always the less loaded.
#[test]
fn random_leaves_nobody_out() {
    let backends = [Backend::named("a"), Backend::named("b"), Backend::named("c")];
    let to: Vec<String> = backends.iter().map(Backend::to).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let shares = shares(&to, &["--balance", "random"], 60);
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|share| (10..=30).contains(share)), "{shares:?}");
}

/// The whole of 127.0.0.0/8 is this machine.
#[track_caller]
pub(super) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into()).expect("it is loopback");
    socket.connect_timeout(&address.into(), IO_TIMEOUT).expect("it connects");
    socket.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    socket.into()
}

fn by_source(proxy: &Proxy) -> Vec<String> {
    let ask = |last| line(connect_from(Ipv4Addr::new(127, 0, 0, last), proxy.address()));
    (1..=24).map(ask).collect()
}

/// The same source stays, in another process too, and only those move whose backend is gone.
#[test]
fn source_hash() {
    let names = ["a", "b", "c"];
    let [a, b, c] = names.map(Backend::named);
    let start = || Proxy::start(&[&a, &b, &c], &["--balance", "source-hash", "--workers", "2"]);
    let proxy = start();
    let first = by_source(&proxy);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    assert_eq!(by_source(&proxy), first);
    proxy.stop();
    let proxy = start();
    assert_eq!(by_source(&proxy), first);
    drop(c);
    let without = by_source(&proxy);
    for (before, after) in first.iter().zip(&without) {
        assert!(after == before || before == "c", "{before} became {after}");
    }
    assert!(!without.contains(&"c".to_owned()), "{without:?}");
    proxy.stop();
}
