//! What is refused before anything runs, and whether the message helps.

use crate::harness::Launch;

use super::Folder;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[track_caller]
fn expect_refusal(arguments: &[&str], code: i32, words: &[&str]) {
    let exit = Launch::new(&[&["proxy"], arguments].concat()).run();
    assert_eq!(exit.code, Some(code), "{arguments:?}: {}", exit.stderr);
    assert_eq!(exit.stdout, "", "{arguments:?}");
    for word in words {
        assert!(exit.stderr.contains(word), "'{word}' is missing in: {}", exit.stderr);
    }
}

#[test]
fn a_command_line_that_is_wrong() {
    let to = ["--to", "127.0.0.1:1"];
    let table: &[(&[&str], &[&str])] = &[
        (&["--to", "127.0.0.1"], &["127.0.0.1", "port"]),
        (&["--to", "127.0.0.1:0"], &["127.0.0.1:0", "port 0"]),
        (&["--to", "0.0.0.0:80"], &["0.0.0.0:80", "address of its own"]),
        (&["--to", "a b:80"], &["a b:80", "host name"]),
        (&["--to", "127.0.0.1:1,weight=0"], &["weight", "'0'", "256"]),
        (&["--to", "127.0.0.1:1,wieght=2"], &["wieght=2", "weight="]),
        (&["--to", "127.0.0.1:1"], &["127.0.0.1:1", "twice", "weight"]),
        (&["--source", "127.0.0.5:80"], &["127.0.0.5:80", "no IP address"]),
        (&["--source", "fe80::1"], &["fe80::1", "number of its interface"]),
        (&["--source", "::1"], &["no source for the backend 127.0.0.1:1", "IPv4"]),
        (&["--source", "127.0.0.5", "--source", "127.0.0.5"], &["127.0.0.5 is given twice"]),
        (&["--proxy-protocol-in", "10.0.0.0/33"], &["--proxy-protocol-in", "10.0.0.0/33"]),
        (&["--proxy-protocol-out", "v3"], &["--proxy-protocol-out", "v3", "v1 or v2"]),
        (&["--route", "127.0.0.1:1"], &["127.0.0.1:1", "NAME=ADDRESS"]),
        (&["--route", "*=127.0.0.1:1"], &["'*'", "default"]),
        (&["--route", "a.*.b=127.0.0.1:1"], &["a.*.b", "*."]),
        (&["--route", "10.0.0.1=127.0.0.1:1"], &["10.0.0.1", "no name"]),
        (&["--route", "a.example=127.0.0.1"], &["a.example", "port"]),
        (
            &["--route", "a.example=127.0.0.1:2", "--route", "A.example=127.0.0.1:2"],
            &["127.0.0.1:2", "twice"],
        ),
        (&["--balance", "best"], &["--balance", "best", "source-hash"]),
        (&["--when-all-out", "panic"], &["panic", "try-all", "refuse"]),
        (&["--retries", "101"], &["--retries", "101"]),
        (&["--queue", "0"], &["--queue", "'0'"]),
        (&["--backend-max-connections", "0"], &["--backend-max-connections", "'0'"]),
        (&["--connect-timeout", "0s"], &["--connect-timeout", "0s"]),
        (&["--check-expect", "x"], &["--check-interval"]),
        (&["--access-log-format", "xml"], &["xml", "possible values: text, json"]),
    ];
    for (arguments, words) in table {
        expect_refusal(&[&to[..], arguments].concat(), USAGE, words);
    }
    expect_refusal(&[], USAGE, &["--to"]);
}

#[test]
fn a_name_that_does_not_resolve() {
    let name = "no-such-host.invalid:80";
    expect_refusal(&["--to", name], FAILED, &[name, "resolve", "getent"]);
}

#[test]
fn a_log_that_cannot_be_opened() {
    let folder = Folder::new();
    let path = folder.file("no-such-folder/access.log");
    let arguments = ["--to", "127.0.0.1:1", "--access-log", &path];
    expect_refusal(&arguments, FAILED, &["--access-log", "No such file", &path]);
}
