//! TLS goes by its server name, undecrypted, with the openssl program on both sides.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::foreign::{Foreign, free_address};
use crate::harness::skipped;

use super::{Folder, Proxy};

/// A TLS server whose certificate says who it is.
fn server(folder: &Folder, name: &str) -> Option<(Foreign, SocketAddr)> {
    let [key, certificate] = ["key", "crt"].map(|kind| folder.file(&format!("{name}.{kind}")));
    let subject = format!("/CN={name}");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate])
        .output();
    let Ok(made) = made else {
        skipped("openssl is not installed");
        return None;
    };
    assert!(made.status.success(), "{made:?}");
    let address = free_address();
    let (accept, www) = (address.to_string(), "-www");
    let arguments = ["s_server", "-accept", &accept, "-key", &key, "-cert", &certificate, www];
    Foreign::start("openssl", &arguments, address).map(|running| (running, address))
}

/// Whose certificate a client sees that asks for this name, or for none.
#[track_caller]
fn who_has(address: SocketAddr, name: Option<&str>) -> String {
    let address = address.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address]);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let output = command.stdin(Stdio::null()).output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let subject = text.lines().find(|line| line.starts_with("subject="));
    let subject = subject.unwrap_or_else(|| panic!("no certificate came: {output:?}"));
    subject.rsplit(['=', ' ']).next().expect("there is one part at least").to_owned()
}

struct Names {
    proxy: Proxy,
    _running: Vec<Foreign>,
    _folder: Folder,
}

fn start() -> Option<Names> {
    let folder = Folder::new();
    let (default, other) = (server(&folder, "default")?, server(&folder, "other")?);
    let wild = server(&folder, "wild")?;
    let routes = [format!("a.example={}", other.1), format!("*.b.example={}", wild.1)];
    let arguments = ["--route", &routes[0], "--route", &routes[1]];
    let proxy = Proxy::start_to(&[&default.1.to_string()], &arguments);
    Some(Names { proxy, _running: vec![default.0, other.0, wild.0], _folder: folder })
}

#[test]
fn each_name_has_its_backend() {
    let Some(Names { proxy, _running, _folder }) = start() else { return };
    let table = [
        (Some("a.example"), "other"),
        (Some("A.EXAMPLE"), "other"),
        (Some("x.b.example"), "wild"),
        (Some("y.x.b.example"), "wild"),
        (Some("b.example"), "default"),
        (Some("x.a.example"), "default"),
        (Some("c.example"), "default"),
        (None, "default"),
    ];
    for (name, wanted) in table {
        assert_eq!(who_has(proxy.address(), name), wanted, "{name:?}");
    }
    proxy.stop();
}

/// The client's first message comes to the proxy byte by byte.
#[test]
fn a_client_hello_in_drips() {
    let Some(Names { proxy, _running, _folder }) = start() else { return };
    let target = proxy.address();
    let dripper = super::Backend::start(move |client| drip(&client, target));
    assert_eq!(who_has(dripper.address(), Some("a.example")), "other");
    dripper.expect_no_panic();
    drop(dripper);
    proxy.stop();
}

/// Passes on the first kilobyte byte by byte, then everything both ways.
fn drip(client: &TcpStream, target: SocketAddr) {
    use std::io::Read;
    let mut server = crate::client::connect(target);
    let mut back = server.try_clone().expect("there are descriptors");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut to = client;
            let _ = std::io::copy(&mut back, &mut to);
            let _ = client.shutdown(std::net::Shutdown::Write);
        });
        let mut from = client;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            for byte in &buffer[..count] {
                if server.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_micros(100));
            }
        }
        let _ = server.shutdown(std::net::Shutdown::Write);
    });
}

/// What is no TLS goes where TLS without a name goes.
#[test]
fn no_tls_goes_to_the_default() {
    let default = super::Backend::echo();
    let routed = super::Backend::named("routed");
    let route = format!("a.example={}", routed.to());
    let proxy = Proxy::start(&[&default], &["--route", &route]);
    // Less than a record's header, another protocol, and a record that holds no ClientHello.
    let all: [&[u8]; 3] = [b"x", b"SSH-2.0-name\r\n", b"\x16\x03\x01\x00\x05\x02\0\0\x01\0"];
    for bytes in all {
        crate::client::expect_echo(crate::client::connect(proxy.address()), bytes);
    }
    assert_eq!((default.accepted(), routed.accepted()), (3, 0));
    proxy.stop();
}
