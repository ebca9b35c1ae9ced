//! Programs of others in front of the proxy and behind it, where they are installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use crate::client::{connect, finish_sending};
use crate::folder::Folder;
use crate::foreign::{free_address, haproxy, nginx, nginx_stream};
use crate::harness::{SOON, eventually};

use super::Proxy;
use super::backend::{Backend, Connections};
use super::balance::connect_from;

/// The answer to one HTTP request, and the client's address.
#[track_caller]
pub(super) fn request(address: SocketAddr) -> (String, String) {
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("a FIN comes behind it");
    (answer, client.local_addr().expect("it is connected").to_string())
}

#[test]
fn nginx_and_haproxy_read_our_header() {
    let folder = Folder::new();
    let nginx_address = free_address();
    let http = format!(
        "server {{ listen {nginx_address} proxy_protocol; location / {{ \
         return 200 \"client=$proxy_protocol_addr:$proxy_protocol_port.\"; }} }}"
    );
    let nginx = nginx(&folder, &http, nginx_address);
    let haproxy_address = free_address();
    let text = format!(
        "frontend f\n mode http\n bind {haproxy_address} accept-proxy\n \
         http-request return status 200 content-type text/plain lf-string client=%ci:%cp.\n"
    );
    let haproxy = haproxy(&folder, &text, haproxy_address);
    for (running, address) in [(&nginx, nginx_address), (&haproxy, haproxy_address)] {
        if running.is_none() {
            continue;
        }
        for version in ["v1", "v2"] {
            let arguments = ["--proxy-protocol-out", version];
            let proxy = Proxy::start_to(&[&address.to_string()], &arguments);
            let (answer, client) = request(proxy.address());
            assert!(answer.contains(&format!("client={client}.")), "{version}: {answer}");
            proxy.stop();
        }
    }
}

#[test]
fn we_read_the_header_of_haproxy() {
    for send in ["send-proxy", "send-proxy-v2"] {
        let (backend, connections) = Backend::handing_over();
        let arguments = ["--proxy-protocol-in", "127.0.0.1/32", "--proxy-protocol-out", "v1"];
        let proxy = Proxy::start(&[&backend], &arguments);
        let (folder, address) = (Folder::new(), free_address());
        let text = format!("listen l\n bind {address}\n server s {} {send}\n", proxy.address());
        let Some(_haproxy) = haproxy(&folder, &text, address) else { return };
        expect_told(address, &connections);
    }
}

#[test]
fn we_read_the_header_of_nginx() {
    let (backend, connections) = Backend::handing_over();
    let arguments = ["--proxy-protocol-in", "127.0.0.0/8", "--proxy-protocol-out", "v1"];
    let proxy = Proxy::start(&[&backend], &arguments);
    let (folder, address) = (Folder::new(), free_address());
    let to = proxy.address();
    let stream = format!("server {{ listen {address}; proxy_pass {to}; proxy_protocol on; }}");
    let Some(_nginx) = nginx_stream(&folder, &stream, address) else { return };
    let client = expect_told(address, &connections).to_string();
    let is_logged = || proxy.entries().iter().any(|entry| entry["client"] == *client);
    eventually(SOON, "the access log names the client", is_logged);
}

/// A client connects to the proxy in front of ours: the backend behind ours is told its address and
/// where it connected to. Returns that address.
#[track_caller]
fn expect_told(front: SocketAddr, connections: &Connections) -> SocketAddr {
    let mut client = connect_from(Ipv4Addr::new(127, 0, 0, 77), front);
    client.write_all(b"hello").expect("it is open");
    finish_sending(&client);
    // The look whether the proxy in front accepts comes through too.
    let got = loop {
        let mut got = String::new();
        // That look may end with a reset.
        let end = connections.next().read_to_string(&mut got);
        if got.ends_with("hello") {
            end.expect("a FIN comes behind it");
            break got;
        }
    };
    let own = client.local_addr().expect("it is connected");
    let ports = (own.port(), front.port());
    let wanted = format!("PROXY TCP4 127.0.0.77 127.0.0.1 {} {}\r\nhello", ports.0, ports.1);
    assert_eq!(got, wanted);
    own
}
