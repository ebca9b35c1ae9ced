//! Files that list networks for source rules: replaced while the server runs, wrong, empty, gone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::Controlled;
use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{SOON, eventually, meanwhile};

/// Two frontends that refuse the networks of one file, and one that only accepts those of another.
const TEXT: &str = "\
[defaults]
deny_file = 'denied'
[frontend.e]
listen = '127.0.0.1:0'
service = 'echo'
[frontend.f]
listen = '127.0.0.1:0'
service = 'echo'
deny = '192.0.2.0/24'
[frontend.g]
listen = '127.0.0.1:0'
service = 'echo'
allow_file = 'allowed'
";

fn start() -> Controlled {
    let folder = Folder::new();
    folder.write("denied", "192.0.2.7 # nobody here\n");
    folder.write("allowed", "127.0.0.0/8\n");
    Controlled::within(folder, TEXT, 3)
}

/// The file is another one from one moment to the next.
fn replace(it: &Controlled, name: &str, text: &str) {
    let new = it.folder.write("new", text);
    fs::rename(new, it.folder.file(name)).expect("it can be renamed");
}

/// Whether each frontend serves who comes from 127.0.0.1.
fn served(it: &Controlled) -> [bool; 3] {
    [0, 1, 2].map(|number| {
        // The reset may come before connect(2) is done.
        let stream = TcpStream::connect_timeout(&it.server.address_of(number), SOON);
        let asked = stream.and_then(|mut stream| {
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])
        });
        asked.is_ok()
    })
}

fn files(it: &Controlled, frontend: usize) -> Value {
    it.status()["frontends"][frontend]["networks_files"].clone()
}

fn told(it: &Controlled, text: &str) -> usize {
    it.server.stderr().matches(text).count()
}

#[test]
fn a_list_that_is_replaced_holds_from_the_next_connection_on() {
    let it = start();
    let held: Vec<TcpStream> = (0..3).map(|number| connect(it.server.address_of(number))).collect();
    assert_eq!(served(&it), [true; 3]);
    it.done(&["set", "max-connections", "77"]);
    let by_hand = it.status()["by_hand"].clone();
    assert_ne!(by_hand, json!([]));
    let denied = it.folder.file("denied");

    replace(&it, "denied", "127.0.0.0/8\n10.0.0.0/8\n");
    eventually(2 * SOON, "all that name the file refuse", || served(&it) == [false; 3]);
    let line = format!(
        "networks file {denied}: 3 changes: frontend e: 2 networks; frontend f: 2 networks; \
         frontend g: 2 networks"
    );
    eventually(SOON, "it is told", || told(&it, &line) == 1);
    held.iter().for_each(|stream| expect_echo(stream, b"it was open before"));
    assert_eq!(it.status()["by_hand"], by_hand, "what was set by hand stays");
    assert_eq!(files(&it, 0)[0]["path"], json!(denied));
    assert_eq!(files(&it, 2).as_array().map(Vec::len), Some(2));
    assert!(it.done(&["status"]).contains(&format!("\n  frontend f: {denied}, loaded 20")));

    // A reload finds nothing else.
    let report = it.reload().expect("nothing is in the way");
    assert!(!report["changes"].to_string().contains("frontend"), "{report}");

    replace(&it, "denied", "");
    eventually(2 * SOON, "nobody is refused", || served(&it) == [true; 3]);
    replace(&it, "allowed", "# nobody\n");
    eventually(2 * SOON, "nobody is allowed", || served(&it) == [true, true, false]);
    fs::write(it.folder.file("allowed"), "127.0.0.1\n").expect("it is written in place");
    eventually(2 * SOON, "it is allowed", || served(&it) == [true; 3]);
    held.iter().for_each(|stream| expect_echo(stream, b"it is still open"));
    drop(held);
    it.server.stop();
}

#[test]
fn a_list_of_networks_that_is_wrong_changes_nothing_and_is_told_once() {
    let it = start();
    let allowed = it.folder.file("allowed");
    for (text, why) in [
        ("127.0.0.0/8\n10.0.0.0/99\n", format!("{allowed}:2: '10.0.0.0/99': ")),
        ("office\n", format!("{allowed}:1: 'office': ")),
    ] {
        replace(&it, "allowed", text);
        let line = format!("networks file {allowed}: not applied, nothing has changed: {why}");
        eventually(2 * SOON, "it is told", || told(&it, &line) == 1);
        assert_eq!(served(&it), [true; 3]);
        let error = files(&it, 2)[0]["error"].clone();
        assert!(error.as_str().is_some_and(|error| error.contains(&why)), "{error}");
        assert!(it.done(&["status"]).contains(", not applied: "));
        replace(&it, "allowed", text);
        meanwhile(super::A_WHILE, "it is told once", || told(&it, &line) == 1);
        it.reload().expect_err("it is wrong");
    }
    fs::remove_file(&allowed).expect("it is there");
    let gone = format!("networks file {allowed}: not applied, nothing has changed: ");
    eventually(2 * SOON, "it is told", || told(&it, &gone) == 3);
    assert_eq!(served(&it), [true; 3], "the list that was read last holds");
    it.folder.write("allowed", "127.0.0.0/8\n");
    let line = format!("networks file {allowed} is right again: nothing changes");
    eventually(2 * SOON, "it is right again", || told(&it, &line) == 1);
    assert_eq!(files(&it, 2)[0]["error"], json!(null));
    it.server.stop();
}
