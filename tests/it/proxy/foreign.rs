//! Programs of others in front of the proxy and behind it, where they are installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{connect, finish_sending};
use crate::harness::{SOON, eventually, skipped};

use super::backend::{Backend, Connections};
use super::balance::connect_from;
use super::{Folder, Proxy};

/// A program that runs in the foreground. Killed, by its own pid, when this is dropped.
pub(super) struct Foreign(Child);

impl Foreign {
    /// Starts it and waits until `address` accepts. `None`, said loudly, where it is not installed.
    #[track_caller]
    pub(super) fn start(name: &str, arguments: &[&str], address: SocketAddr) -> Option<Self> {
        let mut command = Command::new(name);
        // nginx and haproxy are installed where only root looks by default.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            skipped(&format!("{name} is not installed"));
            return None;
        };
        let mut this = Self(child);
        eventually(SOON, "it accepts", || {
            let ended = this.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{name} {arguments:?} ended: {ended:?}");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
        Some(this)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody has now.
pub(super) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// nginx with this in its `http` block.
pub(super) fn nginx(folder: &Folder, http: &str, address: SocketAddr) -> Option<Foreign> {
    let home = folder.0.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {home}/{name};\n"))
        .concat();
    start_nginx(folder, &format!("http {{\naccess_log off;\n{temporary}{http}\n}}\n"), address)
}

/// nginx with this in its `stream` block. `None`, said loudly, without the module for it.
fn nginx_stream(folder: &Folder, stream: &str, address: SocketAddr) -> Option<Foreign> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(MODULE).exists() {
        skipped(&format!("nginx has no stream module: {MODULE} is not there"));
        return None;
    }
    start_nginx(folder, &format!("load_module {MODULE};\nstream {{\n{stream}\n}}\n"), address)
}

fn start_nginx(folder: &Folder, blocks: &str, address: SocketAddr) -> Option<Foreign> {
    let home = folder.0.display();
    // A module has to be loaded before the first block.
    let text = format!(
        "daemon off;\nmaster_process off;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\n\
         {blocks}events {{ worker_connections 512; }}\n"
    );
    let path = folder.write("nginx.conf", &text);
    let log = folder.file("error.log");
    Foreign::start("nginx", &["-c", &path, "-e", &log], address)
}

fn haproxy(folder: &Folder, text: &str, address: SocketAddr) -> Option<Foreign> {
    let common = "defaults\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n";
    let path = folder.write("haproxy.cfg", &format!("{common}{text}"));
    Foreign::start("haproxy", &["-db", "-f", &path], address)
}

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
