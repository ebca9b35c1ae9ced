//! kill -9 in the middle of a reload, and a start with the same file: nothing that was left behind hinders it.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use serde_json::json;

use super::{Controlled, in_full};
use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server};

/// Frontends that a reload adds, each with a unix socket of its own.
const ADDED: usize = 12;

/// Ports that the kernel does not give to clients: nobody takes one while nobody listens on it.
const PORTS: Range<u16> = 20_000..32_000;

fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() as u16).wrapping_mul(11);
    (0..PORTS.len())
        .map(|_| first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16)
        .map(|offset| format!("127.0.0.1:{}", PORTS.start + offset))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("one of them is free")
}

/// Echo on an address and on a unix socket, and on `more` unix sockets.
fn text(folder: &Folder, address: &str, more: usize) -> String {
    let own = folder.file("own.sock");
    let echo = |name: &str, listen: &str| {
        format!("[frontend.{name}]\nlisten = [{listen}]\nservice = 'echo'\n")
    };
    let mut text = echo("own", &format!("'{address}', 'unix:{own}'"));
    for number in 0..more {
        text += &echo(&format!("x{number}"), &format!("'unix:{}'", added(folder, number)));
    }
    in_full(folder, &text)
}

fn added(folder: &Folder, number: usize) -> String {
    folder.file(&format!("x{number}.sock"))
}

fn sockets(folder: &Path) -> usize {
    fs::read_dir(folder).expect("it can be read").count()
}

/// Kills the program when the reload has made so many files; it cannot clean up after itself.
#[track_caller]
fn kill_at(files: usize, folder: &Folder, server: Server) {
    let before = sockets(&folder.0);
    server.signal(libc::SIGHUP);
    let begun = Instant::now();
    while sockets(&folder.0) < before + files {
        assert!(begun.elapsed() < SOON, "the reload adds nothing");
    }
    server.signal(libc::SIGKILL);
    assert_eq!(server.wait(SOON).code, None, "a signal has ended it");
}

#[track_caller]
fn expect_all_serve(it: &Controlled) {
    expect_echo(connect(it.server.address()), b"by its address");
    for path in [it.folder.file("own.sock"), added(&it.folder, 0), added(&it.folder, ADDED - 1)] {
        let stream = UnixStream::connect(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        expect_echo(stream, b"by its path");
    }
    let status = it.status();
    assert_eq!(status["frontends"].as_array().map(Vec::len), Some(ADDED + 1));
    assert_eq!(status["configuration"]["last_reload"], json!(null), "it has begun anew");
}

#[test]
fn what_was_killed_in_the_middle_of_a_reload_starts_again() {
    for files in [0, 1, ADDED / 2, ADDED] {
        let folder = Folder::new();
        let address = free_address();
        let path = folder.write("a.toml", &text(&folder, &address, 0));
        let server = Launch::from_file(&["run", "--config", &path], 2).start();
        let mut session = connect(server.address());
        expect_echo(&mut session, b"before");
        folder.write("a.toml", &text(&folder, &address, ADDED));
        kill_at(files, &folder, server);
        assert!(Path::new(&folder.file("own.sock")).exists(), "nobody has removed it");
        assert!(Path::new(&folder.file("c.sock")).exists(), "nobody has removed it");
        let server = Launch::from_file(&["run", "--config", &path], ADDED + 2).start();
        let it = Controlled { folder, server };
        expect_all_serve(&it);
        assert!(it.reload().is_ok(), "it can be reloaded");
        it.server.stop();
    }
}
