//! Which addresses are bound, shared, refused and tried again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use super::*;

fn loopback(ip: impl Into<IpAddr>, listener: &Listener) -> SocketAddr {
    SocketAddr::new(ip.into(), tcp_address(listener).port())
}

fn takes(listener: &Listener, address: SocketAddr) -> bool {
    let client = TcpStream::connect_timeout(&address, DEADLINE);
    client.is_ok() && try_accept(listener).is_ok()
}

#[test]
fn port_zero_is_resolved() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = listen_plainly(address);
        assert_ne!(tcp_address(&listener).port(), 0);
        assert!(takes(&listener, tcp_address(&listener)));
    }
}

#[test]
fn a_wildcard_is_dual_stack() {
    let listener = listen_plainly("[::]:0");
    assert!(takes(&listener, loopback(Ipv6Addr::LOCALHOST, &listener)));
    assert!(takes(&listener, loopback(Ipv4Addr::LOCALHOST, &listener)));
}

#[test]
fn v6_only_takes_no_ipv4() {
    let options = SocketOptions { v6_only: true, ..SocketOptions::default() };
    let listener = listen("[::]:0", &options);
    assert!(takes(&listener, loopback(Ipv6Addr::LOCALHOST, &listener)));
    let error = TcpStream::connect(loopback(Ipv4Addr::LOCALHOST, &listener)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_can_be_shared() {
    let options = SocketOptions::default();
    let any = "127.0.0.1:0".parse().unwrap();
    let first = Listener::bind(&any, &options, Sharing::Found).unwrap();
    let second = Listener::bind(first.address(), &options, Sharing::Join).unwrap();
    let third = Listener::bind(first.address(), &options, Sharing::Found);
    assert!(matches!(third, Err(BindError::InUse { .. })), "it met those that share: {third:?}");
    assert_eq!(first.address(), second.address());
    let waiting = |listener: &Listener| listener.queue().unwrap().waiting.unwrap();
    // The kernel chooses by a hash of the ports: of 64 clients each socket gets some.
    let _clients: Vec<_> = (0..64).map(|_| connect(&first)).collect();
    eventually(DEADLINE, || waiting(&first) + waiting(&second) == 64);
    assert!(waiting(&first) > 0 && waiting(&second) > 0);
}

#[test]
fn a_port_in_use_is_named_after_the_retries() {
    let holder = listen_plainly("127.0.0.1:0");
    let address = holder.address().to_string();
    let start = Instant::now();
    let error = refused(&address);
    assert!(start.elapsed() >= IN_USE_RETRY_FOR);
    assert_eq!(error, BindError::InUse { address: holder.address().clone() });
    let port = tcp_address(&holder).port();
    assert!(error.to_string().contains(&format!("ss -tanp 'sport = :{port}'")), "{error}");
}

#[test]
fn a_port_that_is_freed_within_the_retries_is_bound() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(holder);
    });
    let listener = listen_plainly(&address.to_string());
    assert_eq!(tcp_address(&listener), address);
    release.join().unwrap();
}

/// This end closes first, so that its port is left in TIME_WAIT.
#[test]
fn a_restart_does_not_wait_for_old_connections() {
    let listener = listen_plainly("127.0.0.1:0");
    let address = listener.address().to_string();
    let client = connect(&listener);
    drop(accept(&listener));
    drop(client);
    drop(listener);
    let start = Instant::now();
    listen_plainly(&address);
    assert!(start.elapsed() < IN_USE_RETRY_FOR);
}

#[test]
fn an_address_of_another_machine_is_refused_at_once() {
    let start = Instant::now();
    // RFC 5737: no machine has it.
    let error = refused("192.0.2.1:0");
    assert_eq!(error, BindError::NotLocal { address: "192.0.2.1:0".parse().unwrap() });
    assert!(start.elapsed() < IN_USE_RETRY_FOR);
}
