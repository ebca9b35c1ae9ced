//! Unix sockets on both sides.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use crate::client::{IO_TIMEOUT, Pattern, expect_alive};

use super::{Folder, Proxy};

const BYTES: u64 = 1 << 20;

/// Takes so many connections; reads each to its end, then sends all back.
fn serve(listener: UnixListener, connections: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().expect("one comes");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("a FIN comes");
            stream.write_all(&bytes).expect("it is open");
        }
    })
}

#[test]
fn from_a_unix_socket_to_a_unix_socket() {
    let folder = Folder::new();
    let (front, back) = (folder.file("front"), folder.file("back"));
    let serving = serve(UnixListener::bind(&back).expect("the path is free"), 1);
    let listen = format!("unix:{front}");
    let proxy = Proxy::start_to(&[&format!("unix:{back}")], &["--listen", &listen]);
    let stream = UnixStream::connect(&front).expect("it listens");
    stream.set_read_timeout(Some(IO_TIMEOUT)).expect("not zero");
    let pattern = Pattern { seed: 3 };
    pattern.send(&stream, BYTES).expect("it is open");
    stream.shutdown(Shutdown::Write).expect("it is open");
    pattern.expect(&stream, BYTES);
    crate::client::expect_end(&stream);
    drop(stream);
    serving.join().expect("no panic");
    let entry = proxy.expect_ended("client");
    assert!(entry["client"].is_null(), "{entry:#}");
    assert_eq!(entry["backend"], format!("unix:{back}"));
    assert_eq!(entry["from_backend_bytes"], BYTES);
    proxy.stop();
}

#[test]
fn a_unix_socket_that_is_not_there() {
    let (folder, backend) = (Folder::new(), super::Backend::echo());
    let missing = format!("unix:{}", folder.file("missing"));
    let proxy = Proxy::start_to(&[&missing, &backend.to()], &["--balance", "round-robin"]);
    for _ in 0..4 {
        expect_alive(proxy.address());
    }
    proxy.stop();
}
