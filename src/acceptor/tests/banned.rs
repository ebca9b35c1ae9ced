//! Banned sources that are turned away here: the connections are real ones.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::sources::{Network, Ranges, Refusals, Refuses};

/// A client from this address, and the connection as it is accepted.
fn connection(from: &str) -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: std::net::SocketAddr = format!("{from}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&listener.local_addr().unwrap().into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (socket.into(), listener.accept().unwrap().0.into())
}

#[test]
fn who_is_banned_is_reset_and_counted_and_takes_no_place() {
    let mut bench = Bench::armed();
    let refusals = Arc::new(Refusals::default());
    bench.acceptor.refuse(Refuses::of(&refusals));
    let network: Network = "127.0.9.0/24".parse().unwrap();
    let (_before, socket) = connection("127.0.9.1");
    bench.complete(0, true, Ok(socket));
    refusals.set(Ranges::of(&[network]));
    let (mut banned, socket) = connection("127.0.9.1");
    bench.complete(0, true, Ok(socket));
    let (_other, socket) = connection("127.0.8.1");
    bench.complete(0, true, Ok(socket));
    let error = banned.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    bench.turn();
    assert_eq!(bench.dispatched().len(), 2);
    assert_eq!(bench.connection_limit.open(), 2);
    assert_eq!((bench.count(Counter::Accepted), bench.count(Counter::AcceptBanned)), (3, 1));
    refusals.set(Ranges::default());
    let (_after, socket) = connection("127.0.9.1");
    bench.complete(0, true, Ok(socket));
    bench.turn();
    assert_eq!(bench.dispatched().len(), 1);
    assert_eq!(bench.count(Counter::AcceptBanned), 1);
}

/// Whoever has no address is not banned: a unix socket, or whatever stands for one here.
#[test]
fn who_has_no_address_is_not_refused() {
    let mut bench = Bench::armed();
    let refusals = Arc::new(Refusals::default());
    bench.acceptor.refuse(Refuses::of(&refusals));
    refusals.set(Ranges::of(&["127.0.0.0/8".parse().unwrap()]));
    bench.connections(0, 2);
    bench.turn();
    assert_eq!(bench.dispatched().len(), 2);
}
