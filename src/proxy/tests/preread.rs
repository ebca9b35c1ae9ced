//! PROXY headers and TLS server names.

use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::config::ProxyProtocolVersion;
use crate::preread::routes::{Route, Routes};
use crate::sys;
use crate::sys::testing::eventually;

/// A connection from 127.0.0.1, and the client's end.
fn from_localhost() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), client)
}

fn bench(preread: PrereadRules, routes: usize) -> Bench {
    let views = (0..=routes).map(|_| upstream(|_| {})).collect();
    Bench::with(settings(), views, preread)
}

fn trusting() -> Bench {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    bench(PrereadRules { trusted, ..PrereadRules::default() }, 0)
}

/// A pair whose client is read first.
fn preread(bench: &mut Bench) -> Key {
    let (socket, _client) = from_localhost();
    let asked = bench.adopt_socket(socket);
    let [(key, Client, ONCE)] = asked[..] else { panic!("{asked:?}") };
    key
}

#[test]
fn a_header_of_a_trusted_peer_is_taken_off() {
    let mut bench = trusting();
    let key = preread(&mut bench);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n";
    // In three parts, the last with the first bytes of the client.
    assert_eq!(bench.last_input(key, Client, &header[..7]), [(Client, all())]);
    assert_eq!(bench.input(key, Client, &header[7..20]), []);
    let rest = [&header[20..], b"hello"].concat();
    assert_eq!(bench.input(key, Client, &rest), [(Backend, Open)]);
    bench.opened(key);
    let asked = bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, Send(b"hello".to_vec())), (Backend, all())]);
    let client = bench.proxy.table.get_mut(key).unwrap().detail().client;
    assert_eq!(client, Some("192.0.2.1:1000".parse().unwrap()));
}

#[test]
fn garbage_instead_of_a_header_reaches_nobody() {
    let mut bench = trusting();
    let key = preread(&mut bench);
    assert_eq!(operations(bench.last_input(key, Client, b"GET / HTTP/1.1\r\n")), [Reset]);
    bench.all_ended(Counter::ClosedByBadProxyHeader);
}

/// Who it was is known, and so whether a header has to come first.
#[test]
fn a_connection_that_was_reset_before_it_was_looked_at_has_closed_early() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = client.local_addr().unwrap();
    sys::reset_on_close(client.as_fd()).unwrap();
    let server = listener.accept().unwrap().0;
    drop(client);
    eventually(Duration::from_secs(10), || server.peer_addr().is_err());
    let mut bench = trusting();
    let asked = bench.adopt_socket(server.into());
    let [(key, Client, ONCE)] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(bench.proxy.table.get_mut(key).unwrap().detail().client, Some(address));
    assert_eq!(operations(bench.receive_fails(key, Client, Errno::ECONNRESET)), [Reset]);
    bench.all_ended(Counter::ClosedEarly);
}

/// Where the kernel does not know from whom it is, bytes may still come from it.
#[test]
fn a_connection_from_nobody_knows_whom_reaches_nobody() {
    let socket: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let mut bench = trusting();
    let asked = bench.adopt_socket(socket).into_iter().map(|(_, end, asked)| (end, asked));
    assert_eq!(operations(asked.collect()), [Reset]);
    bench.all_ended(Counter::ClosedByReset);
}

#[test]
fn a_header_that_ends_too_early_reaches_nobody() {
    let mut bench = trusting();
    let key = preread(&mut bench);
    bench.last_input(key, Client, b"PROXY TCP4");
    assert_eq!(operations(bench.fin(key, Client)), [Reset]);
    bench.all_ended(Counter::ClosedByBadProxyHeader);
}

/// A balancer that looks whether somebody listens, with a FIN or a reset behind it.
#[test]
fn a_client_that_closes_without_a_byte_has_closed_early() {
    for routes in [false, true] {
        let mut bench = if routes { routing() } else { trusting() };
        let key = preread(&mut bench);
        assert_eq!(operations(bench.fin(key, Client)), [Reset]);
        let key = preread(&mut bench);
        assert_eq!(operations(bench.receive_fails(key, Client, Errno::ECONNRESET)), [Reset]);
        bench.all_ended(Counter::ClosedEarly);
    }
}

/// A reset behind some bytes is a reset.
#[test]
fn a_client_that_resets_in_the_middle_of_a_header_has_reset() {
    let mut bench = trusting();
    let key = preread(&mut bench);
    bench.last_input(key, Client, b"PROXY");
    bench.receive_fails(key, Client, Errno::ECONNRESET);
    bench.all_ended(Counter::ClosedByReset);
}

/// What comes first is a header, then a hello: which of them was cut short.
#[test]
fn what_is_cut_short_is_named() {
    let header = b"PROXY UNKNOWN\r\n";
    let hello = hello("a.example.org");
    let table = [
        (&b"PROXY"[..], Counter::ClosedByBadProxyHeader),
        (header, Counter::ClosedEarly),
        (&[&header[..], &hello[..20]].concat(), Counter::ClosedByBadClientHello),
    ];
    for (bytes, counter) in table {
        let trusted = vec!["127.0.0.0/8".parse().unwrap()];
        let mut bench = routing_with(PrereadRules { trusted, ..PrereadRules::default() });
        let key = preread(&mut bench);
        bench.last_input(key, Client, bytes);
        assert_eq!(operations(bench.fin(key, Client)), [Reset]);
        bench.all_ended(counter);
    }
}

#[test]
fn a_header_that_is_dripped_has_one_deadline() {
    let mut bench = trusting();
    let key = preread(&mut bench);
    for byte in b"PROXY" {
        assert_eq!(bench.pass(190), []);
        bench.input(key, Client, &[*byte]);
    }
    assert_eq!(operations(bench.pass(200)), [Asked::Cancel(Kind::Receive)]);
    assert_eq!(operations(bench.receive_fails(key, Client, Errno::ECANCELED)), [Reset]);
    bench.all_ended(Counter::ClosedByFirstByteTimeout);
}

#[test]
fn nobody_else_is_asked_for_a_header() {
    let trusted = vec!["192.0.2.0/24".parse().unwrap()];
    let mut bench = bench(PrereadRules { trusted, ..PrereadRules::default() }, 0);
    let (socket, _client) = from_localhost();
    let asked = bench.adopt_socket(socket);
    assert!(matches!(asked[..], [(_, Backend, Open), (_, Client, ONCE)]), "{asked:?}");
}

#[test]
fn both_addresses_of_a_trusted_header_go_out_again() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let send = Some(ProxyProtocolVersion::V1);
    let mut bench = bench(PrereadRules { trusted, send, ..PrereadRules::default() }, 0);
    let key = preread(&mut bench);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n".to_vec();
    bench.last_input(key, Client, &header);
    bench.opened(key);
    let asked = bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, Send(header)), (Backend, all())]);
}

#[test]
fn a_header_goes_out_before_the_first_byte() {
    let send = Some(ProxyProtocolVersion::V1);
    let mut bench = bench(PrereadRules { send, ..PrereadRules::default() }, 0);
    let (socket, client) = from_localhost();
    let asked = bench.adopt_socket(socket);
    let [(key, Backend, Open), (_, Client, ONCE)] = asked[..] else { panic!("{asked:?}") };
    bench.opened(key);
    bench.last_input(key, Client, b"hello");
    let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", from.port(), to.port());
    let asked = bench.on(key, Backend, Event::Connected(Ok(())));
    assert_eq!(asked, [(Backend, Send(expected.into_bytes())), (Backend, all())]);
}

/// Two names with an upstream each, besides the default.
fn routing() -> Bench {
    routing_with(PrereadRules::default())
}

fn routing_with(rules: PrereadRules) -> Bench {
    let route = |(name, target): (&str, u16)| Route { pattern: name.parse().unwrap(), target };
    let routes = [("a.example.org", 1), ("*.example.net", 2)].map(route);
    let routes = Some(Routes::new(routes, Some(0)).unwrap());
    bench(PrereadRules { routes, ..rules }, 2)
}

/// A TLS 1.2 ClientHello with this server name and nothing else.
fn hello(name: &str) -> Vec<u8> {
    let number = |length: usize| (length as u16).to_be_bytes();
    let name_entry = [&[0][..], &number(name.len()), name.as_bytes()].concat();
    let list = [&number(name_entry.len())[..], &name_entry].concat();
    let extension = [&[0, 0][..], &number(list.len()), &list].concat();
    let fixed = [&[3, 3][..], &[9; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let body = [&fixed[..], &number(extension.len()), &extension].concat();
    let message = [&[1, 0][..], &number(body.len()), &body].concat();
    [&[22, 3, 1][..], &number(message.len()), &message].concat()
}

#[test]
fn a_name_leads_to_its_route_and_the_bytes_are_untouched() {
    for (name, route) in [("a.example.org", 1), ("b.example.net", 2), ("example.com", 0)] {
        let mut bench = routing();
        let key = preread(&mut bench);
        let hello = hello(name);
        assert_eq!(bench.last_input(key, Client, &hello[..30]), [(Client, all())]);
        assert_eq!(bench.input(key, Client, &hello[30..]), [(Backend, Open)]);
        assert_eq!(bench.proxy.table.get_mut(key).unwrap().route, route, "{name}");
        bench.opened(key);
        let asked = bench.on(key, Backend, Event::Connected(Ok(())));
        assert_eq!(asked, [(Backend, Send(hello)), (Backend, all())]);
    }
}

#[test]
fn what_is_no_tls_goes_to_the_default() {
    let mut bench = routing();
    let key = preread(&mut bench);
    let asked = bench.last_input(key, Client, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(asked, [(Backend, Open), (Client, many(BUDGET_BYTES - 18))]);
    assert_eq!(bench.proxy.table.get_mut(key).unwrap().route, 0);
}
